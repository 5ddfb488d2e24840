package notify

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

// lost is a revision of the loss of cmp-2, as its speakers say it: probable, then confirmed.
func lost(counter uint64, projects ...string) *correlate.Alarm {
	a := alarm("lost", counter, correlate.Raised, projects...)
	a.Key = correlate.Key{Home: "cmp-2", Resource: "host/cmp-2", Condition: correlate.CondHostLost}
	a.First, a.Revision = correlate.Revision{Term: 3, Counter: 1}, correlate.Revision{Term: 3, Counter: counter}
	a.Reached, a.Confidence = a.Revision, correlate.ConfidenceProbable
	if counter > 1 {
		a.Last, a.Confidence = correlate.Changed, correlate.ConfidenceConfirmed
	}
	return a
}

// owed is an alarm of cmp-2 itself.
func guest(id string, counter uint64, last correlate.Transition) *correlate.Alarm {
	a := alarm(id, counter, last)
	a.Key.Home = "cmp-2"
	return a
}

func changes(alarms ...*correlate.Alarm) (out []correlate.Change) {
	for _, a := range alarms {
		out = append(out, correlate.Change{Alarm: a, Found: epoch})
	}
	return out
}

func TestAGuestIsToldUnderItsHomesNameAndId(t *testing.T) {
	counted := make(chan struct{})
	c := newConsumer(t, func(http.ResponseWriter, *http.Request) { <-counted })
	n, o, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	owed := n.Speak(changes(lost(2, "p1")), nil)
	close(counted)
	if owed != 1 {
		t.Fatalf("%d deliveries are owed", owed)
	}
	got := c.waitFor(t, 1)[0]
	sub := n.list()[0].subscription()
	if want := NotificationID("lost", lost(2).Revision, sub.ID, sub.Version); got.event.ID != want || got.header.Get("Webhook-Id") != want {
		t.Errorf("the id is %s, want %s", got.event.ID, want)
	}
	if got.event.Data.Host != "cmp-2" || got.event.Data.Reporter != "cmp-1" || got.event.Data.Alarm.Revision != "3.2" || len(got.event.Data.Affected) != 1 {
		t.Errorf("sent %s", got.body)
	}
	eventually(t, "the peers hear that it is told", func() bool {
		p, ok := o.pair(sub.ID, "lost")
		return ok && p.Told == lost(2).Revision && p.Owed == (correlate.Revision{})
	})
	if owed := n.Speak(changes(lost(2, "p1")), nil); owed != 0 {
		t.Errorf("said again %d deliveries are owed", owed)
	}
	settledAll(t, n)
	if got := c.revisions("lost"); len(got) != 1 {
		t.Errorf("sent %v", got)
	}
}

// TestASpeakerOwesWhatIsNotToldYet: of the alarms of cmp-2 one is told, one has a newer revision, one is over, one was
// refused and one had grown too old while its consumer took nothing.
func TestASpeakerOwesWhatIsNotToldYet(t *testing.T) {
	c := newConsumer(t, nil)
	n, o, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	sub := n.list()[0].subscription()
	pair := func(id string, told, owed uint64, parked bool) Pair {
		p := Pair{Subscription: sub.ID, AlarmID: id, Parked: parked}
		if told > 0 {
			p.Told = rev(told)
		}
		if owed > 0 {
			p.Owed = rev(owed)
		}
		return p
	}
	again := pair("waits for its consumer", 0, 10, true)
	again.Again = true
	n.Speak(changes(
		guest("told", 1, correlate.Raised), guest("newer", 3, correlate.Changed), guest("over", 5, correlate.Cleared), guest("never told", 7, correlate.Cleared),
		guest("parked", 8, correlate.Raised), guest("fresh", 9, correlate.Raised), guest("waits for its consumer", 10, correlate.Raised),
	), []Pair{pair("told", 1, 0, false), pair("newer", 2, 3, false), pair("over", 4, 5, false), pair("parked", 0, 8, true), again})
	c.waitFor(t, 4)
	eventually(t, "all but the parked one is delivered", func() bool {
		all := n.Deliveries("")
		return len(all) == 1 && all[0].AlarmID == "parked"
	})
	for id, want := range map[string]string{"told": "[]", "newer": "[2.3]", "over": "[2.5]", "never told": "[]", "parked": "[]", "fresh": "[2.9]", "waits for its consumer": "[2.10]"} {
		if got := fmt.Sprint(c.revisions(id)); got != want {
			t.Errorf("%s: sent %s, want %s", id, got, want)
		}
	}
	eventually(t, "the ledger may forget what is over", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.forgot["over"] && o.forgot["never told"]
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.guests) != 5 || len(n.alarms) != 5 {
		t.Errorf("kept: guests %v", n.guests)
	}
}

