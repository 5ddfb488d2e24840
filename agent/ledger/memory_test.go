//go:build !race

// The race detector multiplies memory.

package ledger

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

const fleetHosts, fleetDomains = 200, 50

// fleet is what that many hosts send of themselves.
func fleet(t testing.TB) [][]byte {
	var messages [][]byte
	for h := range fleetHosts {
		name := fmt.Sprintf("cmp-%d", h)
		r, err := gossip.New(gossip.Config{Self: name, Term: 2})
		if err != nil {
			t.Fatal(err)
		}
		l := New(Config{Node: name})
		delta := correlate.Delta{Source: "virt", Full: true}
		for d := range fleetDomains {
			uuid := fmt.Sprintf("6f1c9a52-7a1e-4a1e-9d60-%06x%06x", h*7919, d*104729)
			delta.Set = append(delta.Set, correlate.Resource{
				ID: correlate.NewID(correlate.KindDomain, uuid), Name: fmt.Sprintf("instance-%08x", h*1000+d),
				Project: fmt.Sprintf("5f0c5bdb3e524c6a9a7a%012x", d%10),
			})
			for p := range 2 {
				mac := fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", h, d, p)
				delta.Set = append(delta.Set, correlate.Resource{
					ID: correlate.NewID(correlate.KindVNIC, uuid+"/"+mac), Domain: correlate.NewID(correlate.KindDomain, uuid),
					Port: &correlate.Port{MAC: mac, PortID: fmt.Sprintf("0d6f7a3c-8b5e-4d7b-%04x-%06x%06x", p, h*6007, d*65537)},
				})
			}
		}
		o := l.Begin(noon)
		o.Join(l.Host(noon, Host{Zone: "rack-a", Version: "1.0", Started: noon}))
		o.Join(l.Inventory(noon.Add(time.Duration(h)*time.Second), &delta))
		for _, w := range o.Write {
			if _, _, err := r.Set(noon, w.Kind, w.ID, w.Payload); err != nil {
				t.Fatal(err)
			}
		}
		for rec := range r.Records() {
			messages = append(messages, gossip.EncodeRecords([]gossip.Record{rec}, 1300)...)
		}
	}
	return messages
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The bound of the issue: at most 1 KB for each domain of another host; here for the replica and the ledger together, after
// somebody has asked for all of them.
func TestARemoteDomainTakesLessThanAKilobyte(t *testing.T) {
	messages := fleet(t)
	before := heap()
	r, err := gossip.New(gossip.Config{Self: "me", Term: 2})
	if err != nil {
		t.Fatal(err)
	}
	l := New(Config{Node: "me"})
	l.Begin(noon)
	for _, m := range messages {
		res, err := r.Handle(noon, "cmp-0", bytes.Clone(m))
		if err != nil {
			t.Fatal(err)
		}
		l.Take(noon, gossip.Changes{Changed: res.Changed})
	}
	held, took := look(t, l)
	each := float64(heap()-before) / (fleetHosts * fleetDomains)
	t.Logf("%.0f bytes for each domain; all are shown in %v, for %v of which the ledger is held", each, took, held)
	if each > 1000 {
		t.Errorf("%.0f bytes for each domain", each)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(l)
	runtime.KeepAlive(messages)
}

// look asks for all domains; held is how long the ledger is needed for that, of what it took.
func look(t *testing.T, l *Ledger) (held, took time.Duration) {
	began := time.Now()
	var views []DomainView
	for _, name := range l.Hosts() {
		views = append(views, l.Domains(name)...)
	}
	held = time.Since(began)
	ReadDomains(views)
	if n := len(views); n != fleetHosts*fleetDomains || len(views[0].Ports) != 2 || views[0].Project == "" {
		t.Fatalf("%d domains, %+v", n, views[0])
	}
	return held, time.Since(began)
}
