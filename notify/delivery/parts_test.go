package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
)

// split makes a machine of a form that tells each domain by itself: what it shows is the domain's state.
func split(rand func() float64) *Machine {
	cfg := DefaultConfig()
	cfg.MaxAge = time.Minute
	cfg.Parts = hits
	return New(cfg, rand)
}

func hits(a *correlate.Alarm) ([]Part, bool) {
	parts := []Part{}
	for _, d := range a.Affected {
		parts = append(parts, Part{ID: string(d.Resource), View: uint64(d.State) + 1})
	}
	return parts, true
}

// hit makes a revision that hits domains, each in the state failed, or degraded when written with a question mark.
func hit(id string, counter uint64, last correlate.Transition, domains ...string) *correlate.Alarm {
	a := newAlarm(id, counter, last)
	for _, d := range domains {
		one := correlate.Affected{Resource: correlate.ID(d), State: correlate.StateFailed}
		if d[len(d)-1] == '?' {
			one.Resource, one.State = correlate.ID(d[:len(d)-1]), correlate.StateDegraded
		}
		a.Affected = append(a.Affected, one)
	}
	return a
}

func asked(s Start) string {
	var out []string
	for _, a := range s.Asks {
		if a.Over {
			out = append(out, "-"+a.ID)
		} else {
			out = append(out, a.ID)
		}
	}
	return fmt.Sprint(out)
}

// round starts what is due of alarm a, and answers it.
func round(t *testing.T, m *Machine, want string, o Outcome) Effects {
	t.Helper()
	start := m.Tick(t0).Start
	if len(start) != 1 || asked(start[0]) != want || !start[0].Split {
		t.Fatalf("started %+v, want one that asks %s", start, want)
	}
	if o.Verdict == Settled {
		o.Done = start[0].Asks
	}
	return m.Result(start[0].Alarm.ID, o, t0)
}

func TestARevisionTellsWhoIsHitAndWhoIsNoLonger(t *testing.T) {
	m := split(func() float64 { return 0 })
	owe(m, hit("a", 1, correlate.Raised, "x", "y"), t0)
	round(t, m, "[x y]", Outcome{})
	if eff := owe(m, hit("a", 2, correlate.Changed, "x", "y"), t0); len(eff.Save) != 0 {
		t.Errorf("owed although it shows nothing new: %+v", eff)
	}
	owe(m, hit("a", 3, correlate.Changed, "x", "y?", "z"), t0)
	round(t, m, "[y z]", Outcome{})
	owe(m, hit("a", 4, correlate.Changed, "z"), t0)
	round(t, m, "[-x -y]", Outcome{})
	owe(m, hit("a", 5, correlate.Cleared, "z"), t0)
	if eff := round(t, m, "[-z]", Outcome{}); len(eff.Remove) != 1 || len(m.pairs) != 0 {
		t.Errorf("%+v", eff)
	}
}

func TestWhatOfARevisionWasTakenIsNotTriedAgain(t *testing.T) {
	m := split(func() float64 { return 0 })
	owe(m, hit("a", 1, correlate.Raised, "x", "y", "z"), t0)
	x, y := Ask{Part: Part{ID: "x", View: uint64(correlate.StateFailed) + 1}}, Ask{Part: Part{ID: "y", View: uint64(correlate.StateFailed) + 1}}
	round(t, m, "[x y z]", Outcome{Verdict: Retry, Done: []Ask{x}})
	round(t, m, "[y z]", Outcome{Verdict: Retry, Done: []Ask{y}})
	owe(m, hit("a", 2, correlate.Changed, "y"), t0) // z may have heard of it: the answer was lost, say
	round(t, m, "[-x -z]", Outcome{})
}

func TestARaiseAndAClearThatNobodyHeardOfAskNobody(t *testing.T) {
	m := split(func() float64 { return 0 })
	owe(m, hit("a", 1, correlate.Raised, "x"), t0)
	owe(m, hit("a", 2, correlate.Cleared, "x"), t0)
	m.failing = t0
	if eff := round(t, m, "[]", Outcome{Unasked: true}); len(eff.Remove) != 1 || m.FailingSince().IsZero() {
		t.Errorf("%+v, failing since %v", eff, m.FailingSince())
	}
}

