package lookout

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// EchoKind says how the kernels of other hosts are asked for echoes.
type EchoKind string

// The kinds of echo, best first.
const (
	EchoRaw  EchoKind = "raw"  // raw ICMP sockets: CAP_NET_RAW
	EchoPing EchoKind = "ping" // ICMP datagram sockets: net.ipv4.ping_group_range, see icmp(7)
	EchoNone EchoKind = "none" // not at all: every deadline is the longer one
)

// ICMP (RFC 792) and ICMPv6 (RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	icmpHeader               = 8
	icmpFilter               = 1 // ICMP_FILTER of linux/icmp.h, see raw(7)
)

const (
	// maxPending echoes wait for their replies, each for echoPatience.
	maxPending   = 8192
	echoPatience = 2 * time.Second
	maxEchoes    = 4000 // a second
)

// echoSocket asks the kernels of one family.
type echoSocket struct {
	socket
	kind EchoKind
	id   uint16 // of raw ones; the kernel gives the others theirs
}

// token is what an echo carries. Nobody who has not seen it can answer.
type token [16]byte

// asked is an echo that may be answered yet. The host is empty for the outside witness.
type asked struct {
	host  string
	at    time.Time
	where netip.Addr
}

// echoes asks kernels whether they live. It belongs to the owner of the sockets.
type echoes struct {
	kind    EchoKind
	reason  string // in words, for the operator
	sockets []echoSocket
	pending map[token]asked
	order   []token // of pending and of those that were answered, oldest first
	pace    *rate.Limiter
	seq     uint16
}

// openEchoes opens what it may of the kinds, for the families that bind speaks.
func openEchoes(bind netip.AddrPort, kinds []EchoKind) *echoes {
	e := &echoes{kind: EchoNone, pending: map[token]asked{}, pace: rate.NewLimiter(maxEchoes, maxEchoes)}
	var families []int
	if bind.Addr().Is4() || bind.Addr() == netip.IPv6Unspecified() {
		families = append(families, unix.AF_INET)
	}
	if bind.Addr().Is6() {
		families = append(families, unix.AF_INET6)
	}
	var failed error
	for _, family := range families {
		err := e.open(family, bind.Addr(), kinds)
		if err != nil && failed == nil {
			failed = err
		}
	}
	name := map[int]string{unix.AF_INET: "IPv4", unix.AF_INET6: "IPv6"}
	const grant = `grant CAP_NET_RAW, or take the agent's group into net.ipv4.ping_group_range`
	switch {
	case len(e.sockets) == 0:
		e.reason = fmt.Sprintf("no kernel can be asked for an echo, so hosts are given the longer deadline: %v; %s", failed, grant)
	case len(e.sockets) < len(families):
		e.kind = e.sockets[0].kind
		e.reason = fmt.Sprintf("%s only: %v", name[e.sockets[0].family], failed)
	default:
		e.kind = e.sockets[0].kind
		e.reason = map[EchoKind]string{EchoRaw: "raw ICMP sockets", EchoPing: "unprivileged ICMP sockets"}[e.kind]
	}
	return e
}

func (e *echoes) open(family int, bind netip.Addr, kinds []EchoKind) error {
	if family == unix.AF_INET && bind.Is6() {
		bind = netip.IPv4Unspecified()
	}
	failed := errors.New("it is turned off")
	for i, kind := range kinds {
		s, err := openEcho(family, bind, kind)
		if err == nil {
			e.sockets = append(e.sockets, s)
			return nil
		}
		if err = fmt.Errorf("%s: %w", kind, err); i == 0 {
			failed = err
		} else {
			failed = fmt.Errorf("%w; %w", failed, err)
		}
	}
	return failed
}

func openEcho(family int, bind netip.Addr, kind EchoKind) (echoSocket, error) {
	proto := unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		proto = unix.IPPROTO_ICMPV6
	}
	if kind == EchoPing {
		s, err := openSocket(family, unix.SOCK_DGRAM, proto, netip.AddrPortFrom(bind, 0))
		return echoSocket{socket: s, kind: kind}, err
	}
	s, err := openSocket(family, unix.SOCK_RAW, proto, netip.AddrPortFrom(bind, 0))
	if err != nil {
		return echoSocket{}, err
	}
	out := echoSocket{socket: s, kind: kind}
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	out.id = binary.BigEndian.Uint16(id[:])
	if err := out.filter(); err != nil {
		s.close()
		return echoSocket{}, fmt.Errorf("filter a raw socket: %w", err)
	}
	s.discard()
	return out, nil
}

