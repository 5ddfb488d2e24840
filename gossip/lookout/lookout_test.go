package lookout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

func TestAHostIsHeardOnceItHasAnsweredAChallenge(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][][]byte{"sealed": {key(1)}, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			prefix := loopback.Network(t)
			withKeys := func(c *Config) { c.Keys = keys }
			a, b := start(t, "a", prefix+".1", withKeys), start(t, "b", prefix+".2", withKeys)
			introduce(a, b)
			hold := make(chan struct{})
			a.do(func(now time.Time) { // a cannot answer meanwhile
				for i := range uint64(3) {
					a.apply(now, watch.Effects{Send: []watch.Send{{To: "b", Packet: watch.Packet{Kind: watch.EchoReply, Stamp: i}}}})
				}
				go func() {
					defer close(hold)
					b.settle()
					if s := b.Status(); len(s.Sessions) != 0 || s.Counters.Unchallenged != 3 || s.Counters.Sent != 1 {
						t.Errorf("before a has answered status is %+v", s)
					}
				}()
				<-hold
			})
			eventually(t, "b hears a", func() bool { return b.count("a: 2") == 1 })
			s := b.Status()
			if b.count("a: 0")+b.count("a: 1") != 0 || s.Counters.Unchallenged != 3 || !s.Isolated || s.Sessions[0].Host != "a" || !s.Sessions[0].Started.Equal(a.cfg.Started) || s.Sessions[0].Boot != a.cfg.Boot {
				t.Errorf("status is %+v", s)
			}
		})
	}
}

func TestARepeatedFrameIsRefused(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", nil), start(t, "b", prefix+".2", nil)
	introduce(a, b)
	tap := newTap(t, prefix+".3", b.Addr())
	a.know(at("b", tap.addr()))
	a.sayUntilHeard(b, "b", 7)
	a.say("b", 8)
	eventually(t, "nothing is under way any more", func() bool { return b.count("a: 8") == 1 })
	heard, replayed := b.count("a: 7"), b.Status().Counters.Replayed
	frames := tap.kept()
	for _, f := range frames {
		tap.send(f, b.Addr())
	}
	eventually(t, "the frames are refused", func() bool {
		return b.Status().Counters.Replayed == replayed+uint64(len(frames))
	})
	if n := b.count("a: 7"); n != heard {
		t.Errorf("heard %d times, and %d times after the frames came again", heard, n)
	}
}

func TestARecordingOfADeadHostRevivesNobody(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", nil), start(t, "b", prefix+".2", nil)
	introduce(a, b)
	tap := newTap(t, prefix+".3", b.Addr())
	a.know(at("b", tap.addr()))
	a.sayUntilHeard(b, "b", 7)
	for i := range uint64(20) {
		a.say("b", 100+i)
	}
	eventually(t, "all is heard", func() bool { return b.count("a: 119") == 1 })
	a.end()
	b.end()
	// b begins again, knowing nothing.
	b = start(t, "b", prefix+".2", nil)
	b.know(at("a", a.Addr()), at("b", b.Addr()))
	frames := tap.kept()
	for _, f := range frames {
		tap.send(f, b.Addr())
	}
	eventually(t, "the frames are read", func() bool { return b.Status().Counters.Received == uint64(len(frames)) })
	if s := b.Status(); len(s.Sessions) != 0 || s.Counters.Unchallenged == 0 {
		t.Errorf("a dead host is believed: %+v", s)
	}
	if n := b.count("a: 119"); n != 0 {
		t.Error("a dead host was heard")
	}
}

