package nic

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// update is one RTM_NEWLINK or RTM_DELLINK that concerns the link itself.
type update struct {
	at      time.Time // taken right after the receive; the kernel stamps no link messages
	deleted bool
	moved   bool // deleted here because it went to another network namespace
	link    netlink.Link
}

// errNotALink marks messages of the link group that say nothing of the link itself.
var errNotALink = errors.New("not about the link itself")

// attributes are those that we use, with the fewest bytes that each can have. The rest is kept from the library.
var attributes = map[uint16]int{
	unix.IFLA_ADDRESS: 0, unix.IFLA_IFNAME: 2, unix.IFLA_MTU: 4, unix.IFLA_LINK: 4, unix.IFLA_MASTER: 4,
	unix.IFLA_LINK_NETNSID: 4, unix.IFLA_OPERSTATE: 1, unix.IFLA_STATS64: 0, unix.IFLA_LINKINFO: 4,
	unix.IFLA_VFINFO_LIST: 4, unix.IFLA_PARENT_DEV_NAME: 1, unix.IFLA_PARENT_DEV_BUS_NAME: 1,
}

// decode turns the payload of one message of RTNLGRP_LINK, or of one dump answer, into an update.
//
// The group carries more than links. A bridge reports its ports with family AF_BRIDGE, and the RTM_DELLINK among
// those means that the port left the bridge, not that the link is gone; wireless extensions send fragments of a
// link (IFLA_WIRELESS). Both come back as errNotALink.
func decode(msgType uint16, payload []byte) (u update, err error) {
	// The library indexes into attribute values without looking at their length (a VF entry cut short, a switch id
	// of fewer than four bytes); one odd driver must not end the source.
	defer func() {
		if r := recover(); r != nil {
			u, err = update{}, fmt.Errorf("decode link message: %v", r)
		}
	}()
	switch msgType {
	case unix.RTM_NEWLINK:
	case unix.RTM_DELLINK:
		u.deleted = true
	default:
		return update{}, errNotALink
	}
	if len(payload) < unix.SizeofIfInfomsg {
		return update{}, fmt.Errorf("decode link message: %d bytes are too few for its header", len(payload))
	}
	if nl.DeserializeIfInfomsg(payload).Family != unix.AF_UNSPEC {
		return update{}, errNotALink
	}
	attrs, err := nl.ParseRouteAttr(payload[unix.SizeofIfInfomsg:])
	if err != nil {
		return update{}, fmt.Errorf("decode link message: attributes: %w", err)
	}
	used := slices.Clone(payload[:unix.SizeofIfInfomsg])
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_WIRELESS:
			return update{}, errNotALink
		case unix.IFLA_NEW_NETNSID, unix.IFLA_NEW_IFINDEX:
			u.moved = true
		}
		if least, ok := attributes[a.Attr.Type]; ok && len(a.Value) >= least {
			used = append(used, nl.NewRtAttr(int(a.Attr.Type), a.Value).Serialize()...)
		}
	}
	hdr := unix.NlMsghdr{Type: msgType}
	u.link, err = netlink.LinkDeserialize(&hdr, used)
	if err != nil {
		return update{}, fmt.Errorf("decode link message: %w", err)
	}
	if u.link.Attrs().Index <= 0 || u.link.Attrs().Name == "" {
		return update{}, errors.New("decode link message: no index or no name")
	}
	return u, nil
}
