package cluster

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/simnet"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Bug is a part that is broken on purpose, so that the invariants can be seen to bite.
type Bug string

// The parts that can be broken.
const (
	NoBug                    Bug = ""
	KeepsOlder               Bug = "some replicas keep the older version of an alarm"
	LostTombstone            Bug = "now and then the end of a shared record is not written"
	SnapshotWithoutTold      Bug = "what a snapshot told is not shared"
	LostAnswerSettles        Bug = "a peer that does not answer counts as one that has told"
	TermNotLearned           Bug = "a host does not learn its term from its peers"
	FloorBeforeRestatement   Bug = "a host gives up its former life before its sources have spoken"
	SubscriptionNotPersisted Bug = "shared records are not on disk"
)

// fault is one thing that may happen. do reports false when it can't happen now.
type fault struct {
	name   string
	weight int
	do     func(*simulation) bool
}

// faults is the generator's table. What lasts a stated time ends by itself; the rest is mended by the same row.
var faults = []fault{
	{"link", 24, func(s *simulation) bool { return s.flip(pick(s, s.hosts), pick(s, nics)) }},
	{"flapping link", 3, func(s *simulation) bool {
		h, nic := pick(s, s.hosts), pick(s, nics)
		for i := range 4 + s.rng.IntN(10) {
			s.after(time.Duration(i)*s.between(0, 60*time.Millisecond), func() { s.flip(h, nic) })
		}
		return true
	}},
	{"domain crashes or starts", 14, func(s *simulation) bool {
		d := pick(s, s.domains)
		return d.to == nil && s.flip(d.at, d.id())
	}},
	{"domain migrates", 5, func(s *simulation) bool { return s.migrate(pick(s, s.domains), pick(s, s.hosts)) }},

	{"agent killed", 6, func(s *simulation) bool {
		h := pick(s, s.hosts)
		if h.agent == nil {
			return false
		}
		h.crash()
		h.late = s.chance(0.2)
		s.after(s.between(50*time.Millisecond, 20*time.Second), h.start)
		return true
	}},
	{"host imaged anew", 3, func(s *simulation) bool {
		h := pick(s, s.hosts)
		if h.gone {
			return false
		}
		h.reimage()
		s.after(s.between(time.Second, 30*time.Second), h.start)
		return true
	}},
	{"host gone for good", 1, func(s *simulation) bool {
		gone := 0
		for _, h := range s.hosts {
			if h.gone {
				gone++
			}
		}
		h := pick(s, s.hosts[1:])
		if h.gone || gone > len(s.hosts)/4 || s.chance(0.5) {
			return false
		}
		h.crash()
		h.gone = true
		s.trace("%s is gone for good", h.name)
		s.check.reimaged(h)
		s.evacuate(h)
		return true
	}},
	{"host forgotten", 2, func(s *simulation) bool {
		a, h := s.anyAgent(), pick(s, s.hosts[1:])
		if a == nil || h.agent != nil {
			return false
		}
		res, err := a.level.replica.Forget(a.h.clock(), h.name)
		if err != nil {
			return false
		}
		s.trace("%s: forget %s", a.h.name, h.name)
		s.check.forgotten[h.name] = true
		a.level.push(res.Changed)
		a.level.tell(res)
		return true
	}},
	{"power cycle", 1, func(s *simulation) bool {
		s.powerCycle()
		return true
	}},
	{"disk slow", 2, func(s *simulation) bool {
		h := pick(s, s.hosts)
		h.disk.slow = true
		s.after(s.between(time.Second, 20*time.Second), func() { h.disk.slow = false })
		return true
	}},
	{"clock steps", 2, func(s *simulation) bool {
		h := pick(s, s.hosts)
		far := []time.Duration{time.Second, 20 * time.Second, time.Hour}[s.rng.IntN(3)]
		h.skew = s.between(-far, far)
		s.trace("the clock of %s is off by %v", h.name, h.skew)
		if far == time.Hour {
			s.after(s.between(time.Second, 30*time.Second), func() { h.skew = 0 })
		}
		return true
	}},

	{"partition", 4, func(s *simulation) bool {
		sides := 2 + s.rng.IntN(2)
		if s.chance(0.3) { // one alone
			lonely := pick(s, s.hosts)
			s.net.Partition(func(n *simnet.Node) int {
				if n == lonely.node {
					return 1
				}
				return 0
			})
		} else {
			s.net.Partition(func(*simnet.Node) int { return s.rng.IntN(sides) })
		}
		s.trace("partition")
		s.check.parted = true
		return true
	}},
	{"heal", 6, func(s *simulation) bool {
		s.net.Heal()
		s.trace("heal")
		s.check.parted, s.check.healed = false, s.now()
		return true
	}},
	{"network bad", 4, func(s *simulation) bool {
		s.net.Link = simnet.Link{
			Delay: s.between(0, 20*time.Millisecond), Jitter: s.between(0, 200*time.Millisecond),
			Loss: s.rng.Float64() * 0.2, Duplicate: s.rng.Float64() * 0.2,
		}
		return true
	}},
	{"network well", 4, func(s *simulation) bool {
		s.net.Link = simnet.LAN
		return true
	}},

	{"consumer changes", 12, func(s *simulation) bool {
		c := pick(s, s.consumers)
		c.mood = pick(s, moods)
		if c.mood == leaving && s.chance(0.6) {
			c.mood = well
		}
		s.trace("consumer %s is %s", c.name, c.mood)
		return true
	}},
	{"consumer cut off", 10, func(s *simulation) bool {
		c := pick(s, s.consumers)
		to := []cut{refused, silent, reachable}[s.rng.IntN(3)]
		share := s.rng.Float64()
		for _, h := range s.hosts {
			if s.chance(share) {
				c.cut[h] = to
			}
		}
		s.trace("consumer %s: some hosts have connection %d", c.name, to)
		return true
	}},

	{"subscribe", 6, func(s *simulation) bool {
		a := s.anyAgent()
		if a == nil || len(s.wishes) > 20 || a.h.odd { // what it seals nobody else can open: without it nobody can deliver
			return false
		}
		a.subscribe()
		return true
	}},
	{"filter changes", 4, func(s *simulation) bool {
		a, w := s.anyAgent(), pick(s, s.wishes)
		if a == nil || w.file || !w.acked || w.removing {
			return false
		}
		f := pick(s, filters)
		return a.update(w, false, func(sub *notify.Subscription) {
			sub.Filter = f.filter
			sub.Filter.Projects = append(sub.Filter.Projects, "p1")
		})
	}},
	{"operator pauses", 2, func(s *simulation) bool {
		a, w := s.anyAgent(), pick(s, s.wishes)
		if a == nil || w.removing {
			return false
		}
		return a.update(w, true, func(sub *notify.Subscription) { sub.Paused = "an operator" })
	}},
	{"operator resumes", 3, func(s *simulation) bool {
		a, w := s.anyAgent(), pick(s, s.wishes)
		if a == nil || w.removing || a.notifier.workers[w.id] == nil || a.notifier.workers[w.id].sub.Paused == "" {
			return false
		}
		return a.update(w, true, func(sub *notify.Subscription) { sub.Paused = "" })
	}},
	{"unsubscribe", 3, func(s *simulation) bool {
		a, w := s.anyAgent(), pick(s, s.wishes)
		return a != nil && !w.file && w.acked && !w.removing && a.unsubscribe(w)
	}},
	{"file changes", 3, func(s *simulation) bool { return s.editFiles() }},
	{"operator acknowledges", 4, func(s *simulation) bool { return s.operatorSays(gossip.KindAck) }},
	{"operator comments", 3, func(s *simulation) bool { return s.operatorSays(gossip.KindComment) }},
	{"operator clears", 2, func(s *simulation) bool { return s.operatorSays(gossip.KindClear) }},
	{"operator retries", 3, func(s *simulation) bool {
		s.unpark()
		return true
	}},
}

