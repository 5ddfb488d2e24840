package watch

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// healthy is one machine among n hosts, all of which have answered it, and what carries its life on by a second.
func healthy(b *testing.B, n int) (m *Machine, second func()) {
	now := noon
	m = New(Config{Self: "cmp-0", Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}, rand.New(rand.NewPCG(1, 2)).Uint64, now)
	carry := func(eff Effects) time.Time {
		for _, to := range eff.Ping {
			m.Echoed(now, to, now)
		}
		for _, s := range eff.Send {
			if s.Packet.Kind == EchoRequest {
				m.Receive(now, s.To, Packet{Kind: EchoReply, Term: 2, Stamp: s.Packet.Stamp})
			}
		}
		return eff.Wake
	}
	wake := carry(m.Hosts(now, manyHosts(n)))
	live := func(d time.Duration) {
		watched := m.Status(now).Observed
		for end := now.Add(d); now.Before(end); {
			beats := now.Add(50 * time.Millisecond)
			for wake.Before(beats) {
				now = wake
				wake = carry(m.Tick(now))
			}
			now = beats
			for _, o := range watched {
				wake = carry(m.Receive(now, o.Host, Packet{Kind: Heartbeat, Term: 2}))
			}
		}
	}
	live(10 * time.Second)
	return m, func() { live(time.Second) }
}

func manyHosts(n int) []Host {
	hosts := make([]Host, n)
	for i := range hosts {
		hosts[i] = Host{Name: fmt.Sprintf("cmp-%d", i), Zone: fmt.Sprint(i % 10), Term: 2, Member: true, Watched: true}
	}
	return hosts
}

// One operation is a second of a machine's life where nothing happens.
func BenchmarkSecond(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, second := healthy(b, n)
			b.ReportAllocs()
			for b.Loop() {
				second()
			}
		})
	}
}

// The membership tells all hosts: nothing is new, or one is gone or back.
func BenchmarkHosts(b *testing.B) {
	for _, change := range []bool{false, true} {
		b.Run(fmt.Sprintf("changed=%v", change), func(b *testing.B) {
			m, _ := healthy(b, 1000)
			hosts := manyHosts(1000)
			now := m.start.Add(m.wake)
			b.ReportAllocs()
			for b.Loop() {
				hosts[500].Member = hosts[500].Member != change
				m.Hosts(now, hosts)
			}
		})
	}
}
