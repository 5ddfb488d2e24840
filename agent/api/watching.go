package api

import (
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

func fromWatch(s *WatchStatus) *WatchPart {
	if s == nil {
		return nil
	}
	n, became := &s.Counters, &s.Counts
	out := &WatchPart{
		Address: s.Address, Echo: string(s.Echo), EchoReason: s.EchoReason, Isolated: s.Isolated, Blind: s.Blind, Listening: s.Listening, Witness: s.Witness,
		Deadlines: WatchDeadlines{
			ProbableMS: s.Probable.Milliseconds(), ConfirmedMS: s.Confirmed.Milliseconds(),
			ProbableWithoutEchoMS:  watch.WithoutEcho * s.Probable.Milliseconds(),
			ConfirmedWithoutEchoMS: watch.WithoutEcho * s.Confirmed.Milliseconds(),
		},
		Observers: texts(s.Observers), Observed: each(s.Observed, fromObserved), NoEcho: texts(s.NoEcho), SpeaksFor: texts(s.SpeaksFor),
		Counters: WatchCounters{
			Sent: n.Sent, Received: n.Received, Refused: n.Refused(), SendErrors: n.SendErrors, Unsent: n.Unsent, PortsClosed: n.Closed,
			EchoesSent: n.EchoesSent, EchoReplies: n.EchoReplies, EchoesForeign: n.EchoesForeign, EchoesHeldBack: n.EchoesHeldBack,
			Late: n.Late, LatestMS: n.Latest.Milliseconds(), Verdicts: make(map[string]uint64), FalseAlarms: became.FalseAlarms,
			Accused: became.Accused, Spoke: became.Spoke, Hushed: became.Hushed, Claims: became.Claims, Dropped: became.Dropped,
		},
	}
	for level := watch.LevelSilent; level <= watch.LevelConfirmed; level++ {
		out.Counters.Verdicts[level.String()] = became.Verdicts[level]
	}
	return out
}

func fromObserved(o watch.Observed) Observed {
	out := Observed{Host: o.Host, SilenceMS: silence(o.Silence), Verdict: o.Level.String()}
	switch o.Left {
	case watch.LeftStopped:
		out.Left = ledger.LeftStopped
	case watch.LeftShutdown:
		out.Left = ledger.LeftShutdown
	case watch.LeftNot:
	}
	return out
}

// silence is in milliseconds; nil for watch.AgeNever.
func silence(d time.Duration) *int64 {
	if d < 0 {
		return nil
	}
	ms := d.Milliseconds()
	return &ms
}
