package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// drawSpeech is one of a host or of a zone, in the small world of draw.
func drawSpeech(t *rapid.T) takeover.Speech {
	level := rapid.SampledFrom([]watch.Level{watch.LevelNone, watch.LevelSilent, watch.LevelHung, watch.LevelProbable, watch.LevelConfirmed})
	loss := func(host string) takeover.Loss {
		v := watch.Verdict{Host: host, Term: 2, Level: level.Draw(t, "level"), By: "cmp-9", Suspects: 1, Members: 9}
		for _, voter := range []string{"cmp-7", "cmp-8", "cmp-9"} {
			v.Votes = append(v.Votes, watch.Vote{
				Voter: voter, Silence: time.Duration(rapid.IntRange(300, 400).Draw(t, "silence")) * time.Millisecond, Kernel: watch.AgeNever,
			})
		}
		return takeover.Loss{Host: host, Verdict: v, At: noon.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "at")) * time.Millisecond)}
	}
	if rapid.Bool().Draw(t, "zone") {
		s := takeover.Speech{Zone: "rack-1", Term: 3}
		for _, host := range []string{"cmp-2", "cmp-3", "cmp-4"}[:rapid.IntRange(0, 3).Draw(t, "hosts")] {
			s.Hosts = append(s.Hosts, loss(host))
		}
		return s
	}
	return takeover.Speech{Hosts: []takeover.Loss{loss(rapid.SampledFrom([]string{"cmp-2", "cmp-3"}).Draw(t, "host"))}}
}

// wording is what a ledger's orders tell consumers and peers, without who says it.
func wording(t *rapid.T, o Orders) string {
	anonymous := func(a *correlate.Alarm) correlate.Alarm {
		b := *a
		b.Evidence = maps.Clone(b.Evidence)
		delete(b.Evidence, evidenceSpeaker)
		return b
	}
	text := fmt.Sprintf("hush %v\n", o.Hush)
	for _, g := range o.Guests {
		text += fmt.Sprintf("for %s\n", g.Home)
		for _, c := range g.Alarms {
			text += fmt.Sprintf("  %+v %v %v\n", anonymous(c.Alarm), c.Occurred, c.Observed)
		}
		for _, p := range g.Pairs {
			text += fmt.Sprintf("  %+v\n", p)
		}
	}
	var c codec
	for _, w := range o.Spoken {
		a, err := c.decodeAlarm(w.Space, w.ID, w.Payload)
		if err != nil {
			t.Fatalf("what is said can't be read: %v", err)
		}
		text += fmt.Sprintf("record %s %d %+v\n", w.Space, w.Term, anonymous(a.Alarm))
	}
	return text
}

// TestTwoSpeakersThatKnowTheSameSayTheSame, whoever they are, and whatever was said before by either.
func TestTwoSpeakersThatKnowTheSameSayTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c codec
		records := draw(t, &c)
		type speaker struct {
			l *Ledger
			r *gossip.Replica
		}
		var two [2]speaker
		for i, name := range []string{"cmp-5", "cmp-6"} {
			r, err := gossip.New(gossip.Config{Self: name, Term: 2})
			if err != nil {
				t.Fatal(err)
			}
			two[i] = speaker{New(Config{Node: name}), r}
			two[i].l.Begin(noon)
			two[i].l.Take(noon, gossip.Changes{Changed: r.Merge(noon, records).Changed})
		}
		now := noon
		for range rapid.IntRange(1, 5).Draw(t, "speeches") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "after")) * time.Millisecond)
			speech := drawSpeech(t)
			var said [2]string
			var orders [2]Orders
			for i := range two {
				orders[i] = two[i].l.Speak(now, speech)
				said[i] = wording(t, orders[i])
			}
			if said[0] != said[1] {
				t.Fatalf("one says\n%s\nthe other\n%s", said[0], said[1])
			}
			for i := range two { // both hear of both, in either order
				writer := rapid.IntRange(0, 1).Draw(t, "first")
				for range two {
					for _, s := range orders[writer].Spoken {
						res, err := two[writer].r.Speak(now, s.Space, s.Term, s.Kind, s.ID, s.Payload)
						if err != nil {
							t.Fatal(err)
						}
						two[writer].l.Take(now, gossip.Changes{Changed: res.Changed})
						merged := two[1-writer].r.Merge(now, res.Changed)
						two[1-writer].l.Take(now, gossip.Changes{Changed: merged.Changed})
					}
					writer = 1 - writer
				}
				if i == 0 && rapid.Bool().Draw(t, "once") {
					break
				}
			}
			for _, o := range orders {
				for _, g := range o.Guests {
					for i := 1; i < len(g.Alarms); i++ {
						if slices.ContainsFunc(g.Alarms[:i], func(x correlate.Change) bool { return x.Alarm.ID == g.Alarms[i].Alarm.ID }) {
							t.Fatalf("alarm %s is given twice in one speech", g.Alarms[i].Alarm.ID)
						}
					}
				}
			}
		}
	})
}

