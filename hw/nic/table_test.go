package nic

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs/sysfs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func clock() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// nowhere is a root without any files.
func nowhere(t testing.TB) hw.Root {
	dir := t.TempDir()
	return hw.Root{Proc: dir, Sys: dir}
}

// sysTree makes a tree of files and symbolic links ("-> target").
func sysTree(t *testing.T, tree map[string]string) hw.Root {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(tree[name], "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(tree[name]+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return hw.Root{Sys: dir}
}

// sriov is one port with two virtual functions; the second is a domain's.
var sriov = map[string]string{
	"devices/pci0000:3a/0000:3b:00.0/sriov_numvfs":   "2",
	"devices/pci0000:3a/0000:3b:00.0/driver":         "-> ../../../bus/pci/drivers/ice",
	"devices/pci0000:3a/0000:3b:00.0/virtfn0":        "-> ../0000:3b:02.0",
	"devices/pci0000:3a/0000:3b:00.0/virtfn1":        "-> ../0000:3b:02.1",
	"devices/pci0000:3a/0000:3b:02.0/physfn":         "-> ../0000:3b:00.0",
	"devices/pci0000:3a/0000:3b:02.0/driver":         "-> ../../../bus/pci/drivers/iavf",
	"devices/pci0000:3a/0000:3b:02.1/physfn":         "-> ../0000:3b:00.0",
	"devices/pci0000:3a/0000:3b:02.1/driver":         "-> ../../../bus/pci/drivers/vfio-pci",
	"devices/pci0000:3a/0000:3c:00.0/driver":         "-> ../../../bus/pci/drivers/virtio-pci",
	"devices/pci0000:3a/0000:3c:00.0/virtio1/driver": "-> ../../../../bus/virtio/drivers/virtio_net",
	"bus/pci/devices/0000:3b:00.0":                   "-> ../../../devices/pci0000:3a/0000:3b:00.0",
	"bus/pci/devices/0000:3b:02.0":                   "-> ../../../devices/pci0000:3a/0000:3b:02.0",
	"bus/pci/devices/0000:3b:02.1":                   "-> ../../../devices/pci0000:3a/0000:3b:02.1",
	"bus/virtio/devices/virtio1":                     "-> ../../../devices/pci0000:3a/0000:3c:00.0/virtio1",
}

// vfList is IFLA_VFINFO_LIST with one IFLA_VF_LINK_STATE per function.
func vfList(states ...int) *nl.RtAttr {
	list := nl.NewRtAttr(unix.IFLA_VFINFO_LIST, nil)
	for i, s := range states {
		vf := list.AddRtAttr(nl.IFLA_VF_INFO, nil)
		state := nl.VfLinkState{Vf: uint32(i), LinkState: uint32(s)}
		vf.AddRtAttr(nl.IFLA_VF_LINK_STATE, state.Serialize())
	}
	return list
}

func apply(t *testing.T, table *table, messages ...message) {
	t.Helper()
	for _, m := range messages {
		table.apply(mustDecode(t, m).link, true, clock())
	}
}

func statusOf(table *table, id correlate.ID, c correlate.Condition) correlate.Status {
	for _, j := range table.stated[id].judged {
		if j.condition == c {
			return j.status
		}
	}
	return correlate.Status(99)
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func bondMessages() []message {
	leg := func(index int, name string) message {
		return message{index: index, name: name, flags: running, attrs: append(onPCI("0000:01:00."+name[3:]), u32(unix.IFLA_MASTER, 7), slave(0, 0))}
	}
	return []message{
		leg(2, "eth0"), leg(3, "eth1"),
		{index: 7, name: "bond0", flags: running, attrs: []*nl.RtAttr{
			u32(unix.IFLA_MASTER, 9),
			info("bond", nl.NewRtAttr(nl.IFLA_BOND_MODE, nl.Uint8Attr(1)), u32(nl.IFLA_BOND_ACTIVE_SLAVE, 2)),
		}},
		{index: 9, name: "br0", flags: running, attrs: []*nl.RtAttr{info("bridge")}},
		{index: 11, name: "vnet0", flags: running, attrs: []*nl.RtAttr{
			u32(unix.IFLA_MASTER, 9), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
		}},
	}
}

func TestBondFromCraftedMessages(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	messages := bondMessages()
	apply(t, table, messages...)
	table.delta(true, clock())
	for id, want := range map[correlate.ID]string{
		"nic/vnet0": "all-of:bridge/br0", "bridge/br0": "all-of:bond/bond0", "bond/bond0": "1-of(carrier):nic/eth0,nic/eth1", "nic/eth0": "",
	} {
		check(t, "needs of "+string(id), showNeeds(table.stated[id].resource.Needs), want)
	}
	facts := table.stated["bond/bond0"].resource.Facts
	check(t, "mode", facts["bond_mode"], "active-backup")
	check(t, "active leg", facts["bond_active"], "eth0")

	t.Run("a leg that the bond holds for down has no carrier", func(t *testing.T) {
		down := messages[0]
		down.attrs = append(onPCI("0000:01:00.0"), u32(unix.IFLA_MASTER, 7), slave(1, 2))
		apply(t, table, down)
		events := table.edges(clock())
		if len(events) != 1 || events[0].Resource != "nic/eth0" || events[0].Status != correlate.StatusFailed || events[0].Condition != correlate.CondCarrier {
			t.Fatalf("events %+v", events)
		}
		check(t, "MII in the evidence", events[0].Evidence["mii"], "down")
		table.delta(false, clock())
		check(t, "carrier", statusOf(table, "nic/eth0", correlate.CondCarrier), correlate.StatusFailed)
	})
	t.Run("while the bond waits nothing is said", func(t *testing.T) {
		back := messages[0]
		back.attrs = append(onPCI("0000:01:00.0"), u32(unix.IFLA_MASTER, 7), slave(1, 3))
		apply(t, table, back)
		for _, e := range table.edges(clock()) {
			check(t, "status of "+string(e.Condition), e.Status, correlate.StatusUnknown)
		}
	})
	t.Run("fewer legs than min_links are a failed group", func(t *testing.T) {
		bond := messages[2]
		bond.attrs = []*nl.RtAttr{info("bond", u32(nl.IFLA_BOND_MIN_LINKS, 2))}
		apply(t, table, bond)
		table.delta(false, clock())
		check(t, "needs", showNeeds(table.stated["bond/bond0"].resource.Needs), "2-of(carrier):nic/eth0,nic/eth1")
	})
	t.Run("a leg that vanished is missed", func(t *testing.T) {
		table.remove(3, false, clock())
		d := table.delta(false, clock())
		if len(d.Gone) != 1 || d.Gone[0].ID != "nic/eth1" || d.Gone[0].Reason != correlate.GoneVanished {
			t.Errorf("gone %+v", d.Gone)
		}
		check(t, "needs", showNeeds(table.stated["bond/bond0"].resource.Needs), "2-of(carrier):nic/eth0,nic/eth1")
	})
}

func TestVLANFromCraftedMessages(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	eth := message{index: 2, name: "eth0", flags: running, attrs: onPCI("0000:01:00.0")}
	vlan := message{index: 5, name: "eth0.100", flags: running, attrs: []*nl.RtAttr{
		u32(unix.IFLA_LINK, 2), u32(unix.IFLA_MASTER, 9), info("vlan", nl.NewRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(100))),
	}}
	apply(t, table, append(bondMessages()[3:], eth, vlan)...)
	table.delta(true, clock())
	check(t, "needs of the VLAN", showNeeds(table.stated["nic/eth0.100"].resource.Needs), "all-of:nic/eth0")
	check(t, "needs of the bridge", showNeeds(table.stated["bridge/br0"].resource.Needs), "all-of:nic/eth0.100")
	check(t, "its id", table.stated["nic/eth0.100"].resource.Facts["vlan"], "100")

	t.Run("the kernel takes it down with its parent", func(t *testing.T) {
		eth.flags, vlan.flags = 0, 0
		apply(t, table, eth, vlan)
		table.edges(clock())
		table.delta(false, clock())
		check(t, "parent disabled", statusOf(table, "nic/eth0", correlate.CondDisabled), correlate.StatusFailed)
		check(t, "VLAN disabled", statusOf(table, "nic/eth0.100", correlate.CondDisabled), correlate.StatusUnknown)
		check(t, "VLAN carrier", statusOf(table, "nic/eth0.100", correlate.CondCarrier), correlate.StatusFailed)
	})
	t.Run("its parent in another namespace is not an index here", func(t *testing.T) {
		vlan.attrs = append(vlan.attrs, u32(unix.IFLA_LINK_NETNSID, 0))
		apply(t, table, vlan)
		table.delta(false, clock())
		check(t, "needs", showNeeds(table.stated["nic/eth0.100"].resource.Needs), "")
	})
}

func TestVLANOfABridgeLeadsThroughIt(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	apply(t, table, append(bondMessages()[:4],
		message{index: 20, name: "br0.100", flags: running, attrs: []*nl.RtAttr{
			u32(unix.IFLA_LINK, 9), u32(unix.IFLA_MASTER, 21), info("vlan", nl.NewRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(100))),
		}},
		message{index: 21, name: "br100", flags: running, attrs: []*nl.RtAttr{info("bridge")}},
		message{index: 22, name: "vnet1", flags: running, attrs: []*nl.RtAttr{
			u32(unix.IFLA_MASTER, 21), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
		}})...)
	table.delta(true, clock())
	for id, want := range map[correlate.ID]string{
		"nic/vnet1": "all-of:bridge/br100", "bridge/br100": "all-of:nic/br0.100", "nic/br0.100": "all-of:bridge/br0",
		"bridge/br0": "all-of:bond/bond0", "bond/bond0": "1-of(carrier):nic/eth0,nic/eth1",
	} {
		check(t, "needs of "+string(id), showNeeds(table.stated[id].resource.Needs), want)
	}
}

