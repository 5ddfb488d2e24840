package lookout

import (
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// asks has the machine want echoes.
func (r *running) asks(hosts ...string) {
	r.do(func(now time.Time) { r.apply(now, watch.Effects{Ping: hosts, PingWitness: true}) })
}

// checkEchoes has a lookout ask two kernels, of which one is nowhere.
func checkEchoes(t *testing.T, a *running, there, nowhere string) {
	t.Helper()
	a.know(at("there", netip.AddrPortFrom(netip.MustParseAddr(there), 7000)), at("nowhere", netip.AddrPortFrom(netip.MustParseAddr(nowhere), 7000)), at("unknown", netip.AddrPort{}))
	for range 10 {
		a.asks("there", "nowhere", "unknown")
	}
	eventually(t, "the kernel answers", func() bool { return a.count("echo of there") == 10 })
	a.settle()
	s := a.Status().Counters
	if a.count("echo of nowhere") != 0 || s.EchoesForeign != 0 || s.EchoReplies < 10 || s.Unsent != 10 {
		t.Errorf("it counts %+v", s)
	}
	for _, d := range a.told.roundTrips() {
		if d < 0 || d > time.Second {
			t.Errorf("a round trip of %v", d)
		}
	}
}

func (f *fake) roundTrips() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.echoes)
}

func TestKernelsAnswerRawSockets(t *testing.T) {
	t.Parallel()
	needRaw(t)
	for name, c := range map[string]struct{ bind, there, nowhere string }{
		"IPv4": {"", "", "2001:db8::1"}, "IPv6": {"::1", "::1", "2001:db8::1"}, "both, to IPv4": {"::", "", "2001:db8::1"}, "both, to IPv6": {"::", "::1", "2001:db8::1"},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := loopback.Network(t)
			if c.bind == "" {
				c.bind = prefix + ".1"
			}
			if c.there == "" {
				c.there = prefix + ".2"
			}
			a := start(t, "a", c.bind, func(cfg *Config) { cfg.Witness = prefix + ".3:99" })
			if s := a.Status(); s.Echo != EchoRaw || s.EchoReason != "raw ICMP sockets" {
				t.Fatalf("status is %+v", s)
			}
			checkEchoes(t, a, c.there, c.nowhere)
			if c.bind != "::1" {
				eventually(t, "the witness answers", func() bool { a.asks(); return a.count("echo of the witness") > 0 })
			}
		})
	}
}

func TestTheRepliesToOthersStayInTheKernel(t *testing.T) {
	t.Parallel()
	needRaw(t)
	prefix := loopback.Network(t)
	a, b := start(t, "a", "::", nil), start(t, "b", "::", nil)
	a.know(at("four", netip.MustParseAddrPort(prefix+".1:7000")), at("six", netip.MustParseAddrPort("[::1]:7000")))
	for range 10 {
		a.asks("four", "six")
	}
	eventually(t, "both answer", func() bool { return a.count("echo of four") == 10 && a.count("echo of six") == 10 })
	b.settle()
	if s := b.Status().Counters; s.EchoesForeign != 0 {
		t.Errorf("the other one counts %+v", s)
	}
}

func needRaw(t *testing.T) {
	t.Helper()
	if !mayOpen(EchoRaw) {
		t.Fatal("needs raw sockets: run it as root, or with CAP_NET_RAW")
	}
}

func mayOpen(kind EchoKind) bool {
	e := openEchoes(netip.MustParseAddrPort("127.0.0.1:0"), []EchoKind{kind})
	defer e.close()
	return e.kind == kind
}

// elsewhere runs a test on a thread of its own, in a network of its own, without CAP_NET_RAW.
func elsewhere(t *testing.T, pings string, test func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs a network namespace of its own: run it as root")
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if _, err := netns.New(); err != nil {
			t.Errorf("make a network namespace: %v", err)
			return
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err == nil {
			// By its thread: /proc/sys/net is that of the process's first one otherwise.
			err = os.WriteFile("/proc/thread-self/../../../sys/net/ipv4/ping_group_range", []byte(pings), 0)
		}
		if err != nil {
			t.Errorf("set up a network namespace: %v", err)
			return
		}
		head, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capget(&head, &data[0]); err != nil {
			t.Errorf("read capabilities: %v", err)
			return
		}
		data[0].Effective &^= 1 << unix.CAP_NET_RAW
		data[0].Permitted &^= 1 << unix.CAP_NET_RAW
		if err := unix.Capset(&head, &data[0]); err != nil {
			t.Errorf("drop CAP_NET_RAW: %v", err)
			return
		}
		test()
	}()
	<-done
}

