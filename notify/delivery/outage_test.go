package delivery

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
)

// small is a machine with room for four, which no consumer takes anything from until resumed.
func small() *Machine {
	cfg := DefaultConfig()
	cfg.Capacity, cfg.InFlight = 4, 1
	m := New(cfg, func() float64 { return 0 })
	m.Pause()
	return m
}

func tell(m *Machine, id string) { m.Told(id, correlate.Revision{Term: 1, Counter: 1}, nil) }

func TestWhenFullWhatCanBeSaidAgainGoesFirst(t *testing.T) {
	m := small()
	owe(m, newAlarm("raised", 1, correlate.Raised), t0)
	owe(m, newAlarm("gone", 2, correlate.Raised), t0)
	owe(m, newAlarm("gone", 3, correlate.Cleared), t0)
	tell(m, "told")
	owe(m, newAlarm("told", 4, correlate.Cleared), t0)
	owe(m, newAlarm("other", 5, correlate.Raised), t0)
	var order []string
	for i := range 4 {
		eff := owe(m, newAlarm(fmt.Sprint("new", i), uint64(10+i), correlate.Raised), t0.Add(time.Duration(i+1)))
		order = append(order, eff.Remove...)
	}
	if fmt.Sprint(order) != "[gone raised other new0]" {
		t.Fatalf("evicted %v", order)
	}
}

func TestThatAnAlarmIsOverIsKeptHoweverFull(t *testing.T) {
	m := small()
	for i := range uint64(10) {
		id := fmt.Sprint("told", i)
		tell(m, id)
		if eff := owe(m, newAlarm(id, 10+i, correlate.Cleared), t0); eff.Evicted != 0 || len(eff.Save) != 1 {
			t.Fatalf("%s: %+v", id, eff)
		}
	}
	for range 2 {
		if eff := owe(m, newAlarm("new", 30, correlate.Raised), t0); eff.Evicted != 1 || len(eff.Save) != 0 {
			t.Fatalf("there is room: %+v", eff)
		}
		if !m.Short() {
			t.Fatal("what was dropped is not known of")
		}
	}
	m.Resume(t0)
	for i := range 10 {
		eff := m.Tick(t0)
		if len(eff.Start) != 1 || eff.Start[0].Alarm.ID != fmt.Sprint("told", i) {
			t.Fatalf("%d: %+v", i, eff.Start)
		}
		if eff.Room != (i == 8) || m.Short() == (i >= 8) { // two are owed
			t.Fatalf("%d: room %v, short %v", i, eff.Room, m.Short())
		}
		m.Result(eff.Start[0].Alarm.ID, Outcome{}, t0)
	}
}

func TestWhatAConsumerRefusesToHearMakesRoomAtLast(t *testing.T) {
	m := small()
	for i := range uint64(4) {
		tell(m, fmt.Sprint("told", i))
	}
	m.Resume(t0)
	now := t0.Add(time.Second)
	m.Worked(now.Add(time.Second))
	for i := range uint64(4) { // the consumer is well, and refuses just these
		id := fmt.Sprint("told", i)
		owe(m, newAlarm(id, 10+i, correlate.Cleared), now.Add(time.Duration(i)))
		m.Tick(now.Add(time.Second))
		if eff := m.Result(id, Outcome{Verdict: Park, Err: "answered 400"}, now.Add(2*time.Second)); eff.Parked != 1 || eff.Save[0].Again {
			t.Fatalf("%s: %+v", id, eff)
		}
	}
	if eff := owe(m, newAlarm("new", 30, correlate.Raised), now); eff.Evicted != 1 || fmt.Sprint(eff.Remove) != "[told0]" {
		t.Fatalf("%+v", eff)
	}
}

