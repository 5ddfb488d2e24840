package watch

import (
	"slices"
	"strings"
	"time"
)

// Hosts replaces what is known of the roster and the membership. The number of hosts in it, this one included and those that
// were shut down left out, is the denominator of every majority.
func (m *Machine) Hosts(now time.Time, hosts []Host) Effects {
	t := m.begin(now)
	known := make(map[string]bool, len(hosts))
	grown := false
	for _, h := range hosts {
		if h.Name == "" || len(h.Name) > maxName || known[h.Name] {
			continue
		}
		known[h.Name] = true
		if h.Name == m.cfg.Self {
			if m.self.Watched != h.Watched || m.self.Zone != h.Zone {
				m.changed = true
			}
			m.self.Host = h
			continue
		}
		p := m.peers[h.Name]
		if p == nil {
			p = &peer{Host: Host{Name: h.Name, Left: h.Left}, told: h.Left, leftAt: t, places: hashes(h.Name)}
			m.peers[h.Name] = p
			m.sorted = append(m.sorted, p)
			m.changed, grown = true, true
		}
		m.hostIs(p, h, t)
	}
	if len(known) < len(m.peers)+1 {
		m.sorted = slices.DeleteFunc(m.sorted, func(p *peer) bool {
			if known[p.Name] {
				return false
			}
			delete(m.peers, p.Name)
			delete(m.askers, p.Name)
			m.forget(p)
			m.changed = true
			return true
		})
	}
	if grown {
		slices.SortFunc(m.sorted, func(a, b *peer) int { return strings.Compare(a.Name, b.Name) })
	}
	return m.end(t)
}

// forget drops what else holds a host that is no longer in the roster.
func (m *Machine) forget(p *peer) {
	m.strangers = slices.DeleteFunc(m.strangers, func(s *peer) bool { return s == p })
	m.check.sample = slices.DeleteFunc(m.check.sample, func(s *peer) bool { return s == p })
	if p.inquiry != nil {
		m.close(p.inquiry)
	}
}

// hostIs takes one line of the roster.
func (m *Machine) hostIs(p *peer, h Host, now time.Duration) {
	if h.Left != p.told {
		p.told = h.Left
		m.leave(p, h.Left, now)
	}
	h.Left = p.Left
	p.term = max(p.term, h.Term)
	old := p.Host
	p.Host = h
	if h.Member && h.Watched {
		p.member = true
	}
	if h.Watched && !old.Watched {
		m.meet(p, now)
	}
	h.Term = old.Term
	m.changed = m.changed || h != old
}