func TestVirtualFunctionsFromFixture(t *testing.T) {
	table := newTable(sysTree(t, sriov), nil, nil)
	pf := message{index: 2, name: "ens1", flags: running, attrs: append(onPCI("0000:3b:00.0"), vfList(0, 2))}
	vf := message{index: 3, name: "ens1v0", flags: running, attrs: onPCI("0000:3b:02.0")}
	apply(t, table, pf, vf)
	table.delta(true, clock())
	check(t, "kind of the PF", table.stated["nic/ens1"].resource.Facts["kind"], "pf")
	check(t, "driver of the PF", table.stated["nic/ens1"].resource.Facts["driver"], "ice")
	check(t, "kind of the VF", table.stated["nic/ens1v0"].resource.Facts["kind"], "vf")
	check(t, "needs of the VF", showNeeds(table.stated["nic/ens1v0"].resource.Needs), "all-of:nic/ens1")
	check(t, "needs of the domain's VF", showNeeds(table.stated["nic/0000:3b:02.1"].resource.Needs), "all-of:nic/ens1")
	check(t, "driver of the domain's VF", table.stated["nic/0000:3b:02.1"].resource.Facts["driver"], "vfio-pci")
	check(t, "disabled", statusOf(table, "nic/0000:3b:02.1", correlate.CondDisabled), correlate.StatusFailed)

	t.Run("a notification has no VFs and changes nothing of theirs", func(t *testing.T) {
		pf.attrs = onPCI("0000:3b:00.0")
		table.apply(mustDecode(t, pf).link, false, clock())
		if d := table.delta(false, clock()); len(d.Set)+len(d.Gone)+len(d.Events) > 0 {
			t.Errorf("delta %+v", d)
		}
	})
	t.Run("functions that can't be read stay as they were", func(t *testing.T) {
		dir := table.links[2].device.path
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		apply(t, table, pf)
		d := table.delta(true, clock())
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		if len(d.Gone) != 0 || !slices.ContainsFunc(d.Set, func(r correlate.Resource) bool { return r.ID == "nic/0000:3b:02.1" }) {
			t.Errorf("delta %+v", d)
		}
		for _, e := range d.Events {
			if e.Resource == "nic/0000:3b:02.1" && e.Status != correlate.StatusUnknown {
				t.Errorf("event %+v", e)
			}
		}
	})
	t.Run("a function that goes to a domain stays as a resource", func(t *testing.T) {
		table.remove(3, false, clock())
		d := table.delta(false, clock())
		if len(d.Gone) != 1 || d.Gone[0].Reason != correlate.GoneOrderly {
			t.Errorf("gone %+v", d.Gone)
		}
		if len(d.Set) != 1 || d.Set[0].ID != "nic/0000:3b:02.0" {
			t.Errorf("set %+v", d.Set)
		}
	})
	t.Run("the port itself that vanishes is a fault", func(t *testing.T) {
		table.remove(2, false, clock())
		d := table.delta(false, clock())
		if !slices.ContainsFunc(d.Gone, func(g correlate.Gone) bool { return g.ID == "nic/ens1" && g.Reason == correlate.GoneVanished }) {
			t.Errorf("gone %+v", d.Gone)
		}
	})
}

