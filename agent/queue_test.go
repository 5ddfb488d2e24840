package agent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestWhatIsSaidAgainBeforeItWasTakenReplacesWhatWasSaid(t *testing.T) {
	woken := 0
	q := newQueue("nic", func() { woken++ })
	link := func(mtu string) correlate.Resource {
		return correlate.Resource{ID: "nic/eth0", Facts: map[string]string{"mtu": mtu}}
	}
	carrier := func(s correlate.Status) correlate.Event {
		return correlate.Event{Resource: "nic/eth0", Condition: correlate.CondCarrier, Status: s}
	}
	q.offer(correlate.Delta{Set: []correlate.Resource{link("1500")}, Events: []correlate.Event{carrier(correlate.StatusOK)}})
	q.offer(correlate.Delta{Set: []correlate.Resource{link("9000")}, Events: []correlate.Event{carrier(correlate.StatusFailed)}})
	q.offer(correlate.Delta{Events: []correlate.Event{carrier(correlate.StatusUnknown)}})

	got, _ := q.take()
	want := correlate.Delta{Source: "nic", Set: []correlate.Resource{link("9000")}, Events: []correlate.Event{{
		Source: "nic", Resource: "nic/eth0", Condition: correlate.CondCarrier, Status: correlate.StatusFailed,
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the queue's delta (-want +got):\n%s", diff)
	}
	if _, more := q.take(); more {
		t.Error("a second delta waits")
	}
	if items, coalesced, _ := q.depth(); items != 0 || coalesced != 3 {
		t.Errorf("items %d, coalesced %d; want 0 and 3", items, coalesced)
	}
	if woken != 3 {
		t.Errorf("the loop was woken %d times, want 3", woken)
	}
}

func TestTheEndOfAnImpulseDoesNotUnsayIt(t *testing.T) {
	q := newQueue("virt", func() {})
	for _, s := range []correlate.Status{correlate.StatusFailed, correlate.StatusOK} {
		q.offer(correlate.Delta{Events: []correlate.Event{{Resource: "domain/a", Condition: correlate.CondGuestPanic, Status: s}}})
	}
	if d, _ := q.take(); len(d.Events) != 1 || d.Events[0].Status != correlate.StatusFailed {
		t.Errorf("events %v; want the panic", d.Events)
	}
}

func TestACrashARemovalAndAReturnStayThreeSteps(t *testing.T) {
	q := newQueue("virt", func() {})
	domain := correlate.Resource{ID: "domain/a"}
	q.offer(correlate.Delta{Events: []correlate.Event{{Resource: "domain/a", Condition: correlate.CondCrash, Status: correlate.StatusFailed}}})
	q.offer(correlate.Delta{Gone: []correlate.Gone{{ID: "domain/a", Reason: correlate.GoneByFault}}})
	q.offer(correlate.Delta{Set: []correlate.Resource{domain}})
	for i, want := range [][3]int{{0, 0, 1}, {0, 1, 0}, {1, 0, 0}} {
		d, ok := q.take()
		if got := [3]int{len(d.Set), len(d.Gone), len(d.Events)}; !ok || got != want {
			t.Errorf("step %d: set, gone, events = %v; want %v", i, got, want)
		}
	}
}

func TestAFullQueueMakesTheSourceWaitAndDropsForThoseWhoCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue("nic", func() {})
		full := correlate.Delta{}
		for i := range queueCapacity {
			full.Set = append(full.Set, correlate.Resource{ID: correlate.NewID(correlate.KindNIC, fmt.Sprint(i))})
		}
		one := func(name string) correlate.Delta {
			return correlate.Delta{Set: []correlate.Resource{{ID: correlate.NewID(correlate.KindNIC, name)}}}
		}
		q.offer(full)
		q.offer(one("dropped"))
		if _, _, dropped := q.depth(); dropped != 1 {
			t.Errorf("dropped %d, want 1", dropped)
		}
		put := make(chan error, 1)
		go func() { put <- q.put(t.Context(), one("waits")) }()
		synctest.Wait()
		select {
		case <-put:
			t.Fatal("put did not wait for space")
		default:
		}
		if d, _ := q.take(); len(d.Set) != queueCapacity {
			t.Errorf("%d resources taken, want %d", len(d.Set), queueCapacity)
		}
		if err := <-put; err != nil {
			t.Errorf("put after space came: %v", err)
		}
		q.take()
		q.offer(full)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.put(ctx, one("late")); err == nil {
			t.Error("put returned nil although the queue stayed full and its context ended")
		}
	})
}

// Coalescing may skip what was true in between, never what is true at the end.
func TestCoalescingEndsInTheSameTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		q := newQueue("nic", func() {})
		direct := correlate.New(correlate.Config{Home: "h", Term: 2}, nil)
		queued := correlate.New(correlate.Config{Home: "h", Term: 2}, nil)
		names := []correlate.ID{"nic/a", "nic/b", "bond/c"}
		status := rapid.SampledFrom([]correlate.Status{correlate.StatusUnknown, correlate.StatusOK, correlate.StatusFailed})
		some := rapid.SampledFrom(names)
		for range rapid.IntRange(1, 12).Draw(t, "deltas") {
			d := correlate.Delta{Source: "nic", Full: rapid.Bool().Draw(t, "full")}
			for _, id := range names {
				if d.Full || rapid.Bool().Draw(t, "set") {
					d.Set = append(d.Set, correlate.Resource{ID: id})
				}
			}
			if rapid.IntRange(0, 2).Draw(t, "require") == 0 {
				need := correlate.Need{Of: []correlate.ID{some.Draw(t, "needed")}}
				d.Require = []correlate.Requirement{{ID: some.Draw(t, "by"), Needs: []correlate.Need{need}[:rapid.IntRange(0, 1).Draw(t, "one")]}}
			}
			for _, id := range names {
				if d.Full || rapid.Bool().Draw(t, "event") {
					d.Events = append(d.Events, correlate.Event{
						Source: "nic", Resource: id, Condition: correlate.CondCarrier,
						Status: status.Draw(t, "status"), Occurred: now, Observed: now,
					})
				}
			}
			if !d.Full && rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
				d.Set, d.Require, d.Events = nil, nil, nil
				d.Gone = []correlate.Gone{{ID: some.Draw(t, "which"), Reason: correlate.GoneOrderly}}
			}
			direct.Topology(now, d)
			q.offer(d)
			if rapid.Bool().Draw(t, "the loop has time") {
				for d, ok := q.take(); ok; d, ok = q.take() {
					queued.Topology(now, d)
				}
			}
		}
		for d, ok := q.take(); ok; d, ok = q.take() {
			queued.Topology(now, d)
		}
		if diff := cmp.Diff(truth(direct), truth(queued)); diff != "" {
			t.Fatalf("what stands (-each step +coalesced):\n%s", diff)
		}
		if items, _, _ := q.depth(); items != 0 {
			t.Fatalf("an empty queue counts %d items", items)
		}
	})
}

func truth(e *correlate.Engine) []string {
	var out []string
	for _, a := range e.Alarms() {
		out = append(out, fmt.Sprint("alarm ", a.Key.Resource, " ", a.Key.Condition, " ", a.Severity))
	}
	for _, v := range e.Resources() {
		out = append(out, fmt.Sprint("resource ", v.ID, " ", v.Derived))
	}
	return out
}
