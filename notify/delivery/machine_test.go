package delivery

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
)

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newAlarm(id string, counter uint64, last correlate.Transition) *correlate.Alarm {
	return &correlate.Alarm{ID: id, Revision: correlate.Revision{Term: 2, Counter: counter}, Last: last}
}

func change(a *correlate.Alarm) correlate.Change { return correlate.Change{Alarm: a} }

func machine() *Machine { return New(DefaultConfig(), func() float64 { return 0.5 }) }

// owe enqueues a revision whose commit is done at once.
func owe(m *Machine, a *correlate.Alarm, now time.Time) Effects {
	eff := m.Enqueue(change(a), now)
	m.Hold(1, now.Add(time.Millisecond))
	m.Committed(1, Commit{}, now)
	return eff
}

func starts(t *testing.T, m *Machine, now time.Time, want ...string) []Start {
	t.Helper()
	eff := m.Tick(now)
	var got []string
	for _, s := range eff.Start {
		got = append(got, s.Alarm.ID+"@"+s.Alarm.Revision.String())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("started %v, want %v", got, want)
	}
	return eff.Start
}

func TestADeliveryWaitsForItsCommitOrTheLimit(t *testing.T) {
	m := machine()
	m.Enqueue(change(newAlarm("a", 1, correlate.Raised)), t0)
	m.Hold(7, t0.Add(time.Millisecond))
	if eff := m.Tick(t0); len(eff.Start) != 0 || !eff.Wake.Equal(t0.Add(time.Millisecond)) {
		t.Fatalf("started %d, wake %v", len(eff.Start), eff.Wake)
	}
	m.Committed(6, Commit{}, t0)
	starts(t, m, t0)
	m.Committed(7, Commit{}, t0.Add(300*time.Microsecond))
	s := starts(t, m, t0.Add(300*time.Microsecond), "a@2.1")
	if !s[0].Outbox.Equal(t0.Add(300 * time.Microsecond)) {
		t.Fatalf("passed the outbox at %v", s[0].Outbox)
	}
	m.Enqueue(change(newAlarm("b", 2, correlate.Raised)), t0)
	m.Hold(8, t0.Add(time.Millisecond))
	starts(t, m, t0.Add(time.Millisecond), "b@2.2") // never committed
}

func TestANewerRevisionReplacesTheWaitingOneAndFollowsTheOneInFlight(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	owe(m, newAlarm("a", 2, correlate.Changed), t0)
	if s := starts(t, m, t0, "a@2.2"); s[0].Superseded != 1 {
		t.Fatalf("superseded %d", s[0].Superseded)
	}
	owe(m, newAlarm("a", 3, correlate.Changed), t0)
	owe(m, newAlarm("a", 4, correlate.Cleared), t0)
	starts(t, m, t0)
	m.Result("a", Outcome{}, t0)
	if s := starts(t, m, t0, "a@2.4"); s[0].Superseded != 1 {
		t.Fatalf("superseded %d", s[0].Superseded)
	}
	if eff := m.Result("a", Outcome{}, t0); len(eff.Remove) != 1 {
		t.Fatalf("a delivered clear is kept: %+v", eff)
	}
}

func TestFailuresBackOffWithJitterUntilMaxAgeThenPark(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	now, waits := t0, []time.Duration{}
	for {
		starts(t, m, now, "a@2.1")
		if eff := m.Result("a", Outcome{Verdict: Retry, Err: "reset"}, now); eff.Parked == 1 {
			break
		}
		eff := m.Tick(now)
		waits = append(waits, eff.Wake.Sub(now))
		now = eff.Wake
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}
	for i, w := range want {
		if waits[i] != w*time.Millisecond {
			t.Fatalf("waits %v", waits[:len(want)])
		}
	}
	if age := now.Sub(t0); age < 24*time.Hour || age > 24*time.Hour+time.Minute {
		t.Fatalf("parked after %v", age)
	}
	owe(m, newAlarm("a", 2, correlate.Changed), now)
	starts(t, m, now, "a@2.2")
}

func TestRetryAfterSilencesTheWholeSubscriptionWithinBounds(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{Verdict: Retry, RetryAfter: 30 * time.Second}, t0)
	owe(m, newAlarm("b", 2, correlate.Raised), t0)
	starts(t, m, t0.Add(29*time.Second))
	starts(t, m, t0.Add(30*time.Second), "b@2.2", "a@2.1")
	m.Result("a", Outcome{Verdict: Retry, RetryAfter: 1000 * time.Hour}, t0)
	if eff := m.Tick(t0.Add(31 * time.Second)); eff.Wake.After(t0.Add(6 * time.Minute)) {
		t.Fatalf("silent until %v", eff.Wake)
	}
}

