package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// TestASwitchCutsWhatItIsTold builds two labs at once, with the same names and addresses.
func TestASwitchCutsWhatItIsTold(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	type lan struct {
		sw    *Switch
		hosts []*Host
		ports []*Port
		conns []net.PacketConn
	}
	build := func() *lan {
		l, err := New()
		must(err)
		t.Cleanup(func() { must(l.Close()) })
		n := &lan{}
		n.sw, err = l.Switch("switch")
		must(err)
		for i := range 4 {
			h, err := l.Host(fmt.Sprint("cmp-", i+1))
			must(err)
			p, err := n.sw.Attach(h, "mgmt0", fmt.Sprintf("10.99.0.%d/24", i+1))
			must(err)
			c, err := h.ListenPacket(fmt.Sprintf("10.99.0.%d:7", i+1))
			must(err)
			t.Cleanup(func() { _ = c.Close() })
			n.hosts, n.ports, n.conns = append(n.hosts, h), append(n.ports, p), append(n.conns, c)
		}
		return n
	}
	// reaches sends until something arrives, or the number of tries is used up.
	reaches := func(n *lan, from, to, tries int) bool {
		t.Helper()
		word, buf := fmt.Sprintf("%p %d %d", n, from, to), make([]byte, 100)
		for range tries {
			if _, err := n.conns[from].WriteTo([]byte(word), &net.UDPAddr{IP: n.ports[to].ip, Port: 7}); err != nil {
				t.Fatal(err)
			}
			must(n.conns[to].SetReadDeadline(time.Now().Add(20 * time.Millisecond)))
			for {
				k, _, err := n.conns[to].ReadFrom(buf)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				must(err)
				if string(buf[:k]) == word {
					return true
				}
			}
		}
		return false
	}
	a, b := build(), build()
	check := func(n *lan, what string, want func(from, to int) bool) {
		t.Helper()
		for from := range 4 {
			for to := range 4 {
				w := from == to || want(from, to)
				tries := 50
				if !w {
					tries = 3
				}
				if got := reaches(n, from, to, tries); got != w {
					t.Errorf("%s: host %d reaches host %d: %v", what, from+1, to+1, got)
				}
			}
		}
	}
	all := func(int, int) bool { return true }
	check(a, "at first", all)
	must(a.sw.Split(a.hosts[:2], a.hosts[2:3]))
	check(a, "split", func(from, to int) bool { return from == 3 || to == 3 || (from < 2) == (to < 2) })
	check(b, "the other lab", all)
	must(a.sw.Split())
	must(a.sw.Block(a.hosts[0], a.hosts[3], true))
	check(a, "blocked", func(from, to int) bool { return from*to != 0 || from+to != 3 })
	must(a.sw.Heal())
	must(a.sw.Lose(50))
	check(a, "lossy", all)
	must(a.sw.Lose(100))
	check(a, "dead", func(int, int) bool { return false })
	must(a.sw.Heal())
	must(a.ports[0].Pull())
	check(a, "pulled", func(from, to int) bool { return from != 0 && to != 0 })
	must(a.ports[0].Plug())
	must(a.ports[1].Readdress("10.99.0.22/24"))
	must(a.conns[1].Close())
	c, err := a.hosts[1].ListenPacket("10.99.0.22:7")
	must(err)
	t.Cleanup(func() { _ = c.Close() })
	a.conns[1] = c
	check(a, "readdressed", all)
}
