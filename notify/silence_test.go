package notify

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/paramedic-ha/paramedic/correlate"
)

// wire is two network namespaces with a cable between them: hosts at one end, a consumer at the other.
type wire struct {
	t               *testing.T
	hosts, consumer string
}

// The hosts' addresses, and the consumer's.
const (
	homeAt     = "10.99.7.1"
	peerAt     = "10.99.7.2"
	consumerAt = "10.99.7.9"
)

func newWire(t *testing.T) *wire {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("network namespaces need root: run the tests as root")
	}
	name := fmt.Sprintf("pmnotify-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)
	w := &wire{t, name + "-h", name + "-c"}
	for _, ns := range []string{w.hosts, w.consumer} {
		w.run("ip", "netns", "add", ns)
		t.Cleanup(func() { w.run("ip", "netns", "del", ns) })
	}
	w.run("ip", "-n", w.hosts, "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", w.consumer)
	for _, at := range []string{homeAt, peerAt} {
		w.run("ip", "-n", w.hosts, "addr", "add", at+"/24", "dev", "out0")
	}
	w.run("ip", "-n", w.consumer, "addr", "add", consumerAt+"/24", "dev", "in0")
	w.run("ip", "-n", w.hosts, "link", "set", "out0", "up")
	w.run("ip", "-n", w.consumer, "link", "set", "in0", "up")
	return w
}

func (w *wire) run(name string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// cut makes the way from an address silent: no reset, no error, nothing. heal ends that for all.
func (w *wire) cut(from string) {
	w.t.Helper()
	w.run("ip", "netns", "exec", w.consumer, "nft", "add table ip cut; add chain ip cut in { type filter hook input priority 0; }; add rule ip cut in ip saddr "+from+" drop")
}

func (w *wire) heal() {
	w.t.Helper()
	w.run("ip", "netns", "exec", w.consumer, "nft", "delete table ip cut")
}

// within runs f in a namespace: the sockets that it makes stay there.
func (w *wire) within(ns string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	there, err := netns.GetFromName(ns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return err
	}
	defer func() {
		if err := netns.Set(own); err != nil {
			panic(err) // the thread is in the wrong place for everything that follows
		}
	}()
	return f()
}

// dial is a dialer from one of the hosts' addresses.
func (w *wire) dial(from string) dialFunc {
	d := net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = w.within(w.hosts, func() (err error) {
			conn, err = d.DialContext(ctx, network, address) // of a literal address: no other goroutine makes the socket
			return err
		})
		return conn, err
	}
}

// serve is a consumer at the wire's other end.
func (w *wire) serve() *consumer {
	c := &consumer{more: make(chan struct{}, 1)}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.keep(r) }))
	_ = c.Listener.Close()
	if err := w.within(w.consumer, func() (err error) {
		c.Listener, err = net.Listen("tcp", consumerAt+":0")
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	c.Start()
	w.t.Cleanup(c.Close)
	return c
}

// TestAWayThatGoesSilentUnderAnOpenConnectionCostsHalfASecond is the most usual case: the host's way to the consumer is cut
// while it stands ready for a fault.
func TestAWayThatGoesSilentUnderAnOpenConnectionCostsHalfASecond(t *testing.T) {
	wire := newWire(t)
	c := wire.serve()
	s := fileSub("a", c.URL)
	begin := func(node string, cfg Config, dial dialFunc) *Notifier {
		cfg.Node = node
		n, err := newNotifier(cfg, dial)
		if err == nil {
			err = n.SetFile([]Subscription{s})
		}
		if err != nil {
			t.Fatal(err)
		}
		run(t, n)
		return n
	}
	cfg, _ := testConfig(t, t.TempDir())
	peer := begin("cmp-2", cfg, wire.dial(peerAt))
	o := newOthers()
	o.deliver = peer.Deliver
	cfg, _ = testConfig(t, t.TempDir())
	cfg.Peers = o
	home := begin("cmp-1", cfg, wire.dial(homeAt))

	const rounds = 5
	var took []time.Duration
	got := 0
	tell := func(reporter string) {
		t.Helper()
		at := time.Now()
		home.Publish(effects(alarm(fmt.Sprint("a", got), uint64(got+1), correlate.Raised)))
		got++
		m := c.waitFor(t, got)[got-1]
		if m.event.Data.Reporter != reporter {
			t.Fatalf("message %d comes from %s, want %s", got, m.event.Data.Reporter, reporter)
		}
		if reporter == "cmp-2" {
			took = append(took, time.Since(at))
		}
		eventually(t, "it is settled", func() bool { return len(home.Deliveries("")) == 0 })
	}
	for range rounds {
		tell("cmp-1")
		wire.cut(homeAt)
		tell("cmp-2")
		if home.Subscriptions()[0].Unreachable.IsZero() {
			t.Error("that it can't be reached from here doesn't show")
		}
		wire.heal()
		if err := home.list()[0].sender.warm.ensure(t.Context(), c.URL); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(took)
	t.Logf("published until a peer has delivered: %v", took)
	if p50 := took[rounds/2]; p50 > time.Second {
		t.Errorf("half of the deliveries took more than %v", p50)
	}
	tell("cmp-1") // what was given up on the way is not sent late
	if n := len(c.messages()); n != got || o.handedOver() != rounds {
		t.Errorf("%d messages, want %d; %d hand-overs", n, got, o.handedOver())
	}
}

// TestASlowConsumerIsNotTakenForAWayThatIsCut: its kernel acknowledges, or keeps its window closed, which is an answer too.
func TestASlowConsumerIsNotTakenForAWayThatIsCut(t *testing.T) {
	slow := 3 * deafTimeout
	for name, handle := range map[string]http.HandlerFunc{
		"answers late": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-time.After(slow)
		},
		"reads late": func(_ http.ResponseWriter, r *http.Request) {
			<-time.After(slow)
			_, _ = io.Copy(io.Discard, r.Body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := httptest.NewServer(handle)
			defer c.Close()
			o := newOthers()
			cfg, _ := testConfig(t, t.TempDir())
			cfg.Peers = o
			n, _ := start(t, cfg, fileSub("a", c.URL))
			for i := range 2 { // over a fresh connection, or a warm one, and over one that was used
				a := alarm("a1", uint64(i+1), correlate.Raised)
				for range 40_000 { // more than the sockets take: the window closes
					a.Affected = append(a.Affected, correlate.Affected{Resource: "domain/1", Name: strings.Repeat("n", 100), State: correlate.StateFailed})
				}
				n.Publish(effects(a))
				eventually(t, "it is delivered", func() bool { return len(n.Profile()) == i+1 })
			}
			if p := n.Profile(); p[0].Attempts != 1 || p[1].Attempts != 1 || p[1].By != "cmp-1" || o.handedOver() != 0 {
				t.Errorf("%+v, %d hand-overs", p, o.handedOver())
			}
		})
	}
}
