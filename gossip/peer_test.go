package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// These tests run real peers on loopback addresses of their own, all on the default port.

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 { // memberlist's probe ends up to eight of its intervals after the shutdown
		deadline := time.Now().Add(15 * time.Second)
		err := goleak.Find()
		for ; err != nil && time.Now().Before(deadline); err = goleak.Find() {
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// eventually polls until ok holds.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

var nextNet = atomic.Uint32{}

// testNet is a set of loopback addresses that nobody else uses, and a wire between them that can be cut.
type testNet struct {
	prefix string
	mu     sync.Mutex
	side   map[netip.Addr]int // addresses of different sides don't reach each other
	loss   float64
}

func newTestNet() *testNet {
	n := nextNet.Add(1)
	return &testNet{prefix: fmt.Sprintf("127.%d.%d.", 20+os.Getpid()%200, n%250+1), side: map[netip.Addr]int{}}
}

func (n *testNet) addr(i int) string { return fmt.Sprintf("%s%d", n.prefix, i) }

func (n *testNet) put(i, side int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.side[netip.MustParseAddr(n.addr(i))] = side
}

func (n *testNet) lose(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

func (n *testNet) cut(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	x, y := netip.MustParseAddrPort(a).Addr(), netip.MustParseAddrPort(b).Addr()
	return n.side[x] != n.side[y]
}

// wire is the transport of one peer over a testNet.
type wire struct {
	memberlist.NodeAwareTransport
	net  *testNet
	self string
}

func (w *wire) WriteTo(b []byte, addr string) (time.Time, error) {
	return w.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (w *wire) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	w.net.mu.Lock()
	lost := rand.Float64() < w.net.loss
	w.net.mu.Unlock()
	if lost || w.net.cut(w.self, to.Addr) {
		return time.Now(), nil
	}
	return w.NodeAwareTransport.WriteToAddress(b, to)
}

func (w *wire) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if w.net.cut(w.self, to.Addr) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")}
	}
	return w.NodeAwareTransport.DialAddressTimeout(to, timeout)
}

func (w *wire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return w.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// running is a peer that runs.
type running struct {
	*Peer
	t      testing.TB
	end    context.CancelCauseFunc
	done   chan error
	logged *logBuffer

	mu  sync.Mutex
	got map[string]int // "from text" and how often it came
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

var testKey = CipherKey(bytes.Repeat([]byte{7}, 32))

// config of the i-th host, which joins the first.
func (n *testNet) config(i int) PeerConfig {
	return PeerConfig{
		Node: fmt.Sprintf("cmp-%d", i), Zone: "rack-a", API: "192.0.2.1:443", Bind: n.addr(i), Join: []string{n.addr(1)},
		Label: "test", Keys: Keyring{Keys: []CipherKey{testKey}},
		wrap: func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
			return &wire{t, n, n.addr(i) + ":7946"}
		},
	}
}

func start(t testing.TB, cfg PeerConfig) *running {
	t.Helper()
	r := &running{t: t, done: make(chan error, 1), logged: &logBuffer{}, got: map[string]int{}}
	cfg.Log = slog.New(slog.NewTextHandler(io.MultiWriter(r.logged, testWriter{t}), nil)).With("node", cfg.Node, "bind", cfg.Bind)
	if cfg.Deliver == nil {
		cfg.Deliver = func(from string, msg []byte) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.got[from+" "+string(msg[:min(len(msg), 32)])]++
		}
	}
	var err error
	if r.Peer, err = NewPeer(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r.end = cancel
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// testWriter shows logs only when asked: they are many.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if os.Getenv("GOSSIP_TEST_LOG") != "" {
		os.Stderr.Write(b)
	}
	return len(b), nil
}

// stop says goodbye, kill does not.
func (r *running) stop() error { return r.finish(nil) }
func (r *running) kill() error { return r.finish(errAbandon) }

func (r *running) finish(cause error) error {
	r.t.Helper()
	r.end(cause)
	select {
	case err, ok := <-r.done:
		if ok {
			close(r.done)
		}
		return err
	case <-time.After(20 * time.Second):
		r.t.Error("a peer does not end")
		return nil
	}
}

func (r *running) received(from, text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[from+" "+text[:min(len(text), 32)]]
}

func (r *running) trouble(kind TroubleKind) (Trouble, bool) {
	for _, one := range r.Stats().Troubles {
		if one.Kind == kind {
			return one, true
		}
	}
	return Trouble{}, false
}

func (n *testNet) start(t testing.TB, count int) []*running {
	t.Helper()
	var all []*running
	for i := 1; i <= count; i++ {
		all = append(all, start(t, n.config(i)))
	}
	together(t, 15*time.Second, all...)
	return all
}

// together waits until all see exactly each other.
func together(t testing.TB, within time.Duration, all ...*running) {
	t.Helper()
	eventually(t, within, fmt.Sprintf("%d peers see each other", len(all)), func() bool {
		for _, r := range all {
			if len(r.Members()) != len(all) || r.members.hash() != all[0].members.hash() {
				return false
			}
		}
		return true
	})
}

func TestTenPeersConverge(t *testing.T) {
	n := newTestNet()
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
	eventually(t, 5*time.Second, "each has the word of each, once", func() bool {
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
	eventually(t, 5*time.Second, "a term is known everywhere", func() bool {
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

func TestGossipCoversLostDatagrams(t *testing.T) {
	n := newTestNet()
	all := n.start(t, 10)
	n.lose(0.2)
	const count = 50
	for i := range count {
		if err := all[0].Broadcast([]byte(fmt.Sprint("change ", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "19 of 20 messages arrive, where without gossip it were 16", func() bool {
		got := 0
		for _, r := range all[1:] {
			for i := range count {
				got += r.received("cmp-1", fmt.Sprint("change ", i))
			}
		}
		return got >= count*9*95/100
	})
}

func TestKilledHostIsMissedAndComesBackElsewhere(t *testing.T) {
	t.Parallel()
	n := newTestNet()
	all := n.start(t, 4)
	if err := all[3].kill(); err != nil {
		t.Fatal(err)
	}
	again := n.config(14)
	again.Node = "cmp-4" // the same host, another address, at once: while the others believe that it lives
	back := start(t, again)
	together(t, 40*time.Second, append(all[:3:3], back)...)
	for _, m := range all[1].Members() {
		if m.Node == "cmp-4" && m.Addr != back.Addr() {
			t.Errorf("it is still believed at %s", m.Addr)
		}
	}
	if err := all[0].Send("cmp-4", []byte("hello there")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "it is reached at its new address", func() bool { return back.received("cmp-1", "hello there") == 1 })
}

func TestStoppedHostIsGoneAtOnceAndRestarts(t *testing.T) {
	n := newTestNet()
	all := n.start(t, 3)
	if err := all[2].stop(); err != nil {
		t.Fatal(err)
	}
	together(t, 3*time.Second, all[:2]...)
	back := start(t, n.config(3))
	together(t, 10*time.Second, all[0], all[1], back)
}

func TestWrongKeyIsNamedOnBothSides(t *testing.T) {
	t.Parallel()
	n := newTestNet()
	all := n.start(t, 2)
	for i, ring := range []Keyring{{Keys: []CipherKey{bytes.Repeat([]byte{9}, 16)}}, {}} {
		cfg := n.config(3 + i)
		cfg.Keys, cfg.Insecure = ring, len(ring.Keys) == 0
		stranger := start(t, cfg)
		eventually(t, 10*time.Second, "both sides name the key", func() bool {
			a, here := all[0].trouble(TroubleKey)
			b, there := stranger.trouble(TroubleKey)
			return here && there && strings.Contains(a.Text, "cluster.key_file") && a.Count > 0 && b.Peer == n.addr(1)
		})
		eventually(t, 5*time.Second, "and log it", func() bool {
			return all[0].logged.has("wrong-key") && stranger.logged.has("wrong-key")
		})
		if len(stranger.Members()) != 1 || len(all[0].Members()) != 2 {
			t.Error("the stranger got in")
		}
		stranger.stop()
	}
	for _, r := range all {
		if r.logged.has(base64.StdEncoding.EncodeToString(testKey)) || r.logged.has(fmt.Sprintf("%x", []byte(testKey))) {
			t.Error("the key is in the log")
		}
	}
}

func TestWrongLabelIsNamedOnBothSides(t *testing.T) {
	t.Parallel()
	n := newTestNet()
	all := n.start(t, 1)
	cfg := n.config(2)
	cfg.Label = "other"
	stranger := start(t, cfg)
	eventually(t, 15*time.Second, "both sides name the label", func() bool {
		a, here := all[0].trouble(TroubleLabel)
		b, there := stranger.trouble(TroubleLabel)
		return here && there && strings.Contains(a.Text, `"other", ours is "test"`) && strings.Contains(b.Text, "cluster.label") && b.Peer == n.addr(1)
	})
	if len(stranger.Members()) != 1 || len(all[0].Members()) != 1 {
		t.Error("the stranger got in")
	}
}

func TestNewcomerWithTheNameOfAnotherRefusesToRun(t *testing.T) {
	t.Parallel()
	n := newTestNet()
	all := n.start(t, 3)
	cfg := n.config(9)
	cfg.Node = "cmp-2"
	twin := start(t, cfg)
	select {
	case err := <-twin.done:
		close(twin.done)
		if err == nil || !strings.Contains(err.Error(), "node.name") || !strings.Contains(err.Error(), n.addr(2)) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("it runs on")
	}
	if trouble, ok := all[0].trouble(TroubleDuplicate); !ok || trouble.Peer != "cmp-2" {
		t.Errorf("the others don't know: %+v", all[0].Stats().Troubles)
	}
	together(t, 5*time.Second, all...)
}

func TestKeysRotateWithoutGap(t *testing.T) {
	n := newTestNet()
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte("# the first\n"+base64.StdEncoding.EncodeToString(testKey)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []*running
	for i := 1; i <= 4; i++ {
		cfg := n.config(i)
		if i == 1 {
			var err error
			if cfg.Keys, err = LoadKeyring(file, dir); err != nil {
				t.Fatal(err)
			}
			cfg.Dir = dir
		}
		all = append(all, start(t, cfg))
	}
	together(t, 15*time.Second, all...)

	stop := make(chan struct{})
	sent := make(chan int, 1)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				all[i%4].Broadcast([]byte(fmt.Sprint("rotate ", i)))
			case <-stop:
				sent <- i
				return
			}
		}
	}()
	fresh, err := ParseKey(GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	third := CipherKey(bytes.Repeat([]byte{3}, 24))
	for _, step := range []func(*running) error{
		func(r *running) error { return r.AddKey(fresh) },
		func(r *running) error { return r.AddKey(third) },
		func(r *running) error { return r.UseKey(fresh) },
		func(r *running) error { return r.RemoveKey(testKey) },
		func(r *running) error { return r.RemoveKey(third) },
	} {
		for _, r := range all {
			if err := step(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	count := <-sent
	eventually(t, 10*time.Second, "nothing was lost", func() bool {
		for i := range count {
			for _, r := range all {
				if from := all[i%4]; r != from && r.received(from.cfg.Node, fmt.Sprint("rotate ", i)) != 1 {
					return false
				}
			}
		}
		return true
	})
	for _, r := range all {
		if trouble, ok := r.trouble(TroubleKey); ok {
			t.Errorf("%s: %+v", r.cfg.Node, trouble)
		}
		if keys := r.Keys(); len(keys) != 1 || keys[0] != fresh.String() {
			t.Errorf("%s has the keys %v", r.cfg.Node, keys)
		}
	}
	if err := all[0].RemoveKey(fresh); err == nil {
		t.Error("the key in use was removed")
	}
	ring, err := LoadKeyring(file, dir)
	if err != nil || len(ring.Keys) != 1 || !bytes.Equal(ring.Keys[0], fresh) {
		t.Errorf("after a restart: %v, %v", ring.Keys, err)
	}
	if err := os.WriteFile(file, []byte(GenerateKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ring, err = LoadKeyring(file, dir); err != nil || bytes.Equal(ring.Keys[0], fresh) {
		t.Errorf("a changed key file does not win: %v", err)
	}
}

func TestLongMessagesGoReliably(t *testing.T) {
	n := newTestNet()
	all := n.start(t, 3)
	n.lose(1) // no datagram gets through, yet:
	for _, size := range []int{all[0].Datagram() + 1, 60 << 10, 900 << 10} {
		msg := append([]byte(fmt.Sprint(size, " bytes ")), bytes.Repeat([]byte{'x'}, size)...)
		if err := all[0].Broadcast(msg); err != nil {
			t.Fatal(err)
		}
		if err := all[1].Send("cmp-3", msg); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "it is there", func() bool {
			return all[1].received("cmp-1", string(msg)) == 1 && all[2].received("cmp-1", string(msg)) == 1 && all[2].received("cmp-2", string(msg)) == 1
		})
	}
	if err := all[0].Broadcast(make([]byte, maxMessage)); err == nil {
		t.Error("a message of more than the bound is taken")
	}
	n.lose(0)
	edge := bytes.Repeat([]byte{'e'}, all[0].Datagram())
	streams := all[0].Stats().StreamsOut
	if err := all[0].Broadcast(edge); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the longest datagram is there", func() bool { return all[2].received("cmp-1", string(edge)) == 1 })
	if all[0].Stats().StreamsOut != streams {
		t.Error("it took a connection")
	}
	eventually(t, 5*time.Second, "and it is gossiped, not stuck", func() bool { return all[0].Stats().Queued == 0 })
}

func TestFloodIsLimitedAndNamed(t *testing.T) {
	n := newTestNet()
	var slow sync.Mutex
	cfg := n.config(1)
	var delivered atomic.Int64
	cfg.Deliver = func(string, []byte) { slow.Lock(); delivered.Add(1); slow.Unlock() }
	victim := start(t, cfg)
	other, mad := start(t, n.config(2)), start(t, n.config(3))
	together(t, 10*time.Second, victim, other, mad)
	slow.Lock() // the victim does not come to reading
	list := mad.list.Load()
	to, _ := mad.members.get("cmp-1")
	for i := range 30_000 {
		b := envelope{from: "cmp-3", id: uint64(i), payload: []byte("flood")}.encode()
		if err := list.SendBestEffort(&to, b); err != nil {
			t.Fatal(err)
		}
		if i%512 == 0 { // a loopback that drops everything would prove nothing
			before := victim.Stats().PacketsIn
			eventually(t, 5*time.Second, "datagrams arrive", func() bool { return victim.Stats().PacketsIn >= before })
		}
	}
	// A connection is a peer's word as well: enough of them pass the rate, whatever the kernel lost.
	eventually(t, 20*time.Second, "the flood is named", func() bool {
		for i := range 200 {
			victim.delegate().NotifyMsg(envelope{from: "cmp-3", id: uint64(i), payload: []byte("flood")}.encode())
		}
		trouble, ok := victim.trouble(TroubleFlood)
		return ok && trouble.Peer == "cmp-3" && victim.Stats().Dropped["flood"] > 0
	})
	slow.Unlock()
	eventually(t, 10*time.Second, "the others are heard", func() bool {
		before := delivered.Load()
		if err := other.Send("cmp-1", []byte("calm")); err != nil {
			t.Fatal(err)
		}
		return victim.Stats().Waiting == 0 && before > 0
	})
	together(t, 20*time.Second, victim, other, mad)
}

func (p *Peer) delegate() delegate { return delegate{p} }

func TestFullInboxDropsAndCounts(t *testing.T) {
	p, err := NewPeer(PeerConfig{Node: "a", Bind: "127.0.0.1:0", Insecure: true, Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, maxMessage/2)
	for i := range 40 {
		p.delegate().NotifyMsg(envelope{from: fmt.Sprint("n", i), payload: big}.encode())
	}
	if p.Stats().Dropped["inbox-full"] < 7 || p.Stats().Waiting != inboxBytes/len(big) {
		t.Errorf("%d wait, dropped %v", p.Stats().Waiting, p.Stats().Dropped)
	}
	p.delegate().NotifyMsg(make([]byte, maxMessage+1))
	p.delegate().NotifyMsg([]byte{1, 2, 3})
	p.delegate().NotifyMsg(envelope{from: "a", id: 77}.encode())
	for _, reason := range []string{"oversize", "malformed", "own-name"} {
		if p.Stats().Dropped[reason] != 1 {
			t.Errorf("%s: dropped %v", reason, p.Stats().Dropped)
		}
	}
}

func TestGarbageHarmsNobody(t *testing.T) {
	n := newTestNet()
	all := n.start(t, 2)
	conn, err := net.Dial("udp", all[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	random := rand.NewChaCha8([32]byte{1})
	for size := range 1400 {
		b := make([]byte, size)
		random.Read(b)
		conn.Write(b)
	}
	for range 20 {
		stream, err := net.Dial("tcp", all[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10<<20)
		random.Read(b[:1024])
		stream.SetDeadline(time.Now().Add(2 * time.Second))
		stream.Write(b)
		stream.Close()
	}
	eventually(t, 5*time.Second, "it is counted", func() bool { return len(all[0].Stats().Troubles) > 0 })
	if err := all[1].Broadcast([]byte("well?")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "and all is well", func() bool { return all[0].received("cmp-2", "well?") == 1 })
	together(t, 5*time.Second, all...)
}

func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	n := newTestNet()
	var all []*running
	for i := 1; i <= 8; i++ {
		cfg := n.config(i)
		cfg.Dir = t.TempDir()
		cfg.Join = []string{n.addr(1)} // after the split the far side has no seed, only its roster
		all = append(all, start(t, cfg))
	}
	together(t, 15*time.Second, all...)
	for i := 5; i <= 8; i++ {
		n.put(i, 1)
	}
	together(t, 60*time.Second, all[:4]...)
	together(t, 60*time.Second, all[4:]...)
	for i := 5; i <= 8; i++ {
		n.put(i, 0)
	}
	healed := time.Now()
	together(t, 15*time.Second, all...)
	t.Logf("healed %v after the cut ended", time.Since(healed).Round(time.Millisecond))
}

func TestFullClusterRestartsInAnyOrder(t *testing.T) {
	t.Parallel()
	n := newTestNet()
	configs := make([]PeerConfig, 6)
	var all []*running
	for i := range configs {
		configs[i] = n.config(i + 1)
		configs[i].Dir = t.TempDir()
		all = append(all, start(t, configs[i]))
	}
	together(t, 15*time.Second, all...)
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
	together(t, 20*time.Second, all...)
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
	together(t, 20*time.Second, all...)
}

func TestNamesWithSeveralAddressesAreResolvedAnew(t *testing.T) {
	t.Parallel()
	n := newTestNet()
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
	together(t, 10*time.Second, late, start(t, first))
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestDifferenceOfMembersIsFoundByTheProbes(t *testing.T) {
	t.Parallel()
	n := newTestNet()
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
	eventually(t, 20*time.Second, "somebody asks for the states of another", func() bool { return streams() > before })
}

func TestPeerConfigurationIsJudged(t *testing.T) {
	good := PeerConfig{Node: "a", Bind: "127.0.0.1", Insecure: true, Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {}}
	if _, err := NewPeer(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*PeerConfig){
		"cluster.insecure": func(c *PeerConfig) { c.Insecure = false },
		"cluster.bind":     func(c *PeerConfig) { c.Bind = "nowhere" },
		"control":          func(c *PeerConfig) { c.Node = "a\nb" },
		"empty":            func(c *PeerConfig) { c.Node = "" },
		"cluster.label":    func(c *PeerConfig) { c.Label = strings.Repeat("x", 256) },
		"zone":             func(c *PeerConfig) { c.Zone = strings.Repeat("x", 256) },
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

func TestDamagedRosterIsSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, rosterFile)
	if err := os.WriteFile(path, []byte(`{"version":1,"hosts":[{"node":"x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := loadRoster(dir)
	var damaged *damagedError
	if !errors.As(err, &damaged) || r == nil || len(r.list()) != 0 {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	r.seen([]Member{{Node: "b", Addr: netip.MustParseAddrPort("192.0.2.1:7946")}}, time.Now())
	if err := r.save(false); err != nil {
		t.Fatal(err)
	}
	if r, err = loadRoster(dir); err != nil || len(r.list()) != 1 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestKeyFilesAreJudgedWithoutRepeatingThem(t *testing.T) {
	good := GenerateKey()
	for text, want := range map[string]string{
		"":                     "no key",
		"# only this\n":        "no key",
		"SECRETSECRET!!":       "line 1: the key is not base64",
		good + "\n" + "QUJDRA": "line 2",
		"QUJDRA==":             "4 bytes long",
	} {
		_, err := ParseKeys([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "QUJD") {
			t.Errorf("%q: %v", text, err)
		}
	}
	keys, err := ParseKeys([]byte(good + "\r\n\n" + good + "\n" + GenerateKey()))
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, verb := range []string{"%v", "%s", "%x", "%#v", "%q", "%d"} {
		if s := fmt.Sprintf(verb, keys[0]); s != keys[0].String() {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add(envelope{relay: true, id: 5, from: "cmp-1", payload: []byte("x")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEnvelope(b); err == nil && b[1] <= flagRelay && !bytes.Equal(e.encode(), b) {
			t.Errorf("%x becomes %x", b, e.encode())
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add(identity{Zone: "z", API: "a", Term: 4, Settled: true, Started: time.UnixMilli(5)}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeIdentity(b)
		if err != nil {
			return
		}
		again, err := decodeIdentity(i.encode())
		if err != nil || !bytes.Equal(again.encode(), i.encode()) {
			t.Errorf("%+v becomes %+v, %v", i, again, err)
		}
	})
}

func FuzzRoster(f *testing.F) {
	f.Add([]byte(`{"version":1,"hosts":[{"node":"x","addr":"192.0.2.1:1"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseRoster(b) })
}