func TestWhatStoodAloneInADaysOutageIsToldAtItsEnd(t *testing.T) {
	m := New(DefaultConfig(), func() float64 { return 0.5 })
	tell(m, "over")
	owe(m, newAlarm("over", 1, correlate.Cleared), t0)
	owe(m, newAlarm("stands", 2, correlate.Raised), t0)
	now := t0
	for parked := 0; parked < 2; {
		eff := m.Tick(now)
		for _, s := range eff.Start {
			parked += m.Result(s.Alarm.ID, Outcome{Verdict: Retry, Err: "refused"}, now).Parked
		}
		if eff = m.Tick(now); eff.Wake.After(now) {
			now = eff.Wake
		}
	}
	if age := now.Sub(t0); age < 24*time.Hour || age > 25*time.Hour {
		t.Fatalf("parked after %v", age)
	}
	// Over a restart, too.
	again := New(DefaultConfig(), func() float64 { return 0.5 })
	records, _ := m.Records()
	for _, r := range records {
		last := correlate.Raised
		if r.AlarmID == "over" {
			last = correlate.Cleared
		}
		again.Restore(r, change(newAlarm(r.AlarmID, r.Owed.Counter, last)), now)
	}
	owe(again, newAlarm("new", 3, correlate.Raised), now)
	starts(t, again, now, "new@2.3")
	if eff := again.Result("new", Outcome{}, now); len(eff.Save) != 3 {
		t.Fatalf("saved %+v", eff.Save)
	}
	starts(t, again, now, "over@2.1", "stands@2.2")
	// The consumer fails once more: they have their full time again.
	for _, id := range []string{"over", "stands"} {
		if eff := again.Result(id, Outcome{Verdict: Retry}, now.Add(time.Second)); eff.Parked != 0 {
			t.Errorf("%s is parked at the first failure", id)
		}
	}
}

func TestWhatAnOutageRefusedIsTriedOnceMoreAndPoisonNotAgain(t *testing.T) {
	m := machine()
	refuse := Outcome{Verdict: Park, Err: "answered 404"}
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", refuse, t0)
	settle := func(id string, counter uint64, now time.Time) {
		t.Helper()
		owe(m, newAlarm(id, counter, correlate.Raised), now)
		starts(t, m, now, fmt.Sprintf("%s@2.%d", id, counter))
		m.Result(id, Outcome{}, now)
	}
	now := t0.Add(time.Second)
	settle("b", 2, now)
	starts(t, m, now, "a@2.1")
	m.Result("a", refuse, now.Add(time.Millisecond))
	settle("c", 3, now.Add(time.Second))
	starts(t, m, now.Add(time.Hour))
	if _, parked, _ := m.Counts(); parked != 1 {
		t.Errorf("%d are parked", parked)
	}
}

// TestASuccessOfOthersDoesNotHurryPoisonForEver: one alarm fails whatever happens, while others are taken a hundred times a second.
func TestASuccessOfOthersDoesNotHurryPoisonForEver(t *testing.T) {
	m := New(DefaultConfig(), func() float64 { return 0.999 })
	owe(m, newAlarm("poison", 1, correlate.Raised), t0)
	attempts := 0
	for i := range uint64(100 * 600) {
		now := t0.Add(time.Duration(i) * 10 * time.Millisecond)
		owe(m, newAlarm("well", i+2, correlate.Changed), now)
		for len(m.waiting) > 0 {
			started := m.Tick(now).Start
			if len(started) == 0 {
				break
			}
			for _, s := range started {
				o := Outcome{}
				if s.Alarm.ID == "poison" {
					attempts++
					o = Outcome{Verdict: Retry, Err: "answered 500"}
				}
				m.Result(s.Alarm.ID, o, now)
			}
		}
	}
	if attempts > 40 { // in ten minutes
		t.Errorf("%d attempts", attempts)
	}
}

