package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/durable"
	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/notify"
)

// onThisHost is where the consumers of these tests listen.
var onThisHost = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what takes milliseconds on a quiet machine.
const patience = time.Minute

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// engine is the agent's side, which only remembers what it is told.
type engine struct {
	mu      sync.Mutex
	claims  []uint64
	closed  []*correlate.Alarm
	known   []correlate.Change
	reports []correlate.Event
	seen    []correlate.Change
}

func (e *engine) note(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *engine) Say(ledger.Saying) {}

func (e *engine) Claim(above uint64) { e.note(func() { e.claims = append(e.claims, above) }) }

func (e *engine) Report(ev correlate.Event) { e.note(func() { e.reports = append(e.reports, ev) }) }

func (e *engine) Seen(c []correlate.Change, _ []string) {
	e.note(func() { e.seen = append(e.seen, c...) })
}

func (e *engine) Close(known []correlate.Change, unknown []*correlate.Alarm) {
	e.note(func() { e.known, e.closed = append(e.known, known...), append(e.closed, unknown...) })
}

// one is a cluster with a real notifier, without an engine.
type one struct {
	*Cluster
	t        *testing.T
	notifier *notify.Notifier
	engine   engine
	dir      string
	former   Former
	stop     func()
}

func start(t *testing.T, net, dir string, i int, options ...func(*Config)) *one {
	t.Helper()
	o := &one{t: t, dir: dir}
	log := slog.New(slog.DiscardHandler)
	name := fmt.Sprint("cmp-", i)
	c := Config{
		Peer: gossip.PeerConfig{
			Node: name, Bind: fmt.Sprintf("%s.%d", net, i), Join: []string{net + ".1", net + ".2"}, Label: "test", Insecure: true, Dir: dir,
		},
		Dir: dir, Log: log, Home: &o.engine,
	}
	for _, option := range options {
		option(&c)
	}
	var err error
	if o.Cluster, err = New(c); err != nil {
		t.Fatal(err)
	}
	if o.notifier, err = notify.New(notify.Config{Node: name, Label: "test", Dir: dir, Log: log, Peers: o.Cluster, AllowCallbacks: onThisHost}); err != nil {
		t.Fatal(err)
	}
	if err := o.notifier.SetFile(nil); err != nil {
		t.Fatal(err)
	}
	o.Attach(o.notifier)
	var ends []func()
	for _, run := range []func(context.Context) error{o.Run, o.notifier.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		ends = append(ends, func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	o.stop = sync.OnceFunc(func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	})
	t.Cleanup(o.stop)
	if o.former, err = o.Settle(t.Context(), o.notifier.Restored().Term, o.notifier.Restored().Term <= 2); err != nil {
		t.Fatal(err)
	}
	alarms, pairs := o.notifier.Kept()
	if err := o.Begin(t.Context(), o.former.Term, alarms, pairs); err != nil {
		t.Fatal(err)
	}
	return o
}

func startBoth(t *testing.T, dirs [2]string) (a, b *one) {
	t.Helper()
	net := loopback.Network(t)
	var wait sync.WaitGroup
	wait.Go(func() { a = start(t, net, dirs[0], 1) })
	wait.Go(func() { b = start(t, net, dirs[1], 2) })
	wait.Wait()
	if a == nil || b == nil {
		t.FailNow()
	}
	eventually(t, "they see each other", func() bool { return len(a.others()) == 1 && len(b.others()) == 1 })
	return a, b
}

func (o *one) has(id string) bool {
	return slices.ContainsFunc(o.notifier.Subscriptions(), func(s notify.Subscription) bool { return s.ID == id })
}

func subscription() notify.Subscription {
	return notify.Subscription{Name: "vnfm", Endpoints: []string{"http://127.0.0.1:9/"}}
}

// later lets the ledger believe that time has passed.
func (o *one) later(d time.Duration) {
	o.stepAt(time.Now().Add(d), func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Tick(now) })
}

// alone is a directory in which an agent without peers has left a subscription.
func alone(t *testing.T) (dir string, sub notify.Subscription) {
	t.Helper()
	dir = t.TempDir()
	n, err := notify.New(notify.Config{Node: "cmp-1", Label: "test", Dir: dir, AllowCallbacks: onThisHost})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	if sub, _, err = n.Subscribe(t.Context(), subscription(), false); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	return dir, sub
}

func TestAHostThatWasAloneBringsItsSubscriptions(t *testing.T) {
	dir, sub := alone(t)
	a, b := startBoth(t, [2]string{dir, t.TempDir()})
	eventually(t, "the other host gets it", func() bool {
		a.later(time.Minute)
		return b.has(sub.ID)
	})
	if !a.has(sub.ID) {
		t.Error("the host that had it has lost it")
	}
}

