package delivery

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// A receiver that forgets what it is not told again (Config.Repeat) is told every standing alarm anew, each on a timer of its
// own. Such a request owes nothing: it is not kept, waits behind all that is owed, and what is owed meanwhile takes its place.

func (m *Machine) repeat() time.Duration {
	if m.cfg.Repeat == nil {
		return 0
	}
	return m.cfg.Repeat()
}

// rest has what was said wait to be said again, when that is asked for and it stands.
func (m *Machine) rest(e *entry, at time.Time) {
	if e.said == nil || !e.said.Standing() || e.owed.Alarm != nil || e.sent != nil || e.over || m.repeat() <= 0 {
		return
	}
	m.drop(e)
	e.at, e.resting = at, true
	m.order++
	e.order = m.order
	heap.Push(&m.resting, e)
}

// repeatDue starts what is to be said again. It leaves half of the requests to what is owed.
func (m *Machine) repeatDue(eff *Effects, now time.Time) {
	for !m.paused && m.inFlight < (m.cfg.InFlight+1)/2 && len(m.resting) > 0 {
		e := m.resting[0]
		if due := later(later(e.at, m.quiet), m.nextStart); due.After(now) {
			if eff.Wake.IsZero() || due.Before(eff.Wake) {
				eff.Wake = due
			}
			return
		}
		m.drop(e)
		if m.repeat() <= 0 { // the form is another now
			continue
		}
		m.begin(e, e.said, now)
		e.repeats = true
		s := Start{Change: correlate.Change{Alarm: e.said}, Outbox: now, Repeat: true}
		if m.cfg.Parts != nil {
			var parts []Part
			parts, s.Split = m.cfg.Parts(e.said)
			for _, p := range parts {
				s.Asks = append(s.Asks, Ask{Part: p})
			}
		}
		eff.Start = append(eff.Start, s)
	}
}

// repeated is the Result of what was said again.
func (m *Machine) repeated(e *entry, o Outcome, now time.Time) Effects {
	var eff Effects
	e.repeats = false
	wait := m.repeat()
	switch o.Verdict {
	case Settled:
		m.succeeded(&eff, now)
		e.tries = 0
	case Retry:
		m.failed(now)
		e.tries++
		wait = min(wait, m.backoff(e.tries))
		m.hush(o, now)
	case Park:
		m.failed(now)
	case Pause:
		m.failed(now)
		eff.Paused = !m.paused
		m.paused = true
	}
	switch {
	case e.over:
		delete(m.pairs, e.AlarmID)
	case e.owed.Alarm != nil:
		m.push(e)
	default:
		m.rest(e, now.Add(wait))
	}
	return eff
}

// Reform is the caller's word that Config.Repeat says another thing now.
func (m *Machine) Reform(now time.Time) {
	for _, e := range slices.SortedFunc(maps.Values(m.pairs), func(a, b *entry) int { return cmp.Compare(a.AlarmID, b.AlarmID) }) {
		if e.index < 0 {
			m.rest(e, now)
		}
	}
}