func (s *simulation) operatorSays(kind gossip.Kind) bool {
	a := s.anyAgent()
	if a == nil || a.engine == nil {
		return false
	}
	all := append(a.engine.Alarms(), a.ledger.Standing()...)
	return len(all) > 0 && a.say(kind, pick(s, all))
}

// nextFault plans the next fault; the gaps are exponential, so that they also come in bursts.
func (s *simulation) nextFault() {
	gap := time.Duration(-math.Log(1-s.rng.Float64()) * float64(s.cfg.Pace))
	s.after(gap, func() {
		if s.calm {
			return
		}
		total := 0
		for _, f := range faults {
			total += f.weight
		}
		n := s.rng.IntN(total)
		for _, f := range faults {
			if n -= f.weight; n < 0 {
				if f.do(s) {
					s.report.Faults[f.name]++
				}
				break
			}
		}
		s.nextFault()
	})
}

// anyAgent is one that runs, or nil.
func (s *simulation) anyAgent() *agent {
	if live := s.live(); len(live) > 0 {
		return pick(s, live)
	}
	return nil
}

// flip breaks or mends a link or a domain.
func (s *simulation) flip(h *host, id correlate.ID) bool {
	if h.gone {
		return false
	}
	h.failed[id] = !h.failed[id]
	h.changed()
	return true
}