func TestVirtioDeviceHasThePCIAddressBelowIt(t *testing.T) {
	table := newTable(sysTree(t, sriov), nil, nil)
	apply(t, table, message{index: 2, name: "eth0", flags: running, attrs: []*nl.RtAttr{
		text(unix.IFLA_PARENT_DEV_NAME, "virtio1"), text(unix.IFLA_PARENT_DEV_BUS_NAME, "virtio"),
	}})
	table.delta(true, clock())
	facts := table.stated["nic/eth0"].resource.Facts
	check(t, "kind", facts["kind"], "physical")
	check(t, "pci", facts["pci"], "0000:3c:00.0")
	check(t, "driver", facts["driver"], "virtio_net")
}

func TestCountersOfSysfs(t *testing.T) {
	root := sysTree(t, map[string]string{
		"class/net/eth0/carrier_down_count":         "3",
		"class/net/eth0/device/aer_dev_correctable": "RxErr 2\nBadTLP 1\nBadDLLP 0\nRollover 0\nTimeout 4\nNonFatalErr 0\nCorrIntErr 0\nHeaderOF 0\nTOTAL_ERR_COR 7",
		"class/net/eth0/device/aer_dev_nonfatal":    "Undefined 0\nDLP 0\nSDES 0\nTLP 0\nFCP 0\nCmpltTO 5\nTOTAL_ERR_NONFATAL 5",
		"class/net/eth0/device/aer_dev_fatal":       "Undefined 0\nDLP 0\nTOTAL_ERR_FATAL 0",
		"class/net/virtual0/carrier_down_count":     "0",
	})
	sys, err := sysfs.NewFS(root.SysPath())
	if err != nil {
		t.Fatal(err)
	}
	check(t, "adapter", readClass(&sys, "eth0"), details{carrierLosses: 3, pcie: pcieErrors{7, 5, 0}})
	check(t, "without a device", readClass(&sys, "virtual0"), details{})
	check(t, "no sysfs", readClass(nil, "eth0"), details{})
	check(t, "unknown", readClass(&sys, "nowhere"), details{})
	facts := map[string]string{}
	readClass(&sys, "eth0").addTo(facts)
	check(t, "facts", len(facts), 3)
	check(t, "carrier losses", facts["carrier_losses"], "3")
	check(t, "correctable errors", facts["pcie_correctable_errors"], "7")
	check(t, "errors that were not fatal", facts["pcie_nonfatal_errors"], "5")
}

