package ledger

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

func fullAlarm() correlate.Change {
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	ports := []correlate.Port{{MAC: "52:54:00:00:00:01", PortID: "port-1"}}
	return correlate.Change{
		Alarm: &correlate.Alarm{
			Key: correlate.Key{Home: "cmp-1", Resource: "bond/bond0", Condition: correlate.CondCarrier}, ID: "a1",
			First: correlate.Revision{Term: 2, Counter: 1}, Revision: correlate.Revision{Term: 4, Counter: 7}, Last: correlate.Changed,
			Severity: correlate.SeverityCritical, EventType: correlate.TypeCommunications, ProbableCause: "loss-of-signal",
			AbstractCause: "network", Confidence: correlate.ConfidenceConfirmed, State: correlate.StateFailed, Under: "a0", RootCause: true,
			Correlated: []string{"a2"}, Source: "nic", Text: "no carrier", Evidence: map[string]string{"k": "v"}, ClearReason: "held",
			Times: correlate.Times{Occurred: at(0), Observed: at(1), Raised: at(2), Changed: at(3), Cleared: at(4)}, Lost: true,
			NeededBy: []correlate.ID{"bridge/br0"},
			Affected: []correlate.Affected{{Resource: "domain/web", Name: "instance-1", Project: "red", State: correlate.StateFailed, Ports: ports}},
			AtRisk:   []correlate.Affected{{Resource: "domain/db", State: correlate.StateAtRisk}},
			Ack:      &correlate.Acknowledgement{By: "alice", Comment: "seen", At: at(5)},
		},
		Occurred: at(0), Observed: at(1), Found: at(2),
	}
}

// withWords is one that people have spoken of.
func withWords(c correlate.Change) correlate.Change {
	a := *c.Alarm
	a.Comments = []correlate.Comment{{By: "bob", Text: "on my way", At: noon}}
	a.ByHand = &correlate.HandClear{By: "alice", Comment: "over", At: noon, Dismissed: true, Asked: correlate.SeverityMajor}
	c.Alarm = &a
	return c
}

// recorded are payloads as version 1 writes them, one of each kind, with everything in them.
func recorded() map[string]any {
	return map[string]any{
		"host": &Host{Zone: "rack-a", Labels: map[string]string{"az": "nova-1"}, Version: "1.2", Facts: map[string]string{"kernel": "6.1"}, Started: noon},
		"domain": &Domain{
			Name: "instance-1", Project: "red", Inactive: true, Since: noon, Ports: []correlate.Port{{MAC: "52:54:00:00:00:01", PortID: "port-1"}}, PortsTotal: 9,
		},
		"alarm":          &Alarm{Change: fullAlarm(), AffectedTotal: 12, AtRiskTotal: 13},
		"words":          &Alarm{Change: withWords(fullAlarm())},
		"delivery":       &Delivery{Taken: 7, Told: "2.1", Owed: "2.2", Parked: true, Attempts: 3, LastError: "answered 500"},
		"delivery-again": &Delivery{Owed: "2.2", Parked: true, Again: true, Attempts: 3, LastError: "no answer in time"},
		"receipt":        &Receipt{Home: "cmp-1", Told: "2.1"},
		"subscription": &Subscription{
			Version: 9, Name: "vnfm", Endpoints: []string{"http://10.0.0.9/in"}, Format: "native", Role: "consumer",
			Filter: Filter{
				Projects: []string{"red"}, Domains: []string{"web"}, ResourceTypes: []string{"nic"}, Conditions: []string{"carrier"},
				MinSeverity: "minor", Kinds: []string{"fault"}, States: []string{"failed", "at-risk"}, MinConfidence: "probable",
			},
			Paused: "by an operator", Verified: true, Rate: 60, Created: noon, Resumed: 2, Secret: []byte{1, 2, 3}, Unsealed: true,
			Snapshot: map[string]Given{"a1": {Home: "cmp-1", Revision: "2.1", Resource: "nic/eth0", Condition: "carrier"}}, SnapshotOf: 8,
		},
		"subscription-by-place": &Subscription{
			Version: 9, Name: "ops", Endpoints: []string{"http://10.0.0.9/in"}, Format: "native", Role: "admin", Created: noon,
			Filter: Filter{
				Hosts: []string{"cmp-*"}, Zones: []string{"rack-a"}, Labels: map[string][]string{"az": {"nova-1"}}, Resources: []string{"nic/*"},
			},
		},
		"refusal": &Refusal{Version: 9, Resumed: 2, Reason: "answered 410", At: noon},
		"ack":     &Word{Home: "cmp-1", By: "alice", Comment: "seen", At: noon},
		"mute": &Mute{
			Filter: Filter{
				Hosts: []string{"cmp-1"}, Zones: []string{"rack-*"}, Labels: map[string][]string{"az": {"nova-1"}}, Resources: []string{"nic/*"},
				ResourceTypes: []string{"nic"}, Conditions: []string{"carrier"}, MinSeverity: "warning",
			},
			MaxSeverity: "major", Until: noon, Reason: "a new switch", By: "alice", Made: noon,
		},
	}
}

