package delivery

import (
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

// TestWhatShowsNothingNewIsNotSent: the view is the severity here.
func TestWhatShowsNothingNewIsNotSent(t *testing.T) {
	cfg := DefaultConfig()
	cfg.View = func(a *correlate.Alarm) uint64 { return uint64(a.Severity) + 1 }
	m := New(cfg, func() float64 { return 0 })
	alarm := func(counter uint64, last correlate.Transition, s correlate.Severity) *correlate.Alarm {
		a := newAlarm("a", counter, last)
		a.Severity = s
		return a
	}
	shown := func(s correlate.Severity) Outcome { return Outcome{View: uint64(s) + 1} }
	const major, critical = correlate.SeverityMajor, correlate.SeverityCritical

	owe(m, alarm(1, correlate.Raised, major), t0)
	starts(t, m, t0, "a@2.1")
	owe(m, alarm(2, correlate.Changed, major), t0) // while the first flies
	if eff := m.Result("a", shown(major), t0); len(eff.Save) != 1 || eff.Save[0].Told.Counter != 1 || eff.Save[0].Owed.Counter != 0 {
		t.Errorf("%+v", eff)
	}
	if eff := m.Enqueue(change(alarm(3, correlate.Changed, major)), t0); len(eff.Save) != 0 {
		t.Errorf("%+v", eff)
	}
	r, _, _ := m.Pair("a")
	m = New(cfg, func() float64 { return 0 }) // the next run knows it, too
	m.Restore(r, change(alarm(3, correlate.Changed, major)), t0)
	owe(m, alarm(3, correlate.Changed, major), t0)
	starts(t, m, t0)

	owe(m, alarm(4, correlate.Changed, critical), t0)
	starts(t, m, t0, "a@2.4")
	owe(m, alarm(5, correlate.Changed, major), t0)
	m.Result("a", shown(critical), t0)
	starts(t, m, t0, "a@2.5")
	m.Result("a", shown(major), t0)

	told(m, "a", 6, false) // by another host: who knows what that showed
	owe(m, alarm(7, correlate.Changed, major), t0)
	starts(t, m, t0, "a@2.7")
	owe(m, alarm(8, correlate.Cleared, major), t0)
	m.Result("a", shown(major), t0)
	starts(t, m, t0, "a@2.8")
	if m.Result("a", Outcome{}, t0); len(m.pairs) != 0 || m.owed != 0 {
		t.Errorf("%d pairs, %d owed", len(m.pairs), m.owed)
	}
}
