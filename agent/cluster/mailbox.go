package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// mailbox holds what this host has to tell its peers until the ledger takes it. It never blocks and never drops: what is
// said again of an alarm, a resource, a pair or a subscription takes the place of what was said before, so it holds at most
// one thing of each.
type mailbox struct {
	wake chan struct{} // capacity 1: there is something

	mu sync.Mutex
	mail
}

// mail is what was in it.
type mail struct {
	changes map[string]change // by alarm
	deltas  map[string]*delta // by source
	pairs   map[pairKey]notify.Pair
	forgot  map[string]bool
	refused map[string]refusal
	file    *[]notify.Subscription // nil: not said
	host    *ledger.Host
	order   uint64
}

type change struct {
	correlate.Change
	published bool // else only its record has changed
	order     uint64
}

type delta struct {
	full bool
	set  map[correlate.ID]correlate.Resource
	gone map[correlate.ID]correlate.Gone
}

type pairKey struct{ subscription, alarm string }

type refusal struct {
	version uint64
	reason  string
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

func (b *mailbox) add(f func(*mail)) {
	b.mu.Lock()
	f(&b.mail)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take empties it.
func (b *mailbox) take() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = mail{}
	return m
}

// depth is how many things wait.
func (b *mailbox) depth() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.changes) + len(b.pairs) + len(b.forgot) + len(b.refused)
	for _, d := range b.deltas {
		n += len(d.set) + len(d.gone)
	}
	return n
}

func (b *mailbox) effects(eff correlate.Effects) {
	if len(eff.Save)+len(eff.Publish) == 0 {
		return
	}
	b.add(func(m *mail) {
		for _, c := range eff.Publish {
			m.change(c, true)
		}
		for _, a := range eff.Save {
			m.change(correlate.Change{Alarm: a}, false)
		}
	})
}

func (m *mail) change(c correlate.Change, published bool) {
	old, waits := m.changes[c.Alarm.ID]
	if waits && !published && old.Alarm.Revision == c.Alarm.Revision {
		old.Alarm = c.Alarm // the times of the change stay known
		m.changes[c.Alarm.ID] = old
		return
	}
	m.order++
	put(&m.changes, c.Alarm.ID, change{c, published || old.published, m.order})
}

// effects are the newest changes, oldest first.
func (m *mail) effects() correlate.Effects {
	all := slices.SortedFunc(maps.Values(m.changes), func(a, b change) int { return cmp.Compare(a.order, b.order) })
	var eff correlate.Effects
	for _, c := range all {
		eff.Save = append(eff.Save, c.Alarm)
		if c.published {
			eff.Publish = append(eff.Publish, c.Change)
		}
	}
	return eff
}

func (b *mailbox) delta(d correlate.Delta) {
	if len(d.Set)+len(d.Gone) == 0 && !d.Full {
		return
	}
	b.add(func(m *mail) {
		one := m.deltas[d.Source]
		if one == nil || d.Full { // the whole truth makes void what was said before
			one = &delta{full: d.Full, set: make(map[correlate.ID]correlate.Resource, len(d.Set)), gone: make(map[correlate.ID]correlate.Gone)}
			put(&m.deltas, d.Source, one)
		}
		for i := range d.Set {
			one.set[d.Set[i].ID] = d.Set[i]
			delete(one.gone, d.Set[i].ID)
		}
		for _, g := range d.Gone {
			one.gone[g.ID] = g
			delete(one.set, g.ID)
		}
	})
}

// inventory is what each source has said.
func (m *mail) inventory() []correlate.Delta {
	var all []correlate.Delta
	for _, source := range slices.Sorted(maps.Keys(m.deltas)) {
		one := m.deltas[source]
		d := correlate.Delta{Source: source, Full: one.full}
		d.Set = slices.SortedFunc(maps.Values(one.set), func(a, b correlate.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
		d.Gone = slices.SortedFunc(maps.Values(one.gone), func(a, b correlate.Gone) int { return strings.Compare(string(a.ID), string(b.ID)) })
		all = append(all, d)
	}
	return all
}

func (b *mailbox) addPairs(changed []notify.Pair) {
	if len(changed) == 0 {
		return
	}
	b.add(func(m *mail) {
		for _, p := range changed {
			put(&m.pairs, pairKey{p.Subscription, p.AlarmID}, p)
		}
	})
}

func (m *mail) sortedPairs() []notify.Pair {
	return slices.SortedFunc(maps.Values(m.pairs), func(a, b notify.Pair) int {
		return cmp.Or(strings.Compare(a.Subscription, b.Subscription), strings.Compare(a.AlarmID, b.AlarmID))
	})
}

func (m *mail) forgotten() []string { return slices.Sorted(maps.Keys(m.forgot)) }
