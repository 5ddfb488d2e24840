package hostloss

import (
	"math"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// consumer is one who is told. It has virtual machines on some of the hosts.
type consumer struct {
	s     *simulation
	id    uint64
	least watch.Level // its min_confidence
	had   map[notification]bool
	debts map[string]bool
}

type notification struct {
	alarm    string
	revision correlate.Revision
}

// buildConsumers makes four: two take what is probable.
func (s *simulation) buildConsumers() {
	for i := range 4 {
		least := watch.LevelProbable
		if i >= 2 {
			least = watch.LevelConfirmed
		}
		s.receipts = append(s.receipts, map[string]correlate.Revision{})
		s.consumers = append(s.consumers, &consumer{s: s, id: uint64(i), least: least, had: map[notification]bool{}, debts: map[string]bool{}}) //nolint:gosec // an index
	}
}

// hasVMs reports whether it has any on a host: each host has those of one of each kind of consumers, or both.
func (c *consumer) hasVMs(h *host) bool {
	return (uint64(h.id)+c.id)%2 == 0 || mix(uint64(h.id))%3 == 0 //nolint:gosec // an index
}

// serves is how long it takes over a call: 5 ms, more or less; one of a hundred calls up to 200 ms.
func (c *consumer) serves() time.Duration {
	if c.s.chance(0.01) {
		return c.s.between(5*time.Millisecond, 200*time.Millisecond)
	}
	return time.Duration(5e6 * math.Exp(0.4*c.s.rng.NormFloat64()))
}

// take is a call.
func (c *consumer) take(from *host, a *correlate.Alarm, call call) {
	s := c.s
	id := notification{a.ID, a.Revision}
	s.report.Calls++
	if c.had[id] {
		s.report.Doubled++
		for _, l := range call.hosts {
			s.check.twice(l)
		}
	}
	c.had[id] = true
	s.trace("consumer %d: %s %s from %s", c.id, a.ID, a.Revision, from.name)
	for _, l := range call.hosts {
		if l.level == watch.LevelNone {
			c.debts[a.ID] = true
			continue
		}
		if !c.hasVMs(l.host) {
			continue
		}
		for level := c.least; level <= l.level; level++ {
			s.check.called(c, l.host, l.term, level)
		}
	}
}
