package correlate

import (
	"slices"
	"time"
)

// Reterm takes a higher term in the middle of a run, because the peers know this home under one that is not below the
// present one: what it says under the present term they would not believe. Every standing alarm is told anew under the new
// term. A term that is odd or not above the present one changes nothing.
func (e *Engine) Reterm(now time.Time, term uint64) Effects {
	e.begin(now)
	if term <= e.term || term%2 != 0 {
		return e.finish()
	}
	e.term, e.counter = term, 0
	standing := e.sorted()
	slices.SortFunc(standing, e.inOrder)
	eff := e.write(standing)
	eff.Wake = e.finish().Wake
	return eff
}

// Term is the term under which revisions are made.
func (e *Engine) Term() uint64 { return e.term }

// Close clears alarms of this home that consumers were told of and that the engine does not know any more: of a life whose
// memory was lost, or that ended unheard. Of each what is known is handed in, at least ID, Key and Revision. One that stands
// here is told anew when it is known here in an older revision only, and else left alone; so is one of another home, and one
// whose revision is of a higher term: Reterm above it first.
func (e *Engine) Close(now time.Time, last ...*Alarm) Effects {
	e.begin(now)
	wake := e.finish().Wake
	last = slices.DeleteFunc(slices.Clone(last), func(was *Alarm) bool {
		return was.ID == "" || was.Key.Home != e.home || was.Revision.Term > e.term
	})
	var anew []*record
	for _, was := range last {
		if was.Revision.Term == e.term { // of this very run: it must not be told something older
			e.counter = max(e.counter, was.Revision.Counter)
		}
		if r := e.alarms[was.ID]; r != nil && r.alarm.Revision.Compare(was.Revision) < 0 && !slices.Contains(anew, r) {
			anew = append(anew, r)
		}
	}
	slices.SortFunc(anew, e.inOrder)
	eff := e.write(anew)
	eff.Wake = wake
	for _, was := range last {
		if _, stands := e.alarms[was.ID]; stands {
			continue
		}
		e.counter++
		a := *was
		d := e.define(a.Key.Resource, a.Key.Condition)
		a.Revision, a.Last = Revision{Term: e.term, Counter: e.counter}, Cleared
		if a.First == (Revision{}) {
			a.First = was.Revision
		}
		a.Severity, a.State, a.ClearReason = SeverityCleared, StateOK, e.closing(was)
		if a.Confidence == "" {
			a.Confidence = ConfidenceConfirmed
		}
		a.EventType, a.ProbableCause, a.AbstractCause = d.EventType, d.ProbableCause, d.AbstractCause
		if a.Text == "" {
			a.Text = d.Text
		}
		a.Under, a.RootCause, a.Correlated, a.Lost, a.NeededBy = "", true, nil, false, nil
		a.Affected, a.AtRisk = e.presently(a.Affected), nil
		if a.Times.Raised.IsZero() {
			a.Times.Raised = now
		}
		a.Times.Cleared = later(now, later(a.Times.Changed, a.Times.Raised))
		eff.Save = append(eff.Save, &a)
		eff.Publish = append(eff.Publish, Change{Alarm: &a})
	}
	return eff
}

// closing is why an alarm ends that the home does not stand for. What its speakers said of its loss ends because it is back; it was
// no false alarm when the host has been restarted meanwhile, however quickly.
func (e *Engine) closing(a *Alarm) string {
	switch {
	case a.Revision.Term%2 != 0 && e.Stands(a.Key.Resource, CondHostRestarted):
		return ReasonRestarted
	case a.Key.Condition == CondHostLost && a.Confidence == ConfidenceProbable:
		return ReasonFalseAlarm
	case a.Revision.Term%2 != 0:
		return ReasonReturned
	}
	return ReasonRecovered
}
