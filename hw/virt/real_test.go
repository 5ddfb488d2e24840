package virt

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

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

func TestAGuestPanicIsToldOnceByItsNameWhateverLibvirtDoesNext(t *testing.T) {
	for _, onCrash := range []string{"destroy", "preserve"} {
		t.Run(onCrash, func(t *testing.T) {
			h := newHost(t)
			h.start()
			w := watch(t, Config{Socket: h.readOnlySocket(), Resync: 200 * time.Millisecond})
			eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
			a := guest{name: "a", uuid: uuidA, code: guestPanics, onCrash: onCrash}
			dom := h.boot(a)
			eventually(t, "guest panic", func() bool { return w.status(a.id(), correlate.CondGuestPanic) == correlate.StatusFailed })
			eventually(t, "restated", func() bool { return w.said(a.id(), correlate.CondGuestPanic, correlate.StatusFailed) > 4 })
			for _, c := range []correlate.Condition{correlate.CondCrash, correlate.CondStopped} {
				if n := w.said(a.id(), c, correlate.StatusFailed); n != 0 {
					t.Errorf("%s was said %d times too", c, n)
				}
			}
			text := w.event(a.id(), correlate.CondGuestPanic).Text
			w.mu.Lock()
			for _, e := range w.log {
				if e.Condition == correlate.CondGuestPanic && e.Status == correlate.StatusFailed && e.Text != text {
					t.Errorf("texts %q and %q: each change is another notification", text, e.Text)
				}
			}
			w.mu.Unlock()
			if onCrash == "preserve" {
				h.must("destroy", h.lib.DomainDestroy(dom))
				eventually(t, "inactive once its owner ends it", func() bool { r, _ := w.resource(a.id()); return r.Inactive })
			}
		})
	}
}

func TestAResetOfTheGuestIsAReboot(t *testing.T) {
	h := newHost(t)
	h.start()
	w := watch(t, Config{Socket: h.readOnlySocket()})
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	a := guest{name: "a", uuid: uuidA, code: guestReboots}
	h.boot(a)
	eventually(t, "reboot", func() bool { return w.status(a.id(), correlate.CondReboot) == correlate.StatusFailed })
	if r, _ := w.resource(a.id()); r.Inactive {
		t.Error("a domain that reboots is inactive")
	}
}

func TestADiskThatIsFullPausesTheDomainWithTheReason(t *testing.T) {
	h := newHost(t)
	h.start()
	h.sh("truncate -s 2M /var/lib/libvirt/small/disk; head -c 60000 /dev/zero > /var/lib/libvirt/small/fill; head -c 9000 /dev/zero >> /var/lib/libvirt/small/fill; echo done")
	w := watch(t, Config{Socket: h.readOnlySocket(), Resync: 200 * time.Millisecond})
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	a := guest{name: "a", uuid: uuidA, code: guestWrites, disk: `<disk type='file' device='disk'>
<driver name='qemu' type='raw' error_policy='stop'/><source file='/var/lib/libvirt/small/disk'/><target dev='vdb' bus='virtio'/><boot order='2'/></disk>`}
	dom := h.boot(a)
	eventually(t, "io error", func() bool { return w.status(a.id(), correlate.CondIOError) == correlate.StatusFailed })
	eventually(t, "restated", func() bool { return w.said(a.id(), correlate.CondIOError, correlate.StatusFailed) > 4 })
	e := w.event(a.id(), correlate.CondIOError)
	if e.Evidence["disk"] != "vdb" || e.Evidence["reason"] != "enospc" || e.Text != "a: paused because its disk vdb failed: enospc" {
		t.Errorf("event %+v", e)
	}
	w.mu.Lock()
	for _, x := range w.log {
		if x.Condition == correlate.CondIOError && x.Status == correlate.StatusFailed && x.Text != e.Text {
			t.Errorf("texts %q and %q: each change is another notification", e.Text, x.Text)
		}
	}
	w.mu.Unlock()
	h.sh("rm /var/lib/libvirt/small/fill; echo done")
	h.must("resume", h.lib.DomainResume(dom))
	eventually(t, "well again", func() bool { return w.status(a.id(), correlate.CondIOError) == correlate.StatusOK })
}