// TestTheFirstFormatIsReadForEver: the files were written once; what they say does not change. With -rewrite only those that
// are missing are written.
func TestTheFirstFormatIsReadForEver(t *testing.T) {
	var c codec
	for name, want := range recorded() {
		path := filepath.Join("testdata", "v1", name)
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && flag.Lookup("rewrite").Value.String() == "true" {
			if b, err = c.encode(want); err == nil {
				err = os.WriteFile(path, b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		got := newLike(want)
		if err := c.decode(b, got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Alarm{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if again, err := c.encode(got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.decode(again, newLike(want)) != nil {
			t.Errorf("%s: what is written now can't be read", name)
		}
	}
}

func newLike(v any) any {
	switch v.(type) {
	case *Host:
		return &Host{}
	case *Domain:
		return &Domain{}
	case *Alarm:
		return &Alarm{}
	case *Delivery:
		return &Delivery{}
	case *Receipt:
		return &Receipt{}
	case *Subscription:
		return &Subscription{}
	case *Refusal:
		return &Refusal{}
	case *Word:
		return &Word{}
	case *Mute:
		return &Mute{}
	}
	panic(fmt.Sprintf("%T", v))
}

func TestWhatIsTooBigIsCutAndSaysSo(t *testing.T) {
	var c codec
	ch := fullAlarm()
	big := *ch.Alarm
	seed := uint32(1)
	noise := func() string { // does not deflate
		seed = seed*1664525 + 1013904223
		return fmt.Sprintf("%08x", seed)
	}
	for range 20000 {
		big.Affected = append(big.Affected, correlate.Affected{Resource: correlate.ID("domain/" + noise() + noise()), State: correlate.StateFailed})
	}
	ch.Alarm = &big
	b, err := c.encodeAlarm(ch, false)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.decodeAlarm("cmp-1", "a1", b)
	if err != nil {
		t.Fatal(err)
	}
	if p.AffectedTotal != 20001 || len(p.Alarm.Affected) < 500 || len(p.Alarm.Affected) >= 20000 || len(big.Affected) != 20001 {
		t.Errorf("%d of %d are left, of %d", len(p.Alarm.Affected), p.AffectedTotal, len(big.Affected))
	}
	d := Domain{Name: "x", Since: noon}
	for range 10000 {
		d.Ports = append(d.Ports, correlate.Port{MAC: noise(), PortID: noise() + noise()})
	}
	if b, err = c.encodeDomain(d); err != nil {
		t.Fatal(err)
	}
	var got Domain
	if err := c.decode(b, &got); err != nil || got.PortsTotal != 10000 || len(got.Ports) < 500 {
		t.Errorf("%v: %d of %d ports", err, len(got.Ports), got.PortsTotal)
	}
}

func TestASubscriptionThatIsTooBigIsRefusedWithTheRemedy(t *testing.T) {
	l := New(Config{Node: "cmp-1"})
	sub := notify.Subscription{ID: "s", Version: 1, Name: "vnfm", Endpoints: []string{"http://10.0.0.9/"}, Origin: notify.OriginAPI}
	seed := uint64(1)
	for range 4096 {
		seed = seed*6364136223846793005 + 1442695040888963407
		sub.Filter.Domains = append(sub.Filter.Domains, fmt.Sprintf("%016x%016x", seed, seed*31))
	}
	o, err := l.Publish(noon, sub, nil)
	if !errors.Is(err, errTooBig) || !strings.Contains(err.Error(), "narrower filter") || len(o.Write) > 0 {
		t.Errorf("%v, %d writes", err, len(o.Write))
	}
	sub.Origin = notify.OriginFile
	l.Begin(noon)
	if o = l.File(noon, []notify.Subscription{sub}); len(o.Report) != 1 || !strings.Contains(o.Report[0].Text, "this host only") {
		t.Errorf("reports %v", o.Report)
	}
}

func TestAPayloadThatInflatesWithoutEndIsRefused(t *testing.T) {
	var b bytes.Buffer
	b.Write([]byte{formatVersion, flagDeflated})
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(Host{Zone: strings.Repeat("x", maxInflated)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var c codec
	if err := c.decode(b.Bytes(), &Host{}); !errors.Is(err, errPayload) {
		t.Errorf("got %v", err)
	}
}

// TestWhatOneHostMakesUsHoldIsBounded: its records deflate a thousandfold, and its neighbour's alarms are taken.
func TestWhatOneHostMakesUsHoldIsBounded(t *testing.T) {
	l := New(Config{Node: "cmp-1"})
	l.Begin(noon)
	ch := fullAlarm()
	text := strings.Repeat("x", 900_000)
	take := func(host, id, text string, counter uint64, deleted bool) Orders {
		a := *ch.Alarm
		a.ID, a.Key.Home, a.Text = id, host, text
		rec := gossip.Record{Key: gossip.Key{Space: host, Kind: gossip.KindAlarm, ID: id}, Version: gossip.Version{A: 2, B: counter, Node: host}, Deleted: deleted}
		if !deleted {
			b, err := l.codec.encodeAlarm(correlate.Change{Alarm: &a}, false)
			if err != nil {
				t.Fatal(err)
			}
			rec.Payload = b
		}
		return l.Take(noon, gossip.Changes{Changed: []gossip.Record{rec}})
	}
	var said []correlate.Event
	for i := range 100 {
		said = append(said, take("cmp-2", fmt.Sprint("a", i), text, uint64(i+1), false).Report...)
	}
	if n := len(l.Standing()); n < 30 || n > 40 || len(said) != 1 || !strings.Contains(said[0].Text, "cmp-2") {
		t.Errorf("%d alarms are held; said: %v", n, said)
	}
	before := len(l.Standing())
	take("cmp-2", "a0", "", 200, true)
	take("cmp-2", "a99", text, 201, false)
	take("cmp-3", "b", "well", 1, false)
	if l.Alarm("a99") == nil || len(l.Standing()) != before+1 {
		t.Errorf("%d alarms after one has ended and two came", len(l.Standing()))
	}
}

// FuzzTake: whatever a record holds, nothing panics, its neighbours are unharmed, and what is readable can be written again.
func TestAMuteThatNoAPITakesIsRefused(t *testing.T) {
	for what, change := range map[string]func(*Mute){
		"for ever":                  func(m *Mute) { m.Until = noon.Add(100 * 365 * 24 * time.Hour) },
		"of everything":             func(m *Mute) { m.Filter = Filter{} },
		"of a severity of tomorrow": func(m *Mute) { m.MaxSeverity = "fatal" },
		"by a state of tomorrow":    func(m *Mute) { m.Filter.States = []string{"pending"} },
		"with a broken glob":        func(m *Mute) { m.Filter.Hosts = []string{"["} },
	} {
		m := Mute{Filter: Filter{Hosts: []string{"cmp-1"}}, Until: noon.Add(notify.MaxMuted), Made: noon}
		if _, err := openMute("m", m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if _, err := openMute("m", m); !errors.Is(err, errPayload) {
			t.Errorf("one %s: %v", what, err)
		}
	}
}

func FuzzTake(f *testing.F) {
	kinds := map[string]gossip.Kind{
		"host": gossip.KindHost, "domain": gossip.KindDomain, "alarm": gossip.KindAlarm, "delivery": gossip.KindDelivery,
		"receipt": gossip.KindReceipt, "subscription": gossip.KindSubscription, "refusal": gossip.KindRefusal, "ack": gossip.KindAck, "mute": gossip.KindMute,
	}
	for name, kind := range kinds {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), "a1", b)
		f.Add(uint8(gossip.KindFileWish), "s/a1", b)
		var c codec
		var v any
		if err := c.decode(b, &v); err != nil {
			f.Fatal(err)
		}
		plain, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), "s/a1", append([]byte{formatVersion, 0}, plain...))
	}
	f.Fuzz(func(t *testing.T, kind uint8, id string, payload []byte) {
		n := uint64(0)
		l := New(Config{Node: "cmp-1", Sealer: toySealer{"k", &n}})
		rec := gossip.Record{Key: gossip.Key{Space: "cmp-2", Kind: gossip.Kind(kind), ID: id}, Version: gossip.Version{A: 2, B: 1, Node: "cmp-2"}, Payload: payload}
		if rec.Kind >= gossip.KindShared {
			rec.Space, rec.Version.B = gossip.Shared, 0
		}
		own := rec
		own.Space, own.Version.Node = "cmp-1", "cmp-1"
		var c codec
		b, err := c.encodeAlarm(correlate.Change{Alarm: &correlate.Alarm{
			ID: "neighbour", Key: correlate.Key{Home: "cmp-2"}, Revision: correlate.Revision{Term: 2, Counter: 1}, Last: correlate.Raised,
		}}, false)
		if err != nil {
			t.Fatal(err)
		}
		neighbour := gossip.Record{Key: gossip.Key{Space: "cmp-2", Kind: gossip.KindAlarm, ID: "neighbour"}, Version: gossip.Version{A: 2, B: 9, Node: "cmp-2"}, Payload: b}
		l.Take(noon, gossip.Changes{Changed: []gossip.Record{rec, own, neighbour}, Own: []gossip.Record{own}})
		l.Former()
		l.Begin(noon)
		l.Take(noon, gossip.Changes{Changed: []gossip.Record{rec}})
		l.Tick(noon.Add(time.Hour))
		domains(l)
		l.HostRecord("cmp-2")
		if id == "neighbour" {
			return
		}
		if a := l.Alarm("neighbour"); a == nil || a.ID != "neighbour" {
			t.Error("the neighbour is harmed")
		}
		o := l.Take(noon, gossip.Changes{Purged: []gossip.Record{rec, neighbour}})
		if len(o.Seen) > 0 || len(l.hosts) > 0 {
			t.Errorf("what is purged stays: %d hosts", len(l.hosts))
		}
	})
}