func TestARestartedHostIsHeardAtOnceAndItsOldSessionNoLonger(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	restarts := make(chan Restarted, 10)
	a := start(t, "a", prefix+".1", nil)
	b := start(t, "b", prefix+".2", func(c *Config) { c.Restarted = func(r Restarted) { restarts <- r } })
	introduce(a, b)
	a.sayUntilHeard(b, "b", 1)

	// The agent alone, then the host. The old ones go on, as replays or as a process that somebody forgot.
	agent := start(t, "a", prefix+".3", func(c *Config) { c.Started = c.Started.Add(time.Minute) })
	agent.know(at("b", b.Addr()))
	b.know(at("a", agent.Addr()))
	agent.sayUntilHeard(b, "b", 2)
	if len(restarts) != 0 {
		t.Errorf("the agent began again, and that is taken for %+v", <-restarts)
	}
	host := start(t, "a", prefix+".4", func(c *Config) { c.Started, c.Boot = c.Started.Add(time.Hour), [16]byte{2} })
	host.know(at("b", b.Addr()))
	b.know(at("a", host.Addr()))
	host.sayUntilHeard(b, "b", 3)
	want := Restarted{Host: "a", Started: host.cfg.Started, Boot: [16]byte{2}, Before: [16]byte{1}}
	select {
	case got := <-restarts:
		if !got.Started.Equal(want.Started) || got.Boot != want.Boot || got.Before != want.Before || got.Host != "a" {
			t.Errorf("got %+v, not %+v", got, want)
		}
	default:
		t.Error("nobody was told that the host began again")
	}

	refused := b.Status().Counters.OldSession
	host.say("b", 4) // it lives: within a second nobody older has a say
	a.say("b", 5)
	agent.say("b", 5)
	b.settle()
	if got := b.Status().Counters.OldSession - refused; got != 2 {
		t.Errorf("%d of 2 frames of old sessions were refused as such", got)
	}
	if b.count("a: 5") != 0 {
		t.Error("an old session was heard")
	}
}

func TestFramesUnderOtherKeysAreRefused(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", func(c *Config) { c.Keys = [][]byte{key(9)} }), start(t, "b", prefix+".2", nil)
	c := start(t, "c", prefix+".3", func(c *Config) { c.Keys = nil })
	introduce(a, b, c)
	a.say("b", 1)
	b.say("a", 1)
	c.say("b", 1)
	b.say("c", 1)
	for _, r := range []*running{a, b, c} {
		r.settle()
	}
	if s := a.Status().Counters; s.UnknownKey != 1 {
		t.Errorf("a counts %+v", s)
	}
	if s := b.Status().Counters; s.UnknownKey != 1 || s.Framing != 1 {
		t.Errorf("b counts %+v", s)
	}
	if s := c.Status().Counters; s.Framing != 1 {
		t.Errorf("c counts %+v", s)
	}
	if err := b.SetKeys(nil); err == nil {
		t.Error("sealing was turned off")
	}
	if err := c.SetKeys([][]byte{key(1)}); err == nil {
		t.Error("sealing was turned on")
	}
}

func TestKeysRotateWithoutLosingAFrame(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", nil), start(t, "b", prefix+".2", nil)
	introduce(a, b)
	a.sayUntilHeard(b, "b", 1)
	b.sayUntilHeard(a, "a", 1)
	stamp := uint64(10)
	check := func(step string) {
		t.Helper()
		stamp++
		a.say("b", stamp)
		b.say("a", stamp)
		a.settle()
		b.settle()
		if a.count(fmt.Sprintf("b: %d", stamp)) != 1 || b.count(fmt.Sprintf("a: %d", stamp)) != 1 {
			t.Errorf("%s: a frame was lost: %+v %+v", step, a.Status(), b.Status())
		}
	}
	check("at first")
	set := func(r *running, keys ...[]byte) {
		t.Helper()
		if err := r.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
		r.settle()
	}
	set(a, key(1), key(2))
	check("a knows the new key")
	set(b, key(1), key(2))
	check("both know the new key")
	set(a, key(2), key(1))
	check("a seals with the new key")
	set(b, key(2), key(1))
	check("both seal with the new key")
	set(a, key(2))
	check("a has forgotten the old key")
	set(b, key(2))
	check("both have forgotten the old key")
	set(b, key(3))
	a.say("b", 1000)
	b.settle()
	if s := b.Status(); s.Counters.UnknownKey != 1 || len(s.Sessions) != 0 {
		t.Errorf("a session outlived its key: %+v", s)
	}
}

func TestHostsThatNobodyKnowsAreRefusedAndForgottenOnesForgotten(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", nil), start(t, "b", prefix+".2", nil)
	a.know(at("b", b.Addr()))
	a.say("b", 1)
	b.settle()
	if s := b.Status().Counters; s.UnknownHost != 1 {
		t.Errorf("b counts %+v", s)
	}
	b.know(at("a", netip.AddrPort{})) // there is such a host, where is not known: it is answered where it speaks from
	a.sayUntilHeard(b, "b", 2)
	b.know()
	b.do(func(time.Time) {
		if len(b.sessions.byID) != 0 || len(b.sessions.peers) != 0 {
			t.Error("a session outlived its host")
		}
	})
	impostor := start(t, "b", prefix+".3", nil)
	impostor.know(at("b", b.Addr()), at("x", b.Addr()))
	refused := b.Status().Counters.UnknownHost
	impostor.say("x", 1) // in the name of b itself
	b.settle()
	if s := b.Status().Counters; s.UnknownHost != refused+1 {
		t.Errorf("b counts %+v", s)
	}
	a.say("nobody", 1)
	if s := a.Status().Counters; s.Unsent != 1 {
		t.Errorf("a counts %+v", s)
	}
}