func TestDevicesThatComeAndGoAreFollowed(t *testing.T) {
	h := newHost(t)
	h.start()
	a := guest{name: "a", uuid: uuidA, mac: macA, code: guestEjects}
	dom := h.boot(a)
	changes := make(chan correlate.ID, 100)
	w := watch(t, Config{Socket: h.readOnlySocket(), Resync: time.Hour, Devices: func(id correlate.ID) { changes <- id }})
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	if id := <-changes; id != a.id() {
		t.Errorf("devices of %s changed, want %s", id, a.id())
	}
	nic := "<interface type='bridge'><mac address='" + macB + "'/><source bridge='br0'/><model type='virtio'/></interface>"
	b := correlate.ID("vnic/" + uuidA + "/" + macB)
	h.must("attach", h.lib.DomainAttachDeviceFlags(dom, nic, 1))
	eventually(t, "attached", func() bool { r, ok := w.resource(b); return ok && len(r.Needs) == 1 })
	if id := <-changes; id != a.id() {
		t.Errorf("devices of %s changed, want %s", id, a.id())
	}
	h.must("detach", h.lib.DomainDetachDeviceFlags(dom, nic, 1))
	eventually(t, "gone", func() bool { why, ok := w.goneAs(b); return ok && why == correlate.GoneOrderly })
	if id := <-changes; id != a.id() {
		t.Errorf("devices of %s changed, want %s", id, a.id())
	}
	r, _ := w.resource(a.id())
	for _, n := range r.Needs {
		if slices.Contains(n.Of, b) {
			t.Errorf("the domain still needs %s", b)
		}
	}
}

func TestADaemonThatDiesIsReportedAndWhatDiedMeanwhileIsFound(t *testing.T) {
	h := newHost(t)
	h.start()
	a, b := guest{name: "a", uuid: uuidA, mac: macA, code: guestIdle}, guest{name: "b", uuid: uuidB, code: guestIdle}
	h.boot(a)
	if _, err := h.lib.DomainCreateXML(h.xml(b), 0); err != nil { // transient
		t.Fatal(err)
	}
	w := watch(t, Config{Socket: h.readOnlySocket()})
	eventually(t, "both are watched", func() bool {
		_, one := w.resource(a.id())
		_, two := w.resource(b.id())
		return one && two && w.sight() == hw.SightClear
	})
	h.signalDaemon("KILL")
	eventually(t, "unreachable", func() bool {
		return w.status(Hypervisor, correlate.CondHypervisorUnreachable) == correlate.StatusFailed
	})
	h.signal("a", "KILL")
	h.signal("b", "KILL")
	h.start()
	eventually(t, "reachable", func() bool { return w.status(Hypervisor, correlate.CondHypervisorUnreachable) == correlate.StatusOK })
	failed := func(id correlate.ID) bool {
		return w.status(id, correlate.CondCrash) == correlate.StatusFailed || w.status(id, correlate.CondStopped) == correlate.StatusFailed
	}
	eventually(t, "the persistent one's end is found", func() bool { return failed(a.id()) })
	eventually(t, "the transient one's end is found", func() bool {
		why, ok := w.goneAs(b.id())
		return failed(b.id()) && ok && why == correlate.GoneByFault
	})
	t.Log(w.event(a.id(), correlate.CondCrash).Text, w.event(a.id(), correlate.CondStopped).Text)
	t.Log(w.event(b.id(), correlate.CondCrash).Text, w.event(b.id(), correlate.CondStopped).Text)
	if n := w.said(Hypervisor, correlate.CondHypervisorUnreachable, correlate.StatusFailed); n != 1 {
		t.Errorf("unreachable was said %d times", n)
	}
}

