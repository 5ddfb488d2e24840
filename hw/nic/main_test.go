package nic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; a loaded machine takes longer than the usual milliseconds.
const patience = time.Minute

// host is a network namespace that stands for a compute host.
type host struct {
	t    *testing.T
	name string
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("network namespaces need root: run the tests as root")
	}
	h := &host{t, fmt.Sprintf("pmnic-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)}
	run(t, "ip", "netns", "add", h.name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", h.name) })
	return h
}

func (h *host) path() string { return "/run/netns/" + h.name }

// ip runs lines of ip(8) commands in the namespace.
func (h *host) ip(lines string) {
	h.t.Helper()
	cmd := exec.Command("ip", "-n", h.name, "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("ip %s: %v: %s", lines, err, out)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// ledger is a sink that applies deltas as the engine would, and keeps them.
type ledger struct {
	mu        sync.Mutex
	resources map[correlate.ID]correlate.Resource
	status    map[string]correlate.Status // "id condition"
	gone      map[correlate.ID]correlate.GoneReason
	deltas    []correlate.Delta
	health    []hw.Health
	changed   chan struct{}
	block     chan struct{} // when set, Emit waits for it,
	blocked   chan struct{} // and says so here
}

func newLedger() *ledger {
	return &ledger{
		resources: map[correlate.ID]correlate.Resource{}, status: map[string]correlate.Status{},
		gone: map[correlate.ID]correlate.GoneReason{}, changed: make(chan struct{}, 1), blocked: make(chan struct{}, 1),
	}
}

func (l *ledger) Emit(ctx context.Context, d correlate.Delta) error {
	l.mu.Lock()
	block := l.block
	l.mu.Unlock()
	if block != nil {
		select {
		case l.blocked <- struct{}{}:
		default:
		}
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deltas = append(l.deltas, d)
	if d.Full {
		clear(l.resources)
	}
	for _, r := range d.Set {
		l.resources[r.ID] = r
		delete(l.gone, r.ID)
	}
	for _, g := range d.Gone {
		delete(l.resources, g.ID)
		l.gone[g.ID] = g.Reason
	}
	for _, e := range d.Events {
		key := string(e.Resource) + " " + string(e.Condition)
		if e.Status != correlate.StatusUnknown {
			l.status[key] = e.Status
		}
	}
	l.signal()
	return nil
}

func (l *ledger) Health(h hw.Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = append(l.health, h)
	l.signal()
}

func (l *ledger) signal() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// await waits until ok holds; what says what for.
func (l *ledger) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		done := ok()
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-l.changed:
		case <-deadline.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("not within %s: %s\nresources: %v\nstatus: %v\ngone: %v", patience, what, l.resources, l.status, l.gone)
		}
	}
}

// poll waits until ok holds, where nothing says that it might.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (l *ledger) awaitStatus(t *testing.T, id correlate.ID, c correlate.Condition, s correlate.Status) {
	t.Helper()
	key := string(id) + " " + string(c)
	l.await(t, key+" is "+s.String(), func() bool { return l.status[key] == s })
}

func (l *ledger) awaitStated(t *testing.T, ids ...correlate.ID) {
	t.Helper()
	for _, id := range ids {
		l.await(t, string(id)+" is stated", func() bool { _, ok := l.resources[id]; return ok })
	}
}

func (l *ledger) awaitGone(t *testing.T, id correlate.ID, reason correlate.GoneReason) {
	t.Helper()
	l.await(t, fmt.Sprintf("%s is gone with reason %d", id, reason), func() bool {
		r, ok := l.gone[id]
		return ok && r == reason
	})
}

// events returns all events so far.
func (l *ledger) events() []correlate.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []correlate.Event
	for _, d := range l.deltas {
		events = append(events, d.Events...)
	}
	return events
}

// needs returns what a resource needs, as "all-of:a,b 1-of:c,d".
func (l *ledger) needs(id correlate.ID) string {
	return showNeeds(l.resources[id].Needs)
}

func showNeeds(needs []correlate.Need) string {
	var out []string
	for _, n := range needs {
		var of []string
		for _, id := range n.Of {
			of = append(of, string(id))
		}
		mode := n.Mode.String()
		if n.Mode == correlate.KOfN {
			mode = fmt.Sprintf("%d-of(%s)", n.K, n.Condition)
		}
		out = append(out, mode+":"+strings.Join(of, ","))
	}
	return strings.Join(out, " ")
}

// watchHost runs a source on h until the test ends.
func watchHost(t *testing.T, h *host, c Config, change ...func(*Source)) (*Source, *ledger) {
	t.Helper()
	c.Namespace = h.path()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(s)
	}
	l := newLedger()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want %v", err, context.Canceled)
		}
	})
	l.await(t, "the first statement, and that it is full", func() bool { return len(l.deltas) > 0 && l.deltas[0].Full })
	return s, l
}