func TestAHostThatWasAwayForTooLongBringsNothingBack(t *testing.T) {
	dir, sub := alone(t)
	long := time.Now().Add(-gossip.TombstoneLife - time.Hour)
	if err := durable.Replace(filepath.Join(dir, storeName), encodeStore([]gossip.Record{sharedRecord(1)}, long)); err != nil {
		t.Fatal(err)
	}
	a, b := startBoth(t, [2]string{dir, t.TempDir()})
	kept, _, err := b.notifier.Subscribe(t.Context(), subscription(), false)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it gets what there is", func() bool { return a.has(kept.ID) })
	if err := a.Restated(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.later(time.Minute)
	eventually(t, "what only it had is gone", func() bool { return !a.has(sub.ID) })
	if b.has(sub.ID) || !a.has(kept.ID) {
		t.Errorf("the other host has what was ended: %v; this one has lost what was not: %v", b.has(sub.ID), !a.has(kept.ID))
	}
	if _, err := os.Stat(filepath.Join(dir, storeName+".expired")); err != nil {
		t.Error(err)
	}
}

func TestWhatIsEndedStaysEndedWhenAllRestart(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	a, b := startBoth(t, dirs)
	ended, _, err := a.notifier.Subscribe(t.Context(), subscription(), false)
	if err != nil {
		t.Fatal(err)
	}
	kept, _, err := a.notifier.Subscribe(t.Context(), subscription(), false)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have both", func() bool { return b.has(ended.ID) && b.has(kept.ID) })
	b.stop() // it does not hear of the end
	if err := a.notifier.Unsubscribe(t.Context(), ended.ID); err != nil {
		t.Fatal(err)
	}
	a.stop()
	a, b = startBoth(t, dirs)
	eventually(t, "the one that was away learns of the end", func() bool { return !b.has(ended.ID) })
	for _, o := range []*one{a, b} {
		o.later(time.Minute)
		if o.has(ended.ID) || !o.has(kept.ID) {
			t.Errorf("%s has %v", o.node, o.notifier.Subscriptions())
		}
	}
}

// TestWhoSpeaksForAHostKnowsWhereItStands by the word of that host.
func TestWhoSpeaksForAHostKnowsWhereItStands(t *testing.T) {
	a, b := startBoth(t, [2]string{t.TempDir(), t.TempDir()})
	s := subscription()
	s.Filter.Zones, s.Filter.Labels = []string{"rack-b"}, map[string][]string{"az": {"nova-1"}}
	if _, _, err := a.notifier.Subscribe(t.Context(), s, false); err != nil {
		t.Fatal(err)
	}
	lost := correlate.Change{Alarm: &correlate.Alarm{
		Key: correlate.Key{Home: "cmp-2", Resource: "host/cmp-2", Condition: correlate.CondHostLost}, ID: "lost",
		Revision: correlate.Revision{Term: 3, Counter: 1}, Last: correlate.Raised, Severity: correlate.SeverityCritical, Confidence: correlate.ConfidenceConfirmed,
	}}
	if owed := a.notifier.Speak([]correlate.Change{lost}, nil); owed != 0 {
		t.Fatalf("%d deliveries are owed before anybody knows where the host stands", owed)
	}
	b.Host(ledger.Host{Zone: "rack-b", Labels: map[string]string{"az": "nova-1"}})
	eventually(t, "it is owed", func() bool { return len(a.notifier.Deliveries("")) == 1 })
	b.Host(ledger.Host{Zone: "rack-c"})
	eventually(t, "the other host has moved", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		v, _ := a.ledger.HostRecord("cmp-2")
		return v.Zone == "rack-c"
	})
	if n := len(a.notifier.Deliveries("")); n != 1 {
		t.Errorf("%d deliveries are owed", n)
	}
}

