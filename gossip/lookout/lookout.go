// Package lookout carries a watch.Machine through the network: it owns the sockets, the timers and the authentication.
//
// One goroutine does everything. Whenever it wakes up it first reads all that waits on its sockets and only then tells the machine
// how late it is: a host whose process was held up must not accuse those whose heartbeats lie unread.
//
// Frames are sealed for everybody who holds a gossip key, and numbered, so that none counts twice. What was recorded of a host
// that is dead now must not revive it, not even for a receiver that has itself just begun: an unknown session is believed only
// after it has answered a fresh challenge. See docs/host-loss.md.
package lookout

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// Host is one line of the roster and where its agent is watched.
type Host struct {
	watch.Host
	// Addr is where it takes frames (UDP), and its address is that of the kernel that is asked for echoes. Zero: unknown.
	Addr netip.AddrPort
}

// Config is what a Lookout is made of.
type Config struct {
	Self string
	// Bind is where frames are taken. With a specified address the echoes are asked from it, too.
	Bind    netip.AddrPort
	Boot    [16]byte  // the kernel's boot id
	Started time.Time // when the agent did, by the wall clock: of two sessions of one host the newer one counts
	// Keys of the gossip: the first seals, all open. None: frames are neither secret nor authentic.
	Keys                [][]byte
	Probable, Confirmed time.Duration
	// Witness is an outside address that answers echoes: an IP address or a host name. A port is ignored.
	Witness string
	Log     *slog.Logger // nil: nowhere
	// News and Restarted are called by the owner of the machine: they must neither block nor call the Lookout. They may be nil.
	News      func(watch.News)
	Restarted func(Restarted)
}

// Restarted says that a host is heard under another boot id than before.
type Restarted struct {
	Host         string
	Started      time.Time // its agent, by its own clock
	Boot, Before [16]byte  // kernel boot ids
}

// machine is a watch.Machine.
type machine interface {
	Hosts(now time.Time, hosts []watch.Host) watch.Effects
	Receive(now time.Time, from string, p watch.Packet) watch.Effects
	Echoed(now time.Time, host string, asked time.Time) watch.Effects
	Closed(now time.Time, host string) watch.Effects
	WitnessEchoed(now, asked time.Time) watch.Effects
	Tick(now time.Time) watch.Effects
	Goodbye(now time.Time, why watch.Left) watch.Effects
	Status(now time.Time) watch.Status
}

// Lookout is one host's part in the watch. Its methods are safe for concurrent use.
type Lookout struct {
	cfg  Config
	addr netip.AddrPort

	mu      sync.Mutex
	began   bool // Run was called
	closed  bool // the descriptors are
	mailbox mailbox
	kick    chan struct{} // capacity 1: the mailbox has something
	slots   chan struct{} // one for each call in the mailbox
	ended   chan struct{} // Run has returned, or Close came before it

	// The rest belongs to the owner: whoever made it, then Run.
	machine   machine
	start     time.Time
	udp       socket
	echoes    *echoes
	wakeFD    int
	fds       []unix.PollFd
	wake      time.Time // when the machine wants to be told of the time
	nap       *time.Timer
	calm      bool      // it lets packets lie for watch.Patience
	last      time.Time // that the machine was told
	missed    time.Time // the last wake that was missed
	hosts     map[string]target
	byAddr    map[netip.AddrPort]string
	sessions  *sessions
	seal      seal
	witness   netip.Addr
	counters  Counters
	in, clear []byte
	oob       []byte
	out       []byte
}

// mailbox holds what the owner takes next. What is put in replaces what was there; the calls come after all that.
type mailbox struct {
	calls   []call
	hosts   []Host
	news    bool // hosts is
	keys    [][]byte
	witness netip.Addr
}

// call is something that the owner does for another goroutine; it closes done.
type call struct {
	do   func(now time.Time)
	done chan struct{}
}

// target is where a host is.
type target struct {
	addr netip.AddrPort
	to   unix.Sockaddr // nil: not known, or out of reach of our socket
}

const (
	// late is by how much a wake-up may miss its time before it is counted.
	late = 30 * time.Millisecond
	// maxCalls wait for the owner at once; further callers wait for those.
	maxCalls = 64
	// maxRefused entries of the error queue are read in a round. The kernel limits how many come (icmp(7), icmp_ratelimit).
	maxRefused = 256
)

// New opens the sockets, so that a port that is taken is known at once. Close it when Run is never called.
func New(cfg Config) (*Lookout, error) {
	return open(cfg, []EchoKind{EchoRaw, EchoPing}, func(c watch.Config, rand func() uint64, now time.Time) machine {
		return watch.New(c, rand, now)
	})
}