func TestGuestsAreNotKeptOverARestart(t *testing.T) {
	c, dir := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), t.TempDir()
	n, _, stop := clustered(t, dir, fileSub("a", c.URL))
	n.Publish(effects(alarm("own", 1, correlate.Raised)))
	n.Speak(changes(lost(2), guest("g", 1, correlate.Raised)), nil)
	c.waitFor(t, 3)
	ids := func(alarms []correlate.Change, pairs []Pair) (out []string) {
		for _, a := range alarms {
			out = append(out, a.Alarm.ID)
		}
		for _, p := range pairs {
			out = append(out, "pair of "+p.AlarmID)
		}
		return out
	}
	want := []string{"own", "pair of own"}
	if got := ids(n.Kept()); !slices.Equal(got, want) {
		t.Errorf("it keeps %v", got)
	}
	stop()
	n, _, _ = clustered(t, dir, fileSub("a", c.URL))
	if got := ids(n.Kept()); !slices.Equal(got, want) {
		t.Errorf("after the restart it keeps %v", got)
	}
	for _, d := range n.Deliveries("") {
		if d.AlarmID != "own" {
			t.Errorf("after the restart it delivers %s", d.AlarmID)
		}
	}
}

func TestHushEndsWhatIsTriedAgain(t *testing.T) {
	var fail atomic.Bool
	fail.Store(true)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
		if fail.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	n, _, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	n.Publish(effects(alarm("own", 1, correlate.Raised)))
	n.Speak(changes(lost(2), guest("g", 1, correlate.Raised)), nil)
	elsewhere := guest("of cmp-3", 1, correlate.Raised)
	elsewhere.Key.Home = "cmp-3"
	n.Speak(changes(elsewhere), nil)
	c.waitFor(t, 4)
	n.Hush("cmp-2")
	n.Hush("cmp-1") // itself: it has nobody else to speak for it
	fail.Store(false)
	settledAll(t, n)
	for _, m := range c.messages()[4:] {
		if id := m.event.Data.Alarm.ID; id == "lost" || id == "g" {
			t.Errorf("%s is told after the hush", id)
		}
	}
	n.mu.Lock()
	if len(n.guests) != 1 || len(n.alarms) != 2 || len(n.pairs) != 2 {
		t.Errorf("left: guests %v, pairs %v", n.guests, n.pairs)
	}
	n.mu.Unlock()
	n.Speak(changes(lost(2)), nil) // it speaks once more
	eventually(t, "it is told", func() bool { return slices.Equal(c.revisions("lost")[len(c.revisions("lost"))-1:], []string{"3.2"}) })
}

// TestALateAnswerAfterTheHushCounts: a request is under way when this host is hushed, and speaks again.
func TestALateAnswerAfterTheHushDoesNoHarm(t *testing.T) {
	hold, came := make(chan struct{}), make(chan struct{}, 8)
	var first atomic.Bool
	c := newConsumer(t, func(http.ResponseWriter, *http.Request) {
		came <- struct{}{}
		if first.CompareAndSwap(false, true) {
			<-hold
		}
	})
	n, _, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	n.Speak(changes(lost(1)), nil)
	// its subscription asks for confirmed: nothing yet
	n.Speak(changes(lost(2)), nil)
	<-came
	n.Hush("cmp-2")
	n.Speak(changes(lost(2)), nil)
	close(hold)
	settledAll(t, n)
	n.mu.Lock()
	if n.pairs["lost"] != 1 {
		t.Errorf("pairs %v", n.pairs)
	}
	n.mu.Unlock()
	if got := c.revisions("lost"); len(got) > 2 {
		t.Errorf("sent %v", got)
	}
}

