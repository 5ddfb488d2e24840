package hostloss

import (
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// announcement is what the membership spreads of one host.
type announcement struct {
	about int32
	says  seen
}

// How long the membership, which is not simulated, takes: to spread what is said, and to give up whom it does not reach.
const (
	spreadLeast, spreadMost = 50 * time.Millisecond, 500 * time.Millisecond
	giveUpLeast, giveUpMost = 5 * time.Second, 8 * time.Second
	handIn                  = 20 * time.Millisecond // the agent gathers changes before it tells its watch
)

// announce spreads what is said of a host to all others, each at its own time.
func (s *simulation) announce(about *host, says seen) {
	s.spread(about, says, spreadLeast, spreadMost)
}

func (s *simulation) spread(about *host, says seen, least, most time.Duration) {
	s.told = append(s.told, announcement{about.id, says})
	i := uint32(len(s.told) - 1) //nolint:gosec // a run is bounded
	for _, o := range s.hosts {
		if o != about && o.alive() {
			s.agenda.push(event{at: s.now + s.between(least, most), kind: evTold, host: o.id, arg: i})
		}
	}
}

// hear takes an announcement; one that can't come through now comes later.
func (h *host) hear(i uint32) {
	s := h.s
	a := &s.told[i]
	if !h.alive() || h.view[a.about].version >= a.says.version {
		return
	}
	about := s.hosts[a.about]
	if h.frozen() || s.net.apart(h.id, a.about) && about.up {
		s.agenda.push(event{at: s.now + s.between(200*time.Millisecond, time.Second), kind: evTold, host: h.id, arg: i})
		return
	}
	h.learn(a.about, a.says)
}

func (h *host) learn(about int32, says seen) {
	if v := h.view[about]; v.known && says.known && v.term > says.term {
		says.term = v.term
	}
	if !says.known || says.left == watch.LeftShutdown {
		delete(h.s.check.standing, [2]int32{h.id, about})
	}
	h.view[about] = says
	h.touch()
}

// touch has the agent tell its watch, soon.
func (h *host) touch() {
	if h.running && !h.dirty {
		h.dirty = true
		h.s.agenda.push(event{at: h.s.now + handIn, kind: evHosts, host: h.id, arg: h.session})
	}
}

// tell hands the view to the machine.
func (h *host) tell(session uint32) {
	if !h.alive() || h.session != session || h.left != watch.LeftNot {
		return
	}
	if h.frozen() {
		h.s.agenda.push(event{at: h.frozenUntil + time.Millisecond, kind: evHosts, host: h.id, arg: session})
		return
	}
	h.dirty = false
	hosts := make([]watch.Host, 0, len(h.view))
	for i := range h.view {
		v := &h.view[i]
		if !v.known || h.s.cfg.Bug == CountsMembersOnly && !v.member {
			continue
		}
		x := h.s.hosts[i]
		hosts = append(hosts, watch.Host{Name: x.name, Zone: x.zone, Term: v.term, Member: v.member, Watched: v.watched, Left: v.left})
	}
	h.do(h.machine.Hosts(h.clock(), hosts))
	h.mouth.members()
}

// join exchanges everything with whom it reaches, and makes the host known to them.
func (h *host) join() {
	h.sync(h.session)
	h.s.announce(h, h.view[h.id])
	h.mouth.joined()
}

// sync is a push and pull with all it reaches.
func (h *host) sync(session uint32) {
	s := h.s
	if !h.alive() || h.session != session {
		return
	}
	if h.frozen() || s.now < h.linkUntil {
		s.agenda.push(event{at: s.now + 300*time.Millisecond, kind: evSync, host: h.id, arg: session})
		return
	}
	for _, x := range s.hosts {
		if x == h || s.net.apart(h.id, x.id) {
			continue
		}
		switch own := x.view[x.id]; {
		case x.alive():
			if h.view[x.id].version < own.version || !h.view[x.id].member && own.member {
				h.learn(x.id, own)
			}
			for i := range x.view { // the roster is everybody's
				if v := &x.view[i]; v.known && !h.view[i].known && int32(i) != h.id { //nolint:gosec // an index
					said := *v
					said.member, said.version = said.member && s.hosts[i].alive() && !s.net.apart(h.id, s.hosts[i].id), 0
					h.learn(int32(i), said) //nolint:gosec // an index
				}
			}
		case h.view[x.id].member && !x.alive(): // others have found out, or will
			continue
		}
	}
}

// lose gives up whom the membership does not reach.
func (h *host) lose(session uint32) {
	s := h.s
	if !h.alive() || h.session != session || h.frozen() {
		return
	}
	for i := range h.view {
		if x := int32(i); x != h.id && h.view[i].member && s.net.apart(h.id, x) { //nolint:gosec // an index
			h.view[i].member = false
			h.touch()
		}
	}
}

// dropped is how the membership gives up one that has died, or stands still: each at its own time, unless it is back.
func (s *simulation) dropped(x *host, session uint32, frozen bool) {
	for _, o := range s.hosts {
		if o == x || !o.alive() {
			continue
		}
		s.call(s.between(giveUpLeast, giveUpMost), func() {
			if o.alive() && x.session == session && (!x.alive() || frozen && x.frozen()) && o.view[x.id].member {
				o.view[x.id].member = false
				o.touch()
			}
		})
	}
}

// parted is how it notices a partition, healed how it notices the end of one.
func (s *simulation) parted() {
	for _, o := range s.hosts {
		if o.alive() {
			s.agenda.push(event{at: s.now + s.between(giveUpLeast, giveUpMost), kind: evLose, host: o.id, arg: o.session})
		}
	}
}

func (s *simulation) healed() {
	for _, o := range s.hosts {
		if o.alive() {
			s.agenda.push(event{at: s.now + s.between(200*time.Millisecond, 3*time.Second), kind: evSync, host: o.id, arg: o.session})
		}
	}
}

// refute makes one that stood still a member again.
func (s *simulation) refute(x *host) {
	v := x.view[x.id]
	x.be(v)
	s.announce(x, x.view[x.id])
}

// forget takes a host that has left out of every roster.
func (s *simulation) forget(x *host) {
	x.gone = true
	s.versions++
	s.spread(x, seen{version: s.versions}, spreadLeast, spreadMost)
}