func open(cfg Config, kinds []EchoKind, newMachine func(watch.Config, func() uint64, time.Time) machine) (*Lookout, error) {
	switch {
	case cfg.Self == "" || len(cfg.Self) > maxName:
		return nil, fmt.Errorf("the name of this host must be 1 to %d bytes long, it has %d", maxName, len(cfg.Self))
	case !cfg.Bind.Addr().IsValid():
		return nil, errors.New("there is no address to bind to")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Bind = netip.AddrPortFrom(cfg.Bind.Addr().Unmap(), cfg.Bind.Port())
	l := &Lookout{
		cfg: cfg, start: time.Now(), kick: make(chan struct{}, 1), nap: time.NewTimer(time.Hour), slots: make(chan struct{}, maxCalls), ended: make(chan struct{}),
		in: make([]byte, maxFrame+1), clear: make([]byte, 0, maxFrame), oob: make([]byte, 512),
	}
	_, _ = crand.Read(l.seal.session[:]) // never fails, see crypto/rand
	l.sessions = newSessions(l.seal.session, cloneKeys(cfg.Keys))
	if err := l.useKey(); err != nil {
		return nil, err
	}
	var err error
	if l.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("open an eventfd: %w", err)
	}
	if l.udp, err = openUDP(cfg.Bind); err != nil {
		_ = unix.Close(l.wakeFD)
		return nil, fmt.Errorf("watch on %v: %w", cfg.Bind, err)
	}
	l.addr = l.udp.addr()
	l.echoes = openEchoes(cfg.Bind, kinds)
	l.fds = []unix.PollFd{{Fd: int32(l.wakeFD), Events: unix.POLLIN}, {Fd: int32(l.udp.fd), Events: unix.POLLIN}}
	for _, s := range l.echoes.sockets {
		l.fds = append(l.fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	echo := l.echoes.kind != EchoNone
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails, see crypto/rand
	l.machine = newMachine(watch.Config{
		Self: cfg.Self, Probable: cfg.Probable, Confirmed: cfg.Confirmed, Witness: echo && cfg.Witness != "", Echo: echo,
	}, rand.NewChaCha8(seed).Uint64, l.now())
	l.setHosts(l.now(), nil)
	return l, nil
}

// now never goes back, and jumps with no clock: it is the start and what the monotonic clock counted since.
func (l *Lookout) now() time.Time { return l.start.Add(time.Since(l.start)) }

// Addr is where frames are taken.
func (l *Lookout) Addr() netip.AddrPort { return l.addr }

// SetHosts replaces the roster. It does not wait.
func (l *Lookout) SetHosts(hosts []Host) {
	hosts = slices.Clone(hosts)
	l.post(func(m *mailbox) { m.hosts, m.news = hosts, true })
}

// SetKeys replaces the keys of the gossip: the first seals, all open. Sealing cannot be turned on or off. It does not wait.
func (l *Lookout) SetKeys(keys [][]byte) error {
	if (len(keys) == 0) != (len(l.cfg.Keys) == 0) {
		return errors.New("sealing cannot be turned on or off while the watch runs")
	}
	keys = cloneKeys(keys)
	l.post(func(m *mailbox) { m.keys = keys })
	return nil
}

// Goodbye tells everybody that this host leaves, and returns once that is sent.
func (l *Lookout) Goodbye(why watch.Left) {
	l.ask(func(now time.Time) { l.apply(now, l.machine.Goodbye(now, why)) })
}

func cloneKeys(keys [][]byte) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = slices.Clone(k)
	}
	return out
}

// post puts something into the mailbox.
func (l *Lookout) post(put func(*mailbox)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	put(&l.mailbox)
	l.rouse()
}

// rouse wakes the owner. mu is held, so that the descriptor is ours.
func (l *Lookout) rouse() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
	if !l.closed {
		_, _ = unix.Write(l.wakeFD, binary.NativeEndian.AppendUint64(nil, 1)) // full: it is awake already
	}
}

// ask has the owner do something and waits for it. It returns false when there is no owner.
func (l *Lookout) ask(do func(now time.Time)) bool {
	l.mu.Lock()
	began := l.began
	l.mu.Unlock()
	if !began {
		return false
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-l.ended:
		return false
	}
	c := call{do, make(chan struct{})}
	l.post(func(m *mailbox) { m.calls = append(m.calls, c) })
	select {
	case <-c.done:
		return true
	case <-l.ended:
		select { // it was the last that was done
		case <-c.done:
			return true
		default:
			return false
		}
	}
}

