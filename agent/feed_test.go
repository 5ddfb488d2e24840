package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/correlate"
)

func change(id string, last correlate.Transition) correlate.Change {
	return correlate.Change{Alarm: &correlate.Alarm{ID: id, Last: last}}
}

func seqs(changes []api.SeqChange) []uint64 {
	var out []uint64
	for _, c := range changes {
		out = append(out, c.Seq)
	}
	return out
}

func TestAFollowerGetsWhatItHasNotSeenAndIsToldWhatItLost(t *testing.T) {
	f := newFeed()
	f.changes = newRing[api.SeqChange](3)
	f.addChanges([]correlate.Change{change("a", correlate.Raised), change("b", correlate.Raised)})

	got, next, lost := f.after(1)
	if diff := cmp.Diff([]uint64{2}, seqs(got)); diff != "" || lost {
		t.Errorf("after 1: %v, lost %v", seqs(got), lost)
	}
	select {
	case <-next:
		t.Error("next is closed although nothing newer exists")
	default:
	}
	f.addChanges([]correlate.Change{change("c", correlate.Raised), change("d", correlate.Raised), change("a", correlate.Cleared)})
	select {
	case <-next:
	default:
		t.Error("next is open although something newer exists")
	}
	got, _, lost = f.after(1)
	if diff := cmp.Diff([]uint64{3, 4, 5}, seqs(got)); diff != "" || !lost {
		t.Errorf("after 1, of 5 with 3 held: %v, lost %v; want 3 4 5 and lost", seqs(got), lost)
	}
	got, _, lost = f.after(99)
	if len(got) != 3 || !lost {
		t.Errorf("after a number of an earlier run: %v, lost %v; want all that is held and lost", seqs(got), lost)
	}
	if h := f.cleared(); len(h) != 1 || h[0].ID != "a" {
		t.Errorf("history %v; want the cleared alarm", h)
	}
}

func TestRestatingIsNoNews(t *testing.T) {
	f := newFeed()
	say := func(s correlate.Status) {
		f.addDelta(&correlate.Delta{Events: []correlate.Event{{Resource: "nic/a", Condition: correlate.CondCarrier, Status: s}}})
	}
	for _, s := range []correlate.Status{
		correlate.StatusOK, correlate.StatusFailed, correlate.StatusFailed, correlate.StatusUnknown, correlate.StatusFailed, correlate.StatusOK,
	} {
		say(s)
	}
	var got []string
	for _, e := range f.recent(10) {
		got = append(got, e.Status.String())
	}
	if diff := cmp.Diff([]string{"failed", "unknown", "failed", "ok"}, got); diff != "" {
		t.Errorf("events told (-want +got):\n%s", diff)
	}
	f.addDelta(&correlate.Delta{Gone: []correlate.Gone{{ID: "nic/a"}}})
	if len(f.status) != 0 {
		t.Errorf("the feed remembers %d conditions of what is gone", len(f.status))
	}
}
