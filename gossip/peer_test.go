package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestTenPeersConverge(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 10)
	m := all[3].Members()
	if m[0].Node != "cmp-1" || m[0].Zone != "rack-a" || m[0].API != "192.0.2.1:443" || m[0].WireMax != wireMax || m[0].Addr.String() != n.addr(1)+":7946" {
		t.Errorf("a member is %+v", m[0])
	}
	for i, r := range all {
		if err := r.Broadcast([]byte(fmt.Sprint("hello ", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "each has the word of each, once", func() bool {
		for i, from := range all {
			for _, r := range all {
				if r != from && r.received(from.cfg.Node, fmt.Sprint("hello ", i)) != 1 {
					return false
				}
			}
		}
		return true
	})
	all[0].SetTerm(8)
	eventually(t, "a term is known everywhere", func() bool {
		for _, r := range all {
			if r.Members()[0].Term != 8 {
				return false
			}
		}
		return true
	})
	registry := prometheus.NewRegistry()
	if err := registry.Register(&peerCollector{all[0].Peer}); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) < 7 {
		t.Errorf("%d families of figures, %v", len(families), err)
	}
}

func TestKilledHostIsMissedAndComesBackElsewhere(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 4)
	if err := all[3].kill(); err != nil {
		t.Fatal(err)
	}
	again := n.config(14)
	again.Node = "cmp-4" // the same host, another address, at once: while the others believe that it lives
	back := start(t, again)
	together(t, append(all[:3:3], back)...)
	for _, m := range all[1].Members() {
		if m.Node == "cmp-4" && m.Addr != back.Addr() {
			t.Errorf("it is still believed at %s", m.Addr)
		}
	}
	if err := all[0].Send("cmp-4", []byte("hello there")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is reached at its new address", func() bool { return back.received("cmp-1", "hello there") == 1 })
}

func TestStoppedHostIsGoneAtOnceAndRestarts(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 3)
	if err := all[2].stop(); err != nil {
		t.Fatal(err)
	}
	together(t, all[:2]...)
	eventually(t, "its coming and going is in the log", func() bool {
		return all[0].logged.has("a host is there") && all[0].logged.has("a host is away")
	})
	back := start(t, n.config(3))
	together(t, all[0], all[1], back)
}

func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	var all []*running
	for i := 1; i <= 8; i++ {
		cfg := n.config(i)
		cfg.Dir = t.TempDir()
		cfg.Join = []string{n.addr(1)} // after the split the far side has no seed, only its roster
		all = append(all, start(t, cfg))
	}
	together(t, all...)
	for i := 5; i <= 8; i++ {
		n.put(i, 1)
	}
	together(t, all[:4]...)
	together(t, all[4:]...)
	for i := 5; i <= 8; i++ {
		n.put(i, 0)
	}
	healed := time.Now()
	together(t, all...)
	t.Logf("healed %v after the cut ended", time.Since(healed).Round(time.Millisecond))
}

func TestFullClusterRestartsInAnyOrder(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	configs := make([]PeerConfig, 6)
	var all []*running
	for i := range configs {
		configs[i] = n.config(i + 1)
		configs[i].Dir = t.TempDir()
		all = append(all, start(t, configs[i]))
	}
	together(t, all...)
	for _, r := range all {
		if err := r.kill(); err != nil {
			t.Fatal(err)
		}
	}
	configs[0].Join = nil
	all = nil
	for _, i := range rand.Perm(len(configs)) {
		if i == 0 {
			continue // the one that all have as their seed stays off: the rosters must do
		}
		all = append(all, start(t, configs[i]))
	}
	together(t, all...)
	for _, h := range all[0].Hosts() {
		if h.Alive == (h.Node == "cmp-1") || h.First.IsZero() || h.Zone != "rack-a" {
			t.Errorf("on the roster: %+v", h)
		}
	}
	if err := all[0].Forget("cmp-1"); err != nil {
		t.Error(err)
	}
	if err := all[0].Forget(all[1].cfg.Node); err == nil {
		t.Error("a member was forgotten")
	}
	if err := all[0].Forget("cmp-1"); !errors.Is(err, ErrUnknownHost) {
		t.Errorf("forgotten twice: %v", err)
	}
	all = append(all, start(t, configs[0]))
	together(t, all...)
}

func TestDifferenceOfMembersIsFoundByTheProbes(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 3)
	streams := func() (sum uint64) {
		for _, r := range all {
			sum += r.Stats().StreamsOut
		}
		return sum
	}
	before := streams()
	third, _ := all[0].members.get("cmp-3")
	third.Meta = []byte{1} // as if the first had lost the newest word of the third
	all[0].members.put(&third)
	eventually(t, "somebody asks for the states of another", func() bool { return streams() > before })
}

func TestPeerConfigurationIsJudged(t *testing.T) {
	good := PeerConfig{Node: "a", Bind: "127.0.0.1", Insecure: true, Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {}}
	if _, err := NewPeer(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*PeerConfig){
		"cluster.insecure":           func(c *PeerConfig) { c.Insecure = false },
		"cluster.bind":               func(c *PeerConfig) { c.Bind = "nowhere" },
		"control":                    func(c *PeerConfig) { c.Node = "a\nb" },
		"empty":                      func(c *PeerConfig) { c.Node = "" },
		"cluster.advertise: no peer": func(c *PeerConfig) { c.Advertise = "0.0.0.0" },
		"cluster.advertise: \"x":     func(c *PeerConfig) { c.Advertise = "x" },
		"cluster.join":               func(c *PeerConfig) { c.Join = []string{"cmp-1:x"} },
		"cluster.label":              func(c *PeerConfig) { c.Label = strings.Repeat("x", 256) },
		"zone":                       func(c *PeerConfig) { c.Zone = strings.Repeat("x", 256) },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := NewPeer(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(identity{Zone: strings.Repeat("x", maxText), API: strings.Repeat("x", maxText), Settled: true}.encode()); n > memberlist.MetaMaxSize {
		t.Errorf("metadata may have %d bytes", n)
	}
}

func TestNothingOfAPeerRunsOnAfterRun(t *testing.T) {
	n := newTestNet(t)
	names := &nameServer{addrs: map[string][]string{}, asked: map[string]int{}}
	cfg := n.config(1)
	cfg.Dir, cfg.resolver = t.TempDir(), names.run(t)
	before := goleak.IgnoreCurrent() // other tests may have left peers of memberlist that are still probing
	cfg.Join = []string{"hang.test.", "missing.test.", n.addr(9), n.addr(2)}
	one, other := start(t, cfg), start(t, n.config(2))
	together(t, one, other)
	for range 10 {
		if err := one.Broadcast(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(one.stop(), other.kill()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "gossip.(*search)") || strings.Contains(stack, "gossip.(*links)") || strings.Contains(stack, "gossip.(*transport)") {
			t.Errorf("it runs on:\n%s", stack)
		}
	}
	eventually(t, "the library has ended its own", func() bool {
		return goleak.Find(before, goleak.IgnoreAnyFunction("github.com/miekg/dns.(*Server).serveUDP")) == nil
	})
}