func TestASuccessWakesWhatWaitsInBackoff(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	for range 10 {
		now := m.Tick(t0).Wake
		_ = now
		m.Tick(t0.Add(time.Hour))
		m.Result("a", Outcome{Verdict: Retry}, t0.Add(time.Hour))
	}
	now := t0.Add(time.Hour)
	if m.FailingSince().IsZero() {
		t.Fatal("not failing")
	}
	owe(m, newAlarm("b", 2, correlate.Raised), now)
	starts(t, m, now, "b@2.2")
	m.Result("b", Outcome{}, now)
	starts(t, m, now, "a@2.1")
}

func TestAPauseStopsAllUntilResume(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	owe(m, newAlarm("b", 2, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1", "b@2.2")
	if eff := m.Result("a", Outcome{Verdict: Pause}, t0); !eff.Paused {
		t.Fatal("not paused")
	}
	if eff := m.Result("b", Outcome{Verdict: Pause}, t0); eff.Paused {
		t.Fatal("paused twice")
	}
	starts(t, m, t0.Add(100*time.Hour))
	m.Resume(t0.Add(100 * time.Hour))
	if got := m.Tick(t0.Add(100 * time.Hour)).Start; len(got) != 2 {
		t.Fatalf("%d started after the pause", len(got))
	}
}

// TestTheNewestRevisionEndsDeliveredOrParked drives a machine at random against a model of what each consumer saw.
func TestTheNewestRevisionEndsDeliveredOrParked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.MaxAge = time.Minute
		rnd := rapid.Float64Range(0, 0.999)
		m := New(cfg, func() float64 { return rnd.Draw(t, "jitter") })
		now, counter, seq := t0, uint64(0), uint64(0)
		newest := map[string]*correlate.Alarm{}
		flying := map[string]correlate.Revision{}
		started := map[string]correlate.Revision{}
		delivered := map[string]correlate.Revision{}
		saved := map[string]Record{}

		keep := func(eff Effects) {
			for _, r := range eff.Save {
				saved[r.AlarmID] = r
			}
			for _, id := range eff.Remove {
				delete(saved, id)
			}
			if eff.Evicted != 0 {
				t.Fatal("evicted although there is room")
			}
		}
		tick := func() time.Time {
			eff := m.Tick(now)
			for _, s := range eff.Start {
				if _, ok := flying[s.Alarm.ID]; ok {
					t.Fatalf("two in flight for %s", s.Alarm.ID)
				}
				if s.Alarm.Revision.Compare(started[s.Alarm.ID]) < 0 {
					t.Fatalf("%s: %v after %v", s.Alarm.ID, s.Alarm.Revision, started[s.Alarm.ID])
				}
				if s.Alarm.Revision.Compare(delivered[s.Alarm.ID]) <= 0 {
					t.Fatalf("%s: %v although %v is told", s.Alarm.ID, s.Alarm.Revision, delivered[s.Alarm.ID])
				}
				flying[s.Alarm.ID], started[s.Alarm.ID] = s.Alarm.Revision, s.Alarm.Revision
			}
			if len(flying) > cfg.InFlight {
				t.Fatalf("%d in flight", len(flying))
			}
			return eff.Wake
		}
		answer := func(id string, o Outcome) {
			if o.Verdict == Settled && flying[id].Compare(delivered[id]) > 0 {
				delivered[id] = flying[id]
			}
			delete(flying, id)
			keep(m.Result(id, o, now))
		}
		pick := func(label string) string {
			ids := make([]string, 0, len(flying))
			for i := range 12 {
				if id := fmt.Sprint("a", i); flying[id] != (correlate.Revision{}) {
					ids = append(ids, id)
				}
			}
			return rapid.SampledFrom(ids).Draw(t, label)
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1:
				id := fmt.Sprint("a", rapid.IntRange(0, 11).Draw(t, "alarm"))
				if a := newest[id]; a != nil && !a.Standing() {
					continue // an id is never used again
				}
				last := rapid.SampledFrom([]correlate.Transition{correlate.Changed, correlate.Changed, correlate.Cleared}).Draw(t, "transition")
				counter++
				newest[id] = newAlarm(id, counter, last)
				keep(m.Enqueue(change(newest[id]), now))
				seq++
				m.Hold(seq, now.Add(time.Millisecond))
			case 2:
				m.Committed(seq, Commit{}, now)
			case 3:
				tick()
			case 4, 5:
				if len(flying) > 0 {
					answer(pick("answered"), Outcome{
						Verdict:    rapid.SampledFrom([]Verdict{Settled, Retry, Retry, Park}).Draw(t, "verdict"),
						RetryAfter: time.Duration(rapid.IntRange(0, 1).Draw(t, "asks")*rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second,
					})
				}
			case 6: // kill -9: what was saved is all there is
				if rapid.Bool().Draw(t, "restart") {
					m = New(cfg, func() float64 { return rnd.Draw(t, "jitter") })
					for id, r := range saved {
						m.Restore(r, change(newest[id]), now)
					}
					clear(flying)
				}
			case 7: // another host has told it
				id := fmt.Sprint("a", rapid.IntRange(0, 11).Draw(t, "alarm"))
				a := newest[id]
				if _, _, ok := m.Pair(id); !ok {
					continue
				}
				r := correlate.Revision{Term: 2, Counter: rapid.Uint64Range(1, a.Revision.Counter).Draw(t, "told elsewhere")}
				keep(m.Settle(id, r, !a.Standing() && r == a.Revision, now))
				if r.Compare(delivered[id]) > 0 {
					delivered[id] = r
				}
				rec, owed, ok := m.Pair(id)
				if owed && rec.Owed.Compare(delivered[id]) <= 0 || ok != (a.Standing() || delivered[id] != a.Revision) {
					t.Fatalf("%s: newest %v %s, told %v, record %+v", id, a.Revision, a.Last, delivered[id], rec)
				}
			}
			owed, parked, inFlight := m.Counts()
			count := 0
			for _, e := range m.pairs {
				if e.owed.Alarm != nil {
					count++
				}
			}
			if inFlight != len(flying) || owed != count || parked > owed || len(m.waiting) > owed {
				t.Fatalf("owed %d of %d, parked %d, in flight %d of %d, waiting %d", owed, count, parked, inFlight, len(flying), len(m.waiting))
			}
		}
		// The consumer becomes well: everything ends delivered, but for what is parked.
		for range 2000 {
			wake := tick()
			if len(flying) == 0 && wake.IsZero() {
				break
			}
			for len(flying) > 0 {
				answer(pick("settled"), Outcome{})
			}
			if !wake.IsZero() && wake.After(now) {
				now = wake
			}
		}
		for id, a := range newest {
			r, _, _ := m.Pair(id)
			if delivered[id] != a.Revision && (!r.Parked || r.Owed != a.Revision) {
				t.Fatalf("%s: newest %v, delivered %v, record %+v", id, a.Revision, delivered[id], r)
			}
		}
		if owed, parked, inFlight := m.Counts(); inFlight != 0 || owed != parked || len(m.waiting) != 0 {
			t.Fatalf("left: owed %d, parked %d, in flight %d, waiting %d", owed, parked, inFlight, len(m.waiting))
		}
	})
}

