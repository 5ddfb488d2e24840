package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestWhatDiedWhileLibvirtdWasDeadIsFound(t *testing.T) {
	a, ops := consume(t, "a", projectA), consume(t, "ops")
	ag := start(t, a, ops)
	must(t, w.libvirt.Kill())
	restarted := false
	t.Cleanup(func() {
		if !restarted {
			must(t, w.libvirt.Start())
		}
	})
	ops.hears(t, "raised", "hypervisor-unreachable")
	must(t, w.libvirt.KillQEMU(vmA1.Name))
	// The hypervisor's daemon is not the domains: nobody's domain fails with it.
	a.heard(t, 0)
	must(t, w.libvirt.Start())
	restarted = true
	affects(t, a.hearsDeath(t), vmA1)
	ops.hears(t, "cleared", "hypervisor-unreachable")
	a.heard(t, 1)
	if r := ag.resource("domain/" + vmA2.UUID); r.State != "ok" {
		t.Errorf("a domain that lived on is %s", r.State)
	}
}

func TestAFrozenLibvirtdBlindsNobodyElse(t *testing.T) {
	a, ops := consume(t, "a", projectA), consume(t, "ops")
	start(t, a, ops)
	must(t, w.libvirt.Freeze())
	thawed := false
	t.Cleanup(func() {
		if !thawed {
			must(t, w.libvirt.Thaw())
		}
	})
	ops.hears(t, "raised", "hypervisor-unreachable")
	must(t, w.uplink0.Pull())
	affects(t, a.hears(t, "raised", "carrier"), vmA1, vmA2)
	must(t, w.libvirt.Thaw())
	thawed = true
	ops.hears(t, "cleared", "hypervisor-unreachable")
	must(t, w.uplink0.Plug())
	a.hears(t, "cleared", "carrier")
	a.heard(t, 2)
}

func TestLibvirtAbsentAtTheStart(t *testing.T) {
	w.heal(t)
	must(t, w.libvirt.Stop())
	started := false
	t.Cleanup(func() {
		if !started {
			must(t, w.libvirt.Start())
		}
	})
	ops := consume(t, "ops")
	// heal needs libvirtd: the agent is started by hand.
	ag := startBlind(t, ops)
	eventually(t, "the agent to know uplink1", func() bool { _, err := ag.Get("/v1/resources/nic/uplink1"); return err == nil }, ag.Log)
	must(t, w.uplink1.Pull())
	ops.hears(t, "raised", "carrier")
	must(t, w.uplink1.Plug())
	ops.hears(t, "cleared", "carrier")
	if alarms := ag.alarms(); slices.ContainsFunc(alarms, func(s standing) bool { return s.Condition == "source-failed" }) {
		t.Errorf("an absent libvirt is no failure of ours: %+v", alarms)
	}
	said := 0
	for line := range strings.Lines(ag.Log()) {
		if !strings.Contains(line, "level=DEBUG") && strings.Contains(line, "libvirt") {
			said++
		}
	}
	if said == 0 || said > 2 {
		t.Errorf("the log speaks of libvirt %d times, want once", said)
	}
	must(t, w.libvirt.Start())
	started = true
	ag.knows(tinyVMs...)
}

func TestAnOrderlyRestartOfLibvirtdIsSeenThrough(t *testing.T) {
	a := consume(t, "a", projectA)
	ag := start(t, a)
	must(t, w.libvirt.Stop())
	must(t, w.libvirt.Start())
	must(t, w.libvirt.KillQEMU(vmA2.Name))
	affects(t, a.hearsDeath(t), vmA2)
	a.heard(t, 1)
	state, _, err := w.libvirt.State(vmA1.Name)
	must(t, err)
	if r := ag.resource("domain/" + vmA1.UUID); state != libvirt.DomainRunning || r.State != "ok" {
		t.Errorf("vm-a1: libvirt says %v, the agent %s", state, r.State)
	}
}

// Debian 12 has no modular daemons: libvirtd stands in for virtqemud, under its socket's name. The one at libvirtd's own
// name, which would be virtproxyd's on such a host, is there too and is left alone.
func TestTheModularDaemonsSocketComesFirst(t *testing.T) {
	const socket = "/run/libvirt/virtqemud-sock-ro"
	_, err := w.host.Run("ln", "-s", lab.LibvirtSocket+"-ro", socket)
	must(t, err)
	t.Cleanup(func() {
		_, err := w.host.Run("rm", socket)
		must(t, err)
	})
	a := consume(t, "a", projectA)
	ag := start(t, a)
	if got := ag.resource("hypervisor/libvirt").Facts["socket"]; got != socket {
		t.Errorf("watched by %q, want %q", got, socket)
	}
	must(t, w.libvirt.KillQEMU(vmA1.Name))
	affects(t, a.hears(t, "raised", "crash"), vmA1)
	must(t, w.libvirt.StartAgain(vmA1.Name))
	a.hears(t, "cleared", "crash")
	a.heard(t, 2)
}

// hearsDeath waits for the end of a domain. A libvirtd that is just starting may say that it ended the domain itself
// ("daemon") where it would otherwise say that it crashed: both are faults.
func (c *consumer) hearsDeath(t *testing.T) lab.Notification {
	t.Helper()
	n, err := c.Wait(patience, func(n lab.Notification) bool { return is("raised", "crash")(n) || is("raised", "stopped")(n) })
	must(t, err)
	return n
}
