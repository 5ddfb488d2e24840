package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// plain is memberlist alone, without anything of ours, one node on each host beside the agent. All nodes run in this process,
// each with the sockets of its host.
type plain struct {
	name   string // of the settings
	port   int
	adjust func(*memberlist.Config)

	nodes []*memberlist.Memberlist // as the members of the cloud

	// givenUp says why its nodes were stopped, so that they are no load on what is measured beside them; empty: they were not.
	givenUp string

	mu   sync.Mutex
	cuts map[string]*cut // by host: the last one
	// wrong are hosts that were not cut off and were declared dead by others that were not, by each that did so; blamed the
	// same by hosts that were cut off.
	wrong, blamed int
}

// cut is what became of a host that was cut off.
type cut struct {
	at, healed time.Time
	left       time.Time // the first NotifyLeave at a host that was not cut off
}

// lingering is how long after its return what is said of a host, or by it, may still be of the time when it was cut off.
const lingering = 20 * time.Second

func plainSettings() []*plain {
	return []*plain{
		{name: "LAN defaults", port: 8946, adjust: func(*memberlist.Config) {}},
		{name: "probe 100 ms, timeout 50 ms, suspicion 2", port: 9946, adjust: func(c *memberlist.Config) {
			c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = 100*time.Millisecond, 50*time.Millisecond, 2
		}},
	}
}

// grow starts nodes on further hosts.
func (p *plain) grow(members []*member) error {
	if p.cuts == nil {
		p.cuts = map[string]*cut{}
	}
	for n := len(p.nodes); n < len(members); n++ {
		t, err := newHostTransport(members[n].Host, cloudAddr(n), p.port)
		if err != nil {
			return err
		}
		cfg := memberlist.DefaultLANConfig()
		cfg.Name, cfg.Transport = members[n].Name, t
		cfg.Events = leaves{p, members[n].Name}
		cfg.Logger = slog.NewLogLogger(slog.DiscardHandler, 0)
		p.adjust(cfg)
		list, err := memberlist.Create(cfg)
		if err != nil {
			return fmt.Errorf("memberlist of %s: %w", cfg.Name, err)
		}
		p.nodes = append(p.nodes, list)
		if err := p.join(n); err != nil {
			return err
		}
	}
	return nil
}

// join has a node join through the first other that is not cut off, or is not while it tries.
func (p *plain) join(n int) (err error) {
	for other := range p.nodes {
		if other == n || p.isCut(p.nodes[other].LocalNode().Name) {
			continue
		}
		if _, err = p.nodes[n].Join([]string{fmt.Sprintf("%s:%d", cloudAddr(other), p.port)}); err == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("memberlist of %s: join: %w", p.nodes[n].LocalNode().Name, err)
	}
	return nil
}

// level reports whether all nodes but those that are cut off know the same number of members.
func (p *plain) level() bool {
	away := map[string]bool{}
	for _, l := range p.nodes {
		away[l.LocalNode().Name] = p.isCut(l.LocalNode().Name)
	}
	for _, l := range p.nodes {
		if away[l.LocalNode().Name] {
			continue
		}
		for _, other := range p.nodes {
			name := other.LocalNode().Name
			known := slices.ContainsFunc(l.Members(), func(m *memberlist.Node) bool { return m.Name == name })
			if !away[name] && !known {
				return false
			}
		}
	}
	return true
}

func (p *plain) giveUp(why string) {
	p.givenUp = why
	p.stop()
}

func (p *plain) stop() {
	for _, l := range p.nodes {
		_ = l.Shutdown() // it has nothing to lose
	}
}

func (p *plain) cutOff(host string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[host] = &cut{at: at}
}

func (p *plain) healed(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[host].healed = time.Now()
}

func (p *plain) isCut(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cuts[host]
	return c != nil && c.healed.IsZero()
}

// leftAfter is how long after its cut a host was said to have left; zero: not yet.
func (p *plain) leftAfter(host string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.cuts[host]; !c.left.IsZero() {
		return c.left.Sub(c.at)
	}
	return 0
}

func (p *plain) count() (wrong, blamed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrong, p.blamed
}

// leaves takes what one node is told.
type leaves struct {
	*plain
	at string
}

// NotifyLeave is called under the lock of memberlist.
func (l leaves) NotifyLeave(n *memberlist.Node) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	by, of := l.cuts[l.at], l.cuts[n.Name]
	switch {
	case by.away():
		l.blamed++
	case of.away():
		if of.left.IsZero() {
			of.left = now
		}
	case !by.lingers(now) && !of.lingers(now):
		l.wrong++
	}
}

// NotifyJoin is no news here.
func (l leaves) NotifyJoin(*memberlist.Node) {}

// NotifyUpdate is none either.
func (l leaves) NotifyUpdate(*memberlist.Node) {}

func (c *cut) away() bool { return c != nil && c.healed.IsZero() }

func (c *cut) lingers(now time.Time) bool { return c != nil && now.Sub(c.healed) < lingering }

// hostTransport gives memberlist the sockets of a host of the lab.
type hostTransport struct {
	host    *lab.Host
	ip      net.IP
	port    int
	udp     net.PacketConn
	tcp     net.Listener
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func newHostTransport(h *lab.Host, addr string, port int) (*hostTransport, error) {
	at := fmt.Sprintf("%s:%d", addr, port)
	udp, err := h.ListenPacket(at)
	if err != nil {
		return nil, fmt.Errorf("host %s: memberlist: %w", h.Name, err)
	}
	tcp, err := h.Listen(at)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("host %s: memberlist: %w", h.Name, err), udp.Close())
	}
	t := &hostTransport{
		host: h, ip: net.ParseIP(addr), port: port, udp: udp, tcp: tcp,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	go t.readPackets()
	go t.readStreams()
	return t, nil
}

// readPackets ends with Shutdown.
func (t *hostTransport) readPackets() {
	buf := make([]byte, 65536)
	for {
		n, from, err := t.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: slices.Clone(buf[:n]), From: from, Timestamp: time.Now()}:
		case <-t.done:
			return
		}
	}
}

// readStreams ends with Shutdown.
func (t *hostTransport) readStreams() {
	for {
		c, err := t.tcp.Accept()
		if err != nil {
			return
		}
		select {
		case t.streams <- c:
		case <-t.done:
			c.Close()
			return
		}
	}
}

// FinalAdvertiseAddr is part of memberlist.Transport, as are the others below.
func (t *hostTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.ip, t.port, nil
}

func (t *hostTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteTo(b, to)
	return time.Now(), err
}

func (t *hostTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *hostTransport) StreamCh() <-chan net.Conn { return t.streams }

func (t *hostTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.host.DialTimeout(addr, timeout)
}

func (t *hostTransport) Shutdown() (err error) {
	t.once.Do(func() {
		close(t.done)
		err = errors.Join(t.udp.Close(), t.tcp.Close())
	})
	return err
}
