package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = correlate.ID("domain/6f2a1f5e-4f5a-4a77-9d9c-0a5d3c9a1b01")
	vnic    = correlate.ID("vnic/6f2a1f5e-4f5a-4a77-9d9c-0a5d3c9a1b01/52:54:00:00:00:01")
	project = "2f6c7c3e-0f0a-4c55-8f6f-6a6b7a3b0c01"
)

// host is an agent as the server sees it, with a real engine and a real notifier; only the loop between them is the
// test's, a lock instead of a goroutine.
type host struct {
	notifier *notify.Notifier
	metrics  *prometheus.Registry

	mu       sync.Mutex
	engine   *correlate.Engine
	now      time.Time
	changes  []SeqChange
	oldest   int // changes before it are forgotten
	next     chan struct{}
	standing map[string]*correlate.Alarm
	past     *history.Store
	desk     *southbound.Desk
	events   []correlate.Event
	notReady error
	cluster  *neighbours // nil: alone
	stuck    bool        // the loop hangs
	starting bool        // there is no engine yet, and who waits for one waits in vain
}

// newHost runs a host with a bridge on one uplink, and a domain behind it.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{
		metrics: prometheus.NewRegistry(), next: make(chan struct{}), now: time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC),
		standing: make(map[string]*correlate.Alarm),
	}
	h.past = history.New(history.Config{MaxAlarms: 100, MaxAge: 1 << 62, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	var err error
	h.notifier, err = notify.New(notify.Config{
		Node: "cmp-1", Label: "prod", Dir: t.TempDir(), MaxAge: time.Hour, UserAgent: "paramedic/test", AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Log: slog.New(slog.DiscardHandler), Metrics: h.metrics, Report: func(correlate.Event) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: h.notifier.Restored().Term, Rules: southbound.Rules(nil)}, nil)
	h.desk = southbound.NewDesk(southbound.Config{
		Node: "cmp-1", Apply: h.apply, Now: func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now },
	})
	run(t, h.notifier.Run)
	h.step(correlate.Delta{Source: "nic", Full: true, Set: []correlate.Resource{
		{ID: "nic/eth0", Name: "eth0", Facts: map[string]string{"kind": "physical", "speed": "10000"}},
		{ID: "bridge/br0", Name: "br0", Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{"nic/eth0"}}}},
		{ID: "nic/tap0", Name: "tap0", Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{"bridge/br0"}}}},
		{ID: "nic/mgmt0", Name: "mgmt0"},
	}})
	h.step(correlate.Delta{Source: "virt", Full: true, Set: []correlate.Resource{
		{
			ID: domain, Name: "instance-1", Project: project,
			Needs: []correlate.Need{{Mode: correlate.SomeOf, Of: []correlate.ID{vnic}}},
		},
		{
			ID: vnic, Name: "52:54:00:00:00:01", Domain: domain, Port: &correlate.Port{MAC: "52:54:00:00:00:01", PortID: "port-1"},
			Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{"nic/tap0"}}},
		},
	}})
	return h
}

// run starts f and ends it with the test.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}

func (h *host) step(d correlate.Delta) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(time.Second)
	for i := range d.Events {
		d.Events[i].Source, d.Events[i].Observed = d.Source, h.now
	}
	h.events = append(h.events, d.Events...)
	h.act(h.engine.Topology(h.now, d))
}

// act does what agent/loop.go and agent/feed.go do with effects.
func (h *host) act(eff correlate.Effects) {
	for _, c := range eff.Publish {
		c.Found = h.now
		h.tell(SeqChange{Change: c, What: string(c.Alarm.Last)})
	}
	for _, a := range eff.Save {
		if was := h.standing[a.ID]; was != nil && was.Revision == a.Revision && a.Noted(was) != "" {
			h.tell(SeqChange{Change: correlate.Change{Alarm: a}, What: a.Noted(was)})
		}
	}
	h.notifier.Publish(eff)
}

// tell puts a change into the stream.
func (h *host) tell(c SeqChange) {
	a := c.Change.Alarm
	c.Seq, c.Was = uint64(len(h.changes))+1, h.standing[a.ID]
	h.changes = append(h.changes, c)
	if c.What != Vanished {
		h.past.Note(a, c.What)
	}
	if h.standing[a.ID] = a; !a.Standing() || c.What == Vanished {
		delete(h.standing, a.ID)
	}
	close(h.next)
	h.next = make(chan struct{})
}

