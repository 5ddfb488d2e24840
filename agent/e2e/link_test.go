package e2e

import (
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// A fault of the uplink, told to two tenants and an administrator, and its end.
func TestAnUplinkFaultReachesEachConsumerOnceWithItsOwnDomains(t *testing.T) {
	for _, fault := range []struct {
		condition     string
		fail, restore func(*lab.Cable) error
	}{
		{"carrier", (*lab.Cable).Pull, (*lab.Cable).Plug},
		{"disabled", (*lab.Cable).Disable, (*lab.Cable).Enable},
	} {
		t.Run(fault.condition, func(t *testing.T) {
			a, b, ops := consume(t, "a", projectA), consume(t, "b", projectB), consume(t, "ops")
			start(t, a, b, ops)
			must(t, fault.fail(w.uplink0))

			toA, toB, toOps := a.hears(t, "raised", fault.condition), b.hears(t, "raised", fault.condition), ops.hears(t, "raised", fault.condition)
			affects(t, toA, vmA1, vmA2)
			affects(t, toB, vmB1)
			affects(t, toOps, vmA1, vmA2, vmB1)
			for _, n := range []lab.Notification{toA, toB, toOps} {
				al := n.Data.Alarm
				if al.Severity != "critical" || !al.RootCause || al.State != "raised" || al.ID != toOps.Data.Alarm.ID || al.Revision != toOps.Data.Alarm.Revision {
					t.Errorf("want one critical root cause for all: %s", n)
				}
				for _, d := range n.Data.Affected {
					if d.State != "failed" || len(d.Ports) != 1 || d.Ports[0].PortID == "" {
						t.Errorf("want %s failed with its port: %+v", d.Name, d)
					}
				}
				for _, stage := range []string{"T00", "T01", "T02", "T06", "T08"} {
					if n.Data.Timeline[stage].IsZero() {
						t.Errorf("%s: stage %s is missing", n, stage)
					}
				}
				t.Logf("%s after %v", n.Subject, n.Arrived.Sub(n.Data.Timeline["T00"]))
			}
			if want := "host/cmp-1/nic/uplink0"; toOps.Subject != want && toOps.Subject != "host/cmp-1/bridge/br0" {
				t.Errorf("the administrator's subject is %q, want the physical cause, %q", toOps.Subject, want)
			}
			// A tenant learns nothing of the host.
			for _, secret := range []string{"cmp-1", "uplink0", "br0", vmB1.UUID, projectB} {
				if strings.Contains(string(toA.Body), secret) {
					t.Errorf("tenant A is told %q: %s", secret, toA.Body)
				}
			}

			must(t, fault.restore(w.uplink0))
			for _, c := range []*consumer{a, b, ops} {
				if n := c.hears(t, "cleared", fault.condition); n.Data.Alarm.ID != toOps.Data.Alarm.ID {
					t.Errorf("%s hears the end of another alarm: %s", c.name, n)
				}
				c.heard(t, 2)
			}
		})
	}
}

func TestALinkThatVanishesAndReturnsUnderAnotherIndex(t *testing.T) {
	ops := consume(t, "ops")
	a := start(t, ops)
	cable, err := w.lab.Connect(lab.End{Host: w.host, Link: "uplink9", Master: "br1"}, lab.End{Host: w.consumers, Link: "switch9"})
	must(t, err)
	t.Cleanup(func() { _ = w.host.DeleteLink("uplink9") }) // the bridge is other tests' too
	// A cable's two ends come up one after the other: the link is without carrier for a moment, and that is told.
	well := func() bool {
		_, err := a.Get("/v1/resources/nic/uplink9")
		return err == nil && a.resource("nic/uplink9").State == "ok"
	}
	eventually(t, "the agent to see uplink9 well", well, a.Log)
	must(t, w.host.DeleteLink("uplink9"))
	gone := ops.hears(t, "raised", "gone")
	if gone.Subject != "host/cmp-1/nic/uplink9" {
		t.Errorf("gone: subject %q", gone.Subject)
	}
	cable, err = w.lab.Connect(cable.A, cable.B)
	must(t, err)
	if n := ops.hears(t, "cleared", "gone"); n.Data.Alarm.ID != gone.Data.Alarm.ID {
		t.Errorf("another alarm was cleared: %s", n)
	}
	eventually(t, "uplink9 to be well again, and all to be told of the moment before", func() bool {
		return well() && len(a.alarms()) == 0 && len(a.deliveries()) == 0
	}, a.Log)
	ops.Forget()
	must(t, cable.Pull())
	ops.hears(t, "raised", "carrier")
	must(t, cable.Plug())
	ops.hears(t, "cleared", "carrier")
}