func TestAnswersAreJudged(t *testing.T) {
	for status, want := range map[int]Verdict{
		200: Settled, 201: Settled, 202: Settled, 204: Settled, 299: Settled, 301: Park, 302: Park, 304: Park, 307: Park, 308: Park,
		400: Park, 401: Park, 404: Park, 405: Park, 413: Park, 415: Park, 408: Retry, 425: Retry, 410: Pause,
		429: Retry, 500: Retry, 502: Retry, 503: Retry, 504: Retry, 599: Retry, 199: Retry, 999: Retry,
	} {
		if got := Classify(status, "", t0); got.Verdict != want || (got.Err == "") != (want == Settled) {
			t.Errorf("%d: %v %q, want %v", status, got.Verdict, got.Err, want)
		}
	}
	for header, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "-5": 0, "soon": 0, "99999999999999999999": 0, "Sun, 22 Nov 2026 12:02:00 GMT": 2 * time.Minute,
		"Sunday, 22-Nov-26 12:02:00 GMT": 2 * time.Minute, "Sun Nov 22 12:02:00 2026": 2 * time.Minute, "Sun, 22 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := Classify(503, header, t0).RetryAfter; got != want {
			t.Errorf("Retry-After %q: %v, want %v", header, got, want)
		}
	}
	if got := Classify(500, "120", t0).RetryAfter; got != 0 {
		t.Errorf("500 with Retry-After: %v", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Sun, 22 Nov 2026 12:02:00 GMT")
	f.Add("9223372036854775807")
	f.Fuzz(func(t *testing.T, header string) {
		if RetryAfter(header, t0) < 0 {
			t.Fatal("negative")
		}
	})
}

func TestHoldsDontPileUpWhenCommitsNeverCome(t *testing.T) {
	m := machine()
	for i := range uint64(10_000) {
		now := t0.Add(time.Duration(i) * time.Second)
		m.Enqueue(change(newAlarm("a", i+1, correlate.Changed)), now)
		m.Hold(1, now.Add(time.Millisecond))
		starts(t, m, now.Add(time.Millisecond), fmt.Sprint("a@2.", i+1))
		m.Result("a", Outcome{}, now)
	}
	if len(m.held) > 100 {
		t.Fatalf("%d holds", len(m.held))
	}
}