// TestALivingHostKeepsItsOwnWords: whatever speakers write of it, even and odd, readable or not, none of its own alarms and deliveries
// changes by that; it takes a higher term instead.
func TestALivingHostKeepsItsOwnWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c codec
		r, err := gossip.New(gossip.Config{Self: "cmp-2", Term: 4})
		if err != nil {
			t.Fatal(err)
		}
		l, f := New(Config{Node: "cmp-2"}), newFate()
		f.obey(t, l.Begin(noon))
		own := &correlate.Alarm{
			ID: "own", Key: correlate.Key{Home: "cmp-2", Resource: "nic/eth0", Condition: "carrier"}, Revision: correlate.Revision{Term: 4, Counter: 1},
			Last: correlate.Raised, Severity: correlate.SeverityMajor,
		}
		f.obey(t, l.Effects(noon, correlate.Effects{Publish: []correlate.Change{{Alarm: own}}}))
		want := maps.Clone(f.own)
		var claim uint64
		highest := uint64(0)
		for range rapid.IntRange(1, 20).Draw(t, "records") {
			term := rapid.SampledFrom([]uint64{1, 3, 5, 7, 4, 6}).Draw(t, "term")
			rec := gossip.Record{
				Key:     gossip.Key{Space: "cmp-2", Kind: rapid.SampledFrom([]gossip.Kind{gossip.KindAlarm, gossip.KindDelivery, gossip.KindHost, gossip.KindDomain}).Draw(t, "kind"), ID: rapid.SampledFrom([]string{"own", "lost", "s/own"}).Draw(t, "id")},
				Version: gossip.Version{A: term, B: rapid.Uint64Range(1, 9).Draw(t, "b"), Node: rapid.SampledFrom([]string{"cmp-2", "cmp-3", "cmp-4"}).Draw(t, "writer")},
				Deleted: rapid.Bool().Draw(t, "deleted"),
			}
			if !rec.Deleted {
				rec.Payload = []byte("garbage")
				if rec.Kind == gossip.KindAlarm && rapid.Bool().Draw(t, "whole") {
					a := *own
					a.ID, a.Revision = rec.ID, correlate.Revision{Term: term, Counter: 9}
					if rec.Payload, err = c.encode(Alarm{Change: correlate.Change{Alarm: &a}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			res := r.Merge(noon, []gossip.Record{rec})
			o := l.Take(noon, gossip.Changes{Changed: res.Changed, Purged: res.Purged, Own: res.Own, OwnTerm: res.OwnTerm})
			if o.Claim != 0 {
				claim = max(claim, o.Claim)
			}
			if len(o.Back)+len(o.Recorded)+len(o.Hush)+len(o.Guests) > 0 {
				t.Fatalf("it takes itself for another: %+v", o)
			}
			f.obey(t, o)
			if len(res.Rejected) == 0 && term > 4 {
				highest = max(highest, term)
			}
		}
		if !maps.Equal(f.own, want) {
			t.Fatalf("its own records are now %v, and were %v", f.own, want)
		}
		if got, ok := l.Own("own"); !ok || got.Alarm != own {
			t.Fatalf("its alarm is %+v", got.Alarm)
		}
		if claim < highest {
			t.Fatalf("it was shown term %d and claims one above %d", highest, claim)
		}
	})
}
