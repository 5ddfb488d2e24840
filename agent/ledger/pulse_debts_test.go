package ledger

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify"
)

// pulseWorld is a ledger that hears of other hosts.
type pulseWorld struct {
	t *testing.T
	l *Ledger
	b uint64
}

func newPulseWorld(t *testing.T) *pulseWorld {
	w := &pulseWorld{t: t, l: New(Config{Node: "cmp-1", Label: "prod"})}
	w.l.Begin(noon)
	return w
}

func (w *pulseWorld) record(space string, term uint64, kind gossip.Kind, id string, payload any) gossip.Record {
	w.t.Helper()
	var c codec
	var b []byte
	var err error
	if a, ok := payload.(*correlate.Alarm); ok {
		b, err = c.encodeAlarm(correlate.Change{Alarm: a}, false)
	} else {
		b, err = c.encode(payload)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.b++
	return gossip.Record{Key: gossip.Key{Space: space, Kind: kind, ID: id}, Version: gossip.Version{A: term, B: w.b, Node: space}, Payload: b}
}

func (w *pulseWorld) hears(records ...gossip.Record) {
	w.l.Take(noon, gossip.Changes{Changed: records})
}

// says is an alarm on a host itself: of its own under an even term, of its peers under an odd one.
func (w *pulseWorld) says(host string, term uint64, condition correlate.Condition, last correlate.Transition) {
	w.t.Helper()
	s := correlate.Spoken{
		Key:  correlate.Key{Home: host, Resource: correlate.NewID(correlate.KindHost, host), Condition: condition},
		Term: term, First: 1, Counter: w.b + 1, Reached: w.b + 1, Last: last, Confidence: correlate.ConfidenceProbable, Times: correlate.Times{Raised: noon},
	}
	a := s.Alarm(nil)
	w.hears(w.record(host, term, gossip.KindAlarm, a.ID, a))
}

func (w *pulseWorld) owes(host, pair string, d Delivery) {
	w.t.Helper()
	w.hears(w.record(host, 2, gossip.KindDelivery, pair, d))
}

func TestAHostThatCannotSpeakSendsNoHeartbeat(t *testing.T) {
	const sub = "s-1"
	// The first of the other's names that would come before this host.
	other := ""
	for _, name := range []string{"cmp-2", "cmp-3", "cmp-4", "cmp-5", "cmp-6", "cmp-7", "cmp-8", "cmp-9"} {
		if turn(sub, name) > turn(sub, "cmp-1") {
			other = name
			break
		}
	}
	for name, test := range map[string]struct {
		say   func(w *pulseWorld)
		mine  bool
		alive int
		lost  bool
	}{
		"not a word":     {func(*pulseWorld) {}, false, 2, false},
		"lost":           {func(w *pulseWorld) { w.says(other, 3, correlate.CondHostLost, correlate.Raised) }, true, 1, true},
		"hung":           {func(w *pulseWorld) { w.says(other, 3, correlate.CondHostHung, correlate.Raised) }, true, 1, false},
		"silent":         {func(w *pulseWorld) { w.says(other, 3, correlate.CondAgentSilent, correlate.Raised) }, true, 1, false},
		"going down":     {func(w *pulseWorld) { w.says(other, 2, correlate.CondHostShutdown, correlate.Raised) }, true, 1, false},
		"isolated":       {func(w *pulseWorld) { w.says(other, 2, correlate.CondIsolated, correlate.Raised) }, true, 1, false},
		"something else": {func(w *pulseWorld) { w.says(other, 2, correlate.CondOutbox, correlate.Raised) }, false, 2, false},
		"it was silent": {func(w *pulseWorld) {
			w.says(other, 3, correlate.CondAgentSilent, correlate.Raised)
			w.says(other, 3, correlate.CondAgentSilent, correlate.Cleared)
		}, false, 2, false},
		"it was lost, and is back": {func(w *pulseWorld) {
			w.says(other, 3, correlate.CondHostLost, correlate.Raised)
			w.hears(w.record(other, 4, gossip.KindHost, "", Host{}))
		}, false, 2, false},
		"another one is lost": {func(w *pulseWorld) { w.says("cmp-99", 3, correlate.CondHostLost, correlate.Raised) }, false, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPulseWorld(t)
			test.say(w)
			p := w.l.Pulse(sub, []string{other})
			if p.Mine != test.mine || p.Alive != test.alive || (len(p.Lost) > 0) != test.lost {
				t.Errorf("%+v", p)
			}
		})
	}
}

