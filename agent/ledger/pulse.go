package ledger

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// debt is what a host owes a subscription.
type debt struct{ pending, parked int }

// owes counts what a delivery of a host means for its subscription, or takes it back.
func (h *host) owes(id string, p progress, sign int) {
	if p.owed.Compare(p.told) <= 0 {
		return
	}
	subscription, _ := splitPair(id)
	owner := notify.OwnerOf(subscription)
	d := h.owing[owner]
	if p.Parked {
		d.parked += sign
	} else {
		d.pending += sign
	}
	if h.owing[owner] = d; d == (debt{}) {
		delete(h.owing, owner)
	}
}

// Owing is how many of the hosts named owe a subscription something that is not parked.
func (l *Ledger) Owing(subscription string, hosts []string) int {
	n := 0
	for _, name := range hosts {
		if h := l.hosts[name]; h != nil && h.owing[subscription].pending > 0 {
			n++
		}
	}
	return n
}

// Pulse is what is known for a heartbeat of a subscription. members are the other hosts that are there, as the membership has it; those
// that are known to be unable to speak do not count. Who is to send follows from the hosts that are left, so that hosts that
// know the same come to the same, and another host's death moves none but its own. A host that is isolated counts those alone that say the
// same: they can be heard, and of the others nobody may say that they are lost.
func (l *Ledger) Pulse(subscription string, members []string) notify.Pulse {
	p := notify.Pulse{Mine: true, Alive: 1}
	own, isolated := turn(subscription, l.cfg.Node), l.isolated()
	for _, name := range members {
		if why := l.speechless(name); isolated != (why == correlate.CondIsolated) || !isolated && why != "" {
			continue
		}
		p.Alive++
		if other := turn(subscription, name); other > own {
			p.Mine = false
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		h := l.hosts[name]
		if d := h.owing[subscription]; d != (debt{}) {
			if l.speechless(name) != "" {
				d = l.left(name, subscription)
			}
			p.Pending, p.Parked = p.Pending+d.pending, p.Parked+d.parked
		}
		if _, lost := h.grave(name, correlate.CondHostLost); lost {
			p.Lost = append(p.Lost, name)
		}
	}
	return p
}

// left is what a host that can't speak owes a subscription still: without what others have told in its place, and what is this host's to tell
// now, which its notifier counts.
func (l *Ledger) left(name, subscription string) debt {
	told := map[string]correlate.Revision{}
	hear := func(receipts map[string]receipt) {
		for id, r := range receipts {
			if r.home == name && r.told.Compare(told[id]) > 0 {
				told[id] = r.told
			}
		}
	}
	hear(l.receipts)
	for _, h := range l.hosts {
		hear(h.receipts)
	}
	var d debt
	for id, p := range l.hosts[name].deliveries {
		leg, alarm := splitPair(id)
		switch {
		case notify.OwnerOf(leg) != subscription, p.owed.Compare(p.told) <= 0, told[id].Compare(p.owed) >= 0, l.guests[alarm] == name:
		case p.Parked:
			d.parked++
		default:
			d.pending++
		}
	}
	return d
}

// turn ranks hosts for a subscription by rendezvous hashing.
func turn(subscription, host string) string {
	sum := sha256.Sum256([]byte("heartbeat\x00" + subscription + "\x00" + host))
	return string(sum[:])
}

// speechless is why a host can't speak to consumers now, as its peers have said or it itself, the gravest first; empty: it can.
func (l *Ledger) speechless(name string) correlate.Condition {
	h := l.hosts[name]
	if h == nil {
		return ""
	}
	for _, g := range gravest {
		if _, ok := h.grave(name, g.condition); ok {
			return g.condition
		}
	}
	return ""
}

// isolated reports whether this host says that it is cut off from half of the others or more.
func (l *Ledger) isolated() bool {
	itself := correlate.NewID(correlate.KindHost, l.cfg.Node)
	for _, o := range l.alarms {
		if a := o.change.Alarm; a.Key.Resource == itself && a.Key.Condition == correlate.CondIsolated && a.Standing() {
			return true
		}
	}
	return false
}

// grave is a standing alarm of a condition on a host itself, but for what peers said before it spoke again.
func (h *host) grave(name string, condition correlate.Condition) (*correlate.Alarm, bool) {
	itself := correlate.NewID(correlate.KindHost, name)
	for _, p := range h.alarms {
		if a := p.Alarm; a.Key.Resource == itself && a.Key.Condition == condition && a.Standing() && (a.Revision.Term%2 == 0 || a.Revision.Term > h.term) {
			return a, true
		}
	}
	return nil, false
}
