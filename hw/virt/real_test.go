package virt

import (
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	uuidA = "8a3c1f52-0000-4000-8000-00000000000a"
	uuidB = "8a3c1f52-0000-4000-8000-00000000000b"
	macA  = "52:54:00:00:00:0a"
	macB  = "52:54:00:00:00:0b"
)

func TestAKilledDomainIsAFaultAndADestroyedOneIsNot(t *testing.T) {
	h := newHost(t)
	h.start()
	a := guest{name: "a", uuid: uuidA, mac: macA, code: guestIdle}
	dom := h.boot(a)
	w := watch(t, Config{Socket: h.readOnlySocket(), Host: "host/h", Resync: 500 * time.Millisecond})
	eventually(t, "a is watched", func() bool { r, ok := w.resource(a.id()); return ok && !r.Inactive })
	r, _ := w.resource(correlate.ID("vnic/" + uuidA + "/" + macA))
	t.Logf("%+v", r)
	if len(r.Needs) != 1 || r.Needs[0].Of[0] != "nic/vnet0" {
		t.Errorf("needs of the vnic: %+v, want its tap", r.Needs)
	}
	h.signal("a", "KILL")
	eventually(t, "crash", func() bool { return w.status(a.id(), correlate.CondCrash) == correlate.StatusFailed })
	r, _ = w.resource(a.id())
	if r.Inactive {
		t.Error("a crashed domain is inactive")
	}
	h.create(dom)
	eventually(t, "it runs again", func() bool { return w.status(a.id(), correlate.CondCrash) == correlate.StatusOK })
	h.must("destroy", h.lib.DomainDestroy(dom))
	eventually(t, "inactive", func() bool { r, _ := w.resource(a.id()); return r.Inactive })
	if n := w.said(a.id(), correlate.CondStopped, correlate.StatusFailed); n != 0 {
		t.Errorf("a destroyed domain was said to have stopped by a fault %d times", n)
	}
	if s := w.sight(); s != hw.SightClear {
		t.Errorf("sight %v", s)
	}
}
