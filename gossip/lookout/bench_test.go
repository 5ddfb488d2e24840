package lookout

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// nobody is a machine that does nothing.
type nobody struct{}

func (nobody) Hosts(now time.Time, _ []watch.Host) watch.Effects { return nobody{}.Tick(now) }
func (nobody) Receive(now time.Time, _ string, _ watch.Packet) watch.Effects {
	return nobody{}.Tick(now)
}

func (nobody) Echoed(now time.Time, _ string, _ time.Time) watch.Effects { return nobody{}.Tick(now) }

func (nobody) Closed(now time.Time, _ string) watch.Effects { return nobody{}.Tick(now) }

func (nobody) WitnessEchoed(now, _ time.Time) watch.Effects { return nobody{}.Tick(now) }

func (nobody) Tick(now time.Time) watch.Effects { return watch.Effects{Wake: now.Add(time.Hour)} }

func (nobody) Goodbye(now time.Time, _ watch.Left) watch.Effects { return nobody{}.Tick(now) }

func (nobody) Status(time.Time) watch.Status { return watch.Status{} }

// BenchmarkHeartbeat is what one received heartbeat costs its receiver: alone, with a wake-up for each, and in bursts of 16.
// The cost of sending it is left out.
func BenchmarkHeartbeat(b *testing.B) {
	for name, burst := range map[string]int{"alone": 1, "burst": 16} {
		b.Run(name, func(b *testing.B) {
			l, err := open(Config{Self: "b", Bind: netip.MustParseAddrPort(loopback.Network(b) + ".1:0"), Keys: [][]byte{key(1)}}, []EchoKind{EchoRaw}, func(watch.Config, func() uint64, time.Time) machine { return nobody{} })
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			l.setHosts(l.now(), []Host{at("a", netip.AddrPort{})})
			a := newSender(b, "a", 1, key(1))
			x, _, why := l.sessions.open(l.now(), a.says(framePacket, nonce{}), false, nil)
			if why != accepted {
				b.Fatal(why)
			}
			l.sessions.believe(x)
			c, err := net.Dial("udp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.ReportAllocs()
			var spent time.Duration
			n := 0
			for ; n < b.N; n += burst {
				for range burst {
					if _, err := c.Write(a.says(framePacket, nonce{})); err != nil {
						b.Fatal(err)
					}
				}
				begin := time.Now()
				l.wake = begin.Add(time.Hour)
				if err := l.sleep(); err != nil {
					b.Fatal(err)
				}
				l.drain()
				spent += time.Since(begin)
			}
			if got := l.counters.Received; int(got) != n {
				b.Fatalf("received %d of %d", got, n)
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "ns/heartbeat")
		})
	}
}

// BenchmarkSend is what one heartbeat costs its sender.
func BenchmarkSend(b *testing.B) {
	prefix := loopback.Network(b)
	sink, err := openUDP(netip.MustParseAddrPort(prefix + ".2:0"))
	if err != nil {
		b.Fatal(err)
	}
	defer sink.close()
	_ = unix.SetsockoptInt(sink.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
	l, err := open(Config{Self: "b", Bind: netip.MustParseAddrPort(prefix + ".1:0"), Keys: [][]byte{key(1)}}, nil, func(watch.Config, func() uint64, time.Time) machine { return nobody{} })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	l.setHosts(l.now(), []Host{at("a", sink.addr())})
	b.ReportAllocs()
	for b.Loop() {
		l.send("a", body{kind: framePacket, packet: watch.Packet{Kind: watch.Heartbeat, Term: 1}})
	}
}

// BenchmarkRubbish is what a frame of an unknown session costs: one that is tried with a key, and the many that are not.
func BenchmarkRubbish(b *testing.B) {
	s, now := newReceiver("a"), time.Unix(1, 0)
	rubbish := make([]byte, 100)
	rubbish[0], rubbish[1] = versionSealed, 1
	b.Run("tried", func(b *testing.B) {
		for b.Loop() {
			now = now.Add(time.Second)
			s.open(now, rubbish, false, nil)
		}
	})
	b.Run("untried", func(b *testing.B) {
		for b.Loop() {
			s.open(now, rubbish, false, nil)
		}
	})
}
