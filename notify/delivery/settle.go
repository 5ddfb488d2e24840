package delivery

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Settle notes that another host has told the consumer a revision. What is owed up to it is settled, be it waiting,
// parked or in flight; what is in flight then changes nothing more when it comes back. cleared says that the alarm
// ended with that revision; then the pair ends.
func (m *Machine) Settle(alarmID string, r correlate.Revision, cleared bool, now time.Time) Effects {
	var eff Effects
	e := m.pairs[alarmID]
	if e == nil || e.over || r.Compare(e.Told) <= 0 {
		return eff
	}
	if e.owed.Alarm != nil && e.Owed.Compare(r) <= 0 {
		defer func() { m.succeeded(&eff, now) }() // not from here, but the consumer is there
	}
	m.take(&eff, e, r, cleared, now)
	return eff
}

// take notes what the consumer knows, or is taken to know, without our asking.
func (m *Machine) take(eff *Effects, e *entry, r correlate.Revision, cleared bool, now time.Time) {
	e.Told, e.View, e.Parts = r, 0, doubtful(e.Parts)
	e.before, e.opened = nil, false
	if e.said = nil; e.resting { // what was told is newer than that
		m.drop(e)
	}
	if e.owed.Alarm != nil && e.Owed.Compare(r) <= 0 {
		m.doubt(e, e.owed.Alarm)
		e.said = e.owed.Alarm
		cleared = cleared || !e.owed.Alarm.Standing()
		m.drop(e)
		if e.Parked {
			m.unpark(e)
		}
		e.Attempts, e.Next, e.Backoff, e.LastError, e.By = 0, time.Time{}, false, "", ""
		m.settle(e)
	}
	if !cleared || e.owed.Alarm != nil {
		m.rest(e, now.Add(m.repeat()))
		eff.Save = append(eff.Save, e.Record)
		return
	}
	eff.Remove = append(eff.Remove, e.AlarmID)
	if e.sent != nil {
		e.over = true
	} else {
		delete(m.pairs, e.AlarmID)
	}
}

// Discard takes what is owed of an alarm for told, at an operator's word. What comes after it is sent as ever. It returns false when
// nothing is owed.
func (m *Machine) Discard(alarmID string, now time.Time) (eff Effects, ok bool) {
	e := m.pairs[alarmID]
	if e == nil || e.owed.Alarm == nil {
		return Effects{}, false
	}
	m.take(&eff, e, e.Owed, !e.owed.Alarm.Standing(), now)
	return eff, true
}

// late is the Result of a request whose revision was told by another host meanwhile.
func (m *Machine) late(e *entry, o Outcome, now time.Time) Effects {
	var eff Effects
	switch o.Verdict {
	case Settled:
		m.succeeded(&eff, now)
	case Pause:
		eff.Paused = !m.paused
		m.paused = true
	case Retry, Park:
	}
	if e.over {
		delete(m.pairs, e.AlarmID)
	}
	m.rest(e, now.Add(m.repeat()))
	return eff
}