// carrier reports the carrier of a link.
func (h *host) carrier(link correlate.ID, status correlate.Status) {
	h.step(correlate.Delta{Source: "nic", Events: []correlate.Event{{
		Resource: link, Condition: correlate.CondCarrier, Status: status, Text: "no carrier", Evidence: map[string]string{"operstate": "down"},
	}}})
}

// forget drops all changes that are held.
func (h *host) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.oldest = len(h.changes)
}

func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *host) HandIn(ctx context.Context, caller string, items []southbound.Item) ([]southbound.Verdict, error) {
	return h.desk.Take(ctx, southbound.Origin{Caller: caller}, items)
}

func (h *host) apply(_ context.Context, events []correlate.Event, limit int) ([]southbound.Outcome, error) {
	return southbound.Step(h.engine, h.step, events, limit), nil
}

func (h *host) Status(ctx context.Context) (Status, error) {
	status := Status{
		Node: "cmp-1", Label: "prod", Version: "test", Started: h.now.Local(), Term: h.notifier.Restored().Term,
		Sources: []SourceStatus{{Name: "nic", Sight: "clear", Queue: QueueStatus{Capacity: 1024}}},
		Alarms:  map[string]int{}, Outbox: OutboxStatus{Durable: true},
	}
	if status.Starting = h.Starting(); status.Starting {
		status.Term = 0
		return status, nil
	}
	status.Mutes = len(h.notifier.Mutes())
	err := h.Query(ctx, func(e *correlate.Engine) {
		for _, a := range e.Alarms() {
			status.Alarms[a.Severity.String()]++
		}
		status.Resources, status.Dismissed = len(e.Resources()), len(e.Dismissed())
	})
	return status, err
}

func (h *host) Starting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.starting
}

func (h *host) Query(ctx context.Context, f func(*correlate.Engine)) error {
	h.mu.Lock()
	stuck := h.stuck || h.starting
	h.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h.engine)
	return nil
}

func (h *host) Say(_ context.Context, word ledger.Saying) (*correlate.Alarm, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	eff, err := word.Apply(h.engine, h.now)
	if err != nil {
		return nil, err
	}
	h.act(eff)
	for _, a := range eff.Save {
		if a.ID == word.AlarmID {
			return a, nil
		}
	}
	return nil, correlate.ErrNoAlarm
}

func (h *host) History() *history.Store { return h.past }

func (h *host) Events(limit int) []correlate.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events[max(0, len(h.events)-limit):])
}

func (h *host) Changes(after uint64) ([]SeqChange, <-chan struct{}, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if int(after) < h.oldest || int(after) > len(h.changes) {
		return slices.Clone(h.changes[h.oldest:]), h.next, true
	}
	return slices.Clone(h.changes[after:]), h.next, false
}

func (h *host) Newest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(len(h.changes))
}

func (h *host) Cluster() Cluster {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cluster == nil {
		return nil // and not an interface that holds a nil
	}
	return h.cluster
}

func (h *host) Notify() notify.Service { return h.notifier }

func (h *host) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.notReady
}

// serve runs a server for h until the test ends.
func serve(t *testing.T, h *host) *client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "api.sock")
	server, err := New(Config{Backend: h, Node: "cmp-1", Socket: socket, Log: slog.New(slog.DiscardHandler), Gatherer: h.metrics, SOL: format.SOLSite{VIM: "vim-1"}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, server.Run)
	return newClient(t, server, socket)
}

// client speaks to a server as any other program does; it holds each answer against the OpenAPI document.
type client struct {
	t      *testing.T
	server *Server
	socket string
	http   *http.Client
	doc    *description
	seen   map[string]bool // "METHOD /path status", as the document has them
}

func newClient(t *testing.T, server *Server, socket string) *client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{
		t: t, server: server, socket: socket, doc: readDescription(t), seen: make(map[string]bool),
		http: &http.Client{
			Transport: transport, Timeout: 30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// eventually polls until ok or half a minute is over.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