func TestPublishIsOnTheDiskWhenItReturns(t *testing.T) {
	a, _ := startBoth(t, [2]string{t.TempDir(), t.TempDir()})
	sub, _, err := a.notifier.Subscribe(t.Context(), subscription(), false)
	if err != nil {
		t.Fatal(err)
	}
	holds := func() (live, deleted bool) {
		got, err := loadStore(a.dir, time.Now(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got.records {
			if r.Kind == gossip.KindSubscription && r.ID == sub.ID {
				return !r.Deleted, r.Deleted
			}
		}
		return false, false
	}
	if live, _ := holds(); !live {
		t.Error("the subscription is not in the file")
	}
	if err := a.notifier.Unsubscribe(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	if _, deleted := holds(); !deleted {
		t.Error("its end is not in the file")
	}
}

// A second agent of this host's name has written under a higher term: the one that lives hears of it.
func TestATermThatIsTooLowIsClaimed(t *testing.T) {
	a, b := startBoth(t, [2]string{t.TempDir(), t.TempDir()})
	other := gossip.Record{Key: gossip.Key{Space: "cmp-1", Kind: gossip.KindHost}, Version: gossip.Version{A: 40, B: 1, Node: "cmp-1"}, Payload: []byte("x")}
	if err := b.repl.Update(t.Context(), func(_ time.Time, w *gossip.Writer) error { w.Merge([]gossip.Record{other}); return nil }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its agent is told", func() bool {
		a.engine.mu.Lock()
		defer a.engine.mu.Unlock()
		return slices.Contains(a.engine.claims, 40)
	})
	if err := a.SetTerm(t.Context(), Above(a.former.Term, 40)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other sees the new term", func() bool {
		return slices.ContainsFunc(b.Hosts(), func(v ledger.HostView) bool { return v.Name == "cmp-1" && v.Member && v.Term == 42 })
	})
}

// The replica's own space is full: what found no room is said when there is some, alarms first, and that is an alarm.
func TestWhatTheReplicaHasNoRoomForIsSaidLater(t *testing.T) {
	net := loopback.Network(t)
	a := start(t, net, t.TempDir(), 1, func(c *Config) { c.Peer.Join, c.limits.Records = nil, 20 }) // of which the own may be half
	reported := func(s correlate.Status) func() bool {
		return func() bool {
			a.engine.mu.Lock()
			defer a.engine.mu.Unlock()
			n := len(a.engine.reports)
			return n > 0 && a.engine.reports[n-1].Condition == correlate.CondUnshared && a.engine.reports[n-1].Status == s
		}
	}
	written := func() (n int) {
		if err := a.repl.View(t.Context(), func(r *gossip.Replica) {
			for rec := range r.Records() {
				if !rec.Deleted && rec.Space == "cmp-1" && rec.Kind == gossip.KindDomain {
					n++
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	d := correlate.Delta{Source: "virt", Full: true}
	for i := range 15 {
		d.Set = append(d.Set, correlate.Resource{ID: correlate.NewID(correlate.KindDomain, fmt.Sprint("uuid-", 10+i))})
	}
	a.Inventory(&d)
	eventually(t, "it is said that there are too many", reported(correlate.StatusFailed))
	if n := written(); n == 0 || n >= 15 {
		t.Errorf("%d of 15 are written", n)
	}
	a.Inventory(&correlate.Delta{Source: "virt", Full: true, Set: d.Set[10:]}) // five of those that found no room
	a.Inventory(&correlate.Delta{Source: "virt", Set: d.Set[10:11]})
	eventually(t, "what has ended is deleted", func() bool { return written() == 0 })
	if err := a.SetTerm(t.Context(), a.former.Term+2); err != nil { // what it has deleted takes room no more
		t.Fatal(err)
	}
	eventually(t, "it is said to be over", reported(correlate.StatusOK))
	if n := written(); n != 5 {
		t.Errorf("%d of 5 are written", n)
	}
}

// However much was told of the alarms there are, the peers learn of the next one.
func TestWhatWasToldLeavesRoomForTheNextAlarm(t *testing.T) {
	net := loopback.Network(t)
	a := start(t, net, t.TempDir(), 1, func(c *Config) { c.Peer.Join, c.limits.Records = nil, 80 }) // of its own 40, of them 30 deliveries
	pairs := make([]notify.Pair, 2*unsaidAtOnce)
	for i := range pairs {
		pairs[i] = notify.Pair{Subscription: fmt.Sprint("sub-", i), AlarmID: "a-0", Told: correlate.Revision{Term: 2, Counter: 1}}
	}
	a.Pairs(pairs)
	eventually(t, "there is no room for all of it", func() bool {
		a.engine.mu.Lock()
		defer a.engine.mu.Unlock()
		return len(a.engine.reports) > 0
	})
	change := handOver().Change
	one := *change.Alarm
	one.Key.Home = "cmp-1"
	a.Effects(correlate.Effects{Save: []*correlate.Alarm{&one}})
	eventually(t, "the alarm is there", func() bool {
		found := false
		if err := a.repl.View(t.Context(), func(r *gossip.Replica) {
			_, found = r.Get(gossip.Key{Space: "cmp-1", Kind: gossip.KindAlarm, ID: one.ID})
		}); err != nil {
			t.Fatal(err)
		}
		return found
	})
}

// Another agent has its name and proves to be the elder one, long after the start.
func TestAHostThatLosesItsPeersSaysSoAndGoesOn(t *testing.T) {
	net := loopback.Network(t)
	rival, err := gossip.NewReplicator(gossip.ReplicatorConfig{Term: 2, Log: slog.New(slog.DiscardHandler), Peer: gossip.PeerConfig{
		Node: "cmp-1", Bind: net + ".7", Join: []string{net + ".1"}, Label: "test", Insecure: true, Log: slog.New(slog.DiscardHandler),
	}})
	if err != nil {
		t.Fatal(err)
	}
	made := time.Now().UnixMilli() // who is the elder one is told in milliseconds
	eventually(t, "the clock goes on", func() bool { return time.Now().UnixMilli() > made })
	a := start(t, net, t.TempDir(), 1, func(c *Config) { c.Peer.Join, c.early = nil, time.Nanosecond })
	sub, _, err := a.notifier.Subscribe(t.Context(), subscription(), false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rival.Run(ctx) }()
	t.Cleanup(func() { end(); <-ended })
	eventually(t, "it is said", func() bool {
		a.engine.mu.Lock()
		defer a.engine.mu.Unlock()
		return slices.ContainsFunc(a.engine.reports, func(e correlate.Event) bool {
			return e.Condition == correlate.CondUnshared && e.Status == correlate.StatusFailed
		})
	})
	if other, _, err := a.notifier.Subscribe(t.Context(), subscription(), false); err != nil || !a.has(other.ID) {
		t.Errorf("a subscription of the host that is alone: %v", err)
	}
	if err := a.notifier.Unsubscribe(t.Context(), sub.ID); !errors.Is(err, gossip.ErrStopped) {
		t.Errorf("one that others have is ended here: %v; it would come back", err)
	}
	if _, err := a.HandOver(t.Context(), handOver()); err == nil {
		t.Error("handed over to nobody")
	}
	a.Effects(correlate.Effects{Save: []*correlate.Alarm{handOver().Change.Alarm}})
	eventually(t, "what it says does not pile up", func() bool { return a.box.depth() == 0 })
}

func TestWhoIsAskedWhatIsKnownOfAHost(t *testing.T) {
	for _, c := range []struct {
		level   map[string]bool
		members []string
		want    bool
	}{
		{nil, nil, false},
		{map[string]bool{"a": true}, []string{"a"}, true},
		{map[string]bool{"a": true}, []string{"a", "b"}, false}, // b may know what a, which has just begun, does not
		{map[string]bool{"a": true, "b": false}, []string{"a", "b"}, false},
		{map[string]bool{"a": true, "b": true, "c": true}, []string{"a", "b", "c", "d", "e"}, true},
		{map[string]bool{"x": true, "y": true, "z": true}, []string{"a", "b", "c"}, false}, // they have left
	} {
		if got := enough(c.level, c.members); got != c.want {
			t.Errorf("level with %v of %v is enough: %v", c.level, c.members, got)
		}
	}
}

func TestAboveIsEvenAndHigher(t *testing.T) {
	for _, c := range []struct{ own, seen, want uint64 }{
		{2, 0, 2},
		{10, 8, 10},
		{10, 9, 10},
		{10, 10, 12},
		{2, 7, 8},
		{2, 8, 10},
		{2, gossip.MaxTerm - 1, gossip.MaxTerm},
		{2, gossip.MaxTerm, 2},
		{2, gossip.MaxTerm + 1, 2},
		{2, 1<<64 - 1, 2},
	} {
		if got := Above(c.own, c.seen); got != c.want {
			t.Errorf("above %d, of which %d was seen: %d, want %d", c.own, c.seen, got, c.want)
		}
	}
}

func TestHostsAreForgottenOnlyWhenTheyAreAway(t *testing.T) {
	a, b := startBoth(t, [2]string{t.TempDir(), t.TempDir()})
	if err := a.Forget(t.Context(), "cmp-2"); err == nil {
		t.Error("a member is forgotten")
	}
	b.stop()
	eventually(t, "it is gone", func() bool { return len(a.others()) == 0 })
	for _, v := range a.Hosts() {
		if v.Name == "cmp-2" && (v.Member || v.AsOf.IsZero() || !v.AsOf.Equal(v.Last)) {
			t.Errorf("the host that has left: %+v", v)
		}
		if v.Name == "cmp-1" && (!v.Self || !v.Member || v.Term != a.former.Term) {
			t.Errorf("this host: %+v", v)
		}
	}
	if err := a.Forget(t.Context(), "cmp-2"); err != nil {
		t.Fatal(err)
	}
	if hosts := a.Hosts(); len(hosts) != 1 {
		t.Errorf("hosts %+v", hosts)
	}
	if err := a.Forget(t.Context(), "cmp-9"); !errors.Is(err, gossip.ErrUnknownHost) {
		t.Errorf("forget a host that never was: %v", err)
	}
	if s := a.Status(); s.Term != a.former.Term || s.Address == "" || s.Peer.Members != 1 || len(s.SecretsKeys) != 0 {
		t.Errorf("status %+v", s)
	}
}