// The hosts of half a cluster say that they are isolated, and may not say that the others are lost: who sends is one of those that can be
// heard.
func TestOfHalfAClusterOneSendsAHeartbeat(t *testing.T) {
	const sub = "s-1"
	all := []string{"cmp-1", "cmp-2", "cmp-3", "cmp-4"}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(turn(sub, b), turn(sub, a)) }) // who comes first is cut off
	isolated := func(host string) *correlate.Alarm {
		s := correlate.Spoken{
			Key:  correlate.Key{Home: host, Resource: correlate.NewID(correlate.KindHost, host), Condition: correlate.CondIsolated},
			Term: 2, First: 1, Counter: 1, Reached: 1, Last: correlate.Raised, Times: correlate.Times{Raised: noon},
		}
		return s.Alarm(nil)
	}
	half := all[2:]
	for i, self := range half {
		w := &pulseWorld{t: t, l: New(Config{Node: self, Label: "prod"})}
		w.l.Begin(noon)
		members := slices.DeleteFunc(slices.Clone(all), func(m string) bool { return m == self })
		if p := w.l.Pulse(sub, members); p.Mine || p.Alive != 4 {
			t.Errorf("%s, before: %+v", self, p)
		}
		mine := isolated(self)
		w.l.Effects(noon, correlate.Effects{Save: []*correlate.Alarm{mine}, Publish: []correlate.Change{{Alarm: mine}}})
		if p := w.l.Pulse(sub, members); !p.Mine || p.Alive != 1 {
			t.Errorf("%s, when it is the first to say it: %+v", self, p)
		}
		for _, name := range half {
			if name != self {
				w.hears(w.record(name, 2, gossip.KindAlarm, isolated(name).ID, isolated(name)))
			}
		}
		if p := w.l.Pulse(sub, members); p.Mine != (i == 0) || p.Alive != 2 {
			t.Errorf("%s, when both have: %+v", self, p)
		}
		over := *mine
		over.Revision.Counter, over.Last, over.Severity = 2, correlate.Cleared, correlate.SeverityCleared
		w.l.Effects(noon, correlate.Effects{Save: []*correlate.Alarm{&over}, Publish: []correlate.Change{{Alarm: &over}}})
		if p := w.l.Pulse(sub, members); p.Mine || p.Alive != 3 {
			t.Errorf("%s, when it is over for it: %+v", self, p)
		}
	}
}

func TestTheLostAreNamedInOrderThoughTheyAreNoMembers(t *testing.T) {
	w := newPulseWorld(t)
	for _, name := range []string{"cmp-7", "cmp-3", "cmp-5"} {
		w.says(name, 3, correlate.CondHostLost, correlate.Raised)
	}
	if p := w.l.Pulse("s", []string{"cmp-2", "cmp-3"}); !slices.Equal(p.Lost, []string{"cmp-3", "cmp-5", "cmp-7"}) || p.Alive != 2 {
		t.Errorf("%+v", p)
	}
}

