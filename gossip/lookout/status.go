package lookout

import (
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// Status is what an operator sees.
type Status struct {
	watch.Status
	Echo       EchoKind
	EchoReason string // how, or why not and what to grant
	Sessions   []Session
	Counters   Counters
}

// Session is the run of a host's agent that is heard.
type Session struct {
	Host    string
	Started time.Time // by the clock of that host
	Boot    [16]byte
	Heard   time.Duration // ago
}

// Counters count since the start.
type Counters struct {
	Sent, Received uint64 // frames, answers to challenges among them
	SendErrors     uint64 // dropped frames and echoes: the network or the kernel did not take them
	Unsent         uint64 // dropped: nobody knows where the host is

	// Frames that were refused, by reason.
	Malformed    uint64
	Framing      uint64 // sealed, and we have no keys, or the other way round
	UnknownKey   uint64
	Untried      uint64 // of unknown sessions, too many at once
	Replayed     uint64
	OldSession   uint64
	UnknownHost  uint64
	Unchallenged uint64 // of sessions that had not yet shown that they live; the last one is kept until they have

	Closed         uint64 // ports that were said to be closed
	EchoesSent     uint64
	EchoReplies    uint64
	EchoesForeign  uint64 // replies that are late, or answer nothing
	EchoesHeldBack uint64 // too many at once

	Late   uint64        // wake-ups more than 30 ms after their time
	Latest time.Duration // the worst
}

// Refused are the frames that were refused, by reason, in words for metrics. None is left out.
func (c *Counters) Refused() map[string]uint64 {
	return map[string]uint64{
		"malformed": c.Malformed, "framing": c.Framing, "unknown key": c.UnknownKey, "untried": c.Untried, "replayed": c.Replayed,
		"old session": c.OldSession, "unknown host": c.UnknownHost, "unchallenged": c.Unchallenged,
	}
}

func (c *Counters) refuse(why refusal) {
	switch why {
	case refusedMalformed:
		c.Malformed++
	case refusedFraming:
		c.Framing++
	case refusedKey:
		c.UnknownKey++
	case refusedTrial:
		c.Untried++
	case refusedReplay:
		c.Replayed++
	case refusedOld:
		c.OldSession++
	case refusedHost:
		c.UnknownHost++
	case accepted:
	}
}

// Status is of this moment. While Run does not run it only says how echoes are asked.
func (l *Lookout) Status() Status {
	s := Status{Echo: l.echoes.kind, EchoReason: l.echoes.reason}
	var from Status
	if l.ask(func(now time.Time) {
		from = Status{Status: l.machine.Status(now), Sessions: l.sessionList(now), Counters: l.counters}
	}) {
		s.Status, s.Sessions, s.Counters = from.Status, from.Sessions, from.Counters
	}
	return s
}
