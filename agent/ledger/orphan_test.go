package ledger

import (
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// TestAZoneWhoseHostsAreAllBackIsAnOrphanAfterAWhile: its speaker had the time to end its alarm, and has not.
func TestAZoneWhoseHostsAreAllBackIsAnOrphanAfterAWhile(t *testing.T) {
	var c codec
	record := func(s correlate.Spoken) gossip.Record {
		a := s.Alarm(nil)
		b, err := c.encodeAlarm(correlate.Change{Alarm: a}, false)
		if err != nil {
			t.Fatal(err)
		}
		return gossip.Record{
			Key: gossip.Key{Space: s.Key.Home, Kind: gossip.KindAlarm, ID: a.ID}, Version: gossip.Version{A: s.Term, B: s.Counter, Node: "cmp-9"}, Payload: b,
		}
	}
	zone := correlate.Spoken{
		Key:  correlate.Key{Home: ZoneSpace + "rack-1", Resource: "zone/rack-1", Condition: correlate.CondZoneLost},
		Term: 3, First: 1, Counter: 2, Reached: 2, Last: correlate.Raised, Confidence: correlate.ConfidenceConfirmed,
		Times: correlate.Times{Raised: noon},
	}
	host := correlate.Spoken{
		Key:  correlate.Key{Home: "cmp-1", Resource: "host/cmp-1", Condition: correlate.CondHostLost},
		Term: 3, First: 1, Counter: 2, Reached: 2, Last: correlate.Raised, Confidence: correlate.ConfidenceConfirmed, Under: zone.ID(),
		Times: correlate.Times{Raised: noon}, Evidence: map[string]string{evidenceZone: "rack-1", evidenceZoneTerm: "3"},
	}
	l := New(Config{Node: "cmp-2"})
	l.Take(noon, gossip.Changes{Changed: []gossip.Record{record(zone), record(host)}})
	if o := l.Orphans(noon.Add(time.Hour)); len(o) != 0 {
		t.Fatalf("a host of it is lost, and it is an orphan: %v", o)
	}
	l.Take(noon, gossip.Changes{Purged: []gossip.Record{record(host)}}) // by its floor: it is back
	if o := l.Orphans(noon.Add(time.Second)); len(o) != 0 {
		t.Fatalf("its speaker had no time yet: %v", o)
	}
	if o := l.Orphans(noon.Add(2 * time.Minute)); len(o) != 1 || o[0] != (Orphan{"rack-1", 3}) {
		t.Fatalf("orphans are %v", o)
	}
	zone.Counter, zone.Last, zone.Reason, zone.Times.Cleared = 3, correlate.Cleared, correlate.ReasonReturned, noon.Add(time.Minute)
	l.Take(noon, gossip.Changes{Changed: []gossip.Record{record(zone)}})
	if o := l.Orphans(noon.Add(time.Hour)); len(o) != 0 {
		t.Fatalf("it is over, and an orphan: %v", o)
	}
}