func TestWhatAnOperatorDiscardsIsTakenForTold(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	tell(m, "b")
	owe(m, newAlarm("b", 2, correlate.Cleared), t0)
	starts(t, m, t0, "a@2.1", "b@2.2")
	m.Result("a", Outcome{Verdict: Park, Err: "x"}, t0)
	m.Result("b", Outcome{Verdict: Retry, Err: "x"}, t0)
	failing := m.FailingSince()
	if eff, ok := m.Discard("a", t0); !ok || len(eff.Save) != 1 || eff.Save[0].Told.Counter != 1 || eff.Save[0].Parked {
		t.Errorf("%+v", eff)
	}
	if eff, ok := m.Discard("b", t0); !ok || fmt.Sprint(eff.Remove) != "[b]" {
		t.Errorf("%+v", eff)
	}
	if _, ok := m.Discard("a", t0); ok {
		t.Error("discarded twice")
	}
	if owed, parked, _ := m.Counts(); owed+parked != 0 || !m.FailingSince().Equal(failing) {
		t.Error(owed, parked, "an operator's word is no success")
	}
	owe(m, newAlarm("a", 3, correlate.Cleared), t0)
	starts(t, m, t0, "a@2.3")
}

// TestAnOutageOfANeverReachedConsumerIsBounded: alarm after alarm comes and goes while nobody can be connected to, in a form that is split
// and in one that is not. None of them may be kept as one of which the consumer was told.
func TestAnOutageOfANeverReachedConsumerIsBounded(t *testing.T) {
	for _, split := range []bool{false, true} {
		cfg := DefaultConfig()
		cfg.Capacity = 64
		cfg.Parts = func(*correlate.Alarm) ([]Part, bool) { return []Part{{ID: "vm", View: 7}}, split }
		m := New(cfg, func() float64 { return 0.5 })
		now := t0
		owe(m, newAlarm("stands", 1, correlate.Raised), now)
		for i := range uint64(1000) {
			now = now.Add(time.Minute)
			id := fmt.Sprint("flap", i)
			for _, last := range []correlate.Transition{correlate.Raised, correlate.Cleared} {
				owe(m, newAlarm(id, 2+i, last), now)
				for _, s := range m.Tick(now).Start {
					m.Result(s.Alarm.ID, Outcome{Verdict: Retry, Err: "refused", Unheard: true}, now)
				}
				i++
			}
		}
		owed, _, _ := m.Counts()
		if _, stands, _ := m.Pair("stands"); owed > cfg.Capacity+cfg.InFlight || !stands {
			t.Errorf("split %v: %d are owed; what stands is: %v", split, owed, stands)
		}
	}
}

