package lookout

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// These tests run real sockets on loopback addresses of their own, under a machine that writes down what it is told.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come; in practice it takes far less.
const patience = 30 * time.Second

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// fake is a machine that wants nothing, unless told, and writes down its calls.
type fake struct {
	mu      sync.Mutex
	calls   []string
	echoes  []time.Duration // their round trips
	every   time.Duration   // between ticks; zero: an hour
	onHosts func()
}

func (f *fake) note(now time.Time, format string, args ...any) watch.Effects {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	if f.every == 0 {
		return watch.Effects{Wake: now.Add(time.Hour)}
	}
	return watch.Effects{Wake: now.Add(f.every)}
}

func (f *fake) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (f *fake) Hosts(now time.Time, hosts []watch.Host) watch.Effects {
	f.mu.Lock()
	on := f.onHosts
	f.mu.Unlock()
	if on != nil {
		on()
	}
	return f.note(now, "hosts %d", len(hosts))
}

func (f *fake) Receive(now time.Time, from string, p watch.Packet) watch.Effects {
	return f.note(now, "%s: %d", from, p.Stamp)
}

func (f *fake) Echoed(now time.Time, host string, asked time.Time) watch.Effects {
	f.mu.Lock()
	f.echoes = append(f.echoes, now.Sub(asked))
	f.mu.Unlock()
	return f.note(now, "echo of %s", host)
}

func (f *fake) Closed(now time.Time, host string) watch.Effects {
	return f.note(now, "closed %s", host)
}

func (f *fake) WitnessEchoed(now, _ time.Time) watch.Effects {
	return f.note(now, "echo of the witness")
}

func (f *fake) Tick(now time.Time) watch.Effects { return f.note(now, "tick") }

func (f *fake) Goodbye(now time.Time, why watch.Left) watch.Effects {
	return f.note(now, "goodbye %d", why)
}
func (f *fake) Status(time.Time) watch.Status { return watch.Status{Isolated: true} }

// running is a lookout that runs.
type running struct {
	*Lookout
	told *fake
	t    testing.TB
	end  func()
}

// key returns one of the keys of these tests.
func key(b byte) []byte { return slices.Repeat([]byte{b}, 32) }

func (r *running) count(call string) int { return r.told.count(call) }

// start runs a lookout on an address; change, if any, changes what is usual.
func start(t testing.TB, self, addr string, change func(*Config)) *running {
	t.Helper()
	return startAs(t, self, addr, []EchoKind{EchoRaw, EchoPing}, &fake{}, change)
}

func startAs(t testing.TB, self, addr string, kinds []EchoKind, f *fake, change func(*Config)) *running {
	t.Helper()
	cfg := Config{
		Self: self, Bind: netip.AddrPortFrom(netip.MustParseAddr(addr), 0), Boot: [16]byte{1}, Started: time.UnixMilli(1_000_000),
		Keys: [][]byte{key(1)}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	l, err := open(cfg, kinds, func(watch.Config, func() uint64, time.Time) machine { return f })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	r := &running{Lookout: l, told: f, t: t, end: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(r.end)
	eventually(t, "it runs", func() bool { return l.ask(func(time.Time) {}) })
	return r
}

func at(name string, addr netip.AddrPort) Host {
	return Host{Host: watch.Host{Name: name, Member: true, Watched: true}, Addr: addr}
}

// know gives a lookout its hosts, and returns when it has taken them.
func (r *running) know(hosts ...Host) {
	r.SetHosts(hosts)
	r.do(func(time.Time) {})
}

// do has the owner do something.
func (r *running) do(f func(now time.Time)) {
	r.t.Helper()
	if !r.ask(f) {
		r.t.Fatal("it does not run")
	}
}

// say sends a packet as the machine would.
func (r *running) say(to string, stamp uint64) {
	r.do(func(now time.Time) {
		r.apply(now, watch.Effects{Send: []watch.Send{{To: to, Packet: watch.Packet{Kind: watch.EchoReply, Stamp: stamp}}}, Wake: r.wake})
	})
}

// sayUntilHeard says something new until the other believes us.
func (r *running) sayUntilHeard(to *running, name string, stamp uint64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%s hears %s", name, r.cfg.Self), func() bool {
		r.say(name, stamp)
		return to.count(fmt.Sprintf("%s: %d", r.cfg.Self, stamp)) > 0
	})
}

// introduce lets hosts know each other.
func introduce(all ...*running) {
	var hosts []Host
	for _, r := range all {
		hosts = append(hosts, at(r.cfg.Self, r.Addr()))
	}
	for _, r := range all {
		r.know(hosts...)
	}
}

// tap stands between two lookouts and keeps what passes.
type tap struct {
	net.PacketConn
	mu     sync.Mutex
	frames [][]byte
}

func newTap(t testing.TB, addr string, to netip.AddrPort) *tap {
	t.Helper()
	c, err := net.ListenPacket("udp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{PacketConn: c}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.frames = append(p.frames, slices.Clone(b[:n]))
			p.mu.Unlock()
			p.send(b[:n], to)
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return p
}

func (p *tap) addr() netip.AddrPort { return p.LocalAddr().(*net.UDPAddr).AddrPort() }

func (p *tap) send(b []byte, to netip.AddrPort) {
	_, _ = p.WriteTo(b, net.UDPAddrFromAddrPort(to))
}

func (p *tap) kept() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.frames)
}

// settle returns once everything that was sent to a lookout before is read: on the loopback a send is in the other's queue.
func (r *running) settle() {
	r.do(func(time.Time) {})
	r.do(func(time.Time) {})
}