func TestAllThatWaitsIsReadBeforeTheMachineIsToldOfTheTime(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", nil), startAs(t, "b", prefix+".2", []EchoKind{EchoNone}, &fake{every: 5 * time.Millisecond}, nil)
	introduce(a, b)
	a.sayUntilHeard(b, "b", 1)
	entered, release := make(chan struct{}), make(chan struct{})
	b.told.change(func(f *fake) {
		f.onHosts = sync.OnceFunc(func() { close(entered); <-release })
	})
	b.SetHosts([]Host{at("a", a.Addr())})
	<-entered
	const packets = 3000
	for i := range uint64(packets) {
		a.say("b", 100+i)
	}
	timer := time.NewTimer(50 * time.Millisecond) // so that the tick is due, too, and late
	<-timer.C
	b.told.mu.Lock()
	b.told.calls = nil
	b.told.mu.Unlock()
	close(release)
	eventually(t, "b ticks", func() bool { return b.count("tick") > 0 })
	b.told.mu.Lock()
	calls := slices.Clone(b.told.calls)
	b.told.mu.Unlock()
	if calls[0] != "hosts 1" || len(calls) < packets+2 || calls[packets] != fmt.Sprintf("a: %d", 100+packets-1) || calls[packets+1] != "tick" {
		t.Errorf("%d calls, the tick is number %d", len(calls), slices.Index(calls, "tick"))
	}
	if s := b.Status().Counters; s.Late == 0 || s.Latest < late {
		t.Errorf("it was late, and counts %+v", s)
	}
}

// change changes the fake under its lock.
func (f *fake) change(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func TestAClosedPortIsToldAndCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	for _, bind := range []string{"127", "::1", "::"} {
		t.Run(bind, func(t *testing.T) {
			var gone, there netip.AddrPort
			if bind == "127" {
				prefix := loopback.Network(t)
				bind = prefix + ".1"
				gone = netip.AddrPortFrom(netip.MustParseAddr(prefix+".2"), 9)
				there = netip.AddrPortFrom(netip.MustParseAddr(prefix+".3"), 0)
			} else {
				gone = netip.AddrPortFrom(netip.MustParseAddr("::1"), 9)
				there = netip.AddrPortFrom(netip.MustParseAddr("::1"), 0)
			}
			if bind == "::" { // a dual socket, and IPv4
				prefix := loopback.Network(t)
				gone = netip.AddrPortFrom(netip.MustParseAddr(prefix+".2"), 9)
			}
			a := start(t, "a", bind, nil)
			b := start(t, "b", there.Addr().String(), nil)
			b.know(at("a", netip.AddrPort{}))
			a.know(at("gone", gone), at("b", b.Addr()))
			a.sayUntilHeard(b, "b", 1)
			for i := range uint64(100) {
				a.say("gone", 1)
				a.say("b", 100+i)
			}
			eventually(t, "the port is told to be closed", func() bool { return a.count("closed gone") > 0 })
			eventually(t, "the other one hears all", func() bool { return b.count("a: 199") == 1 })
			for i := range uint64(100) {
				if b.count(fmt.Sprintf("a: %d", 100+i)) != 1 {
					t.Fatalf("packet %d was lost", i)
				}
			}
			if s := a.Status().Counters; s.SendErrors != 0 || s.Closed == 0 {
				t.Errorf("a counts %+v", s)
			}
			// What did not leave our socket in this session is nobody's word.
			a.do(func(now time.Time) {
				closed := a.counters.Closed
				a.closedAt(now, gone, make([]byte, 100))
				a.closedAt(now, gone, nil)
				if a.counters.Closed != closed {
					t.Error("a made up error was believed")
				}
			})
		})
	}
}

func TestAPortThatIsTakenIsToldAtOnce(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a := start(t, "a", prefix+".1", nil)
	_, err := New(Config{Self: "b", Bind: a.Addr()})
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	if _, err := New(Config{Self: "b"}); err == nil {
		t.Error("no address to bind to, and no error")
	}
	if _, err := New(Config{Bind: a.Addr()}); err == nil {
		t.Error("no name, and no error")
	}
}