func TestEachIsToldFromTheConfidenceOnThatItAsksFor(t *testing.T) {
	sure, quick := newConsumer(t, nil), newConsumer(t, nil)
	eager := fileSub("quick", quick.URL)
	eager.Filter.MinConfidence = correlate.ConfidenceProbable
	n, _, _ := clustered(t, t.TempDir(), fileSub("sure", sure.URL), eager)
	if owed := n.Speak(changes(lost(1, "p1")), nil); owed != 1 {
		t.Fatalf("%d are owed", owed)
	}
	quick.waitFor(t, 1)
	n.Speak(changes(lost(2, "p1")), nil)
	settledAll(t, n)
	// More domains of it are found later: that is a change to both.
	more := lost(2, "p1", "p2")
	more.Revision.Counter, more.Reached = 3, lost(2).Revision
	n.Speak(changes(more), nil)
	settledAll(t, n)
	for _, test := range []struct {
		c    *consumer
		want []string
	}{
		{quick, []string{"3.1 raised", "3.2 changed", "3.3 changed"}},
		{sure, []string{"3.2 raised", "3.3 changed"}},
	} {
		var got []string
		for _, m := range test.c.messages() {
			got = append(got, m.event.Data.Alarm.Revision+" "+m.event.Type[len("paramedic.fault."):])
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("sent %v, want %v", got, test.want)
		}
	}
}

// TestAHostTellsOfItselfOnlyThatItIsBack: what peers have said of it is no news when it restates it, and whoever may have been
// told hears that it is over: a false alarm only who was told of a probable one.
func TestAHostTellsOfItselfOnlyThatItIsBack(t *testing.T) {
	for _, confidence := range []correlate.Confidence{correlate.ConfidenceProbable, correlate.ConfidenceConfirmed} {
		t.Run(string(confidence), func(t *testing.T) {
			sure, quick, other := newConsumer(t, nil), newConsumer(t, nil), newConsumer(t, nil)
			eager, links := fileSub("quick", quick.URL), fileSub("links", other.URL)
			eager.Filter.MinConfidence = correlate.ConfidenceProbable
			links.Filter.ResourceTypes = []correlate.Kind{correlate.KindNIC}
			n, _, _ := clustered(t, t.TempDir(), fileSub("sure", sure.URL), eager, links)
			a := lost(1)
			a.Key.Home, a.Key.Resource, a.Confidence = "cmp-1", "host/cmp-1", confidence
			n.Adopt(changes(a), []Pair{})
			n.Publish(effects(a))
			over := *a
			over.Last, over.Severity, over.ClearReason = correlate.Cleared, correlate.SeverityCleared, correlate.ReasonReturned
			over.Revision = correlate.Revision{Term: 4, Counter: 1}
			n.Publish(effects(&over))
			quick.waitFor(t, 1)
			if confidence == correlate.ConfidenceConfirmed {
				sure.waitFor(t, 1)
			}
			settledAll(t, n)
			want := map[correlate.Confidence]string{correlate.ConfidenceProbable: "[]", correlate.ConfidenceConfirmed: "[4.1]"}[confidence]
			if got := fmt.Sprint(sure.revisions("lost")); got != want {
				t.Errorf("who asks for confirmed is sent %s, want %s", got, want)
			}
			if got := fmt.Sprint(quick.revisions("lost")); got != "[4.1]" {
				t.Errorf("who asks for probable is sent %s", got)
			}
			if got := other.messages(); len(got) > 0 {
				t.Errorf("who asks for links is sent %s", got[0].body)
			}
		})
	}
}

func TestDomainsOfAHungHostPassEachFilterOfStates(t *testing.T) {
	a := lost(2, "p1")
	a.Key.Condition, a.Affected[0].State = correlate.CondHostHung, correlate.StateUnknown
	f := Filter{States: []correlate.State{correlate.StateDegraded}}
	if got := f.Affected(a); len(got) != 1 || !(Subscription{Filter: f}).passes(a, nil) {
		t.Errorf("listed: %v", got)
	}
	a.Affected[0].State = correlate.StateFailed
	if (Subscription{Filter: f}).passes(a, nil) {
		t.Error("a failed domain passes the filter for degraded ones")
	}
}

// TestAConsumerThatRefusesAGuestIsPaused: 410 is an answer to this host, whoever's alarm it was about.
func TestAConsumerThatRefusesAGuestIsPaused(t *testing.T) {
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	n, o, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	n.Speak(changes(lost(2)), nil)
	c.waitFor(t, 1)
	sub := n.list()[0].subscription()
	eventually(t, "the peers hear of it", func() bool { return o.refusal(sub.ID).version == sub.Version })
	if sub = n.list()[0].subscription(); sub.Paused == "" {
		t.Error("it is not paused")
	}
}

func TestASubscriptionThatEndsTakesItsGuestsAlong(t *testing.T) {
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	n, _, _ := clustered(t, t.TempDir())
	s := elsewhere(OriginAPI, c.URL)
	put(t, n, s, nil)
	n.Speak(changes(lost(2)), nil)
	c.waitFor(t, 1)
	n.Drop(s.ID)
	if owed := n.Speak(changes(lost(2)), nil); owed != 0 {
		t.Errorf("%d are owed to nobody", owed)
	}
	n.Hush("cmp-2")
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.guests)+len(n.alarms)+len(n.pairs) > 0 {
		t.Errorf("left: %v %v", n.guests, n.pairs)
	}
}

