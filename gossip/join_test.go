package gossip

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestNamesWithSeveralAddressesAreResolvedAnew(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	cfg := n.config(2)
	cfg.Bind, cfg.Join = "127.0.0.1:0", []string{"no-such-host.invalid", "localhost:" + fmt.Sprint(freePort(t))}
	cfg.wrap = nil
	first := cfg
	first.Node, first.Bind, first.Join = "cmp-1", "127.0.0.1:"+strings.TrimPrefix(cfg.Join[1], "localhost:"), nil
	late := start(t, cfg)
	<-late.Ready()
	if s := late.Stats(); s.JoinError == "" {
		t.Error("nobody is there, and no word of it")
	}
	together(t, late, start(t, first))
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// nameServer answers for names whose addresses it is told, not at all for hang.test., and knows no others.
type nameServer struct {
	mu    sync.Mutex
	addrs map[string][]string
	asked map[string]int
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := q.Question[0].Name
	s.mu.Lock()
	s.asked[name]++
	addrs, known := s.addrs[name]
	s.mu.Unlock()
	if name == "hang.test." {
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	if q.Question[0].Qtype == dns.TypeA {
		for _, a := range addrs {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(a)})
		}
	}
	_ = w.WriteMsg(m)
}

func (s *nameServer) set(name string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[name] = addrs
}

// run gives a resolver that asks it.
func (s *nameServer) run(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: s}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestNamesAreTriedWithAllTheirAddressesWhileAnotherNameHangs(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	names := &nameServer{addrs: map[string][]string{}, asked: map[string]int{}}
	cfg := n.config(2)
	cfg.resolver = names.run(t)
	cfg.Join = []string{"hang.test.", "missing.test.", "peers.test."}
	late := start(t, cfg)
	begun := time.Now()
	<-late.Ready()
	if waited := time.Since(begun); waited > resolveTimeout-firstAttempt {
		t.Errorf("ready only after %v: the name that hangs was waited for", waited)
	}
	names.set("peers.test.", n.addr(101), n.addr(102), n.addr(1), n.addr(103)) // now there are addresses, and at one of them a peer
	together(t, late, start(t, n.config(1)))
	if err := late.stop(); err != nil { // and it does not wait for the name server either
		t.Error(err)
	}
}

func TestNameThatCanNotBeResolvedAnyMoreKeepsItsAddresses(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	names := &nameServer{addrs: map[string][]string{"peers.test.": {n.addr(1)}}, asked: map[string]int{}}
	cfg := n.config(2)
	cfg.resolver, cfg.Join = names.run(t), []string{"peers.test."}
	late := start(t, cfg)
	eventually(t, "the address is tried", func() bool { return strings.Contains(late.Stats().JoinError, n.addr(1)) })
	names.mu.Lock()
	delete(names.addrs, "peers.test.")
	before := names.asked["peers.test."]
	names.mu.Unlock()
	// Each time for both kinds of address, and only when the answer before was taken.
	eventually(t, "it is asked again and again, in vain", func() bool {
		names.mu.Lock()
		defer names.mu.Unlock()
		return names.asked["peers.test."] > before+4
	})
	together(t, late, start(t, configAlone(n, 1)))
}

func configAlone(n *testNet, i int) PeerConfig {
	cfg := n.config(i)
	cfg.Join = nil
	return cfg
}

func TestManySeedsThatAreDeadDoNotHideTheLivingOne(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	cfg := n.config(2)
	cfg.Join = nil
	for i := 100; i < 100+2*maxJoins; i++ {
		cfg.Join = append(cfg.Join, n.addr(i))
	}
	cfg.Join = append(cfg.Join, n.addr(1))
	together(t, start(t, cfg), start(t, configAlone(n, 1)))
}

func TestSeedsAreJudged(t *testing.T) {
	for seed, want := range map[string]string{
		"cmp-1": "cmp-1 7946", "cmp-1:8000": "cmp-1 8000", "192.0.2.1": "192.0.2.1 7946", "2001:db8::1": "2001:db8::1 7946", "[2001:db8::1]:9": "2001:db8::1 9",
		"": "", "cmp-1:": "", "cmp-1:x": "", "cmp-1:70000": "", "cmp-1:0": "", ":7946": "", "a b": "", "http://cmp-1": "",
	} {
		got := ""
		if host, port, err := splitSeed(seed); err == nil {
			got = fmt.Sprint(host, " ", port)
		}
		if got != want {
			t.Errorf("%q is %q, not %q", seed, got, want)
		}
	}
}
