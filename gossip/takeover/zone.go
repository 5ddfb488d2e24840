package takeover

import (
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// many reports whether so many losses at once are one event: a rack, a switch.
func (m *Machine) many(n int) bool { return n > max(massLeast, len(m.members)/massShare) }

// recent are the hosts that were lost at about the same time as now.
func (m *Machine) recent() []*loss {
	var out []*loss
	for _, c := range m.sorted() {
		if c.level >= watch.LevelProbable && m.now.Sub(c.first) <= massWithin {
			out = append(out, c)
		}
	}
	return out
}

// group puts the hosts that were lost together with c under their zones, if they are many.
func (m *Machine) group(c *loss) {
	if z := m.zones[c.zone]; z != nil && c.grouped {
		m.join(c, z)
		return
	}
	recent := m.recent()
	if !m.many(len(recent)) && !m.many(c.verdict.Suspects) {
		return
	}
	of := map[string]int{}
	for _, l := range recent {
		of[l.zone]++
	}
	for _, l := range recent {
		if l.zone == "" { // there is nothing to name: each is told by itself
			continue
		}
		z := m.zones[l.zone]
		if z == nil {
			if of[l.zone] < 2 && !m.many(c.verdict.Suspects) {
				continue
			}
			z = &zone{name: l.zone}
			z.at = m.now.Add(gather)
			m.zones[l.zone] = z
		}
		m.join(l, z)
	}
}

// over reports whether all hosts of a zone are back of which another host speaks: it is kept for a while, should that one die
// before it has said so.
func (z *zone) over() bool { return !z.empty.IsZero() && !z.speaking }

// join makes a host one of its zone's.
func (m *Machine) join(c *loss, z *zone) {
	if z.over() { // another loss
		*z = zone{name: z.name}
		z.at = m.now.Add(gather)
	}
	z.had = true
	if !z.speaking && z.holder == "" {
		z.term = max(z.term, c.term+1)
	}
	if c.grouped && c.joined >= c.level {
		return
	}
	if z.level < c.level {
		z.level, z.at = c.level, m.now.Add(gather)
	}
	z.touch(m.now)
	c.grouped, c.joined = true, c.level
}

// touch notes that what is said of a zone is out of date.
func (z *zone) touch(now time.Time) {
	if !z.dirty {
		z.dirty, z.due = true, now.Add(gather)
	}
}

func (m *Machine) lost(name string) []Loss {
	var out []Loss
	for _, c := range m.sorted() {
		if c.grouped && c.zone == name {
			out = append(out, Loss{c.host, c.verdict, c.known})
		}
	}
	return out
}

func (m *Machine) turnOfZone(z *zone) {
	hosts := m.lost(z.name)
	if len(hosts) > 0 {
		z.empty = time.Time{}
	} else if z.empty.IsZero() && z.had {
		z.empty = m.now
	}
	if len(hosts) == 1 && !z.speaking && z.holder == "" { // a zone is not lost with one host: wait for the others
		if m.now.Before(z.at) {
			m.wake(z.at)
			return
		}
		m.cases[hosts[0].Host].grouped = false
		delete(m.zones, z.name)
		return
	}
	switch {
	case z.speaking && z.dirty:
		due := z.due
		if z.said < z.level && slices.ContainsFunc(hosts, func(l Loss) bool { return l.Verdict.Level < z.level }) {
			due = due.Add(gather) // else those of which less is known would be named no more, to be named again a moment later
		}
		if m.now.Before(due) {
			m.wake(due)
			break
		}
		z.dirty = false
		z.speak(m.now, m.self)
		m.eff.Speak = append(m.eff.Speak, Speech{Zone: z.name, Term: z.term, Hosts: hosts})
	case m.mine(&z.turn, z.name):
		z.dirty = false
		z.speak(m.now, m.self)
		if len(hosts) == 0 { // its speaker is gone, and it is over: said once, by one
			m.claim(z.name, m.zoneClaim(z, true))
		}
		m.eff.Speak = append(m.eff.Speak, Speech{Zone: z.name, Term: z.term, Hosts: hosts})
	}
	if len(hosts) == 0 {
		switch until := z.empty.Add(claimFor); {
		case z.speaking && z.dirty:
		case !z.speaking && z.had && !z.heard.IsZero() && m.now.Before(until):
			m.wake(until)
		default:
			delete(m.zones, z.name)
		}
		return
	}
	m.renewal(&z.turn, z.name, m.zoneClaim(z, false))
}

func (m *Machine) zoneClaim(z *zone, done bool) Claim {
	c := Claim{Zone: z.name, Term: z.term, Level: z.said, Done: done}
	for _, l := range m.lost(z.name) {
		c.Hosts = append(c.Hosts, l.Host)
	}
	return c
}