// Close ends a Lookout that was never run.
func (l *Lookout) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.began {
		l.began = true
		l.shut()
	}
}

// shut closes everything. mu is held.
func (l *Lookout) shut() {
	l.closed = true
	l.udp.close()
	l.echoes.close()
	_ = unix.Close(l.wakeFD)
	close(l.ended)
}

// Run watches until the context ends, then closes the sockets. It can be called once.
func (l *Lookout) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.began {
		l.mu.Unlock()
		return errors.New("the watch ran already")
	}
	l.began = true
	l.mu.Unlock()
	var helpers sync.WaitGroup
	defer func() {
		l.mu.Lock()
		l.shut()
		l.mu.Unlock()
		helpers.Wait()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.post(func(*mailbox) {}) })()
	if l.cfg.Witness != "" {
		helpers.Go(func() { l.resolve(ctx) })
	}
	now := l.now()
	l.apply(now, l.machine.Tick(now))
	for {
		now := l.drain()
		if l.obey(now) {
			now = l.drain()
		}
		if ctx.Err() != nil { // after obey, which may have taken the wake-up that says so
			return nil
		}
		if !l.wake.After(now) {
			l.apply(now, l.machine.Tick(now))
		}
		if err := l.sleep(); err != nil {
			return err
		}
	}
}

// measure counts a wake-up that comes late, once.
func (l *Lookout) measure(now time.Time) {
	if by := now.Sub(l.wake); by > late && !l.wake.Equal(l.missed) {
		l.missed = l.wake
		l.counters.Late++
		l.counters.Latest = max(l.counters.Latest, by)
	}
}

// sleep waits for a socket, a command or the machine's time. As long as the machine is calm the sockets are let be for a while: a
// thread that waits in the kernel makes the runtime's monitor look after it every 20 µs, which costs more than the packets do.
func (l *Lookout) sleep() error {
	wait := max(0, l.wake.Sub(l.now()))
	if l.calm {
		l.nap.Reset(min(wait, watch.Patience))
		select {
		case <-l.kick:
		case <-l.nap.C:
		}
		return nil
	}
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	if _, err := unix.Ppoll(l.fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for packets: %w", err)
	}
	return nil
}

// obey carries out what others want of the owner. It returns false when that was nothing.
func (l *Lookout) obey(now time.Time) bool {
	var b [8]byte
	_, _ = unix.Read(l.wakeFD, b[:]) // before the mailbox is read: what comes later wakes us again
	l.mu.Lock()
	m := l.mailbox
	l.mailbox = mailbox{}
	l.mu.Unlock()
	did := false
	if m.witness.IsValid() {
		l.witness, did = m.witness, true
	}
	if m.keys != nil {
		l.sessions.setKeys(m.keys)
		if err := l.useKey(); err != nil {
			l.cfg.Log.Error("the watch goes on with its old key", "error", err)
		}
		did = true
	}
	if m.news {
		l.setHosts(now, m.hosts)
		did = true
	}
	for _, c := range m.calls {
		c.do(now)
		close(c.done)
	}
	return did || len(m.calls) > 0
}

func (l *Lookout) setHosts(now time.Time, hosts []Host) {
	l.hosts = make(map[string]target, len(hosts))
	l.byAddr = make(map[netip.AddrPort]string, len(hosts))
	watched := make([]watch.Host, len(hosts))
	names := make([]string, 0, len(hosts))
	for i, h := range hosts {
		watched[i] = h.Host
		if h.Name == l.cfg.Self {
			continue
		}
		names = append(names, h.Name)
		t := target{addr: netip.AddrPortFrom(h.Addr.Addr().Unmap(), h.Addr.Port())}
		if t.addr.IsValid() && t.addr.Port() != 0 {
			t.to = l.udp.sockaddr(t.addr)
			l.byAddr[netip.AddrPortFrom(t.addr.Addr().WithZone(""), t.addr.Port())] = h.Name
		}
		l.hosts[h.Name] = t
	}
	l.sessions.setHosts(names)
	l.apply(now, l.machine.Hosts(now, watched))
}

// sessionList is of those that are believed, by host.
func (l *Lookout) sessionList(now time.Time) []Session {
	var out []Session
	for _, name := range slices.Sorted(maps.Keys(l.sessions.peers)) {
		if x := l.sessions.peers[name].current; x != nil {
			out = append(out, Session{Host: name, Started: time.UnixMilli(x.started), Boot: x.boot, Heard: now.Sub(x.heard)})
		}
	}
	return out
}
