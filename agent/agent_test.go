package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a source whose Run is the test's.
type scripted struct {
	name string
	run  func(ctx context.Context, sink hw.Sink) error
}

func (s scripted) Name() string                                { return s.name }
func (s scripted) Run(ctx context.Context, sink hw.Sink) error { return s.run(ctx, sink) }

func oneSource(name string, run func(context.Context, hw.Sink) error) []sourceSpec {
	return []sourceSpec{{
		name:    name,
		options: func(c *config.Config) any { return c.HW.NIC },
		build:   func(*config.Config, *slog.Logger) (hw.Source, error) { return scripted{name, run}, nil },
	}}
}

func testConfig(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	c, err := config.Parse("test.yaml", []byte(
		"node: {name: cmp-1}\napi: {socket: "+filepath.Join(dir, "api.sock")+"}\nnotify: {dir: "+filepath.Join(dir, "state")+", allow_callbacks: [127.0.0.0/8]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t *testing.T, c *config.Config, specs []sourceSpec) *Agent {
	t.Helper()
	a, err := New(Options{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler), sources: specs})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, a) })
	return a
}

func stop(t *testing.T, a *Agent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// awaitAlarm follows the feed until an alarm on the resource and condition has done what is wanted.
func awaitAlarm(t *testing.T, a *Agent, id correlate.ID, c correlate.Condition, want correlate.Transition) *correlate.Alarm {
	t.Helper()
	deadline := time.After(patience)
	for seq := uint64(0); ; {
		changes, next, _ := a.Changes(seq)
		for _, ch := range changes {
			seq = ch.Seq
			if al := ch.Change.Alarm; al.Key.Resource == id && al.Key.Condition == c && al.Last == want {
				return al
			}
		}
		select {
		case <-next:
		case <-deadline:
			t.Fatalf("no alarm %s %s %s in %v", id, c, want, patience)
		}
	}
}

var carrierLost = correlate.Delta{
	Full:   true,
	Set:    []correlate.Resource{{ID: "nic/eth0"}},
	Events: []correlate.Event{{Resource: "nic/eth0", Condition: correlate.CondCarrier, Status: correlate.StatusFailed}},
}

func TestASourceThatPanicsBecomesAnAlarmAboutOurselvesAndIsStartedAgain(t *testing.T) {
	var runs atomic.Int32
	a := start(t, testConfig(t), oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
		if runs.Add(1) < 3 {
			panic("index out of range")
		}
		if err := sink.Emit(ctx, carrierLost); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}))
	raised := awaitAlarm(t, a, "service/paramedic/nic", correlate.CondSourceFailed, correlate.Raised)
	if !strings.Contains(raised.Text, "index out of range") {
		t.Errorf("the alarm does not say what happened: %q", raised.Text)
	}
	awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Raised) // the third run sees
	status, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s := status.Sources[0]; s.Restarts != 2 || s.Sight != "failed" {
		t.Errorf("status %+v; want 2 restarts, and failed until it has run for a while", s)
	}
}