func (s *simulation) migrate(d *domain, to *host) bool {
	if d.to != nil || to == d.at || to.gone {
		return false
	}
	d.to = to
	delete(to.departed, d.id())
	to.changed()
	s.after(s.between(100*time.Millisecond, 3*time.Second), func() {
		if d.to != to || to.gone {
			d.to = nil
			return
		}
		from := d.at
		from.departed[d.id()] = correlate.GoneMigrated
		to.failed[d.id()] = from.failed[d.id()]
		delete(from.failed, d.id())
		d.at, d.to = to, nil
		s.trace("%s is at %s now", d.name, to.name)
		from.changed()
		to.changed()
	})
	return true
}

// evacuate starts the domains of a host that is gone elsewhere.
func (s *simulation) evacuate(h *host) {
	for _, d := range s.domains {
		if d.to == h {
			d.to = nil
		}
		if d.at != h {
			continue
		}
		d.to = nil
		for d.at.gone {
			d.at = pick(s, s.hosts)
		}
		delete(d.at.departed, d.id())
		d.at.changed()
	}
}

// editFiles changes what the files of some hosts say of one subscription, or takes it out of all.
func (s *simulation) editFiles() bool {
	w := pick(s, s.wishes)
	if !w.file || w.removing {
		return false
	}
	names := func(sub notify.Subscription) bool { return sub.Name == w.name }
	edit := func(h *host, to *notify.Subscription) {
		h.file = slices.DeleteFunc(slices.Clone(h.file), names)
		if to != nil {
			h.file = append(h.file, *to)
			slices.SortFunc(h.file, func(a, b notify.Subscription) int { return strings.Compare(a.Name, b.Name) })
		}
		if a := h.agent; a != nil {
			a.notifier.setFile(h.file)
			var file []notify.Subscription
			for _, w := range a.notifier.list() {
				if w.sub.Origin == notify.OriginFile {
					file = append(file, w.sub)
				}
			}
			a.mail.file = &file
			a.kick()
		}
	}
	if s.chance(0.1) && !slices.ContainsFunc(s.hosts, func(h *host) bool { return h.gone && slices.ContainsFunc(h.file, names) }) {
		w.removing, w.ended = true, true
		s.trace("no file names %s any more", w.name)
		for _, h := range s.hosts {
			s.after(s.between(0, 5*time.Second), func() { edit(h, nil) })
		}
		return true
	}
	to := s.contents(w.to)
	s.trace("some files say something else of %s", w.name)
	for i, h := range s.hosts {
		switch {
		case s.chance(0.2):
			edit(h, &to)
		case i > 0 && s.chance(0.1):
			edit(h, nil)
		}
	}
	return true
}

// powerCycle takes the power of all at once; they come back in any order.
func (s *simulation) powerCycle() {
	s.trace("all lose power")
	for _, h := range s.hosts {
		h.crash()
	}
	for _, h := range s.hosts {
		s.after(s.between(100*time.Millisecond, 10*time.Second), h.start)
	}
}

// calmDown ends whatever disturbs the cluster; what is broken at hosts stays broken.
func (s *simulation) calmDown() {
	s.calm = true
	s.net.Heal()
	s.check.parted, s.check.healed = false, s.now()
	s.net.Link = simnet.LAN
	for _, c := range s.consumers {
		c.mood = well
		clear(c.cut)
	}
	for _, h := range s.hosts {
		h.disk.slow, h.late = false, false
		h.skew = s.between(-2*time.Second, 2*time.Second)
		h.start()
		h.changed()
	}
}

// heal mends all that is broken at hosts, and has the files agree.
func (s *simulation) heal() {
	for _, h := range s.hosts {
		clear(h.failed)
		h.changed()
	}
}

// unpark is an operator who retries whatever is parked.
func (s *simulation) unpark() {
	for _, a := range s.live() {
		for _, w := range a.notifier.list() {
			records, _ := w.machine.Records()
			slices.SortFunc(records, func(a, b delivery.Record) int { return a.Owed.Compare(b.Owed) })
			for _, r := range records {
				if r.Parked {
					eff, _ := w.machine.Unpark(r.AlarmID, a.even())
					w.keep(eff)
				}
			}
			w.pump()
		}
	}
}

// resume is an operator who lets whatever is paused go on.
func (s *simulation) resume() {
	for _, w := range s.wishes {
		for _, a := range s.live() {
			if one := a.notifier.workers[w.id]; one != nil && one.sub.Paused != "" {
				a.update(w, true, func(sub *notify.Subscription) { sub.Paused = "" })
				break
			}
		}
	}
}
