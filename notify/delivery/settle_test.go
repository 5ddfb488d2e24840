package delivery

import (
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

func told(m *Machine, id string, counter uint64, cleared bool) Effects {
	return m.Settle(id, correlate.Revision{Term: 2, Counter: counter}, cleared, t0)
}

func TestWhatAnotherHostToldIsNotSent(t *testing.T) {
	m := machine()
	owe(m, newAlarm("waits", 1, correlate.Raised), t0)
	owe(m, newAlarm("parked", 2, correlate.Raised), t0)
	starts(t, m, t0, "waits@2.1", "parked@2.2")
	m.Result("waits", Outcome{Verdict: Retry, Err: "x", By: "cmp-2"}, t0)
	m.Result("parked", Outcome{Verdict: Park, Err: "x"}, t0)
	if r, _, _ := m.Pair("waits"); r.By != "cmp-2" {
		t.Errorf("%+v", r)
	}
	for id, counter := range map[string]uint64{"waits": 1, "parked": 2} {
		if eff := told(m, id, counter, false); len(eff.Save) != 1 || eff.Save[0].Told.Counter != counter || eff.Save[0].Attempts != 0 || eff.Save[0].By != "" {
			t.Errorf("%s: %+v", id, eff)
		}
	}
	starts(t, m, t0.Add(time.Hour))
	if owed, parked, _ := m.Counts(); owed != 0 || parked != 0 || !m.FailingSince().IsZero() {
		t.Error(owed, parked, m.FailingSince())
	}
	if eff := told(m, "unknown", 9, true); len(eff.Save)+len(eff.Remove) != 0 {
		t.Errorf("%+v", eff)
	}
}

func TestWhatAnotherHostToldWhileItFlewEndsWithTheAnswer(t *testing.T) {
	for name, o := range map[string]Outcome{"settled": {}, "retry": {Verdict: Retry}, "park": {Verdict: Park}, "pause": {Verdict: Pause}} {
		m := machine()
		owe(m, newAlarm("a", 1, correlate.Raised), t0)
		owe(m, newAlarm("b", 2, correlate.Cleared), t0)
		starts(t, m, t0, "a@2.1", "b@2.2")
		told(m, "a", 1, false)
		if eff := told(m, "b", 2, false); len(eff.Remove) != 1 { // that it is the clear is known from what is owed
			t.Errorf("%s: %+v", name, eff)
		}
		if _, _, ok := m.Pair("b"); ok {
			t.Errorf("%s: a pair whose clear is told is shown", name)
		}
		if _, _, flying := m.Counts(); flying != 2 {
			t.Errorf("%s: %d in flight", name, flying)
		}
		for _, id := range []string{"a", "b"} {
			if eff := m.Result(id, o, t0); len(eff.Save)+len(eff.Remove) != 0 || eff.Parked != 0 {
				t.Errorf("%s: %+v", name, eff)
			}
		}
		m.Resume(t0)
		starts(t, m, t0.Add(time.Hour))
		if owed, parked, flying := m.Counts(); owed+parked+flying != 0 || len(m.pairs) != 1 {
			t.Errorf("%s: %d %d %d, %d pairs", name, owed, parked, flying, len(m.pairs))
		}
	}
}

func TestANewerRevisionThanTheOneToldElsewhereIsStillSent(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	owe(m, newAlarm("a", 3, correlate.Changed), t0)
	told(m, "a", 2, false)
	m.Result("a", Outcome{}, t0) // the older one: what is told stays
	if r, owed, _ := m.Pair("a"); r.Told.Counter != 2 || !owed {
		t.Fatalf("%+v", r)
	}
	starts(t, m, t0, "a@2.3")
}
