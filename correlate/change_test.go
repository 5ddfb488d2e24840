package correlate

import (
	"testing"
	"time"
)

// TestAChangeTellsWhenItsEventHappened: the alarm keeps the times of its beginning, so what a change or a clear was seen
// by is told beside it.
func TestAChangeTellsWhenItsEventHappened(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	e := New(Config{Home: "cmp-1", Term: 2}, nil)
	e.Topology(at, Delta{Source: "nic", Full: true, Set: []Resource{
		{ID: "nic/eth0"},
		{ID: "nic/eth1"},
		{ID: "bond/bond0", Needs: []Need{{Mode: KOfN, K: 1, Of: []ID{"nic/eth0", "nic/eth1"}, Condition: CondCarrier}}},
	}})
	// step hands in one event that was observed 1 ms, and happened 2 ms, before the engine sees it.
	step := func(id ID, status Status) []Change {
		at = at.Add(time.Second)
		return e.Step(at, Event{
			Source: "nic", Resource: id, Condition: CondCarrier, Status: status,
			Occurred: at.Add(-2 * time.Millisecond), Observed: at.Add(-time.Millisecond),
		}).Publish
	}
	check := func(what string, changes []Change, want ...Transition) {
		t.Helper()
		if len(changes) != len(want) {
			t.Fatalf("%s: %d changes, want %v", what, len(changes), want)
		}
		for i, c := range changes {
			if c.Alarm.Last != want[i] || !c.Occurred.Equal(at.Add(-2*time.Millisecond)) || !c.Observed.Equal(at.Add(-time.Millisecond)) {
				t.Errorf("%s: %s %s occurred %v, observed %v, at %v", what, c.Alarm.Key.Resource, c.Alarm.Last, c.Occurred, c.Observed, at)
			}
		}
	}
	check("a leg fails", step("nic/eth0", StatusFailed), Raised)
	check("the other, and with it the bond", step("nic/eth1", StatusFailed), Raised, Raised, Changed)
	check("a leg recovers, and with it the bond", step("nic/eth1", StatusOK), Changed, Cleared, Cleared)

	at = at.Add(time.Second)
	for _, c := range e.Topology(at, Delta{Source: "nic", Gone: []Gone{{ID: "nic/eth0", Reason: GoneOrderly}}}).Publish {
		if c.Alarm.Last != Cleared || !c.Occurred.IsZero() || !c.Observed.IsZero() {
			t.Errorf("no event took the link away: %+v", c)
		}
	}
}