func TestABlindSourceIsAnAlarmAndAnAbsentOneIsNot(t *testing.T) {
	sights := make(chan hw.Health)
	a := start(t, testConfig(t), oneSource("virt", func(ctx context.Context, sink hw.Sink) error {
		for {
			select {
			case h := <-sights:
				sink.Health(h)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}))
	if err := a.Ready(); err == nil {
		t.Error("ready although the source has neither stated its truth nor said why it can't")
	}
	sights <- hw.Health{Sight: hw.SightAbsent, Text: "no socket"}
	sights <- hw.Health{Sight: hw.SightAbsent, Text: "no socket"} // taken only when the first was dealt with
	if err := a.Ready(); err != nil {
		t.Errorf("an absent source keeps the agent from being ready: %v", err)
	}
	sights <- hw.Health{Sight: hw.SightBlind, Text: "the kernel does not answer"}
	al := awaitAlarm(t, a, "service/paramedic/virt", correlate.CondSourceBlind, correlate.Raised)
	if al.Severity != correlate.SeverityWarning || al.Text != "the kernel does not answer" {
		t.Errorf("alarm %s %q; want a warning that says why", al.Severity, al.Text)
	}
	sights <- hw.Health{}
	awaitAlarm(t, a, "service/paramedic/virt", correlate.CondSourceBlind, correlate.Cleared)
	for _, ch := range first(a.Changes(0)) {
		if ch.Change.Alarm.Text == "no socket" {
			t.Error("an absent source raised an alarm")
		}
	}
}

// libvirt takes the connection and says nothing, and so does the consumer.
func TestNobodyWhoHangsHoldsUpTheStop(t *testing.T) {
	c := testConfig(t)
	c.HW.NIC.Disabled = true
	c.HW.Virt.Socket = filepath.Join(t.TempDir(), "libvirt.sock")
	c.HW.Virt.Timeout = time.Minute
	libvirt, err := new(net.ListenConfig).Listen(t.Context(), "unix", c.HW.Virt.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer libvirt.Close()
	called := make(chan struct{}, 1)
	consumer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the caller goes
		select {
		case called <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}))
	defer consumer.Close()
	c.Notify.Subscriptions = []config.Subscription{{Name: "vnfm", Endpoints: []string{consumer.URL}, Format: "native", Role: "admin"}}
	a, err := New(Options{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := libvirt.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	a.self.offer(correlate.Delta{
		Set:    []correlate.Resource{{ID: "nic/eth0"}},
		Events: []correlate.Event{{Resource: "nic/eth0", Condition: correlate.CondCarrier, Status: correlate.StatusFailed}},
	})
	<-called
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // a consumer has ten for its answer
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestAnAbsentHypervisorIsSaidOnce(t *testing.T) {
	c := testConfig(t)
	c.HW.NIC.Disabled = true
	c.HW.Virt.Socket = filepath.Join(t.TempDir(), "no-libvirt.sock")
	var log syncBuffer
	a, err := New(Options{Config: c, Version: "test", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	for a.Ready() != nil { // until it has looked; the test's own timeout bounds this
		runtime.Gosched()
	}
	stop(t, a)
	if n := strings.Count(log.String(), "libvirt"); n == 0 || strings.Count(log.String(), "source=virt") != 1 {
		t.Errorf("the log should say once that there is no libvirt:\n%s", log.String())
	}
}

func first[A, B, C any](a A, _ B, _ C) A { return a }

func TestARestartWithoutAChangeMakesNoRevision(t *testing.T) {
	c := testConfig(t)
	say := func(ctx context.Context, sink hw.Sink) error {
		if err := sink.Emit(ctx, carrierLost); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	a := start(t, c, oneSource("nic", say))
	before := awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Raised)
	stop(t, a)

	b := start(t, c, oneSource("nic", say))
	for b.Ready() != nil { // the full statement is taken soon; the test's own timeout bounds this
		if err := b.Query(t.Context(), func(*correlate.Engine) {}); err != nil {
			t.Fatal(err)
		}
	}
	if changes := first(b.Changes(0)); len(changes) != 0 {
		t.Errorf("the restart made %d revisions; the first is %+v", len(changes), changes[0].Change.Alarm)
	}
	var after []*correlate.Alarm
	if err := b.Query(t.Context(), func(e *correlate.Engine) { after = e.Alarms() }); err != nil {
		t.Fatal(err)
	}
	if len(after) != 1 || after[0].ID != before.ID || after[0].Revision != before.Revision {
		t.Errorf("alarms after the restart: %+v; want the one of before, with its revision", after)
	}
	if term := b.notifier.Restored().Term; term != before.Revision.Term+2 {
		t.Errorf("term %d after %d; want the next even one", term, before.Revision.Term)
	}
}

func TestALinkSourceIsToldWhatVanishedBeforeTheRestart(t *testing.T) {
	c := testConfig(t)
	bridge := correlate.Resource{ID: "bridge/br0", Needs: []correlate.Need{{Of: []correlate.ID{"nic/eth0"}}}}
	a := start(t, c, oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
		for _, d := range []correlate.Delta{
			{Source: "nic", Full: true, Set: []correlate.Resource{{ID: "nic/eth0"}, bridge}},
			{Source: "nic", Gone: []correlate.Gone{{ID: "nic/eth0", Reason: correlate.GoneVanished}}},
		} {
			if err := sink.Emit(ctx, d); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}))
	awaitAlarm(t, a, "nic/eth0", correlate.CondGone, correlate.Raised)
	stop(t, a)
	b := start(t, c, oneSource("nic", func(ctx context.Context, _ hw.Sink) error { <-ctx.Done(); return ctx.Err() }))
	links, err := b.alarmedLinks(t.Context())
	if err != nil || len(links) != 1 || !slices.Equal(links["nic/eth0"], []correlate.ID{"bridge/br0"}) {
		t.Errorf("links: %v, %v", links, err)
	}
}

func TestWhatWasWrongWithUsBeforeTheRestartClears(t *testing.T) {
	c := testConfig(t)
	a := start(t, c, oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
		sink.Health(hw.Health{Sight: hw.SightBlind, Text: "no messages"})
		<-ctx.Done()
		return ctx.Err()
	}))
	awaitAlarm(t, a, "service/paramedic/nic", correlate.CondSourceBlind, correlate.Raised)
	stop(t, a)
	b := start(t, c, oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
		sink.Health(hw.Health{})
		<-ctx.Done()
		return ctx.Err()
	}))
	awaitAlarm(t, b, "service/paramedic/nic", correlate.CondSourceBlind, correlate.Cleared)
}

func TestAReloadTakesAllOrNothing(t *testing.T) {
	c := testConfig(t)
	a := start(t, c, oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
		if err := sink.Emit(ctx, carrierLost); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}))
	awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Raised)

	renamed := *c
	renamed.Node.Name = "cmp-2"
	renamed.Notify.Subscriptions = []config.Subscription{{Name: "vnfm", Endpoints: []string{"http://127.0.0.1:1/"}, Format: "native", Role: "admin"}}
	if err := a.Reload(&renamed); !errors.Is(err, errRestart) || !strings.Contains(err.Error(), "node.name") {
		t.Errorf("reload with another node name: %v; want to be told to restart, and why", err)
	}
	if n := len(a.notifier.Subscriptions()); n != 0 {
		t.Errorf("the refused reload left %d subscriptions", n)
	}

	critical := *c
	critical.Correlate.Policies = []config.Policy{{Match: config.PolicyMatch{Resource: "nic/*"}, Severity: "critical"}}
	if err := a.Reload(&critical); err != nil {
		t.Fatal(err)
	}
	if al := awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Changed); al.Severity != correlate.SeverityCritical {
		t.Errorf("severity %s after the policy said critical", al.Severity)
	}
}

