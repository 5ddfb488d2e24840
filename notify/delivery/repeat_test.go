package delivery

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
)

// forgetful makes a machine whose consumer is told what stands each minute.
func forgetful(rand func() float64) *Machine {
	cfg := DefaultConfig()
	cfg.Repeat = func() time.Duration { return time.Minute }
	return New(cfg, rand)
}

func TestWhatStandsIsToldAgainUntilItIsOver(t *testing.T) {
	m := forgetful(func() float64 { return 0.5 })
	owe(m, hit("a", 1, correlate.Raised, "x"), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{}, t0)
	now := t0
	for range 3 {
		if wake := m.Tick(now.Add(time.Second)).Wake; !wake.Equal(now.Add(time.Minute)) {
			t.Fatalf("wakes at %v", wake)
		}
		now = now.Add(time.Minute)
		s := starts(t, m, now, "a@2.1")
		if !s[0].Repeat || s[0].Attempt != 0 {
			t.Errorf("%+v", s)
		}
		if eff := m.Result("a", Outcome{}, now); len(eff.Save)+len(eff.Remove) != 0 {
			t.Errorf("kept: %+v", eff)
		}
	}
	owe(m, hit("a", 2, correlate.Cleared, "x"), now)
	starts(t, m, now, "a@2.2")
	m.Result("a", Outcome{}, now)
	if wake := m.Tick(now).Wake; !wake.IsZero() || len(m.pairs) != 0 {
		t.Errorf("wakes at %v, %d pairs", wake, len(m.pairs))
	}
}

func TestARepetitionThatFailsIsTriedSoonerAndOwesNothing(t *testing.T) {
	m := forgetful(func() float64 { return 1 })
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{}, t0)
	now := t0.Add(time.Minute)
	starts(t, m, now, "a@2.1")
	m.Result("a", Outcome{Verdict: Retry}, now)
	if owed, parked, _ := m.Counts(); owed+parked != 0 || m.FailingSince().IsZero() {
		t.Errorf("%d owed, %d parked, failing since %v", owed, parked, m.FailingSince())
	}
	now = now.Add(200 * time.Millisecond)
	starts(t, m, now, "a@2.1")
	m.Result("a", Outcome{Verdict: Retry, RetryAfter: 30 * time.Second}, now)
	owe(m, newAlarm("b", 2, correlate.Raised), now)
	starts(t, m, now.Add(29*time.Second))
	now = now.Add(30 * time.Second)
	starts(t, m, now, "b@2.2", "a@2.1") // what is owed goes first
	m.Result("a", Outcome{Verdict: Park}, now)
	m.Result("b", Outcome{}, now)
	starts(t, m, now.Add(59*time.Second))
	starts(t, m, now.Add(time.Minute), "a@2.1", "b@2.2")
}

func TestANewRevisionTakesThePlaceOfARepetition(t *testing.T) {
	m := forgetful(func() float64 { return 0.5 })
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{}, t0)
	now := t0.Add(time.Minute)
	starts(t, m, now, "a@2.1")
	owe(m, newAlarm("a", 2, correlate.Changed), now)
	starts(t, m, now) // one at a time
	m.Result("a", Outcome{}, now)
	starts(t, m, now, "a@2.2")
	m.Result("a", Outcome{}, now)
	starts(t, m, now.Add(time.Minute), "a@2.2")
	told(m, "a", 3, true) // another host has told the end of it
	m.Result("a", Outcome{}, now)
	if wake := m.Tick(now.Add(time.Hour)).Wake; !wake.IsZero() || len(m.pairs) != 0 {
		t.Errorf("wakes at %v, %d pairs", wake, len(m.pairs))
	}
}

func TestTheNextRunAndWhoeverTakesOverTellAtOnceWhatStands(t *testing.T) {
	a := newAlarm("a", 1, correlate.Raised)
	m := forgetful(func() float64 { return 0.5 })
	m.Restore(Record{AlarmID: "a", Told: a.Revision}, change(a), t0)
	m.Told("b", correlate.Revision{Term: 2, Counter: 2}, newAlarm("b", 2, correlate.Raised)) // a snapshot, which the receiver itself did not see
	starts(t, m, t0, "b@2.2", "a@2.1")
}

