package e2e

import (
	"fmt"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// A domain that libvirt has plugged into Open vSwitch, whose bridge is patched to the one with the uplinks.
func TestFaultsOfOpenVSwitchReachTheConsumerOfTheDomainBehindIt(t *testing.T) {
	const addr = "10.0.8.2"
	vm := lab.Domain{
		Name: "vm-ovs", UUID: "e0000000-0000-4000-8000-000000000008", Project: projectA,
		NICs: []lab.NIC{{Bridge: "br-int", OVS: true, MAC: "52:54:00:00:08:01", Tap: "tapovs0"}},
	}
	host, err := w.lab.Host("cmp-8")
	must(t, err)
	_, err = w.lab.Connect(lab.End{Host: host, Link: "mgmt0", Addr: "10.0.8.1/24"}, lab.End{Host: w.consumers, Link: "mgmt8", Addr: addr + "/24"})
	must(t, err)
	var uplinks []*lab.Cable
	for i := range 2 {
		cable, err := w.lab.Connect(lab.End{Host: host, Link: fmt.Sprint("uplink", i)}, lab.End{Host: w.consumers, Link: fmt.Sprint("ovs", i)})
		must(t, err)
		uplinks = append(uplinks, cable)
	}
	vswitch, err := host.OpenVSwitch()
	must(t, err)
	must(t, vswitch.Configure(
		"add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev",
		"--", "add-bond", "br-ex", "ovsbond", "uplink0", "uplink1", "bond_mode=active-backup",
		"--", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev",
		"--", "add-port", "br-int", "int-ex", "--", "set", "interface", "int-ex", "type=patch", "options:peer=ex-int",
		"--", "add-port", "br-ex", "ex-int", "--", "set", "interface", "ex-int", "type=patch", "options:peer=int-ex"))
	libvirtd, err := host.Libvirt()
	must(t, err)
	must(t, libvirtd.StartDomain(vm))
	t.Cleanup(func() {
		if err := libvirtd.Destroy(vm.Name); err != nil {
			t.Error(err)
		}
	})

	a := consumeAt(t, addr, "a", projectA)
	ag := launchWith(t, host, configurationOf(t, host, "", a))
	well := func() bool {
		_, err := ag.Get("/v1/resources/domain/" + vm.UUID)
		if err != nil {
			return false
		}
		tap, err := ag.Get("/v1/resources/nic/tapovs0")
		return err == nil && len(tap) > 0 && len(ag.resource("nic/tapovs0").Needs) > 0 && len(ag.alarms()) == 0
	}
	eventually(t, "all to be known and well", well, func() string { return fmt.Sprint(ag.alarms()) })

	must(t, uplinks[0].Pull()) // absorbed by the bond
	must(t, uplinks[1].Pull())
	affects(t, a.hears(t, "raised", "carrier"), vm)
	must(t, uplinks[0].Plug())
	must(t, uplinks[1].Plug())
	a.hears(t, "cleared", "carrier")

	must(t, vswitch.Kill())
	affects(t, a.hears(t, "raised", "switch-failed"), vm)
	must(t, vswitch.Start())
	a.hears(t, "cleared", "switch-failed")
	eventually(t, "all to be well again", well, func() string { return fmt.Sprint(ag.alarms()) })
}
