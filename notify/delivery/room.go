package delivery

import (
	"cmp"
	"slices"
	"strings"
)

// evict makes room; see Config.Capacity.
func (m *Machine) evict(eff *Effects) {
	all := m.oldestFirst(func(*entry) bool { return true })
	rank := func(e *entry) int {
		switch {
		case !e.owed.Alarm.Standing() && !e.knows():
			return 0
		case e.Parked:
			return 1
		case !e.owed.Alarm.Standing():
			return 2
		}
		return 3
	}
	slices.SortStableFunc(all, func(a, b *entry) int { return rank(a) - rank(b) })
	for _, e := range all[:min(len(all), max(1, m.cfg.Capacity/16))] {
		eff.Evicted++
		if e.knows() && e.owed.Alarm.Standing() { // it is still owed the clear
			m.drop(e)
			if e.Parked {
				m.unpark(e)
			}
			m.settle(e)
			eff.Save = append(eff.Save, e.Record)
			continue
		}
		eff.Remove = append(eff.Remove, e.AlarmID)
		m.Forget(e.AlarmID)
	}
}

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
