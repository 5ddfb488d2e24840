package lookout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what the sockets ask for, in bytes: all that comes in while the process is held up for a second.
const receiveBuffer = 4 << 20

// socket is a datagram socket that never blocks.
type socket struct {
	fd     int
	family int // AF_INET or AF_INET6; an AF_INET6 one that is bound to :: speaks both
	dual   bool
	// fill is more packets than can wait in it: after so many reads all that waited at the first has been read.
	fill int
}

// openSocket opens and binds; a zero port is chosen by the kernel.
func openSocket(family, kind, proto int, bind netip.AddrPort) (socket, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return socket{}, fmt.Errorf("open a socket: %w", err)
	}
	s := socket{fd: fd, family: family}
	if family == unix.AF_INET6 {
		only := 1
		if kind == unix.SOCK_DGRAM && proto == 0 && bind.Addr() == netip.IPv6Unspecified() {
			only, s.dual = 0, true
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, only); err != nil && s.dual {
			s.close()
			return socket{}, fmt.Errorf("make the socket speak IPv4 and IPv6: %w", err)
		}
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil { // needs CAP_NET_ADMIN
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, receiveBuffer)
	}
	// The kernel charges each packet more than 512 bytes, however short it is (sock(7), SO_RCVBUF; sk_buff's truesize).
	if size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		s.fill = size/512 + 1
	} else {
		s.fill = receiveBuffer / 512
	}
	if err := unix.Bind(fd, s.sockaddr(bind)); err != nil {
		s.close()
		return socket{}, fmt.Errorf("bind a socket to %v: %w", bind, err)
	}
	return s, nil
}

func (s socket) close() { _ = unix.Close(s.fd) }

// sockaddr is nil for what this socket cannot reach.
func (s socket) sockaddr(a netip.AddrPort) unix.Sockaddr {
	addr := a.Addr().Unmap()
	switch {
	case !addr.IsValid():
		return nil
	case s.family == unix.AF_INET && addr.Is4():
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: addr.As4()}
	case s.family == unix.AF_INET6 && (addr.Is6() || s.dual):
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: addr.As16(), ZoneId: zoneID(addr.Zone())}
	}
	return nil
}

// zoneID is 0 for what is no interface (any more): the send will fail.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	link, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(link.Index)
}

// addrPort leaves zones out: they only matter where we send to.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (s socket) addr() netip.AddrPort {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

// send sends one datagram or drops it. With IP_RECVERR a send also returns what became of an earlier one, and sends nothing.
func (s socket) send(b []byte, to unix.Sockaddr) error {
	var err error
	for range 3 {
		err = unix.Sendto(s.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, to)
		if err == nil || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return err
}

// openUDP opens the socket of the frames. It also hears that nobody listens where a frame went.
func openUDP(bind netip.AddrPort) (socket, error) {
	family := unix.AF_INET
	if bind.Addr().Is6() {
		family = unix.AF_INET6
	}
	s, err := openSocket(family, unix.SOCK_DGRAM, 0, bind)
	if errors.Is(err, unix.EAFNOSUPPORT) && bind.Addr() == netip.IPv6Unspecified() { // a kernel without IPv6
		bind = netip.AddrPortFrom(netip.IPv4Unspecified(), bind.Port())
		s, err = openSocket(unix.AF_INET, unix.SOCK_DGRAM, 0, bind)
	}
	if err != nil {
		return socket{}, err
	}
	if s.family == unix.AF_INET || s.dual {
		err = unix.SetsockoptInt(s.fd, unix.SOL_IP, unix.IP_RECVERR, 1)
	}
	if s.family == unix.AF_INET6 && err == nil {
		err = unix.SetsockoptInt(s.fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	}
	if err != nil {
		s.close()
		return socket{}, fmt.Errorf("ask for the errors of the network: %w", err)
	}
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) // without it a packet came when it is read
	return s, nil
}

// stampOf is when the kernel took a packet in, by the wall clock (SO_TIMESTAMPNS in socket(7)).
func stampOf(control []byte) (time.Time, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), true
		}
	}
	return time.Time{}, false
}

// refused reads one entry of the error queue: where a datagram went that met a closed port, and how it began. more is false
// once the queue is empty; to is zero for other errors.
func (s socket) refused(b, oob []byte) (to netip.AddrPort, sent []byte, more bool) {
	n, oobn, _, sa, err := unix.Recvmsg(s.fd, b, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return to, nil, errors.Is(err, unix.EINTR)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return to, nil, true
	}
	for _, m := range messages {
		if is4 := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR; !is4 && (m.Header.Level != unix.SOL_IPV6 || m.Header.Type != unix.IPV6_RECVERR) {
			continue
		}
		if len(m.Data) < 16 { // struct sock_extended_err, see ip(7)
			continue
		}
		errno, origin, kind, code := binary.NativeEndian.Uint32(m.Data), m.Data[4], m.Data[5], m.Data[6]
		closed4 := origin == unix.SO_EE_ORIGIN_ICMP && kind == 3 && code == 3  // RFC 792: destination, port unreachable
		closed6 := origin == unix.SO_EE_ORIGIN_ICMP6 && kind == 1 && code == 4 // RFC 4443, section 3.1
		if errno == uint32(unix.ECONNREFUSED) && (closed4 || closed6) {
			return addrPort(sa), b[:n], true
		}
	}
	return to, nil, true
}
