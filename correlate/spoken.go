package correlate

import "slices"

// Spoken is what peers say of a home that can't speak for itself (host-lost, agent-silent, host-hung), or of a zone. Two
// speakers that know the same say the same, to the byte.
type Spoken struct {
	Key      Key
	Term     uint64 // odd: one above the home's own
	First    uint64 // the counter of the revision that raised it
	Counter  uint64 // of this one
	Reached  uint64 // of the one that came to Confidence
	Last     Transition
	Reason   string // of a clear
	Times    Times
	Text     string // empty: the rule's
	Evidence map[string]string

	Confidence Confidence
	Under      string   // id of the zone's alarm
	Correlated []string // ids of those under this one
	Affected   []Affected
}

// ID is the id of the alarm.
func (s *Spoken) ID() string { return alarmID(s.Key, Revision{s.Term, s.First}) }

// Alarm is the revision that it makes, as the policies have it.
func (s *Spoken) Alarm(policies []Policy) *Alarm {
	d := refine(RuleOf(s.Key.Condition), policies, s.Key.Resource)
	a := &Alarm{
		Key: s.Key, ID: s.ID(), First: Revision{s.Term, s.First}, Revision: Revision{s.Term, s.Counter}, Last: s.Last,
		Severity: d.severity(SeverityUnset, len(s.Affected) > 0), EventType: d.EventType, ProbableCause: d.ProbableCause, AbstractCause: d.AbstractCause,
		Confidence: s.Confidence, Reached: Revision{s.Term, s.Reached}, State: d.State, Under: s.Under, RootCause: s.Under == "",
		Correlated: slices.Sorted(slices.Values(s.Correlated)), Source: SpokenSource, Text: s.Text, Evidence: s.Evidence, Times: s.Times,
		Affected: slices.Clone(s.Affected),
	}
	if a.Text == "" {
		a.Text = d.Text
	}
	if s.Under != "" {
		a.Correlated = []string{s.Under}
	}
	if s.Last == Cleared {
		a.Severity, a.State, a.ClearReason = SeverityCleared, StateOK, s.Reason
	}
	return a
}

// SpokenSource is the source of alarms that peers have raised. The host that is back states under the same name that it is well.
const SpokenSource = "agent"