// TestADaysOutageEndsInTheTruth: 300 things fail and are well again, twenty of them a minute, for a day and a half hour, which is longer than what
// is owed may grow old. The consumer, who knew forty of them, can't be connected to. Then it can.
func TestADaysOutageEndsInTheTruth(t *testing.T) {
	cfg := DefaultConfig()
	random := rand.New(rand.NewPCG(1, 2))
	m := New(cfg, random.Float64)
	now := t0
	counter, occurrence := uint64(0), 0
	stands := map[int]*correlate.Alarm{} // by thing
	over := map[string]*correlate.Alarm{}
	flip := func(thing int) {
		counter++
		a := stands[thing]
		switch {
		case a == nil:
			occurrence++
			a = newAlarm(fmt.Sprint("a", occurrence), counter, correlate.Raised)
			stands[thing] = a
		case random.IntN(4) == 0:
			a = newAlarm(a.ID, counter, correlate.Changed)
			stands[thing] = a
		default:
			a = newAlarm(a.ID, counter, correlate.Cleared)
			over[a.ID] = a
			delete(stands, thing)
		}
		if _, _, ok := m.Pair(a.ID); ok || a.Standing() {
			owe(m, a, now)
		}
	}
	knows := map[string]*correlate.Alarm{}
	down, attempts := false, 0
	told := map[string]int{}
	tick := func() time.Time {
		eff := m.Tick(now)
		if eff.Room {
			for thing := range 300 {
				if a := stands[thing]; a != nil {
					owe(m, a, now)
				}
			}
		}
		for _, s := range eff.Start {
			if down {
				attempts++
				m.Result(s.Alarm.ID, Outcome{Verdict: Retry, Err: "connection refused", Unheard: true}, now)
				continue
			}
			if told[s.Alarm.ID]++; knows[s.Alarm.ID] != nil && s.Alarm.Revision.Compare(knows[s.Alarm.ID].Revision) < 0 {
				t.Fatalf("%s: %v after %v", s.Alarm.ID, s.Alarm.Revision, knows[s.Alarm.ID].Revision)
			}
			knows[s.Alarm.ID] = s.Alarm
			m.Result(s.Alarm.ID, Outcome{}, now)
		}
		if len(eff.Start) > 0 {
			return now
		}
		return eff.Wake
	}
	until := func(end time.Time) {
		for wake := tick(); !wake.IsZero() && !wake.After(end); wake = tick() {
			now = later(now, wake)
		}
		now = end
	}
	for thing := range 40 {
		flip(thing)
	}
	until(now.Add(time.Minute))
	if len(knows) != 40 {
		t.Fatalf("%d are known", len(knows))
	}
	down = true
	most := 0
	for end := now.Add(24*time.Hour + 30*time.Minute); now.Before(end); {
		until(now.Add(3 * time.Second))
		flip(random.IntN(300))
		owed, _, _ := m.Counts()
		most = max(most, owed)
	}
	_, parked, _ := m.Counts()
	if most > cfg.Capacity {
		t.Errorf("%d were owed", most)
	}
	if attempts > 24*3600+1800+30_000 { // one a second, and the first of each
		t.Errorf("%d attempts", attempts)
	}
	t.Logf("%d occurrences, %d owed at most, %d parked at the end, %d attempts, %d pairs", occurrence, most, parked, attempts, len(m.pairs))
	down = false
	clear(told)
	until(now.Add(10 * time.Minute))
	if owed, _, _ := m.Counts(); owed != 0 {
		t.Errorf("%d are owed yet", owed)
	}
	for thing, a := range stands {
		if knows[a.ID] != a {
			t.Errorf("thing %d: %s %v stands, and it knows %v", thing, a.ID, a.Revision, knows[a.ID])
		}
	}
	for id, k := range knows {
		if a := over[id]; a != nil && k != a {
			t.Errorf("%s is over, and it knows %v %s", id, k.Revision, k.Last)
		}
		if told[id] > 1 {
			t.Errorf("%s was told %d times", id, told[id])
		}
	}
}

