package cluster

import (
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

const (
	// clockWrong is from when on the clock is an alarm, well before consumers refuse what is signed by it: Standard Webhooks
	// has them allow five minutes. clockRight is when it is over; what lies between changes nothing.
	clockWrong = gossip.MaxAhead
	clockRight = clockWrong / 2
	// clockRefused is from when on consumers refuse; then it is major.
	clockRefused = 5 * time.Minute

	clockSource = "clock"
)

// clock judges our own clock by those of the peers; of the pump's goroutine alone.
type clock struct {
	judged bool // something was reported
	wrong  bool
	said   time.Duration // the difference in the report
}

// judge returns the event that is due; ok is false when there is nothing new.
func (c *clock) judge(now time.Time, p gossip.PeersClock) (e correlate.Event, ok bool) {
	wrong := c.wrong
	switch d := p.Ahead.Abs(); {
	case p.Peers == 0:
		return e, false
	case d > clockWrong:
		wrong = true
	case d < clockRight:
		wrong = false
	}
	// A figure that drifts is no news.
	if c.judged && wrong == c.wrong && (!wrong || (p.Ahead-c.said).Abs() < clockWrong) {
		return e, false
	}
	c.judged, c.wrong, c.said = true, wrong, p.Ahead
	e = correlate.Event{
		Source: clockSource, Resource: correlate.NewID(correlate.KindService, "paramedic/clock"), Condition: correlate.CondClock,
		Status: correlate.StatusOK, Observed: now,
	}
	if wrong {
		e.Status, e.Text = correlate.StatusFailed, clockText(p)
		if p.Ahead.Abs() >= clockRefused {
			e.Severity = correlate.SeverityMajor
		}
	}
	return e, true
}

func clockText(p gossip.PeersClock) string {
	way := "ahead of"
	if p.Ahead < 0 {
		way = "behind"
	}
	d := p.Ahead.Abs().Round(time.Second)
	switch {
	case p.Disputed && p.Peers == 1:
		return fmt.Sprintf("the clock of this host is %v %s that of its only peer, and nobody can tell which of the two is wrong: let NTP set both", d, way)
	case p.Disputed:
		return fmt.Sprintf("the clock of this host is %v %s that of half of the %d hosts, and nobody can tell which half is wrong: let NTP set them all", d, way, p.Peers+1)
	}
	return fmt.Sprintf("the clock of this host is %v %s the median of its %d peers': let NTP set it", d, way, p.Peers)
}
