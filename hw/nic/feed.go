package nic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/hw"
)

// socketBuffer is what the kernel may queue for us. A link message costs it 2 to 4 KiB, so this holds a few thousand:
// a bridge with a thousand ports that goes down at once.
const socketBuffer = 8 << 20

// feedCapacity is how many decoded updates wait for the source. When they are full the feed ends, and the source
// relists: the newest state counts, not the way to it.
const feedCapacity = 1024

// dumpTimeout bounds each receive of a dump.
const dumpTimeout = 5 * time.Second

var (
	errFeedFull = errors.New("updates came faster than they were taken")
	errOverrun  = errors.New("the kernel dropped link messages (ENOBUFS)")
)

// feed is one subscription to RTNLGRP_LINK. It ends on the first error, ENOBUFS included: after an overrun the kernel
// goes on dropping, without another error, until the socket has been drained, so that only a new socket, opened before
// the relist, is sure to miss nothing.
type feed struct {
	updates chan update // closed when the feed has ended; err is set before
	err     error

	socket *nl.NetlinkSocket
	wg     sync.WaitGroup
	stop   context.CancelFunc
}

// openFeed subscribes in the given namespace (netns.None(): the caller's own). ample is false when the receive buffer could not be
// made as large as asked.
func (s *Source) openFeed(ctx context.Context, ns netns.NsHandle) (f *feed, ample bool, err error) {
	socket, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return nil, false, fmt.Errorf("subscribe to link changes: %w", err)
	}
	if ample, err = size(socket, s.buffer); err != nil {
		socket.Close()
		return nil, false, fmt.Errorf("size receive buffer of link subscription: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	f = &feed{updates: make(chan update, feedCapacity), socket: socket, stop: cancel}
	f.wg.Go(func() { // closing the socket is what ends a receive
		<-ctx.Done()
		socket.Close()
	})
	f.wg.Go(func() {
		defer cancel()
		defer close(f.updates)
		f.err = hw.Contain(func() error { return f.receive(s.undecodable) })
		if errors.Is(f.err, errOverrun) || errors.Is(f.err, errFeedFull) {
			s.counters.overruns.Add(1)
		}
	})
	return f, ample, nil
}

// size asks for a receive buffer and reports whether it is as large. Beyond net.core.rmem_max that takes CAP_NET_ADMIN.
func size(socket *nl.NetlinkSocket, bytes int) (ample bool, err error) {
	if socket.SetReceiveBufferSize(bytes, true) == nil {
		return true, nil
	}
	if err := socket.SetReceiveBufferSize(bytes, false); err != nil {
		return false, err
	}
	got, err := unix.GetsockoptInt(socket.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUF)
	return got >= 2*bytes, err // the kernel doubles what it grants, for its own needs (socket(7))
}

// close ends the feed and waits for it.
func (f *feed) close() {
	f.stop()
	f.wg.Wait()
}

func (f *feed) receive(bad func(error)) error {
	for {
		msgs, from, err := f.socket.Receive()
		at := time.Now()
		if errors.Is(err, unix.ENOBUFS) {
			return errOverrun
		}
		if err != nil {
			return fmt.Errorf("receive link changes: %w", err)
		}
		if from.Pid != nl.PidKernel { // anybody may send to a netlink socket
			continue
		}
		for _, m := range msgs {
			u, err := decode(m.Header.Type, m.Data)
			if errors.Is(err, errNotALink) {
				continue
			}
			if err != nil {
				bad(err)
				continue
			}
			u.at = at
			select {
			case f.updates <- u:
			default:
				return errFeedFull
			}
		}
	}
}

// listing is one dump of all links.
type listing struct {
	links []netlink.Link
	// unread holds the indexes of links that are there and could not be decoded: they stay as they were last seen.
	unread map[int]bool
	// interrupted: the list changed while the kernel told it (NLM_F_DUMP_INTR). What is in it is true; what is not
	// in it may exist all the same.
	interrupted bool
}

// dump lists every link with its VFs. An adapter with more than some 220 VFs does not fit into one message with them
// all, and the kernel then ends the list with EMSGSIZE (rtnl_dump_ifinfo): the links are then listed without.
func dump(ns netns.NsHandle, bad func(error)) (listing, error) {
	msgs, err := list(ns, nl.RTEXT_FILTER_VF)
	if errors.Is(err, unix.EMSGSIZE) {
		msgs, err = list(ns, 0)
	}
	l := listing{unread: map[int]bool{}, interrupted: errors.Is(err, netlink.ErrDumpInterrupted)}
	if err != nil && !l.interrupted {
		return listing{}, fmt.Errorf("list links: %w", err)
	}
	for _, m := range msgs {
		u, err := decode(unix.RTM_NEWLINK, m)
		switch {
		case errors.Is(err, errNotALink):
		case err != nil:
			bad(err)
			if len(m) >= unix.SizeofIfInfomsg {
				l.unread[int(nl.DeserializeIfInfomsg(m).Index)] = true
			}
		default:
			l.links = append(l.links, u.link)
		}
	}
	return l, nil
}

// list asks for all links, with what the filter (RTEXT_FILTER_*) adds.
func list(ns netns.NsHandle, filter uint32) ([][]byte, error) {
	socket, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	handle := &nl.SocketHandle{Socket: socket}
	defer handle.Close()
	timeout := unix.NsecToTimeval(dumpTimeout.Nanoseconds())
	if err := socket.SetReceiveTimeout(&timeout); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: handle}
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(filter)))
	return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
}
