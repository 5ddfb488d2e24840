package ledger

import (
	"reflect"
	"testing"

	"github.com/paramedic-ha/paramedic/notify"
)

// TestEveryFieldOfAFilterTellsSubscriptionsApart: or a change of it would not reach the notifier.
func TestEveryFieldOfAFilterTellsSubscriptionsApart(t *testing.T) {
	fields := reflect.TypeFor[notify.Filter]()
	for i := range fields.NumField() {
		less := full()
		if reflect.ValueOf(&less.Filter).Elem().Field(i).SetZero(); digest(less) == digest(full()) {
			t.Errorf("%s is no part of the digest", fields.Field(i).Name)
		}
	}
}