func TestTapThatLeftItsBridge(t *testing.T) {
	left := bondMessages()[4]
	left.attrs = left.attrs[1:] // no master
	for name, c := range map[string]struct {
		deleted     bool
		soon, later string
	}{
		"is free after a second":               {false, "all-of:bridge/br0", ""},
		"misses it when the bridge is deleted": {true, "all-of:bridge/br0", "all-of:bridge/br0"},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(nowhere(t), nil, nil)
			apply(t, table, bondMessages()...)
			table.delta(true, clock())
			table.apply(mustDecode(t, left).link, false, clock())
			if c.deleted {
				table.remove(9, false, clock())
			}
			next := table.expire(clock())
			table.delta(false, clock())
			check(t, "needs at once", showNeeds(table.stated["nic/vnet0"].resource.Needs), c.soon)
			check(t, "waits", next.IsZero(), c.deleted)
			table.expire(clock().Add(settle))
			table.delta(false, clock())
			check(t, "needs later", showNeeds(table.stated["nic/vnet0"].resource.Needs), c.later)
		})
	}
}

func TestWhatVanishedBeforeTheStartIsStillNeeded(t *testing.T) {
	table := newTable(nowhere(t), nil, []string{"excluded"})
	table.remember(map[correlate.ID][]correlate.ID{
		"nic/eth1":     {"bond/bond0"},
		"nic/excluded": {"bridge/br0"},
		"nic/gone":     {"bridge/br9"}, // a bridge that is no more either
		"bridge/br1":   {"nic/vnet1"},
		"bridge/br0":   {"nic/vnet0"}, // both are there, and belong together
		"nic/eth0":     {"bond/bond0"},
	})
	all := bondMessages()
	vnet1 := message{index: 12, name: "vnet1", flags: running, attrs: []*nl.RtAttr{
		info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
	}}
	var l listing
	for _, m := range append(all[:1:1], append(all[2:], vnet1)...) { // all but eth1
		l.links = append(l.links, mustDecode(t, m).link)
	}
	table.relist(l, clock())
	var gone []correlate.ID
	for _, g := range table.delta(true, clock()).Gone {
		gone = append(gone, g.ID)
		check(t, "reason of "+string(g.ID), g.Reason, correlate.GoneVanished)
	}
	if want := []correlate.ID{"bridge/br1", "nic/eth1"}; !slices.Equal(gone, want) {
		t.Errorf("gone %v, want %v", gone, want)
	}
	for range 2 {
		check(t, "needs of the bond", showNeeds(table.stated["bond/bond0"].resource.Needs), "1-of(carrier):nic/eth0,nic/eth1")
		check(t, "needs of the bridge", showNeeds(table.stated["bridge/br0"].resource.Needs), "all-of:bond/bond0")
		check(t, "needs of a tap on it", showNeeds(table.stated["nic/vnet0"].resource.Needs), "all-of:bridge/br0")
		check(t, "needs of a tap without bridge", showNeeds(table.stated["nic/vnet1"].resource.Needs), "all-of:bridge/br1")
		table.relist(l, clock())
		table.delta(false, clock())
	}
	check(t, "ghosts", len(table.ghosts), 1)

	apply(t, table, all[1])
	vnet1.attrs = append(vnet1.attrs, u32(unix.IFLA_MASTER, 9))
	apply(t, table, vnet1)
	table.delta(false, clock())
	check(t, "ghosts after the return", len(table.ghosts), 0)
	check(t, "needs of the tap after a bridge took it", showNeeds(table.stated["nic/vnet1"].resource.Needs), "all-of:bridge/br0")
}

