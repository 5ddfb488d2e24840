package hostloss

import (
	"fmt"
	"math"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// fault is one thing that may go wrong. do reports whether it could.
type fault struct {
	name   string
	weight int
	do     func(s *simulation) bool
}

// faults are all there are.
func faults() []fault {
	return []fault{
		{"process stall", 10, func(s *simulation) bool {
			return s.one(func(h *host) { h.stallProcess(s.length(50*time.Millisecond, 600*time.Millisecond)) })
		}},
		{"long process stall", 3, func(s *simulation) bool {
			return s.one(func(h *host) { h.stallProcess(s.length(600*time.Millisecond, 14*time.Second)) })
		}},
		{"kernel stall", 6, func(s *simulation) bool {
			return s.one(func(h *host) { h.stallKernel(s.length(50*time.Millisecond, 2*time.Second), s.chance(0.5)) })
		}},
		{"starved host", 3, func(s *simulation) bool {
			return s.one(func(h *host) { h.starve(s.between(time.Second, 10*time.Second)) })
		}},
		{"all hosts starved", 1, (*simulation).starveAll},
		{"all processes stall", 1, (*simulation).stallAll},
		{"brown-out", 6, func(s *simulation) bool {
			return s.one(func(h *host) {
				h.brownOut(s.between(50*time.Millisecond, 400*time.Millisecond), 0.3+0.5*s.rng.Float64())
			})
		}},
		{"bond failover", 4, func(s *simulation) bool {
			return s.one(func(h *host) { h.failover(s.between(100*time.Millisecond, 300*time.Millisecond)) })
		}},
		{"switch that relearns", 2, (*simulation).relearn},
		{"partition", 4, (*simulation).partition},
		{"rack lost", 1, (*simulation).loseRack},
		{"agent killed", 4, func(s *simulation) bool {
			return s.one(func(h *host) { s.killAgent(h, s.length(300*time.Millisecond, 20*time.Second)) })
		}},
		{"agent stopped", 3, func(s *simulation) bool {
			return s.one(func(h *host) { s.stopAgent(h, s.length(500*time.Millisecond, 20*time.Second)) })
		}},
		{"host shut down", 2, func(s *simulation) bool {
			return s.oneOfMany(func(h *host) { s.shutDown(h, s.between(5*time.Second, 30*time.Second)) })
		}},
		{"host dies", 6, func(s *simulation) bool {
			return s.oneOfMany(func(h *host) { s.killHost(h, s.between(3*time.Second, 30*time.Second)) })
		}},
		{"stopped, then dies", 1, func(s *simulation) bool {
			return s.oneOfMany(func(h *host) {
				s.stopAgent(h, 0)
				s.call(s.between(3*time.Second, 10*time.Second), func() {
					if h.up && !h.running {
						s.killHost(h, s.between(5*time.Second, 20*time.Second))
					}
				})
			})
		}},
		{"host joins", 2, (*simulation).joinHost},
		{"host leaves", 2, (*simulation).leaveHost},
		{"clock jumps", 2, func(s *simulation) bool {
			return s.one(func(h *host) { h.wall += s.between(-time.Hour, time.Hour) })
		}},
		{"loss changes", 1, (*simulation).changeLoss},
	}
}

// nextFault has faults happen, at random times, until the run is calm.
func (s *simulation) nextFault() {
	all, sum := faults(), 0
	for _, f := range all {
		sum += f.weight
	}
	var next func()
	next = func() {
		if s.calm {
			return
		}
		r := s.rng.IntN(sum)
		for _, f := range all {
			if r -= f.weight; r < 0 {
				if f.do(s) {
					s.report.Faults[f.name]++
				}
				break
			}
		}
		s.call(s.pause(), next)
	}
	s.call(s.pause(), next)
}

func (s *simulation) pause() time.Duration {
	return time.Duration(s.rng.ExpFloat64() * float64(s.cfg.Pace))
}

// length draws a duration, short ones as likely as long ones ten times so long.
func (s *simulation) length(low, high time.Duration) time.Duration {
	return time.Duration(float64(low) * math.Pow(float64(high)/float64(low), s.rng.Float64()))
}

// one picks a host whose agent runs.
func (s *simulation) one(do func(*host)) bool {
	all := s.living()
	if len(all) == 0 {
		return false
	}
	do(pick(s, all))
	return true
}

// oneOfMany picks one only while more than half of all would be left.
func (s *simulation) oneOfMany(do func(*host)) bool {
	if !s.spare(1) {
		return false
	}
	return s.one(do)
}

// spare reports whether so many may go down with a fair majority of all left.
func (s *simulation) spare(n int) bool {
	all, up := 0, 0
	for _, h := range s.hosts {
		if !h.gone {
			all++
			if h.alive() && h.left == watch.LeftNot {
				up++
			}
		}
	}
	return all > 1 && 10*(up-n) >= 6*all || all == 2 && up == 2
}

func (h *host) stallProcess(d time.Duration) {
	s := h.s
	s.trace("%s: process stalls for %v", h.name, d)
	h.note(tFrozen, s.now, s.now+d)
	h.freeze(d)
	h.staysFrozen(d)
}

// staysFrozen has the membership give up one that stands still for long.
func (h *host) staysFrozen(d time.Duration) {
	if d < giveUpLeast {
		return
	}
	h.s.dropped(h, h.session, true)
	session := h.session
	h.s.call(d+50*time.Millisecond, func() {
		if h.alive() && h.session == session && h.left == watch.LeftNot {
			h.s.refute(h)
			h.sync(session)
		}
	})
}

func (h *host) stallKernel(d time.Duration, drops bool) {
	h.s.trace("%s: kernel stalls for %v", h.name, d)
	h.note(tKernel, h.s.now, h.s.now+d)
	h.stall(d, drops)
}

// starve lets the process run a fifth of the time.
func (h *host) starve(d time.Duration) {
	s := h.s
	if s.now < h.starving {
		return
	}
	s.trace("%s: processor is short for %v", h.name, d)
	h.starving = s.now + d
	session := h.session
	var slice func()
	slice = func() {
		if s.now >= h.starving || h.session != session || !h.alive() {
			return
		}
		runs := s.between(time.Millisecond, 40*time.Millisecond)
		h.note(tFrozen, s.now, s.now+4*runs)
		h.freeze(4 * runs)
		s.call(5*runs, slice)
	}
	slice()
}

func (s *simulation) starveAll() bool {
	d := s.between(time.Second, 6*time.Second)
	for _, h := range s.living() {
		h.starve(d)
	}
	s.check.disturb(s.now + d + 500*time.Millisecond)
	return true
}

func (s *simulation) stallAll() bool {
	d := s.between(300*time.Millisecond, 1200*time.Millisecond)
	s.check.disturb(s.now + d + 500*time.Millisecond)
	for _, h := range s.living() {
		late := s.between(0, 20*time.Millisecond)
		s.call(late, func() {
			if h.alive() {
				h.stallProcess(d)
			}
		})
	}
	return true
}

func (h *host) brownOut(d time.Duration, loss float64) {
	h.s.trace("%s: link loses %.0f %% for %v", h.name, 100*loss, d)
	h.note(tBrown, h.s.now, h.s.now+d)
	h.brownUntil, h.brown = h.s.now+d, loss
}

func (h *host) failover(d time.Duration) {
	h.s.trace("%s: link carries nothing for %v", h.name, d)
	h.note(tLink, h.s.now, h.s.now+d)
	h.linkUntil = max(h.linkUntil, h.s.now+d)
}

func (s *simulation) relearn() bool {
	d := s.between(100*time.Millisecond, 250*time.Millisecond)
	s.net.relearnUntil, s.net.relearnSalt, s.net.relearnShare = s.now+d, s.rng.Uint64(), 0.1+0.5*s.rng.Float64()
	s.trace("a switch relearns for %v: %.0f %% of the pairs are cut", d, 100*s.net.relearnShare)
	for _, h := range s.hosts {
		if h.up {
			h.note(tRelearn, s.now, s.now+d)
		}
	}
	return true
}

// partition parts the hosts in two, for a while.
func (s *simulation) partition() bool {
	if s.net.parts || s.cfg.Hosts < 2 {
		return false
	}
	share := pick(s, []float64{0, 0, 0.2, 0.4, 0.49, 0.5})
	var up []int32
	for _, h := range s.hosts {
		if !h.gone {
			up = append(up, h.id)
		}
	}
	if len(up) < 2 {
		return false
	}
	s.rng.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	n := min(max(1, int(math.Round(share*float64(len(up))))), len(up)/2)
	s.part(up[:n], s.length(200*time.Millisecond, 15*time.Second))
	return true
}

// part cuts some hosts off from the rest.
func (s *simulation) part(some []int32, d time.Duration) {
	clear(s.net.side)
	for _, id := range some {
		s.net.side[id] = 1
	}
	s.net.parts, s.partedAt, s.net.witnessSide = true, s.now, int32(s.rng.IntN(2)) //nolint:gosec // 0 or 1
	s.trace("partition: %d hosts are cut off for %v", len(some), d)
	for _, h := range s.hosts {
		if h.gone {
			continue
		}
		if !s.majority(h) || s.cfg.Hosts == 2 {
			h.note(tPartition, s.now, s.now+d)
		}
	}
	s.check.disturb(s.now + d + rejoinWithin)
	s.check.parted()
	if d > giveUpLeast {
		s.parted()
	}
	s.call(d, func() {
		s.net.parts = false
		s.trace("healed")
		s.healed()
	})
}

func (s *simulation) loseRack() bool {
	if s.zones < 2 {
		return false
	}
	zone := pick(s, s.living()).zone
	var lost []*host
	for _, h := range s.living() {
		if h.zone == zone {
			lost = append(lost, h)
		}
	}
	if !s.spare(len(lost)) {
		return false
	}
	s.trace("rack %s is lost", zone)
	for _, h := range lost {
		s.killHost(h, s.between(5*time.Second, 30*time.Second))
	}
	return true
}

// killAgent ends the process; after a while it is started again.
func (s *simulation) killAgent(h *host, back time.Duration) {
	s.trace("%s: agent killed", h.name)
	h.note(tAgent, s.now, s.now+back+time.Second)
	h.kill()
	s.dropped(h, h.session, false)
	s.startAgain(h, back)
}

// startAgain starts the agent after a while, if the host is up then and no other has been.
func (s *simulation) startAgain(h *host, back time.Duration) {
	session := h.session
	s.call(back, func() {
		if h.up && !h.running && h.session == session {
			h.start()
		}
	})
}

// stopAgent has it say goodbye; back is zero when it does not come back by itself.
func (s *simulation) stopAgent(h *host, back time.Duration) {
	if h.frozen() {
		return
	}
	h.goodbye(watch.LeftStopped)
	h.stoppedAt = s.now
	session := h.session
	s.call(s.between(time.Millisecond, 200*time.Millisecond), func() {
		if h.alive() && h.session == session {
			h.note(tAgent, s.now, s.now+max(back, 15*time.Minute))
			h.kill()
			if back > 0 {
				s.startAgain(h, back)
			}
		}
	})
}

// shutDown is a goodbye, and no power a little later.
func (s *simulation) shutDown(h *host, back time.Duration) {
	if h.frozen() {
		return
	}
	h.goodbye(watch.LeftShutdown)
	session := h.session
	s.call(s.between(600*time.Millisecond, 4*time.Second), func() {
		if h.session == session && h.up {
			s.trace("%s: is down", h.name)
			h.die()
			if back > 0 {
				s.bootAgain(h, back)
			}
		}
	})
}

func (s *simulation) bootAgain(h *host, back time.Duration) {
	session := h.session
	s.call(back, func() {
		if !h.up && !h.gone && h.session == session {
			s.trace("%s: has power", h.name)
			h.note(tDead, h.diedAt, s.now)
			h.boot()
		}
	})
}

// killHost takes the power away without a word.
func (s *simulation) killHost(h *host, back time.Duration) {
	s.trace("%s: dies", h.name)
	watched := h.running && h.left != watch.LeftShutdown
	s.dropped(h, h.session, false)
	h.die()
	if h.debt = ""; s.chance(0.5) {
		h.debt = fmt.Sprintf("debt %s %d", h.name, h.session)
	}
	if watched {
		s.check.died(h)
	}
	s.bootAgain(h, back)
}

func (s *simulation) joinHost() bool {
	for _, h := range s.hosts {
		if h.gone && h.session == 0 {
			h.gone = false
			s.trace("%s: joins", h.name)
			h.boot()
			return true
		}
	}
	return false
}

func (s *simulation) leaveHost() bool {
	if s.cfg.Hosts < 3 {
		return false
	}
	return s.oneOfMany(func(h *host) {
		if h.frozen() {
			return
		}
		s.shutDown(h, 0)
		s.call(s.between(5*time.Second, 10*time.Second), func() {
			if !h.up {
				s.trace("%s: is forgotten", h.name)
				s.forget(h)
			}
		})
	})
}

func (s *simulation) changeLoss() bool {
	s.net.loss = pick(s, []float64{0, 0.05, 0.1, 0.2})
	s.trace("loss is %.0f %%", 100*s.net.loss)
	s.call(s.between(time.Second, 10*time.Second), func() {
		s.net.loss = s.cfg.Loss
		s.trace("loss is %.0f %%", 100*s.net.loss)
	})
	return true
}

// calmDown ends all faults: whoever is down starts, and what is cut heals by itself within a while.
func (s *simulation) calmDown() {
	s.calm = true
	s.call(16*time.Second, func() { s.net.loss = s.cfg.Loss })
	for _, h := range s.hosts {
		h.starving = 0
	}
	s.run(16 * time.Second) // the longest partition, and the longest stall
	for _, h := range s.hosts {
		switch {
		case h.gone:
		case !h.up:
			h.note(tDead, h.diedAt, s.now)
			h.boot()
		case !h.running:
			h.start()
		}
	}
}
