package delivery

import (
	"time"
)

const (
	// outage is how long nothing may have succeeded before a failure is the consumer's, whatever it was about.
	outage = time.Minute
	// probeEvery parts the retries of an outage.
	probeEvery = time.Second
)

// park gives a pair up for now. When its consumer has taken nothing of anything since it was owed, or for long, that may well
// not have been about this one: it is tried again when the consumer takes something.
func (m *Machine) park(e *entry, now time.Time, eff *Effects) {
	e.Parked, e.Next = true, time.Time{}
	m.countParked(now)
	eff.Parked++
	if e.Again = !m.worked.After(e.Created) || now.Sub(m.failing) >= outage; e.Again {
		m.again++
	}
}

func (m *Machine) countParked(now time.Time) {
	if m.parked == 0 {
		m.parkedAt = now
	}
	m.parked++
}

func (m *Machine) unpark(e *entry) {
	if e.Again {
		m.again--
	}
	e.Parked, e.Again, e.Attempts, e.Next, e.Backoff = false, false, 0, time.Time{}, false
	m.parked--
}

// revive tries again what was parked while the consumer took nothing. What had grown too old gets its full time again; what
// was refused, this one attempt.
func (m *Machine) revive(eff *Effects, now time.Time) {
	if m.again == 0 {
		return
	}
	for _, e := range m.oldestFirst(func(e *entry) bool { return e.Again }) {
		m.unpark(e)
		if now.Sub(e.Created) >= m.cfg.MaxAge {
			e.Created = now
		}
		m.push(e)
		eff.Save = append(eff.Save, e.Record)
	}
}

// Unpark tries a pair again at once, at an operator's word. It returns false when nothing is owed for the alarm.
func (m *Machine) Unpark(alarmID string, now time.Time) (Effects, bool) {
	e := m.pairs[alarmID]
	if e == nil || e.owed.Alarm == nil {
		return Effects{}, false
	}
	if e.sent != nil {
		return Effects{}, true
	}
	if e.Parked {
		m.unpark(e)
	}
	m.drop(e)
	m.release(e, now)
	e.Created, e.Next, e.at, e.Backoff = now, now, now, false
	m.push(e)
	return Effects{Save: []Record{e.Record}}, true
}

// Pause starts nothing until Resume.
func (m *Machine) Pause() { m.paused = true }

// Paused reports whether the machine is.
func (m *Machine) Paused() bool { return m.paused }

// Resume ends a pause. Everything owed, parked pairs included, gets its full time again.
func (m *Machine) Resume(now time.Time) Effects {
	m.paused, m.quiet, m.failing = false, time.Time{}, time.Time{}
	return m.UnparkAll(now)
}

// UnparkAll tries everything that is owed again at once, the oldest first. Save holds what that was.
func (m *Machine) UnparkAll(now time.Time) Effects {
	var eff Effects
	for _, e := range m.oldestFirst(func(e *entry) bool { return !e.outbox.IsZero() }) {
		u, _ := m.Unpark(e.AlarmID, now)
		eff.Save = append(eff.Save, u.Save...)
	}
	return eff
}
