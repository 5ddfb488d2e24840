package ledger

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// TestAFilterTravelsWhole: each field comes out as it went in, and is part of what tells two subscriptions apart.
func TestAFilterTravelsWhole(t *testing.T) {
	full := notify.Filter{
		Projects: []string{"p1"}, Domains: []string{"vm-1"}, ResourceTypes: []correlate.Kind{correlate.KindNIC},
		Conditions: []correlate.Condition{correlate.CondCarrier}, MinSeverity: correlate.SeverityMajor, Kinds: []string{"fault"},
		States: []correlate.State{correlate.StateFailed}, MinConfidence: correlate.ConfidenceProbable,
		Resources: []string{"nic/*"}, Hosts: []string{"cmp-*"}, Zones: []string{"rack-a"}, Labels: map[string][]string{"az": {"nova-1"}},
	}
	sub := notify.Subscription{
		ID: "2ec84f5b-60f4-424f-8e97-45acb767f72b", Version: 7, Name: "ops", Endpoints: []string{"http://10.0.0.5/"}, Format: notify.FormatNative,
		Role: notify.RoleAdmin, Origin: notify.OriginAPI, Filter: full,
	}
	l := New(Config{Node: "cmp-1", Label: "prod"})
	var c codec
	var p Subscription
	b, err := c.encode(words(sub))
	if err == nil {
		err = c.decode(b, &p)
	}
	w := l.open(sub.ID, p, notify.OriginAPI)
	if err != nil || w.refused != nil {
		t.Fatal(err, w.refused)
	}
	if diff := cmp.Diff(full, w.sub.Filter); diff != "" {
		t.Error(diff)
	}
	fields := reflect.TypeFor[notify.Filter]()
	for i := range fields.NumField() {
		less := sub
		f := reflect.ValueOf(&less.Filter).Elem().Field(i)
		if f.IsZero() {
			t.Errorf("%s: the test does not have it", fields.Field(i).Name)
		}
		if f.SetZero(); digest(less) == digest(sub) {
			t.Errorf("%s is no part of the digest", fields.Field(i).Name)
		}
	}
}
