package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// The second compute host, its way to its own consumer, and the link that domains move along.
const (
	otherConsumerAddr = "10.0.1.2"
	hereAddr          = "10.0.9.1"
	otherAddr         = "10.0.9.2"
)

// other is a second compute host with a libvirtd of its own and the bridges of the first. The first test that asks for
// it makes it; it ends with the lab.
func other(t *testing.T) (*lab.Host, *lab.Libvirt) {
	t.Helper()
	if w.other == nil {
		host, err := w.lab.Host("cmp-2")
		must(t, err)
		must(t, host.Bridge("br0"))
		must(t, host.Bridge("br1"))
		_, err = w.lab.Connect(lab.End{Host: host, Link: "mgmt0", Addr: "10.0.1.1/24"},
			lab.End{Host: w.consumers, Link: "mgmt1", Addr: otherConsumerAddr + "/24"})
		must(t, err)
		_, err = w.lab.Connect(lab.End{Host: w.host, Link: "move0", Addr: hereAddr + "/24"},
			lab.End{Host: host, Link: "move0", Addr: otherAddr + "/24"})
		must(t, err)
		w.otherLibvirt, err = host.Libvirt()
		must(t, err)
		w.other = host
	}
	events, err := w.other.Start("virsh", "event", "--all", "--loop", "--timestamp")
	must(t, err)
	t.Cleanup(func() {
		_ = events.Kill()
		if t.Failed() {
			t.Logf("the events of cmp-2's libvirtd:\n%s", events.Log())
		}
	})
	return w.other, w.otherLibvirt
}

