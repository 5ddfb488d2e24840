package correlate

import (
	"fmt"
	"testing"
	"time"
)

// host states a compute host: n domains with one port and one disk each, on bridges of the given size.
func benchHost(b *testing.B, n, perBridge int) (*Engine, time.Time) {
	b.Helper()
	now := time.Unix(1_700_000_000, 0)
	e := New(Config{Home: "cmp-1", Term: 2}, nil)
	nic, virt := Delta{Source: "nic", Full: true}, Delta{Source: "virt", Full: true}
	virt.Set = append(virt.Set, Resource{ID: "host/cmp-1"})
	for i := range n {
		if br := i / perBridge; i%perBridge == 0 {
			up, down := NewID(KindNIC, fmt.Sprintf("eth%d", br)), NewID(KindBridge, fmt.Sprintf("br%d", br))
			nic.Set = append(nic.Set, Resource{ID: up}, Resource{ID: down, Needs: []Need{{Of: []ID{up}}}})
		}
		tap := NewID(KindNIC, fmt.Sprintf("tap%d", i))
		nic.Set = append(nic.Set, Resource{ID: tap, Needs: []Need{{Of: []ID{NewID(KindBridge, fmt.Sprintf("br%d", i/perBridge))}}}})
		uuid := fmt.Sprintf("6d1a6f0e-0000-4000-8000-%012d", i)
		dom, mac := NewID(KindDomain, uuid), fmt.Sprintf("52:54:00:00:%02x:%02x", i/256, i%256)
		vnic, vdisk := NewID(KindVNIC, uuid+"/"+mac), NewID(KindVDisk, uuid+"/vda")
		virt.Set = append(
			virt.Set,
			Resource{ID: dom, Name: fmt.Sprintf("instance-%d", i), Project: "red", Needs: []Need{
				{Mode: SomeOf, Of: []ID{vnic}}, {Of: []ID{vdisk, "host/cmp-1"}},
			}},
			Resource{ID: vnic, Domain: dom, Port: &Port{MAC: mac, PortID: uuid}, Needs: []Need{{Of: []ID{tap}}}},
			Resource{ID: vdisk, Domain: dom},
		)
	}
	e.Topology(now, nic)
	e.Topology(now, virt)
	return e, now
}

// flip fails and restores a condition, and demands that each step tells exactly one revision.
func flip(b *testing.B, e *Engine, now time.Time, id ID, c Condition, i, affected int) {
	ev := Event{Source: "bench", Resource: id, Condition: c, Status: StatusFailed, Observed: now}
	if i%2 == 1 {
		ev.Status = StatusOK
	}
	if eff := e.Step(now, ev); len(eff.Publish) != 1 || len(eff.Publish[0].Alarm.Affected) != affected {
		b.Fatalf("%s %s: %d revisions", id, ev.Status, len(eff.Publish))
	}
}

func BenchmarkStep(b *testing.B) {
	domain := func(i int) ID { return NewID(KindDomain, fmt.Sprintf("6d1a6f0e-0000-4000-8000-%012d", i)) }
	b.Run("domain crash and recovery of 1000", func(b *testing.B) {
		e, now := benchHost(b, 1000, 50)
		ids := make([]ID, 1000)
		for i := range ids {
			ids[i] = domain(i)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			flip(b, e, now, ids[i/2%1000], CondCrash, i, 1)
		}
	})
	b.Run("domain crash and recovery while 500 are crashed", func(b *testing.B) {
		e, now := benchHost(b, 1000, 50)
		for i := range 500 {
			flip(b, e, now, domain(500+i), CondCrash, 0, 1)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			flip(b, e, now, domain(7), CondCrash, i, 1)
		}
	})
	b.Run("uplink of 50 domains of 1000", func(b *testing.B) {
		e, now := benchHost(b, 1000, 50)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			flip(b, e, now, "nic/eth3", CondCarrier, i, 50)
		}
	})
	b.Run("uplink of 1000 domains", func(b *testing.B) {
		e, now := benchHost(b, 1000, 1000)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			flip(b, e, now, "nic/eth0", CondCarrier, i, 1000)
		}
	})
	b.Run("repeated observation", func(b *testing.B) {
		e, now := benchHost(b, 1000, 50)
		flip(b, e, now, "nic/eth3", CondCarrier, 0, 50)
		b.ReportAllocs()
		for b.Loop() {
			if eff := e.Step(now, Event{Source: "bench", Resource: "nic/eth3", Condition: CondCarrier, Status: StatusFailed}); len(eff.Publish) > 0 {
				b.Fatal("told again")
			}
		}
	})
}

// BenchmarkRelist is a full restatement of 1000 domains in which nothing has changed.
func BenchmarkRelist(b *testing.B) {
	e, now := benchHost(b, 1000, 50)
	d := Delta{Source: "virt", Full: true}
	for _, v := range e.Resources() {
		if v.Source == "virt" {
			d.Set = append(d.Set, v.Resource)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if eff := e.Topology(now, d); len(eff.Publish) > 0 {
			b.Fatal("something was told")
		}
	}
}
