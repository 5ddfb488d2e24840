package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

func TestAWrongClockIsSaidOnceAndItsEndOnce(t *testing.T) {
	var c clock
	for i, step := range []struct {
		clock gossip.PeersClock
		want  correlate.Status
		sev   correlate.Severity
		text  string // a word of it; empty with want unknown: nothing is said
	}{
		{gossip.PeersClock{}, correlate.StatusUnknown, 0, ""},
		{gossip.PeersClock{Peers: 2, Ahead: time.Second}, correlate.StatusOK, 0, ""}, // an alarm of the last run ends
		{gossip.PeersClock{Peers: 2, Ahead: 59 * time.Second}, correlate.StatusUnknown, 0, ""},
		{gossip.PeersClock{Peers: 2, Ahead: 61 * time.Second}, correlate.StatusFailed, 0, "1m1s ahead of the median of its 2 peers'"},
		{gossip.PeersClock{Peers: 2, Ahead: 65 * time.Second}, correlate.StatusUnknown, 0, ""},
		{gossip.PeersClock{}, correlate.StatusUnknown, 0, ""}, // it was set, or all have gone: soon we know more
		{gossip.PeersClock{Peers: 2, Ahead: -time.Hour}, correlate.StatusFailed, correlate.SeverityMajor, "1h0m0s behind the median"},
		{gossip.PeersClock{Peers: 2, Ahead: -40 * time.Second}, correlate.StatusFailed, 0, "40s behind"},
		{gossip.PeersClock{Peers: 2, Ahead: -29 * time.Second}, correlate.StatusOK, 0, ""},
		{gossip.PeersClock{Peers: 1, Ahead: -2 * time.Minute, Disputed: true}, correlate.StatusFailed, 0, "its only peer, and nobody can tell"},
		{gossip.PeersClock{Peers: 3, Ahead: -8 * time.Minute, Disputed: true}, correlate.StatusFailed, correlate.SeverityMajor, "half of the 4 hosts"},
		{gossip.PeersClock{Peers: 3}, correlate.StatusOK, 0, ""},
	} {
		e, ok := c.judge(time.Unix(0, 0), step.clock)
		if ok != (step.want != correlate.StatusUnknown) || e.Status != step.want || e.Severity != step.sev || !strings.Contains(e.Text, step.text) {
			t.Errorf("step %d: %v %+v", i, ok, e)
		}
		if ok && (e.Resource != "service/paramedic/clock" || e.Condition != correlate.CondClock) {
			t.Errorf("step %d: %+v", i, e)
		}
		if e.Status == correlate.StatusFailed && !strings.Contains(e.Text, "NTP") {
			t.Errorf("step %d: no remedy: %s", i, e.Text)
		}
	}
}
