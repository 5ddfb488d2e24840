package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// BenchmarkARackIsLost is what a speaker does when 40 hosts of 50 domains are lost at once: from the verdicts to what the notifier and the
// replica are given.
func BenchmarkARackIsLost(b *testing.B) {
	var c codec
	l := New(Config{Node: "cmp-me"})
	var s takeover.Speech
	s.Zone, s.Term = "rack-1", 3
	var records []gossip.Record
	for h := range 40 {
		host := fmt.Sprintf("cmp-%03d", h)
		s.Hosts = append(s.Hosts, takeover.Loss{Host: host, At: noon, Verdict: watch.Verdict{Host: host, Term: 2, Level: watch.LevelConfirmed, Votes: []watch.Vote{
			{Voter: "a", Silence: 680 * time.Millisecond, Kernel: watch.AgeNever},
			{Voter: "b", Silence: 680 * time.Millisecond, Kernel: watch.AgeNever},
			{Voter: "c", Silence: 680 * time.Millisecond, Kernel: watch.AgeNever},
		}}})
		for d := range 50 {
			payload, err := c.encodeDomain(Domain{
				Name: fmt.Sprintf("instance-%08x", h*50+d), Project: "0123456789abcdef0123456789abcdef", Since: noon,
				Ports: []correlate.Port{{MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", h, d), PortID: fmt.Sprintf("00000000-0000-4000-8000-%012d", h*50+d)}},
			})
			if err != nil {
				b.Fatal(err)
			}
			records = append(records, gossip.Record{
				Key:     gossip.Key{Space: host, Kind: gossip.KindDomain, ID: fmt.Sprintf("00000000-0000-4000-9000-%012d", h*50+d)},
				Version: gossip.Version{A: 2, B: uint64(d + 1), Node: host}, Payload: payload,
			})
		}
	}
	l.Take(noon, gossip.Changes{Changed: records})
	for b.Loop() {
		o := l.Speak(noon, s)
		if len(o.Guests) != 41 || len(o.Guests[0].Alarms[0].Alarm.Affected) != 2000 {
			b.Fatalf("%d guests", len(o.Guests))
		}
	}
}
