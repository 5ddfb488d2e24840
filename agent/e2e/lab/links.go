package lab

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netlinkInside gives f a netlink handle of the host's network namespace.
func (h *Host) netlinkInside(f func(nl *netlink.Handle) error) error {
	ns, err := netns.GetFromPid(h.pid)
	if err != nil {
		return fmt.Errorf("host %s: network namespace: %w", h.Name, err)
	}
	defer ns.Close()
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("host %s: netlink: %w", h.Name, err)
	}
	defer nl.Close()
	return f(nl)
}

func (h *Host) initLinks() error {
	return h.netlinkInside(func(nl *netlink.Handle) error {
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		if err := nl.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set lo up: %w", err)
		}
		// Nothing leaves by another way when a link goes.
		_, all, _ := net.ParseCIDR("0.0.0.0/0")
		if err := nl.RouteAdd(&netlink.Route{Dst: all, Type: unix.RTN_BLACKHOLE}); err != nil {
			return fmt.Errorf("add blackhole route: %w", err)
		}
		return nil
	})
}

// Bridge makes a bridge and sets it up.
func (h *Host) Bridge(name string) error {
	return h.netlinkInside(func(nl *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
		if err := nl.LinkAdd(br); err != nil {
			return fmt.Errorf("host %s: add bridge %s: %w", h.Name, name, err)
		}
		return nl.LinkSetUp(br)
	})
}

// End is one end of a cable.
type End struct {
	Host   *Host
	Link   string
	Master string // a bridge of Host; empty for none
	Addr   string // address/length; empty for none
}

// Cable is a veth pair. Setting one end down takes the carrier of the other.
type Cable struct{ A, B End }

// Connect lays a cable and sets both ends up.
func (l *Lab) Connect(a, b End) (*Cable, error) {
	c := &Cable{A: a, B: b}
	nsB, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.Host.pid))
	if err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", a.Link, b.Link, err)
	}
	defer nsB.Close()
	err = a.Host.netlinkInside(func(nl *netlink.Handle) error { return addVeth(nl, a.Link, b.Link, netlink.NsFd(nsB.Fd())) })
	if err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", a.Link, b.Link, err)
	}
	for _, e := range []End{a, b} {
		if err := e.setUp(); err != nil {
			return nil, fmt.Errorf("connect %s to %s: %w", a.Link, b.Link, err)
		}
	}
	return c, nil
}

// addVeth makes a pair whose ends differ in their index. Indices are counted in each namespace, and a pair with equal ones is
// told of its carrier's loss only once a second (linkwatch_urgent_event in net/core/link_watch.c), where others are at once.
func addVeth(nl *netlink.Handle, name, peer string, there netlink.NsFd) error {
	for {
		err := nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer, PeerNamespace: there})
		if err != nil {
			return err
		}
		link, err := nl.LinkByName(name)
		if err != nil {
			return err
		}
		if link.Attrs().Index != link.Attrs().ParentIndex {
			return nil
		}
		if err := nl.LinkDel(link); err != nil {
			return err
		}
		// No index is given twice: this uses one up on our side alone.
		spare := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
		if err := nl.LinkAdd(spare); err != nil {
			return err
		}
		if err := nl.LinkDel(spare); err != nil {
			return err
		}
	}
}

func (e End) setUp() error {
	return e.Host.netlinkInside(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(e.Link)
		if err != nil {
			return fmt.Errorf("host %s: find %s: %w", e.Host.Name, e.Link, err)
		}
		if e.Master != "" {
			master, err := nl.LinkByName(e.Master)
			if err != nil {
				return fmt.Errorf("host %s: find %s: %w", e.Host.Name, e.Master, err)
			}
			if err := nl.LinkSetMaster(link, master); err != nil {
				return fmt.Errorf("host %s: put %s into %s: %w", e.Host.Name, e.Link, e.Master, err)
			}
		}
		if e.Addr != "" {
			addr, err := netlink.ParseAddr(e.Addr)
			if err != nil {
				return fmt.Errorf("host %s: address of %s: %w", e.Host.Name, e.Link, err)
			}
			if err := nl.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("host %s: add %s to %s: %w", e.Host.Name, e.Addr, e.Link, err)
			}
		}
		return nl.LinkSetUp(link)
	})
}

// SetLink is "ip link set NAME up|down" on the host.
func (h *Host) SetLink(name string, up bool) error {
	return h.netlinkInside(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("host %s: find %s: %w", h.Name, name, err)
		}
		set := nl.LinkSetDown
		if up {
			set = nl.LinkSetUp
		}
		if err := set(link); err != nil {
			return fmt.Errorf("host %s: set %s up=%v: %w", h.Name, name, up, err)
		}
		return nil
	})
}

// DeleteLink is "ip link del NAME" on the host.
func (h *Host) DeleteLink(name string) error {
	return h.netlinkInside(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("host %s: find %s: %w", h.Name, name, err)
		}
		return nl.LinkDel(link)
	})
}

// Pull takes the cable out at B: A loses its carrier. Plug puts it back.
func (c *Cable) Pull() error { return c.B.Host.SetLink(c.B.Link, false) }

// Plug puts the cable back in.
func (c *Cable) Plug() error { return c.B.Host.SetLink(c.B.Link, true) }

// Disable is Doctor's own test: "ip link set A down", on A's host.
func (c *Cable) Disable() error { return c.A.Host.SetLink(c.A.Link, false) }

// Enable sets A up again.
func (c *Cable) Enable() error { return c.A.Host.SetLink(c.A.Link, true) }