// discard reads what came in before the filter was there.
func (s socket) discard() {
	var b [1]byte
	for range s.fill {
		if _, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// filter keeps all but the replies with our id in the kernel: a raw socket gets every host's pings.
func (s echoSocket) filter() error {
	// Classic BPF: load the id, behind the header of IPv4 (raw(7) hands it in, for IPv6 it doesn't), and compare.
	load := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}}
	var err error
	if s.family == unix.AF_INET {
		load = []unix.SockFilter{{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0}, {Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 4}}
		blocked := ^(uint32(1) << echoReply4)
		err = unix.SetsockoptInt(s.fd, unix.SOL_RAW, icmpFilter, int(int32(blocked)))
	} else {
		var f unix.ICMPv6Filter // a bit that is set blocks its type
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[echoReply6/32] &^= 1 << (echoReply6 % 32)
		err = unix.SetsockoptICMPv6Filter(s.fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &f)
	}
	if err != nil {
		return err
	}
	program := append(load,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: uint32(s.id)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	return unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

var (
	errNoSocket = errors.New("no socket of that family")
	errPace     = errors.New("too many echoes")
)

// reaches says that there is a socket for an address.
func (e *echoes) reaches(where netip.Addr) bool {
	for _, s := range e.sockets {
		if s.sockaddr(netip.AddrPortFrom(where, 0)) != nil {
			return true
		}
	}
	return false
}

// ask sends an echo request.
func (e *echoes) ask(now time.Time, host string, where netip.Addr) error {
	where = where.Unmap()
	for _, s := range e.sockets {
		to := s.sockaddr(netip.AddrPortFrom(where, 0))
		if to == nil {
			continue
		}
		e.expire(now)
		if len(e.order) >= maxPending || !e.pace.AllowN(now, 1) {
			return errPace
		}
		var t token
		_, _ = rand.Read(t[:]) // never fails, see crypto/rand
		e.seq++
		if err := s.send(s.request(e.seq, t), to); err != nil {
			return err
		}
		e.pending[t] = asked{host, now, where.WithZone("")}
		e.order = append(e.order, t)
		return nil
	}
	return errNoSocket
}

func (e *echoes) expire(now time.Time) {
	n := 0
	for ; n < len(e.order); n++ {
		a, waits := e.pending[e.order[n]]
		if waits && now.Sub(a.at) < echoPatience {
			break
		}
		delete(e.pending, e.order[n])
	}
	if n > 0 {
		e.order = append(e.order[:0], e.order[n:]...)
	}
}

func (s echoSocket) request(seq uint16, t token) []byte {
	kind := byte(echoRequest4)
	if s.family == unix.AF_INET6 {
		kind = echoRequest6
	}
	b := []byte{kind, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, s.id)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = append(b, t[:]...)
	if s.family == unix.AF_INET { // the kernel sums up the rest
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum is that of RFC 1071; b is even.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}

// reply says which echo a packet answers; ok is false for what is late, foreign or no reply.
func (e *echoes) reply(now time.Time, s echoSocket, b []byte, from netip.Addr) (a asked, ok bool) {
	kind := byte(echoReply6)
	if s.family == unix.AF_INET {
		kind = echoReply4
		if s.kind == EchoRaw {
			if len(b) == 0 || len(b) < int(b[0]&0xf)*4 {
				return a, false
			}
			b = b[int(b[0]&0xf)*4:]
		}
	}
	if len(b) != icmpHeader+len(token{}) || b[0] != kind || b[1] != 0 {
		return a, false
	}
	t := token(b[icmpHeader:])
	a, ok = e.pending[t]
	if !ok || a.where != from.WithZone("") {
		return asked{}, false
	}
	delete(e.pending, t)
	return a, now.Sub(a.at) < echoPatience
}

func (e *echoes) close() {
	for _, s := range e.sockets {
		s.close()
	}
}
