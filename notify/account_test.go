package notify

import (
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestWhyAConsumerIsNotTold(t *testing.T) {
	stands, over := alarm("a", 2, correlate.Changed, "p1"), alarm("a", 3, correlate.Cleared, "p1")
	severe, disks := Filter{MinSeverity: correlate.SeverityCritical}, Filter{ResourceTypes: []correlate.Kind{correlate.KindDisk}}
	for name, test := range map[string]struct {
		a                 *correlate.Alarm
		f                 Filter
		role              Role
		told, here, short bool
		want              Bar
	}{
		"it is over, and who was told is forgotten":       {a: over, here: true, want: BarUnknown},
		"it is over, and was told of it by another":       {a: over, told: true, want: BarUnknown},
		"it is over, and it may have been severe":         {a: over, f: severe, here: true, want: BarUnknown},
		"it is over, and was never let through":           {a: over, f: disks, here: true, want: BarOver},
		"it is over, and was let through once":            {a: over, f: disks, told: true, want: BarUnknown},
		"it stands, and nothing is known":                 {a: stands, here: true, want: BarUnknown},
		"it stands, and is kept out":                      {a: stands, f: disks, here: true, short: true, want: BarFilter},
		"it was dropped":                                  {a: stands, here: true, short: true, want: BarRoom},
		"a newer one was dropped":                         {a: stands, told: true, here: true, short: true, want: BarRoom},
		"it was told, and perhaps sees no more":           {a: stands, role: RoleConsumer, told: true, here: true, short: true, want: BarNews},
		"it was told, and nothing of what it sees is new": {a: stands, told: true, here: true, want: BarNews},
	} {
		if got, _ := (Subscription{Role: test.role, Filter: test.f}).unheard(test.a, nil, test.told, test.here, test.short); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