func TestAReloadNamesEveryKeyThatNeedsARestart(t *testing.T) {
	c := testConfig(t)
	a := start(t, c, oneSource("nic", idle))
	other := *c
	other.Notify.Dir += "-else"
	other.API.Socket += "-else"
	other.Log.Format = "json"
	err := a.Reload(&other)
	if !errors.Is(err, errRestart) || !strings.Contains(err.Error(), "api.socket, notify.dir, log.format") {
		t.Errorf("reload: %v; want all three keys named", err)
	}
}

// idle is a source that sees nothing, and says nothing of itself.
func idle(ctx context.Context, _ hw.Sink) error {
	<-ctx.Done()
	return ctx.Err()
}

// reloadable builds the first source with one Run and every later one with another.
func reloadable(first, later func(context.Context, hw.Sink) error) []sourceSpec {
	specs := oneSource("nic", first)
	builds := 0
	specs[0].build = func(*config.Config, *slog.Logger) (hw.Source, error) {
		builds++
		if builds == 1 {
			return scripted{"nic", first}, nil
		}
		return scripted{"nic", later}, nil
	}
	return specs
}

func withInclude(c *config.Config, glob string) *config.Config {
	other := *c
	other.HW.NIC.Include = []string{glob}
	return &other
}

func TestWhatWasWrongWithASourceEndsWhenItIsConfiguredAnew(t *testing.T) {
	c := testConfig(t)
	a := start(t, c, reloadable(func(ctx context.Context, sink hw.Sink) error {
		sink.Health(hw.Health{Sight: hw.SightBlind, Text: "no messages"})
		<-ctx.Done()
		return ctx.Err()
	}, func(ctx context.Context, sink hw.Sink) error {
		sink.Health(hw.Health{})
		<-ctx.Done()
		return ctx.Err()
	}))
	awaitAlarm(t, a, "service/paramedic/nic", correlate.CondSourceBlind, correlate.Raised)
	if err := a.Reload(withInclude(c, "veth*")); err != nil {
		t.Fatal(err)
	}
	awaitAlarm(t, a, "service/paramedic/nic", correlate.CondSourceBlind, correlate.Cleared)
}