// TestThatOurLossIsOverIsToldOnce: another consumer is still owed the clear when receipts for the loss come.
func TestThatOurLossIsOverIsToldOnce(t *testing.T) {
	c, failing := newConsumer(t, nil), newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	n, _, _ := clustered(t, t.TempDir(), fileSub("a", c.URL), fileSub("b", failing.URL))
	over := lost(3, "p1")
	over.Key.Home, over.Revision, over.Last = "cmp-1", correlate.Revision{Term: 4, Counter: 3}, correlate.Cleared
	n.Publish(effects(over))
	c.waitFor(t, 1)
	eventually(t, "it is told to the one", func() bool { return len(n.Deliveries("")) == 1 })
	for range 3 {
		n.Told(FileID("prod", "a"), over.ID, lost(2).Revision)
	}
	eventually(t, "nobody else is owed it", func() bool { return len(n.Deliveries("")) == 1 })
	if got := c.revisions("lost"); len(got) != 1 {
		t.Errorf("sent %v", got)
	}
	if _, pairs := n.Kept(); len(pairs) != 1 || pairs[0].Subscription != FileID("prod", "b") {
		t.Errorf("the receipts have left %v: whoever speaks for us next would take that for somebody who must be told", pairs)
	}
}

// TestASpeechTellsNobodyAgainThatOurLossIsOver: one consumer knows it, another one can't be told, so that it is kept.
func TestASpeechTellsNobodyAgainThatOurLossIsOver(t *testing.T) {
	c, failing := newConsumer(t, nil), newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	n, _, _ := clustered(t, t.TempDir(), fileSub("a", c.URL), fileSub("b", failing.URL))
	over := ours(lost(3, "p1"))
	over.Revision, over.Last = correlate.Revision{Term: 4, Counter: 3}, correlate.Cleared
	n.Publish(effects(over))
	eventually(t, "it is told to the one", func() bool { return len(c.messages()) == 1 && len(n.Deliveries("")) == 1 })
	n.Speak(changes(guest("g", 1, correlate.Raised)), nil)
	eventually(t, "the other's alarm is told", func() bool { return len(c.revisions("g")) == 1 })
	if got := c.revisions("lost"); len(got) != 1 {
		t.Errorf("sent %v", got)
	}
}

func ours(a *correlate.Alarm) *correlate.Alarm {
	a.Key.Home, a.Key.Resource = "cmp-1", "host/cmp-1"
	return a
}

// TestThatWeAreLostWeTellNobody: neither what a speaker has left undone, nor what it hands over to us; but who was told that hears
// that it is over.
func TestThatWeAreLostWeTellNobody(t *testing.T) {
	c, d := newConsumer(t, nil), newConsumer(t, nil)
	n, _, _ := clustered(t, t.TempDir(), fileSub("a", c.URL), fileSub("b", d.URL))
	a := ours(lost(2, "p1"))
	n.Adopt(changes(a), []Pair{
		{Subscription: FileID("prod", "a"), AlarmID: a.ID, Owed: a.Revision},
		{Subscription: FileID("prod", "b"), AlarmID: a.ID, Told: lost(1).Revision, Owed: a.Revision},
	})
	if owed := n.Deliveries(""); len(owed) != 0 {
		t.Errorf("owed: %+v", owed)
	}
	for _, w := range n.list() {
		sub := w.subscription()
		h := HandOver{Subscription: sub.ID, Version: sub.Version, NotificationID: "n", Change: correlate.Change{Alarm: a, Found: epoch}}
		if _, err := n.Deliver(t.Context(), h); !errors.Is(err, errAlive) {
			t.Errorf("handed over, %v", err)
		}
	}
	over := *a
	over.Last, over.Severity, over.ClearReason = correlate.Cleared, correlate.SeverityCleared, correlate.ReasonReturned
	over.Revision = correlate.Revision{Term: 4, Counter: 1}
	n.Publish(effects(&over))
	settledAll(t, n)
	d.waitFor(t, 1)
	for _, who := range []*consumer{c, d} {
		for _, r := range who.revisions("lost") {
			if r != "4.1" {
				t.Errorf("sent %v", who.revisions("lost"))
			}
		}
	}
}
