package gossip

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
)

// These tests run real peers on loopback addresses of their own, all on the default port.

func TestMain(m *testing.M) {
	flag.Parse()
	// By default as many tests run at once as there are processors, but these wait more than they work.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	if code == 0 { // memberlist's probe ends up to eight of its intervals after the shutdown
		deadline := time.Now().Add(patience)
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

// patience is how long a test waits for what must come; in practice it takes far less.
const patience = time.Minute

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// testNet is a network of loopback addresses, and a wire between them that can be cut.
type testNet struct {
	prefix string
	mu     sync.Mutex
	side   map[netip.Addr]int // addresses of different sides don't reach each other
	loss   float64
}

func newTestNet(t testing.TB) *testNet {
	return &testNet{prefix: loopback.Network(t) + ".", side: map[netip.Addr]int{}}
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
	together(t, all...)
	return all
}

// together waits until all see exactly each other.
func together(t testing.TB, all ...*running) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d peers see each other", len(all)), func() bool {
		for _, r := range all {
			if len(r.Members()) != len(all) || r.members.hash() != all[0].members.hash() {
				return false
			}
		}
		return true
	})
}

func (p *Peer) delegate() delegate { return delegate{p} }