func TestAFormThatIsChangedBeginsToRepeatOrEnds(t *testing.T) {
	every := time.Duration(0)
	cfg := DefaultConfig()
	cfg.Repeat = func() time.Duration { return every }
	m := New(cfg, func() float64 { return 0.5 })
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{}, t0)
	starts(t, m, t0.Add(time.Hour))
	every = time.Minute
	m.Reform(t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{}, t0)
	every = 0
	m.Reform(t0)
	if eff := m.Tick(t0.Add(time.Hour)); len(eff.Start) != 0 || !eff.Wake.IsZero() {
		t.Errorf("%+v", eff)
	}
}

// TestAForgetfulReceiverKnowsWhatStandsAndNothingElse drives a machine at random, with answers that get lost, pauses of the
// receiver and restarts, and holds a receiver that forgets after five minutes against what stands.
func TestAForgetfulReceiverKnowsWhatStandsAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := func() float64 { return 0.5 }
		m := forgetful(rnd)
		now, counter := t0, uint64(0)
		newest := map[string]*correlate.Alarm{}
		saved := map[string]Record{}
		knows := map[string]time.Time{} // until when
		failing := false
		keep := func(eff Effects) {
			for _, r := range eff.Save {
				saved[r.AlarmID] = r
			}
			for _, id := range eff.Remove {
				delete(saved, id)
			}
		}
		run := func(until time.Time) {
			for range 10_000 {
				eff := m.Tick(now)
				for _, s := range eff.Start {
					if s.Repeat && s.Alarm != newest[s.Alarm.ID] {
						t.Fatalf("%s %v is said again, it is %v", s.Alarm.ID, s.Alarm.Revision, newest[s.Alarm.ID].Revision)
					}
					o := Outcome{}
					if failing {
						o.Verdict = Retry
					} else if knows[s.Alarm.ID] = now.Add(5 * time.Minute); !s.Alarm.Standing() {
						delete(knows, s.Alarm.ID)
					}
					keep(m.Result(s.Alarm.ID, o, now))
				}
				if len(eff.Start) > 0 {
					continue
				}
				if eff.Wake.IsZero() || eff.Wake.After(until) {
					now = until
					return
				}
				now = eff.Wake
			}
			t.Fatal("it does not come to rest")
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				id := fmt.Sprint("a", rapid.IntRange(0, 9).Draw(t, "alarm"))
				if a := newest[id]; a != nil && !a.Standing() {
					continue
				}
				counter++
				newest[id] = newAlarm(id, counter, rapid.SampledFrom([]correlate.Transition{correlate.Changed, correlate.Changed, correlate.Cleared}).Draw(t, "transition"))
				keep(owe(m, newest[id], now))
			case 2, 3:
				run(now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "s")) * time.Second))
			case 4:
				failing = rapid.Bool().Draw(t, "fails")
			case 5:
				m = forgetful(rnd)
				for id := range newest {
					if r, ok := saved[id]; ok {
						m.Restore(r, change(newest[id]), now)
					}
				}
			}
			if failing {
				continue
			}
			run(now)
		}
		failing = false
		run(now.Add(2 * time.Minute)) // the longest backoff is a minute
		begun := now
		for now.Before(begun.Add(time.Hour)) {
			run(now.Add(time.Minute))
			for id, a := range newest {
				if until, known := knows[id]; known != a.Standing() || known && until.Before(now) {
					t.Fatalf("%s %s: known %t until %v, now %v", id, a.Last, known, until, now)
				}
			}
		}
		if owed, parked, inFlight := m.Counts(); owed+parked+inFlight != 0 {
			t.Fatalf("%d owed, %d parked, %d in flight", owed, parked, inFlight)
		}
	})
}
