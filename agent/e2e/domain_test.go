package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestAKilledQEMUIsACrashUntilTheDomainRunsAgain(t *testing.T) {
	a, b, ops := consume(t, "a", projectA), consume(t, "b", projectB), consume(t, "ops")
	start(t, a, b, ops)
	must(t, w.libvirt.KillQEMU(vmA1.Name))
	n := a.hears(t, "raised", "crash")
	affects(t, n, vmA1)
	if n.Subject != "domain/"+vmA1.UUID || n.Data.Alarm.Severity != "critical" || !n.Data.Alarm.RootCause {
		t.Errorf("want a critical root cause on the domain: %s", n)
	}
	affects(t, ops.hears(t, "raised", "crash"), vmA1)
	t.Logf("told %v after libvirt said so", n.Arrived.Sub(n.Data.Timeline["T01"]))

	must(t, w.libvirt.StartAgain(vmA1.Name))
	if c := a.hears(t, "cleared", "crash"); c.Data.Alarm.ID != n.Data.Alarm.ID {
		t.Errorf("another alarm was cleared: %s", c)
	}
	a.heard(t, 2)
	b.heard(t, 0)
}

func TestADestroyedDomainIsNoFault(t *testing.T) {
	a := consume(t, "a", projectA)
	ag := start(t, a)
	must(t, w.libvirt.Destroy(vmA1.Name))
	eventually(t, "the agent to see that it is off", func() bool { return ag.resource("domain/" + vmA1.UUID).Inactive }, ag.Log)
	for _, s := range ag.alarms() {
		if strings.Contains(s.Resource, vmA1.UUID) {
			t.Errorf("an alarm stands on the destroyed domain: %+v", s)
		}
	}
	// A fault of its uplink does not hit a domain that is off. And what comes after the destroy is told; it was not.
	must(t, w.uplink0.Pull())
	affects(t, a.hears(t, "raised", "carrier"), vmA2)
	a.heard(t, 1)
}

func TestAGuestPanic(t *testing.T) {
	a, b := consume(t, "a", projectA), consume(t, "b", projectB)
	ag := start(t, a, b)
	must(t, w.libvirt.Panic(vmA1.Name))
	n := a.hears(t, "raised", "guest-panic")
	affects(t, n, vmA1)
	if n.Data.Alarm.Severity != "critical" {
		t.Errorf("severity: %s", n)
	}
	// Libvirt then ends the domain (on_crash=destroy): that is the same fault, not a second one.
	eventually(t, "libvirt to end the domain", func() bool {
		s, _, err := w.libvirt.State(vmA1.Name)
		return err == nil && s == libvirt.DomainShutoff
	}, ag.Log)
	must(t, w.libvirt.KillQEMU(vmA2.Name))
	affects(t, a.hears(t, "raised", "crash"), vmA2)
	a.heard(t, 2)
	b.heard(t, 0)
}

// TestLinuxGuest boots a real guest and lets it do what only a guest can do: use the agent's channel, fill its disk,
// let go of a NIC, starve its watchdog, panic.
func TestLinuxGuest(t *testing.T) {
	const disk = lab.Dir + "/small/disk"
	d := vm("vm-linux", 9, projectA, "br1")
	d.Guest, d.Agent, d.Watchdog = lab.Linux, true, true
	d.Disks = []lab.Disk{{Path: disk, Target: "vda"}}
	second := lab.NIC{Bridge: "br0", MAC: "52:54:00:00:01:aa"}
	d.NICs = append(d.NICs, second)
	_, err := w.host.Run("sh", "-ec", "mkdir -p /run/lab/small; mount -t tmpfs -o size=1m pm-small /run/lab/small; truncate -s 32M "+disk)
	must(t, err)
	must(t, w.libvirt.StartDomain(d))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the guest's console:\n%s", w.libvirt.Console(d.Name))
		}
		_ = w.libvirt.Destroy(d.Name) // it may have panicked
		must(t, w.libvirt.Undefine(d.Name))
	})

	a := consume(t, "a", projectA)
	policy := "correlate: {policies: [{match: {condition: guest-agent}, hold_down: 100ms}]}\n"
	ag := startWith(t, policy, a)
	ag.knows(d)
	fault := func(t *testing.T, condition, severity string) lab.Notification {
		t.Helper()
		n := a.hears(t, "raised", condition)
		affects(t, n, d)
		if n.Data.Alarm.Severity != severity {
			t.Errorf("want %s: %s", severity, n)
		}
		return n
	}

	t.Run("the guest agent is lost and returns", func(t *testing.T) {
		a.Forget()
		must(t, w.libvirt.Tell(d.Name, "agent-open"))
		connected(t, w.host, d)
		must(t, w.libvirt.Tell(d.Name, "agent-close"))
		fault(t, "guest-agent", "major")
		must(t, w.libvirt.Tell(d.Name, "agent-open"))
		a.hears(t, "cleared", "guest-agent")
	})

	t.Run("the disk is full", func(t *testing.T) {
		a.Forget()
		must(t, w.libvirt.Tell(d.Name, "fill"))
		n := fault(t, "io-error", "critical")
		alarms := ag.alarms()
		if i := slices.IndexFunc(alarms, func(s standing) bool { return s.ID == n.Data.Alarm.ID }); i < 0 || !strings.Contains(alarms[i].Text, "enospc") {
			t.Errorf("no alarm that says why: %+v", alarms)
		}
		_, err := w.host.Run("mount", "-o", "remount,size=64m", "/run/lab/small")
		must(t, err)
		must(t, w.libvirt.Resume(d.Name))
		a.hears(t, "cleared", "io-error")
	})

	t.Run("a NIC is unplugged by its owner", func(t *testing.T) {
		a.Forget()
		vnic := "vnic/" + d.UUID + "/" + second.MAC
		eventually(t, "the agent to know the NIC", func() bool { _, err := ag.Get("/v1/resources/" + vnic); return err == nil }, ag.Log)
		must(t, w.libvirt.DetachNIC(d.Name, second))
		eventually(t, "the agent to forget the NIC", func() bool {
			return !slices.ContainsFunc(ag.resource("domain/"+d.UUID).Needs, func(n need) bool { return slices.Contains(n.Of, vnic) })
		}, func() string { return fmt.Sprintf("%+v", ag.resource("domain/"+d.UUID)) })
		// br0 no longer matters to it; the other tenant's fault there is not its own.
		must(t, w.uplink0.Pull())
		affects(t, a.hears(t, "raised", "carrier"), vmA1, vmA2)
		must(t, w.uplink0.Plug())
		a.hears(t, "cleared", "carrier")
		a.heard(t, 2)
	})

	t.Run("the watchdog starves", func(t *testing.T) {
		a.Forget()
		must(t, w.libvirt.Tell(d.Name, "watchdog"))
		fault(t, "watchdog", "major")
	})

	t.Run("the kernel panics", func(t *testing.T) {
		a.Forget()
		must(t, w.libvirt.Tell(d.Name, "panic")) // once it has booted again
		fault(t, "guest-panic", "critical")
	})
}

