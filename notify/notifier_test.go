package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// consumer is a real HTTP receiver that keeps what it was sent.
type consumer struct {
	*httptest.Server
	mu   sync.Mutex
	got  []message
	more chan struct{}
}

type message struct {
	header http.Header
	body   []byte
	event  struct {
		ID, Type, Source, Subject, Time string
		Data                            struct {
			Notification, Subscription, Reporter, Host, Challenge string
			Alarm                                                 struct{ ID, Revision, State, Severity, Text, Condition string }
			Affected                                              []struct{ Resource, Project, State string }
			Evidence, Timeline                                    map[string]string
		}
	}
}

func newConsumer(t testing.TB, handle http.HandlerFunc) *consumer {
	t.Helper()
	c := &consumer{more: make(chan struct{}, 1)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			c.keep(r)
		}
		if handle != nil {
			handle(w, r)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *consumer) keep(r *http.Request) {
	m := message{header: r.Header.Clone()}
	m.body, _ = io.ReadAll(r.Body)
	_ = json.Unmarshal(m.body, &m.event)
	c.mu.Lock()
	c.got = append(c.got, m)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

func (c *consumer) messages() []message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]message(nil), c.got...)
}

// patience is how long a loaded machine may take for what takes milliseconds.
const patience = time.Minute

// waitFor waits until n messages have come.
func (c *consumer) waitFor(t testing.TB, n int) []message {
	t.Helper()
	limit := time.After(patience)
	for {
		if got := c.messages(); len(got) >= n {
			return got
		}
		select {
		case <-c.more:
		case <-limit:
			t.Fatalf("%d messages came, want %d", len(c.messages()), n)
		}
	}
}

// eventually polls until ok, for what has no channel.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-limit.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

type reports struct {
	mu  sync.Mutex
	all []correlate.Event
}

func (r *reports) add(e correlate.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
}

// last is the status reported last for a condition.
func (r *reports) last(c correlate.Condition) correlate.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := correlate.StatusUnknown
	for _, e := range r.all {
		if e.Condition == c {
			s = e.Status
		}
	}
	return s
}

// anywhere is every network: the consumers of tests listen on this host.
var anywhere = prefixes("0.0.0.0/0", "::/0", "127.0.0.0/8", "::1/128")

func testConfig(t testing.TB, dir string) (Config, *reports) {
	r := &reports{}
	return Config{
		Node: "cmp-1", Label: "prod", Dir: dir, MaxAge: time.Hour, Report: r.add, AllowCallbacks: anywhere,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, r
}

// start makes and runs a Notifier; stop ends it and waits.
func start(t testing.TB, cfg Config, subs ...Subscription) (n *Notifier, stop func()) {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetFile(subs); err != nil {
		t.Fatal(err)
	}
	return n, run(t, n)
}

func run(t testing.TB, n *Notifier) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = n.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// alarm makes one revision on a bond that hits the given projects, a domain each.
func alarm(id string, counter uint64, last correlate.Transition, projects ...string) *correlate.Alarm {
	a := &correlate.Alarm{
		Key: correlate.Key{Home: "cmp-1", Resource: "bond/bond0", Condition: correlate.CondCarrier},
		ID:  id, Revision: correlate.Revision{Term: 2, Counter: counter}, Last: last, Severity: correlate.SeverityCritical,
		EventType: correlate.TypeCommunications, ProbableCause: "loss-of-signal", AbstractCause: "network",
		Confidence: correlate.ConfidenceConfirmed, State: correlate.StateFailed, RootCause: true, Source: "nic", Text: "bond0 has no carrier",
		Evidence: map[string]string{"carrier": "0"},
		Times:    correlate.Times{Occurred: epoch, Observed: epoch.Add(time.Millisecond), Raised: epoch.Add(2 * time.Millisecond)},
	}
	if last != correlate.Raised {
		a.Times.Changed = epoch.Add(time.Second)
	}
	if last == correlate.Cleared {
		a.Severity, a.Times.Cleared, a.ClearReason = correlate.SeverityCleared, epoch.Add(time.Second), correlate.ReasonRecovered
	}
	for i, p := range projects {
		a.Affected = append(a.Affected, correlate.Affected{
			Resource: correlate.ID(fmt.Sprintf("domain/00000000-0000-4000-8000-%012d", i)), Name: fmt.Sprintf("instance-%d", i), Project: p,
			State: correlate.StateFailed, Ports: []correlate.Port{{MAC: "52:54:00:00:00:01"}},
		})
	}
	return a
}

func effects(alarms ...*correlate.Alarm) correlate.Effects {
	var eff correlate.Effects
	for _, a := range alarms {
		eff.Save = append(eff.Save, a)
		eff.Publish = append(eff.Publish, correlate.Change{Alarm: a, Found: epoch.Add(2 * time.Millisecond)})
	}
	return eff
}

func fileSub(name string, endpoints ...string) Subscription {
	return Subscription{Name: name, Endpoints: endpoints, Format: FormatNative, Role: RoleAdmin}
}

func TestAFaultAndItsClearReachTheConsumer(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, fileSub("vnfm-a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	got := c.waitFor(t, 1)
	if got[0].event.Type != "paramedic.fault.raised" || got[0].event.Subject != "host/cmp-1/bond/bond0" || len(got[0].event.Data.Affected) != 1 {
		t.Fatalf("got %s", got[0].body)
	}
	n.Publish(effects(alarm("a1", 2, correlate.Cleared)))
	if got = c.waitFor(t, 2); got[1].event.Type != "paramedic.fault.cleared" {
		t.Fatalf("got %s", got[1].body)
	}
	eventually(t, "both are in the profile", func() bool { return len(n.Profile()) == 2 })
	for _, s := range n.Profile() {
		t.Log(s.Sent.Sub(s.Outbox), s.Answered.Sub(s.Sent))
	}
}

func newTLSServer(t testing.TB) *httptest.Server {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

var discard = slog.New(slog.DiscardHandler)

// count is how often a condition was reported.
func (r *reports) count(c correlate.Condition) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.Condition == c {
			n++
		}
	}
	return n
}

// text is that of the last report of a condition.
func (r *reports) text(c correlate.Condition) (text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.Condition == c {
			text = e.Text
		}
	}
	return text
}

// direct is the way to a server of TLS, or to any without it.
func direct(srv *httptest.Server) *way {
	w := &way{dial: newDialer(anywhere, nil), tls: new(tls.Config)}
	if srv != nil {
		w.tls = srv.Client().Transport.(*http.Transport).TLSClientConfig
	}
	return w
}
