package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/memberlist"
)

// transport is the sockets under memberlist. It stands in for memberlist's own, which takes 64 KiB of memory for each
// datagram, counts nothing that we could read, sets no deadline on what it sends, and leaves accepted connections open
// when it is shut down.
type transport struct {
	ctx       context.Context // ends with shutdown
	cancel    context.CancelFunc
	udp       *net.UDPConn
	tcp       *net.TCPListener
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	count     *traffic
	note      func(kind TroubleKind, peer, text string)
	log       *slog.Logger
	advertise netip.AddrPort
	encrypted bool
	from      *net.TCPAddr  // what connections are opened from: nil where the kernel chooses
	sources   sources       // of the reader alone
	slots     chan struct{} // one for each accepted connection
	held      atomic.Int64  // bytes that open connections have brought, most of them still in somebody's buffer

	mu    sync.Mutex
	conns map[*stream]struct{}
	open  map[netip.Addr]int // accepted ones, by source
	wg    sync.WaitGroup
}

// Limits on what comes in before anybody could look who sent it.
const (
	sourceRate   = 5_000                  // datagrams a second from one address, twice as many in a burst; more are dropped
	maxSources   = 4_096                  // addresses that are told apart
	maxStreams   = 96                     // accepted connections at once; further ones wait. memberlist hangs up on the 128th
	maxPerSource = 16                     // of them from one address; further ones are refused
	maxStreamIn  = 8 << 20                // bytes of one connection: the states of 4 096 hosts are 3 MB
	maxHeld      = 64 << 20               // bytes of all connections at once: most is read before it can be judged
	dialTimeout  = 2 * time.Second        //
	streamLimit  = 5 * time.Second        // whole life of a connection that we opened
	sendLimit    = 100 * time.Millisecond // for the kernel to take a datagram
	receiveSpace = 2 << 20                // bytes of the socket's buffer, as memberlist asks for
)

// traffic is what went over the sockets since the start.
type traffic struct {
	packetsIn, packetsOut, bytesIn, bytesOut   atomic.Uint64 // UDP payloads, without IP headers
	streamsIn, streamsOut, streamRx, streamTx  atomic.Uint64
	droppedPackets, droppedStreams, cutStreams atomic.Uint64
}

func newTransport(bind, advertise netip.AddrPort, encrypted bool, count *traffic, note func(TroubleKind, string, string), log *slog.Logger) (*transport, error) {
	t := &transport{
		packets:   make(chan *memberlist.Packet),
		streams:   make(chan net.Conn),
		count:     count,
		note:      note,
		log:       log,
		encrypted: encrypted,
		sources:   sources{all: map[netip.Addr]*sender{}},
		slots:     make(chan struct{}, maxStreams),
		conns:     map[*stream]struct{}{},
		open:      map[netip.Addr]int{},
	}
	if !bind.Addr().IsUnspecified() { // the others know us, and their firewalls let us in, by this address
		t.from = &net.TCPAddr{IP: bind.Addr().AsSlice(), Zone: bind.Addr().Zone()}
	}
	var err error
	if t.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind)); err != nil {
		return nil, fmt.Errorf("listen for peers at cluster.bind: %w", err)
	}
	if bind.Port() == 0 { // tests; the datagrams get the same port
		bind = netip.AddrPortFrom(bind.Addr(), t.tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	if t.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(bind)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for peers at cluster.bind: %w", err), t.tcp.Close())
	}
	for size := receiveSpace; size > 0 && t.udp.SetReadBuffer(size) != nil; size /= 2 {
	}
	if t.advertise, err = reachable(bind, advertise); err != nil {
		return nil, errors.Join(err, t.tcp.Close(), t.udp.Close())
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Add(2)
	go t.accept()
	go t.read()
	return t, nil
}

// reachable is the address that the others are told.
func reachable(bind, advertise netip.AddrPort) (netip.AddrPort, error) {
	if advertise.IsValid() {
		if advertise.Port() == 0 {
			advertise = netip.AddrPortFrom(advertise.Addr(), bind.Port())
		}
		return advertise, nil
	}
	if !bind.Addr().IsUnspecified() {
		return bind, nil
	}
	text, err := sockaddr.GetPrivateIP()
	if err == nil && text == "" {
		err = errors.New("this host has no private address")
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("find an address to tell the peers: %w; set cluster.advertise", err)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("find an address to tell the peers: %w; set cluster.advertise", err)
	}
	return netip.AddrPortFrom(addr, bind.Port()), nil
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP(t.advertise.Addr().Unmap().AsSlice()), int(t.advertise.Port()), nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	addr, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to a peer: %w", err)
	}
	if err := t.udp.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return time.Time{}, fmt.Errorf("send to a peer: %w", err)
	}
	n, err := t.udp.WriteToUDPAddrPort(b, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	if err == nil {
		t.count.packetsOut.Add(1)
		t.count.bytesOut.Add(uint64(n))
	}
	return time.Now(), err
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout gives a connection that is closed after streamLimit, whoever hangs.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: min(timeout, dialTimeout)}
	if t.from != nil {
		dialer.LocalAddr = t.from
	}
	conn, err := dialer.DialContext(t.ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	s, err := t.adopt(conn, netip.Addr{})
	if err != nil {
		return nil, err
	}
	t.count.streamsOut.Add(1)
	return s, s.SetDeadline(time.Now().Add(streamLimit))
}