// What the others owe a subscription, by their own word; and what is left of that when one can't speak and others tell in its place.
func TestWhatOthersOweIsCounted(t *testing.T) {
	const sub, owed, newer = "s-1", "2.4", "2.6"
	due, parked := Delivery{Told: "2.1", Owed: owed}, Delivery{Owed: owed, Parked: true}
	alarm := func(w *pulseWorld, id string) {
		w.hears(w.record("cmp-2", 2, gossip.KindAlarm, id, &correlate.Alarm{
			ID: id, Key: correlate.Key{Home: "cmp-2", Resource: "nic/eth0", Condition: correlate.CondCarrier},
			Revision: correlate.Revision{Term: 2, Counter: 4}, Last: correlate.Raised, Severity: correlate.SeverityCritical,
		}))
	}
	lost := func(w *pulseWorld) { w.says("cmp-2", 3, correlate.CondHostLost, correlate.Raised) }
	for name, test := range map[string]struct {
		do   func(w *pulseWorld)
		want debt
	}{
		"nothing": {func(*pulseWorld) {}, debt{}},
		"of several hosts and endpoints": {func(w *pulseWorld) {
			w.owes("cmp-2", sub+"/a", due)
			w.owes("cmp-2", sub+"/b", parked)
			w.owes("cmp-3", sub+"/c", due)
			w.owes("cmp-3", sub+"#ab/c", due) // an endpoint of its own
		}, debt{3, 1}},
		"what is told is not owed": {func(w *pulseWorld) {
			w.owes("cmp-2", sub+"/a", Delivery{Told: owed, Owed: owed})
			w.owes("cmp-2", sub+"/b", Delivery{Told: owed})
		}, debt{}},
		"nor what is another's": {func(w *pulseWorld) { w.owes("cmp-2", "s-2/a", due) }, debt{}},
		"it changes": {func(w *pulseWorld) {
			w.owes("cmp-2", sub+"/a", due)
			w.owes("cmp-2", sub+"/a", parked)
			w.owes("cmp-2", sub+"/b", due)
			w.owes("cmp-2", sub+"/b", Delivery{Told: owed})
		}, debt{0, 1}},
		"it ends": {func(w *pulseWorld) {
			w.owes("cmp-2", sub+"/a", due)
			gone := w.record("cmp-2", 2, gossip.KindDelivery, sub+"/a", due)
			gone.Payload, gone.Deleted = nil, true
			w.hears(gone)
		}, debt{}},
		"one that is lost owes it still": {func(w *pulseWorld) {
			w.owes("cmp-2", sub+"/a", due)
			w.owes("cmp-2", sub+"/b", parked)
			w.owes("cmp-2", sub+"/c", Delivery{Told: owed, Owed: owed})
			w.owes("cmp-2", "s-2/a", due)
			lost(w)
		}, debt{1, 1}},
		"but not what others have told in its place": {func(w *pulseWorld) {
			for _, id := range []string{"a", "b", "c", "d"} {
				alarm(w, id)
			}
			w.owes("cmp-2", sub+"/a", due)
			w.owes("cmp-2", sub+"/b", due)
			w.owes("cmp-2", sub+"/c", Delivery{Owed: newer}) // of that an older revision is told
			w.owes("cmp-2", sub+"/d", due)                   // of that another one's receipt
			lost(w)
			w.hears(w.record("cmp-3", 2, gossip.KindReceipt, sub+"/a", Receipt{Home: "cmp-2", Told: owed}))
			w.hears(w.record("cmp-3", 2, gossip.KindReceipt, sub+"/c", Receipt{Home: "cmp-2", Told: owed}))
			w.hears(w.record("cmp-3", 2, gossip.KindReceipt, sub+"/d", Receipt{Home: "cmp-4", Told: owed}))
			w.l.Handed(noon, notify.HandOver{Subscription: sub, Change: correlate.Change{Alarm: w.l.foreign("b").Alarm}}, "cmp-2", notify.Answer{By: "cmp-1"})
		}, debt{2, 0}},
		"nor what this host has taken over, which its notifier counts": {func(w *pulseWorld) {
			alarm(w, "a")
			w.owes("cmp-2", sub+"/a", due)
			w.owes("cmp-3", sub+"/a", due)
			w.l.Speak(noon, takeover.Speech{Hosts: []takeover.Loss{{
				Host: "cmp-2", At: noon, Verdict: watch.Verdict{Host: "cmp-2", Term: 2, Level: watch.LevelConfirmed, Votes: []watch.Vote{{Voter: "cmp-3"}}},
			}}})
			lost(w)
		}, debt{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPulseWorld(t)
			test.do(w)
			p := w.l.Pulse(sub, nil)
			if diff := cmp.Diff(test.want, debt{p.Pending, p.Parked}, cmp.AllowUnexported(debt{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What a host owes of an alarm is known with how it went, and what others have told in its place is owed no more.
func TestWhatAHostOwesOfAnAlarmIsKnown(t *testing.T) {
	w := newPulseWorld(t)
	w.says("cmp-2", 3, correlate.CondHostLost, correlate.Raised)
	a := w.l.Standing()[0]
	pair := func(leg string) string { return leg + "/" + a.ID }
	w.owes("cmp-2", pair("tried"), Delivery{Owed: "2.5", Attempts: 3, LastError: strings.Repeat("x", 2*maxError)})
	w.owes("cmp-2", pair("told"), Delivery{Owed: "2.5", Parked: true, Attempts: 1, LastError: "answered 403"})
	w.owes("cmp-2", pair("half"), Delivery{Owed: "2.5", Attempts: 2, LastError: "no answer"})
	w.owes("cmp-2", "tried/another", Delivery{Owed: "2.5"})
	w.hears(
		w.record("cmp-3", 2, gossip.KindReceipt, pair("told"), Receipt{Home: "cmp-2", Told: "2.5"}),
		w.record("cmp-3", 2, gossip.KindReceipt, pair("half"), Receipt{Home: "cmp-2", Told: "2.4"}),
		w.record("cmp-3", 2, gossip.KindReceipt, pair("new"), Receipt{Home: "cmp-2", Told: "3.1"}),
		w.record("cmp-3", 2, gossip.KindReceipt, pair("tried"), Receipt{Home: "cmp-9", Told: "2.5"}),
	)
	rev := func(term, counter uint64) correlate.Revision { return correlate.Revision{Term: term, Counter: counter} }
	want := []notify.Pair{
		{Subscription: "half", AlarmID: a.ID, Told: rev(2, 4), Owed: rev(2, 5), Attempts: 2, LastError: "no answer"},
		{Subscription: "new", AlarmID: a.ID, Told: rev(3, 1)},
		{Subscription: "told", AlarmID: a.ID, Told: rev(2, 5)},
		{Subscription: "tried", AlarmID: a.ID, Owed: rev(2, 5), Attempts: 3, LastError: cut(strings.Repeat("x", 2*maxError), maxError)},
	}
	if diff := cmp.Diff(want, w.l.Told(a)); diff != "" {
		t.Error(diff)
	}
}