func TestAFaultThatLeavesAllAndComesBackIsToldAnew(t *testing.T) {
	m := split(func() float64 { return 0 })
	owe(m, hit("a", 1, correlate.Raised, "x"), t0)
	round(t, m, "[x]", Outcome{})
	owe(m, hit("a", 2, correlate.Changed), t0)
	round(t, m, "[-x]", Outcome{})
	owe(m, hit("a", 3, correlate.Changed, "x"), t0)
	round(t, m, "[x]", Outcome{})
}

// TestAnEndThatSaysNothingOfOtherFaultsIsToldOnce, though another fault comes while it is told.
func TestAnEndThatSaysNothingOfOtherFaultsIsToldOnce(t *testing.T) {
	for _, apart := range []bool{false, true} {
		m := split(func() float64 { return 0 })
		m.cfg.Apart = func() bool { return apart }
		owe(m, hit("a", 1, correlate.Raised, "x"), t0)
		round(t, m, "[x]", Outcome{})
		owe(m, hit("a", 2, correlate.Cleared, "x"), t0)
		over := m.Tick(t0).Start[0]
		owe(m, hit("b", 3, correlate.Raised, "x"), t0)
		round(t, m, "[x]", Outcome{})
		eff := m.Result("a", Outcome{Done: over.Asks}, t0)
		if again := m.Tick(t0).Start; len(again) > 0 == apart || len(eff.Remove) == 1 != apart {
			t.Errorf("apart %t: told again %+v, %+v", apart, again, eff)
		}
	}
}

func TestWhoeverWasToldByAnotherWayIsToldTheEnd(t *testing.T) {
	for name, told := range map[string]func(*Machine){
		"receipt": func(m *Machine) { m.Told("a", correlate.Revision{Term: 2, Counter: 1}, nil) },
		"snapshot": func(m *Machine) {
			m.Told("a", correlate.Revision{Term: 2, Counter: 1}, hit("a", 1, correlate.Raised, "x"))
		},
		"settled": func(m *Machine) {
			owe(m, hit("a", 1, correlate.Raised, "x"), t0)
			m.Settle("a", correlate.Revision{Term: 2, Counter: 1}, false, t0)
		},
		"doubt": func(m *Machine) { m.Restore(Record{AlarmID: "a"}, change(hit("a", 1, correlate.Raised, "x")), t0) },
	} {
		m := split(func() float64 { return 0 })
		told(m)
		owe(m, hit("a", 2, correlate.Cleared, "x"), t0)
		t.Log(name)
		round(t, m, "[-x]", Outcome{})
	}
}

