package sim

import (
	"math"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Bug is a part that is broken on purpose, so that the invariants can be seen to bite.
type Bug string

// The parts that can be broken.
const (
	NoBug              Bug = ""
	DropsRevisions     Bug = "now and then a revision is owed to nobody"
	SendsTwice         Bug = "now and then a request is made twice at once"
	ForgetfulDisk      Bug = "now and then a commit is reported and not made"
	SameTerm           Bug = "a restart does not take a new term"
	Reorders           Bug = "now and then an older revision is sent again after a newer one"
	SwallowsDeliveries Bug = "now and then an acknowledged notification is not taken in"
	TakesStale         Bug = "the consumer takes older revisions in"
	UnknownMeansWell   Bug = "a read that failed is told as well"
	ForgetsClears      Bug = "now and then a clear is owed to nobody"
	DeafToTaps         Bug = "the hypervisor's source names no taps"
)

// fault is one thing that may happen. do reports false when it can't happen now.
type fault struct {
	name   string
	weight int
	do     func(*simulation) bool
}

// faults is the generator's table. What breaks is mended by the same or another row, sooner or later; what lasts a
// stated time ends by itself.
var faults = []fault{
	{"signal", 12, func(s *simulation) bool {
		l := s.pick((*link).physical)
		l.signal = !l.signal
		return s.changed()
	}},
	{"admin", 6, func(s *simulation) bool {
		l := s.pick(func(l *link) bool { return l.present })
		l.up = !l.up
		return s.changed()
	}},
	{"nic vanishes", 2, func(s *simulation) bool {
		l := s.pick((*link).physical)
		if !l.present || l.id == "nic/eth3" { // eth3 carries a VLAN, which the kernel would take along
			return false
		}
		l.present = false
		if _, ok := s.world.unsure[l.id]; ok {
			s.world.unsure[l.id] = glimpse{} // how it is when it returns has not been read
		}
		return s.changed()
	}},
	{"nic returns", 3, func(s *simulation) bool {
		for _, l := range s.world.links {
			if !l.present {
				l.present = true
				return s.changed()
			}
		}
		return false
	}},
	{"flapping", 1, func(s *simulation) bool {
		l := s.pick((*link).physical)
		for i := range 10 + s.rng.IntN(20) {
			s.after(time.Duration(i)*s.between(0, 30*time.Millisecond), "", func() { l.signal = !l.signal; s.changed() })
		}
		return true
	}},
	{"tap", 4, func(s *simulation) bool {
		v := s.vnic()
		if v == nil || !v.tap.present && v.tap.up {
			return false
		}
		if s.chance(0.2) {
			v.tap.present = false // deleted under the domain
		} else {
			v.tap.up = !v.tap.up
		}
		return s.changed()
	}},
	{"hot-plug", 2, func(s *simulation) bool {
		v := s.vnic()
		if v == nil {
			return false
		}
		v.plugged = !v.plugged
		v.tap.present, v.tap.up = v.plugged, v.plugged
		return s.changed()
	}},
	{"disk", 3, func(s *simulation) bool {
		if d := s.domain(); len(d.disks) > 0 {
			d.disks[0].lost = !d.disks[0].lost
			return s.changed()
		}
		return false
	}},
	{"domain ends", 10, func(s *simulation) bool {
		d := s.domain()
		ends := []domainState{crashed, crashed, stopped, paused, panicked, off}
		to := ends[s.rng.IntN(len(ends))]
		switch {
		case d.state != running || !d.here:
			return false
		case d.transient && to == off:
			d.leave(correlate.GoneOrderly)
		case d.transient && (to == crashed || to == stopped):
			d.leave(correlate.GoneByFault)
		default:
			d.become(to)
			d.impulse = d.impulse || to == panicked
		}
		return s.changed()
	}},
	{"domain starts", 12, func(s *simulation) bool {
		d := s.domain()
		if d.here && d.state == running {
			return false
		}
		d.become(running)
		return s.changed()
	}},
	{"domain leaves", 3, func(s *simulation) bool {
		d := s.domain()
		if !d.here {
			return false
		}
		d.leave([]correlate.GoneReason{correlate.GoneOrderly, correlate.GoneMigrated}[s.rng.IntN(2)])
		return s.changed()
	}},
	{"impulse", 4, func(s *simulation) bool {
		d, virt := s.domain(), s.virt()
		if !d.here || d.state != running || virt == nil {
			return false
		}
		d.impulse = true
		conditions := []correlate.Condition{correlate.CondReboot, correlate.CondWatchdog, correlate.CondMemoryFailure}
		virt.oneshot = append(virt.oneshot, virt.event(d.id, conditions[s.rng.IntN(3)]))
		return s.changed()
	}},
	{"guest agent", 4, func(s *simulation) bool {
		d := s.domain()
		if !d.here || d.state != running {
			return false
		}
		d.agentLost = !d.agentLost
		return s.changed()
	}},

	{"source blind", 2, func(s *simulation) bool {
		name := s.sourceName()
		if s.world.blind[name] {
			return false
		}
		s.blind(name, true)
		s.after(s.between(time.Second, time.Minute), "", func() { s.blind(name, false) })
		return true
	}},
	{"edges lost", 3, func(s *simulation) bool {
		name := s.sourceName()
		s.world.losing[name] = true
		s.after(s.between(time.Second, time.Minute), "", func() { delete(s.world.losing, name) })
		return true
	}},
	{"source unsure", 4, func(s *simulation) bool {
		l := s.pick((*link).physical)
		if _, already := s.world.unsure[l.id]; already || !l.present {
			return false
		}
		last := glimpse{up: l.up, signal: l.signal}
		if s.process.source("nic").told() {
			last.told = s.process
		}
		s.world.unsure[l.id] = last
		s.after(s.between(time.Second, 30*time.Second), "", func() { delete(s.world.unsure, l.id); s.changed() })
		return s.changed()
	}},
	{"source panics", 2, func(s *simulation) bool {
		if s.process.dead {
			return false
		}
		s.process.source(s.sourceName()).panics()
		return true
	}},

	{"process killed", 4, func(s *simulation) bool {
		if s.process.dead || s.process.dieIn > 0 {
			return false
		}
		s.process.dieIn = 1 + s.rng.IntN(100)
		return true
	}},
	{"disk slow", 2, func(s *simulation) bool {
		s.disk.slow = true
		s.after(s.between(time.Second, 20*time.Second), "", func() { s.disk.slow = false })
		return true
	}},
	{"clock jumps", 2, func(s *simulation) bool {
		far := []time.Duration{time.Second, time.Minute, time.Hour, 30 * 24 * time.Hour}[s.rng.IntN(4)]
		s.wall += s.between(-far, far)
		return true
	}},

	{"consumer changes", 12, func(s *simulation) bool {
		c := s.consumers[s.rng.IntN(len(s.consumers))]
		c.mood = moods[s.rng.IntN(len(moods))]
		s.trace("consumer %s is %s", c.sub.Name, c.mood)
		return true
	}},
	{"consumer crashes", 3, func(s *simulation) bool {
		s.consumers[s.rng.IntN(len(s.consumers))].crash()
		return true
	}},

	{"operator acknowledges", 3, func(s *simulation) bool {
		if s.process.dead {
			return false
		}
		all := s.process.engine.Alarms()
		if len(all) == 0 {
			return false
		}
		a := all[s.rng.IntN(len(all))]
		if a.Lost || a.Key.Condition == correlate.CondGone { // that clears it: nobody is held to know of it any more
			return false
		}
		s.process.acknowledge(a)
		return true
	}},
	{"operator retries", 3, func(s *simulation) bool {
		s.unpark()
		return true
	}},
	{"operator resumes", 3, func(s *simulation) bool {
		s.resume()
		return true
	}},
}

// nextFault plans the next fault; the gaps are exponential, so that they also come in bursts.
func (s *simulation) nextFault() {
	gap := time.Duration(-math.Log(1-s.rng.Float64()) * float64(s.cfg.Pace))
	s.after(gap, "", func() {
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
					s.trace("fault: %s", f.name)
				}
				break
			}
		}
		s.nextFault()
	})
}