func TestWhatDoesNotRunCanBeAskedAndClosed(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	newOne := func() *Lookout {
		l, err := open(Config{Self: "a", Bind: netip.MustParseAddrPort(prefix + ".1:0")}, nil, func(watch.Config, func() uint64, time.Time) machine { return &fake{} })
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	touch := func(l *Lookout) {
		l.SetHosts(nil)
		l.Goodbye(watch.LeftStopped)
		if s := l.Status(); s.Echo != EchoNone || s.EchoReason == "" {
			t.Errorf("status is %+v", s)
		}
	}
	l := newOne()
	touch(l)
	l.Close()
	l.Close()
	touch(l)
	if err := l.Run(t.Context()); err == nil {
		t.Error("it ran after it was closed")
	}
	l = newOne()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	l.Close()
	touch(l)
}

func TestAGoodbyeReturnsWhenItIsSent(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a := start(t, "a", prefix+".1", nil)
	a.Goodbye(watch.LeftShutdown)
	if a.count("goodbye 2") != 1 {
		t.Error("the machine was not told")
	}
}

func TestManyMayCallAtOnce(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a, b := start(t, "a", prefix+".1", nil), start(t, "b", prefix+".2", nil)
	introduce(a, b)
	var wg sync.WaitGroup
	for i := range 2 * maxCalls {
		wg.Go(func() {
			a.ask(func(time.Time) { a.send("b", body{kind: frameChallenge}) })
			a.SetHosts([]Host{at("b", b.Addr())})
			_ = a.SetKeys([][]byte{key(1), key(2)})
			_ = a.Status()
			if i == maxCalls {
				a.end()
			}
		})
	}
	defer wg.Wait()
}

func TestAFloodOfRubbishDeafensNobody(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	a := start(t, "a", prefix+".1", nil)
	b := startAs(t, "b", prefix+".2", []EchoKind{EchoNone}, &fake{every: 5 * time.Millisecond}, nil)
	introduce(a, b)
	a.sayUntilHeard(b, "b", 1)
	c, err := net.ListenPacket("udp", prefix+".3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rubbish := make([]byte, 100)
	rubbish[0] = versionSealed
	before := b.count("tick")
	const frames = 20_000
	for i := range frames {
		rubbish[1], rubbish[2], rubbish[3] = byte(i), byte(i>>8), 1
		_, _ = c.WriteTo(rubbish, net.UDPAddrFromAddrPort(b.Addr()))
		if i%1000 == 0 { // what the kernel drops when the queue is full is not the subject
			b.settle()
			a.say("b", 100+uint64(i/1000))
		}
	}
	b.settle()
	for i := range uint64(frames / 1000) {
		if b.count(fmt.Sprintf("a: %d", 100+i)) != 1 {
			t.Errorf("packet %d was not heard", i)
		}
	}
	s := b.Status().Counters
	if s.UnknownKey+s.Untried != frames || b.count("tick") == before {
		t.Errorf("it counts %+v", s)
	}
}

func TestASocketKnowsWhomItReaches(t *testing.T) {
	t.Parallel()
	four, six, dual := socket{family: unix.AF_INET}, socket{family: unix.AF_INET6}, socket{family: unix.AF_INET6, dual: true}
	for _, c := range []struct {
		addr            string
		four, six, both bool
	}{
		{"192.0.2.1:7", true, false, true}, {"[::ffff:192.0.2.1]:7", true, false, true}, {"[2001:db8::1]:7", false, true, true}, {"[fe80::1%1]:7", false, true, true},
	} {
		a := netip.MustParseAddrPort(c.addr)
		for s, want := range map[socket]bool{four: c.four, six: c.six, dual: c.both} {
			sa := s.sockaddr(a)
			if (sa != nil) != want {
				t.Errorf("%v to %v: %v", s, a, sa)
			}
			if sa != nil && addrPort(sa) != netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()) {
				t.Errorf("%v became %v", a, addrPort(sa))
			}
		}
	}
	if four.sockaddr(netip.AddrPort{}) != nil {
		t.Error("no address can be reached")
	}
	if zoneID("lo") == 0 || zoneID("lo") != zoneID(fmt.Sprint(zoneID("lo"))) || zoneID("no such link") != 0 || zoneID("") != 0 {
		t.Errorf("the loopback is interface %d", zoneID("lo"))
	}
}
