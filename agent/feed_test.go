package agent

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
)

func change(id string, counter uint64, last correlate.Transition) correlate.Change {
	return correlate.Change{Alarm: &correlate.Alarm{ID: id, Revision: correlate.Revision{Term: 2, Counter: counter}, Last: last}}
}

// remembering is a history without a disk.
func remembering() *history.Store {
	return history.New(history.Config{MaxAlarms: 100, MaxAge: 1 << 62, Log: slog.New(slog.DiscardHandler), Now: time.Now})
}

func seqs(changes []api.SeqChange) []uint64 {
	var out []uint64
	for _, c := range changes {
		out = append(out, c.Seq)
	}
	return out
}

func TestAFollowerGetsWhatItHasNotSeenAndIsToldWhatItLost(t *testing.T) {
	f := newFeed(remembering())
	f.changes = newRing[api.SeqChange](3)
	f.addChanges([]correlate.Change{change("a", 1, correlate.Raised), change("b", 2, correlate.Raised)})

	got, next, lost := f.after(1)
	if diff := cmp.Diff([]uint64{2}, seqs(got)); diff != "" || lost {
		t.Errorf("after 1: %v, lost %v", seqs(got), lost)
	}
	select {
	case <-next:
		t.Error("next is closed although nothing newer exists")
	default:
	}
	f.addChanges([]correlate.Change{change("c", 3, correlate.Raised), change("d", 4, correlate.Raised), change("a", 5, correlate.Cleared)})
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
	if ended := f.past.Ended(); !ended("a") || ended("b") {
		t.Error("the history does not have the cleared alarm")
	}
}

func TestRestatingIsNoNews(t *testing.T) {
	f := newFeed(remembering())
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
	f := newFeed(remembering())
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

// A peer that says it again, or late, or of an older revision, is no news; an acknowledgement is, once.
func TestTheFeedGoesForwardOnly(t *testing.T) {
	f := newFeed(remembering())
	f.know([]*correlate.Alarm{change("stood", 1, correlate.Raised).Alarm})
	acked := change("a", 3, correlate.Changed)
	acked.Alarm.Ack = &correlate.Acknowledgement{By: "ops"}
	for _, c := range []correlate.Change{
		change("stood", 1, correlate.Raised), // known from the start
		change("a", 2, correlate.Raised), change("a", 2, correlate.Raised), change("a", 3, correlate.Changed), change("a", 2, correlate.Raised),
		acked, acked,
		change("stood", 4, correlate.Cleared),
	} {
		f.addChanges([]correlate.Change{c})
	}
	f.addVanished([]string{"a"})
	var got []string
	changes, _, _ := f.after(0)
	for _, c := range changes {
		was := "-"
		if c.Was != nil {
			was = c.Was.Revision.String()
		}
		got = append(got, c.Change.Alarm.ID+" "+c.What+" "+was+" "+c.Change.Alarm.Revision.String())
	}
	want := []string{"a raised - 2.2", "a changed 2.2 2.3", "a acknowledged 2.3 2.3", "stood cleared 2.1 2.4", "a vanished 2.3 2.3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(f.standing) != 0 {
		t.Errorf("the feed still holds %v", f.standing)
	}
}