func TestADaemonThatIsFrozenIsCutOff(t *testing.T) {
	h := newHost(t)
	h.start()
	a := guest{name: "a", uuid: uuidA, code: guestIdle}
	h.boot(a)
	w := watch(t, Config{Socket: h.readOnlySocket(), Timeout: 300 * time.Millisecond})
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	h.signalDaemon("STOP")
	eventually(t, "unreachable", func() bool {
		return w.status(Hypervisor, correlate.CondHypervisorUnreachable) == correlate.StatusFailed
	})
	t.Log(w.event(Hypervisor, correlate.CondHypervisorUnreachable).Text)
	if _, ok := w.resource(a.id()); !ok {
		t.Error("the domain is gone: what can't be seen is not gone")
	}
	h.signalDaemon("CONT")
	eventually(t, "reachable", func() bool { return w.status(Hypervisor, correlate.CondHypervisorUnreachable) == correlate.StatusOK })
	if n := w.said(a.id(), correlate.CondCrash, correlate.StatusFailed) + w.said(a.id(), correlate.CondStopped, correlate.StatusFailed); n != 0 {
		t.Errorf("the domain was said to have failed %d times", n)
	}
}

func TestALibvirtThatAppearsLateIsFound(t *testing.T) {
	h := newHost(t)
	w := watch(t, Config{Socket: h.readOnlySocket()})
	eventually(t, "absent", func() bool { return w.sight() == hw.SightAbsent })
	if s := w.status(Hypervisor, correlate.CondHypervisorUnreachable); s != correlate.StatusUnknown {
		t.Errorf("hypervisor-unreachable is %v where there is no libvirt", s)
	}
	h.start()
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	eventually(t, "versions", func() bool {
		r, _ := w.resource(Hypervisor)
		return r.Facts["libvirt"] != "" && r.Facts["hypervisor"] != "" && r.Facts["driver"] == "qemu"
	})
}

func TestASignalledProcessIsAFaultAndAGracefulDestroyIsNot(t *testing.T) {
	h := newHost(t)
	h.start()
	a, b := guest{name: "a", uuid: uuidA, code: guestIdle}, guest{name: "b", uuid: uuidB, code: guestIdle}
	h.boot(a)
	domB := h.boot(b)
	w := watch(t, Config{Socket: h.readOnlySocket(), Resync: 100 * time.Millisecond})
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	h.signal("a", "TERM")
	h.must("destroy", h.lib.DomainDestroyFlags(domB, libvirt.DomainDestroyGraceful))
	eventually(t, "a stopped by a fault", func() bool { return w.status(a.id(), correlate.CondStopped) == correlate.StatusFailed })
	eventually(t, "b is inactive", func() bool { r, _ := w.resource(b.id()); return r.Inactive })
	resyncs := w.said(a.id(), correlate.CondStopped, correlate.StatusFailed)
	eventually(t, "it still stands", func() bool { return w.said(a.id(), correlate.CondStopped, correlate.StatusFailed) > resyncs+3 })
	if n := w.said(b.id(), correlate.CondStopped, correlate.StatusFailed); n != 0 {
		t.Errorf("b was said to have failed %d times", n)
	}
}

func TestTheTestDriverIsWatched(t *testing.T) {
	h := newHost(t)
	h.start()
	w := watch(t, Config{Socket: h.readOnlySocket(), URI: "test:///default", Resync: 100 * time.Millisecond})
	eventually(t, "its domain is there", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for id, r := range w.resources {
			if id.Kind() == correlate.KindDomain && r.Name == "test" && !r.Inactive {
				return true
			}
		}
		return false
	})
}