// What is left out by a change of the configuration has not vanished: its alarms end, and none is raised.
func TestWhatASourceIsNotToWatchAnyMoreIsNotMissed(t *testing.T) {
	c := testConfig(t)
	say := func(d correlate.Delta) func(context.Context, hw.Sink) error {
		return func(ctx context.Context, sink hw.Sink) error {
			if err := sink.Emit(ctx, d); err != nil {
				return err
			}
			return idle(ctx, sink)
		}
	}
	a := start(t, c, reloadable(say(carrierLost), say(correlate.Delta{Full: true, Set: []correlate.Resource{{ID: "nic/eth1"}}})))
	awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Raised)
	if err := a.Reload(withInclude(c, "eth1")); err != nil {
		t.Fatal(err)
	}
	awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Cleared)
	err := a.Query(t.Context(), func(e *correlate.Engine) {
		for _, al := range e.Alarms() {
			t.Errorf("%s %s stands", al.Key.Resource, al.Key.Condition)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhoAsksDoesNotWaitForAReload(t *testing.T) {
	c := testConfig(t)
	running, release := make(chan struct{}), make(chan struct{})
	a := start(t, c, reloadable(func(ctx context.Context, _ hw.Sink) error {
		close(running)
		<-ctx.Done()
		<-release // ends late
		return ctx.Err()
	}, idle))
	<-running
	reloaded := make(chan error, 1)
	go func() { reloaded <- a.Reload(withInclude(c, "veth*")) }()
	for { // until the reload waits for the source
		a.mu.Lock()
		waits := len(a.supervisors) == 0
		a.mu.Unlock()
		if waits {
			break
		}
		runtime.Gosched()
	}
	if _, err := a.Status(t.Context()); err != nil {
		t.Error(err)
	}
	_ = a.Ready() // would hang
	close(release)
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
}

func TestAPanicIsOneLineInTheAlarmAndItsStackStandsInTheLog(t *testing.T) {
	var log syncBuffer
	a, err := New(Options{
		Config: testConfig(t), Version: "test", Log: slog.New(slog.NewTextHandler(&log, nil)),
		sources: oneSource("nic", func(context.Context, hw.Sink) error {
			return hw.Contain(func() error { panic("deep inside") })
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	raised := awaitAlarm(t, a, "service/paramedic/nic", correlate.CondSourceFailed, correlate.Raised)
	stop(t, a)
	if raised.Text != "the nic source failed: panic: deep inside" {
		t.Errorf("the alarm's text is %q", raised.Text)
	}
	first, _, _ := strings.Cut(log.String()[strings.Index(log.String(), "deep inside"):], "\n")
	if !strings.Contains(first, "agent_test.go") || strings.Contains(log.String(), "a source panicked") {
		t.Errorf("the log does not show the stack, once:\n%s", log.String())
	}
}

// syncBuffer is a buffer that a logger may fill while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestWhatWasSaidBeforeTheStopIsTold(t *testing.T) {
	l := newLoop(prometheus.NewRegistry(), remembering(), time.Now)
	l.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)
	var told []correlate.Change
	l.publish = func(e correlate.Effects) { told = append(told, e.Publish...) }
	l.queue("nic").offer(carrierLost)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if len(told) != 1 {
		t.Errorf("told %d changes, want the one that waited", len(told))
	}
}

// counting is a source that counts.
type counting struct{ scripted }

func (counting) Counts() map[string]uint64 { return map[string]uint64{"overruns": 3} }

func TestWhatASourceCountsIsExported(t *testing.T) {
	specs := oneSource("nic", idle)
	specs[0].build = func(*config.Config, *slog.Logger) (hw.Source, error) { return counting{scripted{"nic", idle}}, nil }
	a := start(t, testConfig(t), specs)
	families, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "paramedic_source_events_total" {
			if got := f.GetMetric()[0].String(); !strings.Contains(got, "overruns") || f.GetMetric()[0].GetCounter().GetValue() != 3 {
				t.Errorf("exported %s; want 3 overruns", got)
			}
			return
		}
	}
	t.Error("paramedic_source_events_total is not exported")
}

func TestAPartThatEndsByItselfIsTold(t *testing.T) {
	a := start(t, testConfig(t), oneSource("nic", func(ctx context.Context, _ hw.Sink) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	boom := errors.New("boom")
	a.background("a part", func(context.Context) error { return boom })
	if err := <-a.Failed(); !errors.Is(err, boom) {
		t.Errorf("failed with %v, want %v", err, boom)
	}
}
