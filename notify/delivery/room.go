package delivery

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// evict makes room, a sixteenth of it: clears of alarms that the consumer was never told of go first, then what stands, parked before
// waiting, the oldest before newer. The latter costs no truth: all that stands is enqueued again when there is room (Effects.Room).
// That an alarm is over, of which the consumer was told, goes last, and only when the consumer itself has refused to hear it, or gave no
// answer to what it was told.
// What is in flight stays.
func (m *Machine) evict(eff *Effects, now time.Time) {
	if m.stuck {
		return
	}
	const last = 3
	rank := func(e *entry) int {
		switch {
		case !e.owed.Alarm.Standing() && !e.knows() && !e.heard:
			return 0
		case e.owed.Alarm.Standing() && e.Parked:
			return 1
		case e.owed.Alarm.Standing():
			return 2
		}
		return last
	}
	all := m.oldestFirst(func(e *entry) bool { return rank(e) < last || e.Parked && !e.Again || !e.certain() })
	slices.SortStableFunc(all, func(a, b *entry) int { return rank(a) - rank(b) })
	if spare := slices.IndexFunc(all, func(e *entry) bool { return rank(e) == last }); spare > 0 {
		all = all[:spare]
	}
	m.stuck = len(all) == 0
	for _, e := range all[:min(len(all), max(1, m.cfg.Capacity/16))] {
		eff.Evicted++
		if e.owed.Alarm.Standing() {
			m.dropped(e.owed, e.late)
		}
		if e.knows() && e.owed.Alarm.Standing() { // it is still owed the clear
			m.drop(e)
			if e.Parked {
				m.unpark(e)
			}
			m.settle(e)
			m.rest(e, now)
			eff.Save = append(eff.Save, e.Record)
			continue
		}
		eff.Remove = append(eff.Remove, e.AlarmID)
		m.Forget(e.AlarmID)
	}
}

// dropped notes that something which stands was, and since when what is enqueued again is the queue's own delay.
func (m *Machine) dropped(c correlate.Change, late bool) {
	m.short = true
	if !late && !c.Found.IsZero() && (m.missed.IsZero() || c.Found.Before(m.missed)) {
		m.missed = c.Found
	}
}

// Short reports whether some of what stands was dropped for want of room, and has not been asked for again since (Effects.Room).
func (m *Machine) Short() bool { return m.short }

// oldestFirst lists the pairs that are owed and not in flight and that pass, in an order that is not chance.
func (m *Machine) oldestFirst(pass func(*entry) bool) []*entry {
	var all []*entry
	for _, e := range m.pairs {
		if e.owed.Alarm != nil && e.sent == nil && pass(e) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Owed.Compare(b.Owed), strings.Compare(a.AlarmID, b.AlarmID))
	})
	return all
}
