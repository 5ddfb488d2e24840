package delivery

import (
	"time"
)

func (m *Machine) park(e *entry, eff *Effects) {
	e.Parked, e.Next = true, time.Time{}
	m.parked++
	eff.Parked++
}

func (m *Machine) unpark(e *entry) {
	e.Parked, e.Attempts, e.Next, e.Backoff = false, 0, time.Time{}, false
	m.parked--
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
	var eff Effects
	m.paused, m.quiet, m.failing = false, time.Time{}, time.Time{}
	for _, e := range m.oldestFirst(func(e *entry) bool { return !e.outbox.IsZero() }) {
		u, _ := m.Unpark(e.AlarmID, now)
		eff.Save = append(eff.Save, u.Save...)
	}
	return eff
}
