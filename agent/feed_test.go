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
	if len(f.told) != 0 {
		t.Errorf("the feed remembers %d resources that are gone", len(f.told))
	}
}

func TestTheFeedForgetsWhatAFullTruthNoLongerStates(t *testing.T) {
	f := newFeed()
	failed := func(id correlate.ID) []correlate.Event {
		return []correlate.Event{{Resource: id, Condition: correlate.CondCarrier, Status: correlate.StatusFailed}}
	}
	f.addDelta(&correlate.Delta{Source: "nic", Events: failed("nic/a")})
	f.addDelta(&correlate.Delta{Source: "nic", Events: failed("nic/b")})
	f.addDelta(&correlate.Delta{Source: "virt", Events: failed("domain/1")})
	f.addDelta(&correlate.Delta{Source: "nic", Full: true, Set: []correlate.Resource{{ID: "nic/b"}}, Events: failed("nic/b")})
	if len(f.told) != 2 || f.told["nic/a"] != nil {
		t.Errorf("the feed remembers %v; want nic/b and domain/1", f.told)
	}
	if n := len(f.recent(10)); n != 3 {
		t.Errorf("%d events told, want 3: the full truth said nothing new", n)
	}
}
