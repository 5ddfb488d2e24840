package nic

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// message is the payload of a crafted RTM_NEWLINK: this kernel has no bonds, VLANs or SR-IOV to record one from. The
// layout is that of include/uapi/linux/if_link.h, written with the netlink library's own serialisation.
type message struct {
	index  int
	name   string
	flags  uint32
	family uint8
	attrs  []*nl.RtAttr
}

const running = unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING

func (m message) bytes() []byte {
	head := nl.NewIfInfomsg(int(m.family))
	head.Index, head.Flags = int32(m.index), m.flags
	b := slices.Clone(head.Serialize())
	if m.name != "" {
		b = append(b, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(m.name)).Serialize()...)
	}
	operstate := byte(2)
	if m.flags&unix.IFF_RUNNING != 0 {
		operstate = 6
	}
	b = append(b, nl.NewRtAttr(unix.IFLA_OPERSTATE, nl.Uint8Attr(operstate)).Serialize()...)
	for _, a := range m.attrs {
		b = append(b, a.Serialize()...)
	}
	return b
}

func u32(attr int, v int) *nl.RtAttr { return nl.NewRtAttr(attr, nl.Uint32Attr(uint32(v))) }

func text(attr int, s string) *nl.RtAttr { return nl.NewRtAttr(attr, nl.ZeroTerminated(s)) }

// info is IFLA_LINKINFO with a kind and its data.
func info(kind string, data ...*nl.RtAttr) *nl.RtAttr {
	i := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	i.AddRtAttr(nl.IFLA_INFO_KIND, nl.ZeroTerminated(kind))
	d := i.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	for _, a := range data {
		d.AddChild(a)
	}
	return i
}

// slave is IFLA_LINKINFO of a bond's leg.
func slave(state, mii byte) *nl.RtAttr {
	i := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	i.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.ZeroTerminated("bond"))
	d := i.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
	d.AddRtAttr(nl.IFLA_BOND_SLAVE_STATE, nl.Uint8Attr(state))
	d.AddRtAttr(nl.IFLA_BOND_SLAVE_MII_STATUS, nl.Uint8Attr(mii))
	return i
}

// onPCI are the attributes by which the kernel names the device behind a link.
func onPCI(address string) []*nl.RtAttr {
	return []*nl.RtAttr{text(unix.IFLA_PARENT_DEV_NAME, address), text(unix.IFLA_PARENT_DEV_BUS_NAME, "pci")}
}

func mustDecode(t *testing.T, m message) update {
	t.Helper()
	u, err := decode(unix.RTM_NEWLINK, m.bytes())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestMessagesOfTheGroupThatAreNoLinks(t *testing.T) {
	for name, c := range map[string]struct {
		msgType uint16
		m       message
	}{
		"a bridge's word on its port":       {unix.RTM_NEWLINK, message{index: 3, name: "up0", family: unix.AF_BRIDGE}},
		"a port that left its bridge":       {unix.RTM_DELLINK, message{index: 3, name: "up0", family: unix.AF_BRIDGE}},
		"a fragment of wireless extensions": {unix.RTM_NEWLINK, message{index: 3, name: "wl0", attrs: []*nl.RtAttr{u32(unix.IFLA_WIRELESS, 1)}}},
		"another type":                      {unix.RTM_NEWADDR, message{index: 3, name: "up0"}},
	} {
		if _, err := decode(c.msgType, c.m.bytes()); !errors.Is(err, errNotALink) {
			t.Errorf("%s: error %v, want %v", name, err, errNotALink)
		}
	}
}

func TestOddAttributesDoNotCostTheLink(t *testing.T) {
	u := mustDecode(t, message{index: 3, name: "eth0", flags: running, attrs: []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_PHYS_SWITCH_ID, []byte{1, 2}), // the library reads four bytes
		nl.NewRtAttr(unix.IFLA_MTU, []byte{1}),
		u32(60000, 7), // newer than we are
	}})
	if got := u.link.Attrs().Name; got != "eth0" {
		t.Errorf("name %q", got)
	}
}

func TestBrokenMessagesAreErrors(t *testing.T) {
	whole := message{index: 3, name: "eth0", attrs: []*nl.RtAttr{info("bond", nl.NewRtAttr(nl.IFLA_BOND_MODE, nil))}}.bytes()
	for name, b := range map[string][]byte{
		"empty": nil, "half a header": whole[:9], "an attribute cut off": whole[:unix.SizeofIfInfomsg+6],
		"a bond mode of no byte": whole, "no name": message{index: 3}.bytes(), "no index": message{name: "eth0"}.bytes(),
	} {
		if _, err := decode(unix.RTM_NEWLINK, b); err == nil || errors.Is(err, errNotALink) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// FuzzLinkMessage holds that no payload panics, in the decoder or in what is made of a link that it accepts. The
// corpus in testdata holds messages recorded from a 6.18 kernel.
func FuzzLinkMessage(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWLINK), message{index: 7, name: "bond0", flags: running, attrs: []*nl.RtAttr{
		info("bond", nl.NewRtAttr(nl.IFLA_BOND_MODE, nl.Uint8Attr(4)), u32(nl.IFLA_BOND_MIN_LINKS, 1)),
	}}.bytes())
	f.Add(uint16(unix.RTM_NEWLINK), message{index: 3, name: "eth0", flags: running, attrs: []*nl.RtAttr{u32(unix.IFLA_MASTER, 7), slave(0, 2)}}.bytes())
	f.Add(uint16(unix.RTM_NEWLINK), message{index: 9, name: "eth0.5", attrs: []*nl.RtAttr{
		u32(unix.IFLA_LINK, 3), info("vlan", nl.NewRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(5))),
	}}.bytes())
	f.Add(uint16(unix.RTM_NEWLINK), message{index: 4, name: "pf0", attrs: []*nl.RtAttr{vfList(0, 2)}}.bytes())
	f.Add(uint16(unix.RTM_DELLINK), message{index: 4, name: "moved", attrs: []*nl.RtAttr{u32(unix.IFLA_NEW_NETNSID, 1)}}.bytes())
	f.Fuzz(func(t *testing.T, msgType uint16, payload []byte) {
		u, err := decode(msgType, payload)
		if err != nil {
			return
		}
		table := newTable(nowhere(t), []string{"*"}, nil)
		now := clock()
		table.apply(u.link, true, now)
		table.delta(true, now)
		table.remove(u.link.Attrs().Index, u.moved, now)
		if d := table.delta(false, now); len(table.stated) != 0 {
			t.Errorf("still stated after %+v: %v", d, table.stated)
		}
	})
}