// Shutdown closes everything and returns when nobody here runs any more.
func (t *transport) Shutdown() error {
	t.cancel()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.mu.Lock()
	open := t.conns
	t.conns = nil
	t.mu.Unlock()
	for s := range open {
		s.Conn.Close() // who uses it sees that, and closes the stream
	}
	t.wg.Wait()
	return err
}

func (t *transport) read() {
	defer t.wg.Done()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.log.Warn("reading a datagram from the peers failed", "error", err)
			if !t.pause() {
				return
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		t.count.packetsIn.Add(1)
		t.count.bytesIn.Add(uint64(n))
		if n == 0 {
			continue
		}
		if !t.sources.admit(from.Addr(), at) {
			t.count.droppedPackets.Add(1)
			t.note(TroubleFlood, from.Addr().String(), fmt.Sprintf("it sends more than %d datagrams a second; the rest is dropped. Look what runs there", sourceRate))
			continue
		}
		if t.encrypted && retired(buf[:n]) {
			t.note(TroubleKey, from.Addr().String(), keyText)
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- packet:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) accept() {
	defer t.wg.Done()
	for {
		select {
		case t.slots <- struct{}{}: // when all are taken the others wait in the kernel
		case <-t.ctx.Done():
			return
		}
		conn, err := t.tcp.Accept()
		if err != nil {
			<-t.slots
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.log.Warn("accepting a connection from a peer failed", "error", err) // too many open files, say
			if !t.pause() {
				return
			}
			continue
		}
		remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		s, err := t.adopt(conn, remote.Addr().Unmap())
		if err != nil {
			<-t.slots
			t.count.droppedStreams.Add(1)
			if errors.Is(err, errStreams) {
				t.note(TroubleFlood, remote.Addr().Unmap().String(), fmt.Sprintf("it opens more than %d connections at once; the rest is refused. Look what runs there", maxPerSource))
			}
			continue
		}
		t.count.streamsIn.Add(1)
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
			return
		}
	}
}

// pause after an error that may come again at once; false at the end.
func (t *transport) pause() bool {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

var errStreams = errors.New("too many connections from one address at once")

// adopt takes over a connection; source is valid for an accepted one, which has a slot.
func (t *transport) adopt(conn net.Conn, source netip.Addr) (*stream, error) {
	s := &stream{Conn: conn, t: t, source: source, judged: !t.encrypted || !source.IsValid()}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.conns == nil:
		return nil, errors.Join(net.ErrClosed, conn.Close())
	case source.IsValid() && t.open[source] >= maxPerSource:
		return nil, errors.Join(errStreams, conn.Close())
	case source.IsValid():
		t.open[source]++
	}
	t.conns[s] = struct{}{}
	return s, nil
}

// stream counts, and reads no more than it may.
type stream struct {
	net.Conn
	t      *transport
	source netip.Addr // not valid: we opened it
	read   int
	judged bool
	head   []byte // of what came in, until it is judged
	closed atomic.Bool
}

var (
	errLongStream  = errors.New("the peer sends more than a connection may carry")
	errFullStreams = errors.New("all connections together carry more than they may")
	errRetired     = errors.New("unsupported encryption version")
)

func (s *stream) Read(b []byte) (int, error) {
	switch {
	case s.read >= maxStreamIn:
		s.t.count.cutStreams.Add(1)
		s.t.note(TroubleFlood, s.remote(), fmt.Sprintf("it sends more than %d MiB over one connection, which is cut. Look what runs there", maxStreamIn>>20))
		return 0, errLongStream
	case s.t.held.Load() >= maxHeld:
		s.t.count.cutStreams.Add(1)
		return 0, errFullStreams
	}
	n, err := s.Conn.Read(b[:min(len(b), maxStreamIn-s.read)])
	s.read += n
	s.t.held.Add(int64(n))
	s.t.count.streamRx.Add(uint64(n))
	if !s.judged {
		s.head = append(s.head, b[:n]...)
		var bad bool
		if s.judged, bad = judgeStream(s.head); bad {
			s.t.note(TroubleKey, s.remote(), keyText)
			return 0, errRetired
		}
		if s.judged {
			s.head = nil
		}
	}
	return n, err
}

func (s *stream) remote() string {
	addr, err := netip.ParseAddrPort(s.RemoteAddr().String())
	if err != nil {
		return "unknown"
	}
	return addr.Addr().Unmap().String()
}

func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.t.count.streamTx.Add(uint64(n))
	return n, err
}

func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.t.held.Add(-int64(s.read))
	s.t.mu.Lock()
	delete(s.t.conns, s)
	if s.source.IsValid() {
		if s.t.open[s.source]--; s.t.open[s.source] == 0 {
			delete(s.t.open, s.source)
		}
		<-s.t.slots
	}
	s.t.mu.Unlock()
	return s.Conn.Close()
}
