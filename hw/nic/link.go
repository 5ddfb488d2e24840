package nic

import (
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// kind is what stands in Facts["kind"].
type kind string

const (
	kindPhysical kind = "physical"
	kindPF       kind = "pf" // a physical function with virtual functions
	kindVF       kind = "vf"
	kindBond     kind = "bond"
	kindBridge   kind = "bridge"
	kindVLAN     kind = "vlan"
	kindTap      kind = "tap"
	kindMacvtap  kind = "macvtap"
	kindVeth     kind = "veth"
	kindLoopback kind = "loopback"
	// Any other keeps the kernel's own name (vxlan, dummy, openvswitch …).
)

// link is one link as it was last seen. Values, so that two sightings can be compared.
type link struct {
	index  int
	name   string
	kind   kind
	master int // index, 0: none
	parent int // index of the link below (vlan, macvtap); 0: none, or in another namespace
	// minLinks of a bond: fewer active legs, and it has no carrier.
	minLinks int

	flags     uint32 // IFF_*
	operstate netlink.LinkOperState
	mii       netlink.BondSlaveMiiStatus
	leg       bool // enslaved to a bond, so that mii holds
	raised    bool // it is up, or was since it was first seen

	device device
	facts  facts  // from the message itself
	vfs    string // those disabled by the administrator, as "3,17"
}

// facts are details for the inventory.
type facts struct {
	mac, bondMode, bondState string
	mtu, vlan, active        int // active: index of a bond's active leg
}

// structure is the part of a link that decides which links count and who needs whom.
type structure struct {
	name                             string
	kind                             kind
	master, parent, minLinks, active int
	up                               bool
	device                           device
	vfs                              string
}

func (l *link) structure() structure {
	return structure{l.name, l.kind, l.master, l.parent, l.minLinks, l.facts.active, l.up(), l.device, l.vfs}
}

// newLink takes what matters from a decoded message. dev is what sysfs says of its hardware.
func newLink(from netlink.Link, dev device) link {
	a := from.Attrs()
	l := link{
		index: a.Index, name: a.Name, master: a.MasterIndex, flags: a.RawFlags, operstate: a.OperState, device: dev,
		facts: facts{mac: a.HardwareAddr.String(), mtu: a.MTU},
	}
	// IFLA_LINK of a veth is its peer, which it doesn't stand on. With IFLA_LINK_NETNSID it is an index elsewhere.
	below := func() {
		if a.NetNsID < 0 {
			l.parent = a.ParentIndex
		}
	}
	switch t := from.(type) {
	case *netlink.Bond:
		l.kind, l.minLinks = kindBond, max(t.MinLinks, 0)
		l.facts.bondMode, l.facts.active = t.Mode.String(), max(t.ActiveSlave, 0)
	case *netlink.Bridge:
		l.kind = kindBridge
	case *netlink.Vlan:
		l.kind, l.facts.vlan = kindVLAN, t.VlanId
		below()
	case *netlink.Macvtap:
		l.kind = kindMacvtap
		below()
	case *netlink.Veth:
		l.kind = kindVeth
	case *netlink.Tuntap:
		l.kind = "tun" // carries IP packets of some tunnel; no domain hangs on it
		if t.Mode == unix.IFF_TAP {
			l.kind = kindTap
		}
	case *netlink.Device:
		switch {
		case l.flags&unix.IFF_LOOPBACK != 0:
			l.kind = kindLoopback
		case dev.physfn != "":
			l.kind = kindVF
		case dev.numVFs > 0:
			l.kind = kindPF
		case dev.path != "":
			l.kind = kindPhysical
		default:
			l.kind = "virtual"
		}
	default:
		l.kind = kind(from.Type())
		switch l.kind {
		case "macvlan", "ipvlan", "ipvtap", "vxlan":
			below()
		default:
		}
	}
	if s, ok := a.Slave.(*netlink.BondSlave); ok {
		l.leg, l.mii, l.facts.bondState = true, s.MiiStatus, strings.ToLower(s.State.String())
	}
	var disabled []string
	for i, vf := range a.Vfs {
		if vf.LinkState == netlink.VF_LINK_STATE_DISABLE {
			disabled = append(disabled, strconv.Itoa(i))
		}
	}
	l.vfs = strings.Join(disabled, ",")
	return l
}

func (l *link) id() correlate.ID {
	switch l.kind {
	case kindBond:
		return correlate.NewID(correlate.KindBond, l.name)
	case kindBridge:
		return correlate.NewID(correlate.KindBridge, l.name)
	default:
		return correlate.NewID(correlate.KindNIC, l.name)
	}
}

// hasPorts reports whether links can be enslaved to it in a way that the topology knows.
func (l *link) hasPorts() bool { return l.kind == kindBridge || l.kind == kindBond }

func (l *link) up() bool { return l.flags&unix.IFF_UP != 0 }

// hardware reports whether the link is a function of a device.
func (l *link) hardware() bool {
	return l.kind == kindPhysical || l.kind == kindPF || l.kind == kindVF
}

// guest reports whether the link lives and dies with a domain.
func (l *link) guest() bool { return l.kind == kindTap || l.kind == kindMacvtap }

// carrier judges whether an enabled link can carry user data, by Documentation/networking/operstates.rst of the
// kernel: IFF_LOWER_UP is the driver's word, the operational state follows it from a work queue. In between the two
// disagree: lost is believed at once, regained only when both say so.
func (l *link) carrier() (correlate.Status, string) {
	switch {
	case l.flags&unix.IFF_LOWER_UP == 0:
		return correlate.StatusFailed, "no carrier"
	case l.operstate == netlink.OperDormant:
		return correlate.StatusFailed, "dormant: it waits for an external event such as 802.1X"
	case l.operstate == netlink.OperTesting:
		return correlate.StatusFailed, "in testing mode"
	case l.flags&unix.IFF_RUNNING == 0: // IFF_RUNNING: the operational state is up, or unknown to the driver
		return correlate.StatusUnknown, "the operational state has not followed the driver yet"
	case l.leg && l.mii == netlink.BondLinkDown:
		return correlate.StatusFailed, "the bond holds its leg for down (MII status)"
	case l.leg && l.mii != netlink.BondLinkUp:
		return correlate.StatusUnknown, "the bond waits before it judges its leg (MII status " + strings.ToLower(l.mii.String()) + ")"
	}
	return correlate.StatusOK, "carrier"
}

// shown makes a name fit for texts: the kernel allows control characters in link names.
func shown(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}