// connected waits until libvirt sees the guest's agent. Qemu tells the changes of a port once a second at most: an agent
// that comes and goes in between was never there.
func connected(t *testing.T, host *lab.Host, d lab.Domain) {
	t.Helper()
	var last string
	eventually(t, "libvirt to see the agent of "+d.Name, func() (ok bool) {
		var err error
		last, err = host.Run("virsh", "-q", "dumpxml", d.Name)
		return err == nil && strings.Contains(last, "state='connected'")
	}, func() string { return last })
}

// A broken domain is named; the others are watched as ever.
func TestBrokenMetadataHarmsNobodyElse(t *testing.T) {
	broken := vm("vm-broken", 20, "", "br0")
	broken.Metadata = `<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:owner><nova:project/></nova:owner></nova:instance>`
	must(t, w.libvirt.StartDomain(broken))
	t.Cleanup(func() {
		must(t, w.libvirt.Destroy(broken.Name))
		must(t, w.libvirt.Undefine(broken.Name))
	})
	a, ops := consume(t, "a", projectA), consume(t, "ops")
	ag := start(t, a, ops)
	ag.knows(broken)
	must(t, w.uplink0.Pull())
	affects(t, a.hears(t, "raised", "carrier"), vmA1, vmA2)
	affects(t, ops.hears(t, "raised", "carrier"), vmA1, vmA2, vmB1, broken)
	if n := ops.hears(t, "raised", "unreadable"); !strings.Contains(n.Data.Alarm.Text, broken.Name) {
		t.Errorf("the alarm does not name the domain: %s", n)
	}
}

func TestANameThatATenantChoseDoesNotReachTheTerminal(t *testing.T) {
	evil := vm("evil\u009b31m\u202e\u2028name", 21, projectA, "br0")
	must(t, w.libvirt.StartDomain(evil))
	t.Cleanup(func() {
		must(t, w.libvirt.Destroy(evil.Name))
		must(t, w.libvirt.Undefine(evil.Name))
	})
	ops := consume(t, "ops")
	ag := start(t, ops)
	ag.knows(evil)
	must(t, w.libvirt.KillQEMU(evil.Name))
	t.Cleanup(func() { must(t, w.libvirt.StartAgain(evil.Name)) })
	affects(t, ops.hears(t, "raised", "crash"), evil)
	for _, args := range [][]string{
		{"status"},
		{"alarms"},
		{"alarms", "-o", "json"},
		{"alarms", "-o", "yaml"},
		{"topology"},
		{"topology", "-o", "json"},
		{"topology", "domain/" + evil.UUID},
		{"events"},
		{"deliveries"},
	} {
		out, err := ag.Command(args...)
		must(t, err)
		for _, r := range out {
			if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e) {
				t.Errorf("paramedic %s prints %U:\n%q", strings.Join(args, " "), r, out)
				break
			}
		}
	}
	if out, _ := ag.Command("alarms"); !strings.Contains(out, "name") {
		t.Errorf("paramedic alarms does not show the domain:\n%s", out)
	}
}