// calmDown ends whatever disturbs the agent; what is broken in the world stays broken.
func (s *simulation) calmDown() {
	s.calm, s.disk.slow = true, false
	clear(s.world.losing)
	clear(s.world.unsure)
	s.world.gen++
	for _, c := range s.consumers {
		c.mood = well
	}
	if s.process.dead {
		s.start() // the start that was planned comes to nothing
	}
	s.process.dieIn = 0
	for _, name := range []string{"nic", "virt"} {
		if s.world.blind[name] {
			s.blind(name, false)
		}
	}
	s.process.look()
	s.resume()
}

func (s *simulation) changed() bool {
	s.world.gen++
	s.process.look()
	return true
}

func (s *simulation) pick(which func(*link) bool) *link {
	for {
		if l := s.world.links[s.rng.IntN(len(s.world.links))]; which(l) {
			return l
		}
	}
}

func (s *simulation) domain() *domain { return s.world.domains[s.rng.IntN(len(s.world.domains))] }

// vnic picks one of a domain that has a process; nil when the pick has none.
func (s *simulation) vnic() *vnic {
	d := s.domain()
	if len(d.vnics) == 0 || !d.processed() {
		return nil
	}
	return d.vnics[s.rng.IntN(len(d.vnics))]
}

func (s *simulation) sourceName() string { return []string{"nic", "virt"}[s.rng.IntN(2)] }

// virt is the hypervisor's source when it hears what happens.
func (s *simulation) virt() *source {
	if src := s.process.source("virt"); src.full && src.sees() && !s.world.losing["virt"] {
		return src
	}
	return nil
}

func (s *simulation) blind(name string, blind bool) {
	s.world.blind[name] = blind
	s.trace("source %s is blind: %v", name, blind)
	if !s.process.dead {
		s.process.source(name).blindness(blind)
	}
}

// unpark is an operator who retries whatever is parked.
func (s *simulation) unpark() {
	if s.process.dead {
		return
	}
	for _, sub := range s.process.subs {
		records, _ := sub.machine.Records()
		slices.SortFunc(records, func(a, b delivery.Record) int { return a.Owed.Compare(b.Owed) })
		for _, r := range records {
			if r.Parked {
				eff, _ := sub.machine.Unpark(r.AlarmID, s.process.now())
				s.process.save(sub, eff)
			}
		}
		s.process.tick(sub)
	}
}

// resume is an operator who lets paused subscriptions go on.
func (s *simulation) resume() {
	if s.process.dead {
		return
	}
	for _, sub := range s.process.subs {
		if sub.c.unsubscribed {
			sub.c.unsubscribed = false
			s.process.save(sub, sub.machine.Resume(s.process.now()))
			s.process.tick(sub)
		}
	}
}