func TestAWatchdogThatFiresIsToldWithItsAction(t *testing.T) {
	for _, action := range []string{"pause", "reset"} {
		t.Run(action, func(t *testing.T) {
			h := newHost(t)
			h.start()
			w := watch(t, Config{Socket: h.readOnlySocket(), Resync: 100 * time.Millisecond})
			eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
			a := guest{name: "a", uuid: uuidA, code: guestStarves, disk: "<watchdog model='ib700' action='" + action + "'/>"}
			dom := h.boot(a)
			eventually(t, "watchdog", func() bool { return w.status(a.id(), correlate.CondWatchdog) == correlate.StatusFailed })
			if got := w.event(a.id(), correlate.CondWatchdog).Evidence["action"]; got != action {
				t.Errorf("action %q, want %q", got, action)
			}
			if action != "pause" {
				return
			}
			eventually(t, "restated while paused", func() bool { return w.said(a.id(), correlate.CondWatchdog, correlate.StatusFailed) > 4 })
			h.must("resume", h.lib.DomainResume(dom))
			eventually(t, "running again", func() bool { r, _ := w.resource(a.id()); return r.Facts["state"] == "running" })
		})
	}
}

const novaMetadata = `<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
<nova:package version="27.1.0"/><nova:name>vnf-a-1</nova:name><nova:creationTime>2026-11-22 12:00:00</nova:creationTime>
<nova:flavor name="m1.tiny"><nova:memory>16</nova:memory><nova:disk>1</nova:disk><nova:vcpus>1</nova:vcpus></nova:flavor>
<nova:owner><nova:user uuid="5f0f5b6c0b1c4f0f8d8c7b6a59483726">ops</nova:user><nova:project uuid="0c6f4b3a2d1e4f5a9b8c7d6e5f4a3b2c">vnf-a</nova:project></nova:owner>
<nova:root type="image" uuid="1b4e28ba-2fa1-41d2-883f-0016d3cca427"/>
<nova:ports><nova:port uuid="9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"><nova:ip type="fixed" address="10.0.0.7" ipVersion="4"/></nova:port></nova:ports>
</nova:instance>`

func TestBrokenMetadataNamesThatDomainAndHarmsNoOther(t *testing.T) {
	h := newHost(t)
	h.start()
	a := guest{name: "instance-a", uuid: uuidA, mac: macA, code: guestIdle, metadata: novaMetadata}
	b := guest{
		name: "instance-b", uuid: uuidB, mac: macB, code: guestIdle,
		metadata: `<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:name>b</nova:name><nova:owner><nova:project/></nova:owner></nova:instance>`,
	}
	h.boot(a)
	h.boot(b)
	w := watch(t, Config{Socket: h.readOnlySocket()})
	eventually(t, "connected", func() bool { return w.sight() == hw.SightClear })
	if s := w.status(b.id(), correlate.CondUnreadable); s != correlate.StatusFailed {
		t.Errorf("unreadable of b is %v", s)
	}
	if text := w.event(b.id(), correlate.CondUnreadable).Text; !strings.Contains(text, "instance-b") || !strings.Contains(text, "project") {
		t.Errorf("text %q names neither domain nor fault", text)
	}
	if s := w.status(a.id(), correlate.CondUnreadable); s != correlate.StatusOK {
		t.Errorf("unreadable of a is %v", s)
	}
	r, _ := w.resource(a.id())
	if r.Name != "vnf-a-1" || r.Project != "0c6f4b3a2d1e4f5a9b8c7d6e5f4a3b2c" || r.Facts["flavor"] != "m1.tiny" || r.Facts["pinning"] != "0=0" {
		t.Errorf("a: %+v", r)
	}
	n, _ := w.resource(correlate.ID("vnic/" + uuidA + "/" + macA))
	if n.Port == nil || n.Port.PortID != "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d" {
		t.Errorf("port of a: %+v", n.Port)
	}
	h.signal("instance-b", "KILL")
	eventually(t, "b's faults are told all the same", func() bool { return w.status(b.id(), correlate.CondCrash) == correlate.StatusFailed })

	// Mended while it is watched: the event of the change is enough.
	b.metadata = strings.ReplaceAll(novaMetadata, "vnf-a-1", "vnf-b-1")
	h.define(b)
	eventually(t, "b can be read", func() bool { return w.status(b.id(), correlate.CondUnreadable) == correlate.StatusOK })
}