// TestWhoIsHitHearsItAndWhoIsNoLongerHearsThat drives a machine at random against a model of what a consumer heard of each
// domain: whatever is superseded, half told, lost by a crash or taken over by a peer that knows less.
func TestWhoIsHitHearsItAndWhoIsNoLongerHearsThat(t *testing.T) {
	type word struct {
		view uint64
		over bool
	}
	rapid.Check(t, func(t *rapid.T) {
		rnd := func() float64 { return 0.5 }
		m := split(rnd)
		now, counter, seq := t0, uint64(0), uint64(0)
		newest := map[string]*correlate.Alarm{}
		heard := map[string]map[string]word{"a": {}, "b": {}}
		flying := map[string]Start{}
		saved := map[string]Record{}
		last := map[string]bool{} // by domain: whether it was said last to be hit
		told := map[string]bool{} // asked of the consumer, heard or not
		crashed := false

		keep := func(eff Effects) {
			for _, r := range eff.Save {
				saved[r.AlarmID] = r
			}
			for _, id := range eff.Remove {
				delete(saved, id)
			}
		}
		tick := func() time.Time {
			eff := m.Tick(now)
			for _, s := range eff.Start {
				for _, ask := range s.Asks {
					if ask.Over && !crashed && !told[s.Alarm.ID+ask.ID] {
						t.Fatalf("%s: %s is told to be over, and was never told", s.Alarm.ID, ask.ID)
					}
					told[s.Alarm.ID+ask.ID] = true
				}
				flying[s.Alarm.ID] = s
			}
			return eff.Wake
		}
		answer := func(id string, well bool) {
			s := flying[id]
			delete(flying, id)
			o := Outcome{Unasked: len(s.Asks) == 0}
			for _, ask := range s.Asks {
				came, taken := true, true
				if !well {
					came = rapid.Bool().Draw(t, "came")
					taken = came && rapid.Bool().Draw(t, "answered")
				}
				if came {
					heard[id][ask.ID] = word{ask.View, ask.Over}
					last[ask.ID] = !ask.Over || ask.Still
				}
				if taken {
					o.Done = append(o.Done, ask)
				} else {
					o.Verdict = rapid.SampledFrom([]Verdict{Retry, Retry, Park}).Draw(t, "verdict")
				}
			}
			keep(m.Result(id, o, now))
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			id := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "alarm")
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				old := newest[id]
				if old != nil && !old.Standing() {
					continue
				}
				domains := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"v", "w", "x", "y", "z"}), 0, 5, rapid.ID).Draw(t, "hit")
				slices.Sort(domains)
				last := rapid.SampledFrom([]correlate.Transition{correlate.Changed, correlate.Changed, correlate.Changed, correlate.Cleared}).Draw(t, "transition")
				counter++
				a := hit(id, counter, last, domains...)
				for i := range a.Affected {
					a.Affected[i].State = rapid.SampledFrom([]correlate.State{correlate.StateDegraded, correlate.StateFailed}).Draw(t, "state")
				}
				if last == correlate.Cleared && old != nil {
					a.Affected = old.Affected // "of a cleared alarm: the last ones"
				}
				newest[id] = a
				keep(m.Enqueue(change(a), now))
				seq++
				m.Hold(seq, now.Add(time.Millisecond))
			case 2:
				m.Committed(seq, Commit{}, now)
			case 3, 4:
				tick()
			case 5:
				if _, ok := flying[id]; ok {
					answer(id, rapid.Bool().Draw(t, "well"))
				}
			case 6:
				if !rapid.Bool().Draw(t, "restart") {
					continue
				}
				for _, f := range []string{"a", "b"} { // what was on the wire may have come
					for _, ask := range flying[f].Asks {
						if rapid.Bool().Draw(t, "came") {
							heard[f][ask.ID] = word{ask.View, ask.Over}
							last[ask.ID] = !ask.Over || ask.Still
						}
					}
				}
				crashed = true
				clear(flying)
				m = split(rnd)
				byPeer := rapid.Bool().Draw(t, "by a peer")
				for _, id := range []string{"a", "b"} {
					r, ok := saved[id]
					if !ok {
						continue
					}
					if byPeer { // which knows who has left, no more
						mentioned, _ := hits(newest[id])
						r = Record{AlarmID: id, Owed: r.Owed, Told: r.Told, Parked: r.Parked, Parts: Missing(r.Parts, mentioned)}
						for i := range r.Parts {
							r.Parts[i].View = 0
						}
					}
					m.Restore(r, change(newest[id]), now)
					if r, _, ok := m.Pair(id); ok {
						saved[id] = r
					}
				}
			}
		}
		for range 2000 {
			wake := tick()
			if len(flying) == 0 && wake.IsZero() {
				break
			}
			for _, id := range []string{"a", "b"} {
				if _, ok := flying[id]; ok {
					answer(id, true)
				}
			}
			if wake.After(now) {
				now = wake
			}
		}
		hitBy := map[string]bool{}
		parked := false
		for id, a := range newest {
			parts, _ := hits(a)
			for _, p := range parts {
				hitBy[p.ID] = hitBy[p.ID] || a.Standing()
			}
			if r, _, _ := m.Pair(id); r.Parked {
				parked = true
			}
		}
		for d, said := range last {
			if said != hitBy[d] && !parked {
				t.Fatalf("%s: said last to be hit: %t, it is %t", d, said, hitBy[d])
			}
		}
		for id, a := range newest {
			if r, _, _ := m.Pair(id); r.Parked {
				continue
			}
			want := map[string]word{}
			for d := range heard[id] {
				want[d] = word{over: true}
			}
			if a.Standing() {
				parts, _ := hits(a)
				for _, p := range parts {
					want[p.ID] = word{view: p.View}
				}
			}
			for d, w := range want {
				if got := heard[id][d]; got.over != w.over || !w.over && got.view != w.view {
					t.Fatalf("%s %v %s, %s: heard %+v, want %+v", id, a.Revision, a.Last, d, got, w)
				}
			}
		}
	})
}