func TestUnusedPortRaisesNothing(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	port := message{index: 2, name: "eth0", attrs: onPCI("0000:01:00.0")}
	apply(t, table, port)
	table.delta(true, clock())
	check(t, "disabled", statusOf(table, "nic/eth0", correlate.CondDisabled), correlate.StatusOK)
	check(t, "carrier", statusOf(table, "nic/eth0", correlate.CondCarrier), correlate.StatusOK)

	port.attrs = append(port.attrs, u32(unix.IFLA_MASTER, 7)) // of Open vSwitch
	apply(t, table, port, message{index: 7, name: "ovs-system", attrs: []*nl.RtAttr{info("openvswitch")}})
	table.delta(false, clock())
	check(t, "disabled as a port of a switch that we don't know", statusOf(table, "nic/eth0", correlate.CondDisabled), correlate.StatusFailed)

	port.flags = unix.IFF_UP
	apply(t, table, port)
	table.delta(false, clock())
	check(t, "carrier once enabled", statusOf(table, "nic/eth0", correlate.CondCarrier), correlate.StatusFailed)
}

func TestAdapterThatASwitchInUserSpaceReadsIsInUse(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	apply(t, table, message{index: 2, name: "eth0", flags: unix.IFF_PROMISC, attrs: onPCI("0000:01:00.0")})
	table.delta(true, clock())
	check(t, "disabled", statusOf(table, "nic/eth0", correlate.CondDisabled), correlate.StatusFailed)
}

func TestTapThatWasNeverUpIsNoFault(t *testing.T) {
	tap := func(flags uint32) message {
		return message{index: 5, name: "br-int", flags: flags, attrs: []*nl.RtAttr{info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, []byte{unix.IFF_TAP}))}}
	}
	table := newTable(nowhere(t), nil, nil)
	apply(t, table, tap(0))
	table.delta(true, clock())
	check(t, "backing before", statusOf(table, "nic/br-int", correlate.CondBacking), correlate.StatusOK)
	apply(t, table, tap(running))
	apply(t, table, tap(0))
	table.delta(false, clock())
	check(t, "backing after", statusOf(table, "nic/br-int", correlate.CondBacking), correlate.StatusFailed)

	// After a restart an alarm says that it was.
	table = newTable(nowhere(t), nil, nil)
	table.remember(map[correlate.ID][]correlate.ID{"nic/br-int": nil})
	apply(t, table, tap(0))
	table.delta(true, clock())
	check(t, "backing with an alarm", statusOf(table, "nic/br-int", correlate.CondBacking), correlate.StatusFailed)
}