// TestTheTruthArrivesThroughAFullQueue: many alarms, little room, a consumer that fails, refuses and is away; then it is well. It must know
// what stands, and nothing that does not.
func TestTheTruthArrivesThroughAFullQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.Capacity, cfg.InFlight, cfg.MaxAge = 4, 2, time.Minute
		rnd := rapid.Float64Range(0, 0.999)
		m := New(cfg, func() float64 { return rnd.Draw(t, "jitter") })
		now, counter := t0, uint64(0)
		newest, knows := map[string]*correlate.Alarm{}, map[string]*correlate.Alarm{}
		saved := map[string]Record{}
		refused := map[string]bool{} // while others were taken: its clear may be dropped at last
		keep := func(eff Effects) {
			for _, r := range eff.Save {
				saved[r.AlarmID] = r
				refused[r.AlarmID] = refused[r.AlarmID] || r.Parked && !r.Again
			}
			for _, id := range eff.Remove {
				delete(saved, id)
			}
		}
		enqueue := func(a *correlate.Alarm) {
			if _, _, ok := m.Pair(a.ID); ok || a.Standing() {
				keep(m.Enqueue(change(a), now))
				m.Hold(1, now)
				m.Committed(1, Commit{}, now)
			}
		}
		flying := map[string]*correlate.Alarm{}
		standing := func() {
			for i := range 24 {
				if a := newest[fmt.Sprint("a", i)]; a != nil && a.Standing() {
					enqueue(a)
				}
			}
		}
		tick := func() (wake time.Time, filled bool) {
			eff := m.Tick(now)
			for _, s := range eff.Start {
				flying[s.Alarm.ID] = s.Alarm
			}
			if eff.Room {
				standing()
			}
			return eff.Wake, eff.Room
		}
		answer := func(id string, o Outcome) {
			a := flying[id]
			delete(flying, id)
			if o.Verdict == Settled {
				if knows[id] = a; !a.Standing() {
					delete(knows, id)
				}
			}
			keep(m.Result(id, o, now))
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				id := fmt.Sprint("a", rapid.IntRange(0, 23).Draw(t, "alarm"))
				last := correlate.Raised
				if a := newest[id]; a != nil {
					if !a.Standing() {
						continue
					}
					last = rapid.SampledFrom([]correlate.Transition{correlate.Changed, correlate.Cleared}).Draw(t, "transition")
				}
				counter++
				newest[id] = newAlarm(id, counter, last)
				enqueue(newest[id])
			case 3:
				tick()
			case 4:
				verdict := rapid.SampledFrom([]Verdict{Settled, Retry, Retry, Park}).Draw(t, "verdict")
				for i := range 24 {
					if id := fmt.Sprint("a", i); flying[id] != nil {
						answer(id, Outcome{Verdict: verdict})
						break
					}
				}
			case 5:
				if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
					m = New(cfg, func() float64 { return rnd.Draw(t, "jitter") })
					for _, id := range slices.Sorted(maps.Keys(saved)) {
						m.Restore(saved[id], change(newest[id]), now)
					}
					clear(flying)
					standing()
				}
			}
			clears := 0
			for id := range knows {
				if !newest[id].Standing() {
					clears++
				}
			}
			if owed, _, _ := m.Counts(); owed > cfg.Capacity+cfg.InFlight+clears {
				t.Fatalf("%d are owed, %d of them clears of what it knows", owed, clears)
			}
		}
		for n, settled := 0, false; !settled && n < 2000; n++ { // the consumer is well, and an operator tries again what it refused
			wake, filled := tick()
			for i := range 24 {
				if id := fmt.Sprint("a", i); flying[id] != nil {
					answer(id, Outcome{})
				}
			}
			if wake.After(now) {
				now = wake
			}
			switch owed, parked, inFlight := m.Counts(); {
			case filled || inFlight > 0 || owed > parked:
				continue
			case parked > 0:
				for i := range 24 {
					eff, _ := m.Unpark(fmt.Sprint("a", i), now)
					keep(eff)
				}
				continue
			}
			settled = true
		}
		for id, a := range newest {
			if k := knows[id]; a.Standing() && k != a || !a.Standing() && k != nil && !refused[id] {
				t.Fatalf("%s: %v %s is true, the consumer knows %v", id, a.Revision, a.Last, k)
			}
		}
	})
}

// TestWhatWasDroppedIsLateOnlyIfItWasBefore: an alarm that came while the consumer wanted it, and was dropped for want of room, waited
// for nobody but this queue.
func TestWhatWasDroppedIsLateOnlyIfItWasBefore(t *testing.T) {
	m := small()
	found := func(minute int) correlate.Change {
		c := change(newAlarm(fmt.Sprint("a", minute), uint64(minute), correlate.Raised))
		c.Found = t0.Add(time.Duration(minute) * time.Minute)
		return c
	}
	for minute := range 3 {
		m.EnqueueLate(found(minute), t0)
	}
	for minute := 3; minute < 9; minute++ {
		m.Enqueue(found(minute), t0.Add(time.Duration(minute)*time.Minute))
	}
	m.Hold(1, t0)
	m.Committed(1, Commit{}, t0)
	m.Resume(t0)
	var missed time.Time
	started := map[string]bool{}
	for range 4 {
		eff := m.Tick(t0)
		for _, s := range eff.Start {
			started[s.Alarm.ID] = s.Late
			m.Result(s.Alarm.ID, Outcome{}, t0)
		}
		if eff.Room {
			missed = eff.Missed
		}
	}
	if got := fmt.Sprint(started); got != "map[a5:false a6:false a7:false a8:false]" {
		t.Errorf("started with late: %s", got)
	}
	if want := found(3).Found; !missed.Equal(want) {
		t.Errorf("what was found since %v is not late, want %v", missed, want)
	}
	if m.EnqueueLate(found(0), t0); m.missed != (time.Time{}) || !m.pairs["a0"].late {
		t.Errorf("it was told of once more: %v, %+v", m.missed, m.pairs["a0"])
	}
}
