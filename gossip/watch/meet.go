package watch

import (
	"slices"
	"time"
)

const (
	meetWithin  = 2 * time.Second
	meetAgain   = 5 * time.Second
	meetSoon    = 200 * time.Millisecond // until it is known whether the kernel answers
	meetAtOnce  = 8
	calibration = 3 // answers of the agent without one of the kernel say that it doesn't answer
)

// meet makes a host a stranger: nobody votes about those that were never heard, so each host asks all others once.
func (m *Machine) meet(p *peer, now time.Duration) {
	p.meetAt = now + m.below(meetWithin)
	if !p.stranger {
		p.stranger = true
		m.strangers = append(m.strangers, p)
	}
	if len(m.strangers) == 1 || p.meetAt < m.meetAt {
		m.meetAt = p.meetAt
	}
	m.at(m.meetAt)
}

// hurry makes a stranger the next to be asked: this host has to watch it.
func (m *Machine) hurry(p *peer, now time.Duration) {
	if p.stranger {
		p.meetAt, m.meetAt = min(p.meetAt, now), now
	}
}

// met says that nothing is left to be found out.
func (m *Machine) met(p *peer) bool {
	return p.heard != 0 && (!m.cfg.Echo || p.kernel != 0 || p.noEcho())
}

// greet asks those strangers whose turn it is, a few at a time.
func (m *Machine) greet(now time.Duration) {
	if len(m.strangers) == 0 {
		return
	}
	if now < m.meetAt {
		m.at(m.meetAt)
		return
	}
	next, asked := now+meetAgain, 0
	m.strangers = slices.DeleteFunc(m.strangers, func(p *peer) bool {
		if m.met(p) {
			p.stranger = false
			return true
		}
		if now >= p.meetAt && p.Left != LeftShutdown {
			if asked == meetAtOnce {
				next = now + 10*time.Millisecond
				return false
			}
			asked++
			m.ask(p, now, true)
			p.meetAt = now + meetAgain
			if p.heard != 0 {
				p.meetAt = now + meetSoon
			}
		}
		if p.meetAt > now {
			next = min(next, p.meetAt)
		}
		return false
	})
	m.meetAt = next
	if len(m.strangers) > 0 {
		m.at(m.meetAt)
	}
}