// TestLiveMigration moves real domains between two libvirtds, with an agent beside each and a consumer for each agent
// that is told everything. Nothing that libvirt does for a migration, also for one that fails, is a fault on either side.
func TestLiveMigration(t *testing.T) {
	host, other := other(t)
	a, here := consume(t, "a", projectA), consume(t, "here")
	there := consumeAt(t, otherConsumerAddr, "there")
	policy := "correlate: {policies: [{match: {condition: guest-agent}, hold_down: 100ms}]}\n"
	ag := startWith(t, policy, a, here)
	agThere := launchWith(t, host, configurationOf(t, host, policy, there))
	forget := func(t *testing.T) {
		t.Helper()
		ag.settled(t) // what an earlier part still owes would be counted in the next one
		agThere.settled(t)
		a.Forget()
		here.Forget()
		there.Forget()
	}
	seen := func(ag *agent, lv *lab.Libvirt, d lab.Domain) func() string {
		return func() string {
			state, reason, err := lv.State(d.Name)
			body, _ := ag.Get("/v1/resources/domain/" + d.UUID)
			return fmt.Sprintf("libvirt: %v, reason %d, %v; the agent: %s", state, reason, err, body)
		}
	}
	// runs waits until the domain runs on a host and its agent says so.
	runs := func(t *testing.T, ag *agent, lv *lab.Libvirt, d lab.Domain) {
		t.Helper()
		eventually(t, d.Name+" to run", func() bool {
			state, _, err := lv.State(d.Name)
			_, known := ag.Get("/v1/resources/domain/" + d.UUID)
			if err != nil || state != libvirt.DomainRunning || known != nil {
				return false
			}
			r := ag.resource("domain/" + d.UUID)
			return !r.Inactive && r.State == "ok"
		}, seen(ag, lv, d))
	}
	// paused waits until the domain has begun to arrive.
	paused := func(t *testing.T, m *lab.Migration, ag *agent, lv *lab.Libvirt, d lab.Domain) {
		t.Helper()
		eventually(t, d.Name+" to begin to arrive", func() bool {
			state, reason, err := lv.State(d.Name)
			_, known := ag.Get("/v1/resources/domain/" + d.UUID)
			why := libvirt.DomainPausedReason(reason) // either is seen
			return err == nil && known == nil && state == libvirt.DomainPaused &&
				(why == libvirt.DomainPausedMigration || why == libvirt.DomainPausedStartingUp)
		}, seen(ag, lv, d))
		if m.Ended() {
			t.Fatalf("the migration is over before it could be disturbed: %v", m.Wait())
		}
	}

	t.Run("a domain leaves the fault of its uplink behind", func(t *testing.T) {
		t.Cleanup(func() { _ = other.Destroy(vmA1.Name) }) // when it stayed there
		must(t, w.uplink0.Pull())
		raised := a.hears(t, "raised", "carrier")
		affects(t, raised, vmA1, vmA2)
		m, err := w.libvirt.Migrate(vmA1.Name, otherAddr, 0, false)
		must(t, err)
		must(t, m.Wait())
		left := a.hears(t, "changed", "carrier")
		affects(t, left, vmA2)
		if left.Data.Alarm.ID != raised.Data.Alarm.ID {
			t.Errorf("another alarm changed: %s", left)
		}
		runs(t, agThere, other, vmA1)
		must(t, w.uplink0.Plug())
		a.hears(t, "cleared", "carrier")
		a.heard(t, 3)

		// Its tap vanished with it. Taps that vanish by a fault are told after two seconds: this one's time is over
		// before that of another one that does.
		taps := ag.resource("vnic/" + vmB1.UUID + "/" + vmB1.NICs[0].MAC).Needs
		if len(taps) != 1 || len(taps[0].Of) != 1 {
			t.Fatalf("which tap is vm-b1's? %+v", taps)
		}
		must(t, w.host.DeleteLink(strings.TrimPrefix(taps[0].Of[0], "nic/")))
		affects(t, here.hears(t, "raised", "backing"), vmB1)
		for _, n := range here.All() {
			if c := n.Data.Alarm.Condition; c != "carrier" && n.Subject != "host/cmp-1/"+taps[0].Of[0] {
				t.Errorf("a false alarm where it left: %s", n)
			}
		}
		must(t, w.libvirt.Destroy(vmB1.Name))
		must(t, w.libvirt.StartAgain(vmB1.Name))

		// It lives there like any other, and what happens to it there is told from there only.
		there.heard(t, 0)
		must(t, other.KillQEMU(vmA1.Name))
		affects(t, there.hears(t, "raised", "crash"), vmA1)
		there.heard(t, 1)
		a.heard(t, 3)
		must(t, w.libvirt.StartAgain(vmA1.Name)) // by its owner, where its definition stayed
		runs(t, ag, w.libvirt, vmA1)
	})

	d := vm("vm-moves", 30, projectA, "br1")
	d.Guest, d.Agent = lab.Linux, true
	must(t, w.libvirt.StartDomain(d))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the guest's console:\n%s\n%s", w.libvirt.Console(d.Name), other.Console(d.Name))
		}
		for _, lv := range []*lab.Libvirt{w.libvirt, other} { // wherever it is
			_ = lv.Destroy(d.Name)
			_ = lv.Undefine(d.Name)
		}
	})
	must(t, other.Expect(d))
	must(t, w.libvirt.Tell(d.Name, "agent-open"))
	connected(t, w.host, d)
	runs(t, ag, w.libvirt, d)

	for name, disturb := range map[string]func(*lab.Migration) error{
		"called off":                 func(m *lab.Migration) error { return m.Abort() },
		"broken on the arrival side": func(*lab.Migration) error { return other.KillQEMU(d.Name) },
	} {
		t.Run("a migration that is "+name+" is nobody's fault", func(t *testing.T) {
			forget(t)
			t.Cleanup(func() { must(t, w.uplink1.Plug()) })
			m, err := w.libvirt.Migrate(d.Name, otherAddr, 1, false)
			must(t, err)
			paused(t, m, agThere, other, d)
			must(t, disturb(m))
			if err := m.Wait(); err == nil {
				t.Fatal("the migration succeeded all the same")
			}
			runs(t, ag, w.libvirt, d)
			eventually(t, "the other side to forget the domain", func() bool {
				_, err := agThere.Get("/v1/resources/domain/" + d.UUID)
				return err != nil
			}, seen(agThere, other, d))
			// A fault that comes later is told; none was before it.
			must(t, w.uplink1.Pull())
			affects(t, a.hears(t, "raised", "carrier"), vmA3, d)
			must(t, w.uplink1.Plug())
			a.hears(t, "cleared", "carrier")
			here.hears(t, "cleared", "carrier")
			a.heard(t, 2)
			here.heard(t, 2)
			there.heard(t, 0)
		})
	}

	t.Run("its own alarm clears as migrated", func(t *testing.T) {
		forget(t)
		must(t, w.libvirt.Tell(d.Name, "agent-close"))
		raised := a.hears(t, "raised", "guest-agent")
		m, err := w.libvirt.Migrate(d.Name, otherAddr, 0, true)
		must(t, err)
		must(t, m.Wait())
		if c := a.hears(t, "cleared", "guest-agent"); c.Data.Alarm.ID != raised.Data.Alarm.ID {
			t.Errorf("another alarm was cleared: %s", c)
		}
		var ended struct {
			Reason string `json:"clear_reason"`
		}
		ag.get("/v1/alarms/"+raised.Data.Alarm.ID, &ended)
		if ended.Reason != "migrated" {
			t.Errorf("it cleared with reason %q", ended.Reason)
		}
		runs(t, agThere, other, d)
		a.heard(t, 2)
		there.heard(t, 0)
		// There its agent counts from the moment that it is seen there.
		must(t, other.Tell(d.Name, "agent-open"))
		connected(t, host, d)
		must(t, other.Tell(d.Name, "agent-close"))
		affects(t, there.hears(t, "raised", "guest-agent"), d)
		must(t, other.Tell(d.Name, "agent-open"))
		there.hears(t, "cleared", "guest-agent")
		there.heard(t, 2)
	})

	t.Run("a crash on the way is told by the side that it ran on", func(t *testing.T) {
		forget(t)
		m, err := other.Migrate(d.Name, hereAddr, 1, true)
		must(t, err)
		paused(t, m, ag, w.libvirt, d)
		must(t, other.KillQEMU(d.Name))
		affects(t, there.hears(t, "raised", "crash"), d)
		if err := m.Wait(); err == nil {
			t.Fatal("the migration succeeded all the same")
		}
		eventually(t, "this side to forget the domain", func() bool {
			_, err := ag.Get("/v1/resources/domain/" + d.UUID)
			return err != nil
		}, seen(ag, w.libvirt, d))
		must(t, w.uplink1.Pull())
		affects(t, here.hears(t, "raised", "carrier"), vmA3)
		here.heard(t, 1)
		a.hears(t, "raised", "carrier")
		a.heard(t, 1)
	})
}
