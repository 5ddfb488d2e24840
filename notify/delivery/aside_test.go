package delivery

import (
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// What a consumer answers to a request that is no delivery says as much of it: what waits is hurried, or left alone, and nothing that is owed
// changes.
func TestWhatIsSaidAsideCountsAsTheConsumersWord(t *testing.T) {
	for name, test := range map[string]struct {
		outcome       Outcome
		failing       bool          // it was failing before
		since         time.Time     // that it fails
		quiet         time.Duration // how long it is left alone
		paused, again bool          // Effects.Paused, of the first time and of a second
	}{
		"taken":                  {outcome: Outcome{}},
		"taken after failures":   {outcome: Outcome{}, failing: true},
		"no answer":              {outcome: Outcome{Verdict: Retry}, since: t0},
		"failing for longer":     {outcome: Outcome{Verdict: Retry}, failing: true, since: t0.Add(-time.Hour)},
		"asks for time":          {outcome: Outcome{Verdict: Retry, RetryAfter: time.Minute}, since: t0, quiet: time.Minute},
		"asks for too much time": {outcome: Outcome{Verdict: Retry, RetryAfter: time.Hour}, since: t0, quiet: DefaultConfig().MaxQuiet},
		"refused":                {outcome: Outcome{Verdict: Park, RetryAfter: time.Minute}, since: t0},
		"wants no more":          {outcome: Outcome{Verdict: Pause}, since: t0, paused: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			if test.failing {
				m.Aside(Outcome{Verdict: Retry}, t0.Add(-time.Hour))
			}
			owe(m, newAlarm("waits", 1, correlate.Raised), t0.Add(-time.Minute))
			starts(t, m, t0.Add(-time.Minute), "waits@2.1")
			m.Result("waits", Outcome{Verdict: Retry, Err: "answered 503"}, t0.Add(-time.Minute))
			if !test.failing {
				m.Worked(t0.Add(-time.Minute)) // so it is due, and fails no more
			}
			eff := m.Aside(test.outcome, t0)
			if eff.Paused != test.paused || m.Paused() != test.paused {
				t.Errorf("paused: %v, %v", eff.Paused, m.Paused())
			}
			if again := m.Aside(test.outcome, t0); again.Paused {
				t.Error("it is paused a second time")
			}
			if got := m.FailingSince(); !got.Equal(test.since) {
				t.Errorf("failing since %v, want %v", got, test.since)
			}
			if m.Quiet(t0) != (test.quiet > 0) || test.quiet > 0 && (!m.Quiet(t0.Add(test.quiet-1)) || m.Quiet(t0.Add(test.quiet))) {
				t.Errorf("it is left alone: %v", m.Quiet(t0))
			}
			owed, parked, inFlight := m.Counts()
			if r, _, ok := m.Pair("waits"); !ok || owed != 1 || parked != 0 || inFlight != 0 || r.Attempts != 1 {
				t.Errorf("owed %d, parked %d, in flight %d, %+v", owed, parked, inFlight, r)
			}
			if len(eff.Save)+len(eff.Remove) != 0 {
				t.Errorf("it is to be kept: %+v", eff)
			}
			switch started := m.Tick(t0).Start; {
			case test.quiet > 0 || test.paused:
				if len(started) != 0 {
					t.Errorf("started %v", started)
				}
			case len(started) != 1:
				t.Errorf("nothing started")
			}
		})
	}
}

func TestAHeartbeatThatIsTakenHurriesWhatWaits(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	starts(t, m, t0, "a@2.1")
	m.Result("a", Outcome{Verdict: Retry, Err: "reset"}, t0)
	starts(t, m, t0)
	m.Aside(Outcome{}, t0)
	starts(t, m, t0, "a@2.1")
}