func TestKernelsAnswerUnprivilegedSockets(t *testing.T) {
	var a, b *running
	elsewhere(t, "0 2147483647", func() {
		a, b = start(t, "a", "127.0.0.1", nil), start(t, "b", "::", nil)
	})
	if t.Failed() {
		return
	}
	for r, there := range map[*running]string{a: "127.0.0.2", b: "::1"} {
		if s := r.Status(); s.Echo != EchoPing || s.EchoReason != "unprivileged ICMP sockets" {
			t.Fatalf("status is %+v", s)
		}
		checkEchoes(t, r, there, "2001:db8::1")
	}
}

func TestWithoutAnyRightNoKernelIsAskedAndTheReasonIsTold(t *testing.T) {
	var a *running
	elsewhere(t, "1 0", func() { a = start(t, "a", "127.0.0.1", nil) })
	if t.Failed() {
		return
	}
	s := a.Status()
	if s.Echo != EchoNone || !strings.Contains(s.EchoReason, "raw: ") || !strings.Contains(s.EchoReason, "CAP_NET_RAW") || !strings.Contains(s.EchoReason, "ping_group_range") {
		t.Errorf("status is %+v", s)
	}
	a.know(at("b", netip.MustParseAddrPort("127.0.0.2:7000")))
	a.asks("b")
	if s := a.Status().Counters; s.EchoesSent != 0 || s.SendErrors != 1 {
		t.Errorf("it counts %+v", s)
	}
}

func TestForeignAndLateRepliesAreDropped(t *testing.T) {
	t.Parallel()
	needRaw(t)
	prefix := loopback.Network(t)
	e := openEchoes(netip.MustParseAddrPort(prefix+".1:0"), []EchoKind{EchoRaw})
	defer e.close()
	s := e.sockets[0]
	s.kind = EchoPing // as for replies: no header of IPv4 before them
	there, now := netip.MustParseAddr(prefix+".2"), time.Unix(1, 0)
	asks := func() []byte {
		t.Helper()
		if err := e.ask(now, "b", there); err != nil {
			t.Fatal(err)
		}
		b := s.request(e.seq, e.order[len(e.order)-1])
		b[0] = echoReply4
		return b
	}
	good := asks()
	other := slices.Clone(good)
	other[len(other)-1]++
	if _, ok := e.reply(now, s, other, there); ok {
		t.Error("a reply with another token was taken")
	}
	if _, ok := e.reply(now, s, good, there.Next()); ok {
		t.Error("a reply from another host was taken")
	}
	for n := range good {
		if _, ok := e.reply(now, s, good[:n], there); ok {
			t.Errorf("%d bytes of a reply were taken", n)
		}
	}
	if a, ok := e.reply(now.Add(time.Second), s, good, there); !ok || a.host != "b" || !a.at.Equal(now) {
		t.Errorf("got %+v %v", a, ok)
	}
	if _, ok := e.reply(now, s, good, there); ok {
		t.Error("a reply was taken twice")
	}
	lateOne := asks()
	if _, ok := e.reply(now.Add(echoPatience), s, lateOne, there); ok {
		t.Error("a late reply was taken")
	}
	for range maxEchoes + 10 {
		_ = e.ask(now, "b", there)
	}
	if err := e.ask(now, "b", there); err != errPace { //nolint:errorlint // it is never wrapped
		t.Errorf("got %v", err)
	}
	now = now.Add(time.Minute)
	asks()
	if len(e.pending) != 1 || len(e.order) != 1 {
		t.Errorf("%d echoes are waited for", len(e.pending))
	}
}

func TestAWitnessThatHasANameIsLookedUp(t *testing.T) {
	t.Parallel()
	needRaw(t)
	prefix := loopback.Network(t)
	a := start(t, "a", prefix+".1", func(cfg *Config) { cfg.Witness = "localhost" })
	eventually(t, "the witness answers", func() bool { a.asks(); return a.count("echo of the witness") > 0 })
}