func TestLinksThatDoNotCount(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	apply(t, table,
		message{index: 1, name: "lo", flags: running | unix.IFF_LOOPBACK},
		message{index: 2, name: "docker0", flags: running, attrs: []*nl.RtAttr{info("bridge")}},
		message{index: 3, name: "veth1", flags: running, attrs: []*nl.RtAttr{u32(unix.IFLA_MASTER, 2), info("veth")}},
		message{index: 4, name: "tun0", flags: running, attrs: []*nl.RtAttr{info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TUN)))}},
		message{index: 5, name: "eth9.1", flags: running, attrs: []*nl.RtAttr{info("vlan", nl.NewRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(1)))}},
	)
	table.delta(true, clock())
	check(t, "stated", len(table.stated), 0)
	apply(t, table, message{index: 6, name: "vnet0", attrs: []*nl.RtAttr{
		u32(unix.IFLA_MASTER, 7), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
	}}, message{index: 7, name: "ovs-system", attrs: []*nl.RtAttr{info("openvswitch")}})
	table.delta(true, clock())
	check(t, "needs of a tap on Open vSwitch", showNeeds(table.stated["nic/vnet0"].resource.Needs), "")
	check(t, "stated", len(table.stated), 1)
}

func TestStatusOfCarrier(t *testing.T) {
	const up, lower, run = unix.IFF_UP, unix.IFF_LOWER_UP, unix.IFF_RUNNING
	for name, c := range map[string]struct {
		link link
		want correlate.Status
	}{
		"up":                                     {link{flags: up | lower | run, operstate: netlink.OperUp}, correlate.StatusOK},
		"unknown to the driver":                  {link{flags: up | lower | run, operstate: netlink.OperUnknown}, correlate.StatusOK},
		"lost":                                   {link{flags: up, operstate: netlink.OperDown}, correlate.StatusFailed},
		"lost, state not followed yet":           {link{flags: up | run, operstate: netlink.OperUp}, correlate.StatusFailed},
		"regained, state not followed yet":       {link{flags: up | lower, operstate: netlink.OperDown}, correlate.StatusUnknown},
		"dormant":                                {link{flags: up | lower, operstate: netlink.OperDormant}, correlate.StatusFailed},
		"lower layer down":                       {link{flags: up, operstate: netlink.OperLowerLayerDown}, correlate.StatusFailed},
		"leg down for the bond, though L1 is up": {link{flags: up | lower | run, operstate: netlink.OperUp, leg: true, mii: netlink.BondLinkDown}, correlate.StatusFailed},
	} {
		got, _ := c.link.carrier()
		check(t, name, got, c.want)
	}
}

func TestErrorRates(t *testing.T) {
	const step = 30 * time.Second
	tell := func(samples ...netlink.LinkStatistics) correlate.Status {
		var r errorRate
		for i, s := range samples {
			r = r.next(s, clock().Add(time.Duration(i)*step))
		}
		return r.status
	}
	at := func(errors, packets uint64) netlink.LinkStatistics {
		return netlink.LinkStatistics{RxErrors: errors, RxPackets: packets}
	}
	check(t, "one sample says nothing", tell(at(5000, 1)), correlate.StatusUnknown)
	check(t, "no errors", tell(at(0, 0), at(0, 1000)), correlate.StatusOK)
	check(t, "one bad interval is no fault", tell(at(0, 0), at(0, 1000), at(500, 2000)), correlate.StatusOK)
	check(t, "two in a row are", tell(at(0, 0), at(0, 1000), at(500, 2000), at(1000, 3000)), correlate.StatusFailed)
	check(t, "few of many are none", tell(at(0, 0), at(500, 1e6), at(1000, 2e6)), correlate.StatusOK)
	check(t, "one good interval does not end it", tell(at(0, 0), at(500, 1000), at(1000, 2000), at(1000, 3000)), correlate.StatusFailed)
	check(t, "two do", tell(at(0, 0), at(500, 1000), at(1000, 2000), at(1000, 3000), at(1000, 4000)), correlate.StatusOK)
	check(t, "counters that start anew say nothing", tell(at(0, 0), at(500, 1000), at(1000, 2000), at(0, 0)), correlate.StatusFailed)
}

func TestNamesAreSafeInTexts(t *testing.T) {
	table := newTable(nowhere(t), []string{"*"}, nil)
	apply(t, table, message{index: 2, name: "a\x1b[2Jb", flags: unix.IFF_UP})
	for _, e := range table.delta(true, clock()).Events {
		if strings.ContainsRune(e.Text, 0x1b) {
			t.Errorf("text %q", e.Text)
		}
	}
}
