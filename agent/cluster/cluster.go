package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// Home is the part of the agent that owns the engine. Nothing of it blocks, and nothing calls the Cluster back on the same
// goroutine.
type Home interface {
	// Say takes a word that was said at another host about an alarm of this one.
	Say(s ledger.Saying)
	// Close has alarms cleared that a consumer was told of and that do not stand here: known ones by the revision that
	// cleared them, unknown ones by a new one.
	Close(known []correlate.Change, unknown []*correlate.Alarm)
	// Claim says that the peers know this host under the term above, which is not below its own.
	Claim(above uint64)
	// Seen are alarms of other hosts that have vanished without a word of their end, and then new revisions and what was said of them.
	Seen(changes []correlate.Change, vanished []string)
	// Report takes an event about ourselves.
	Report(e correlate.Event)
}

// Config is what a Cluster is made of; all of it but Sealer and Metrics is needed.
type Config struct {
	Peer    gossip.PeerConfig // without Log, Metrics, Deliver and Term
	Dir     string            // of what must survive a restart
	Sealer  notify.Sealer     // nil: secrets go bare
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Home    Home
	Watch   WatchConfig

	limits gossip.Limits // a test's; zero: the defaults
	early  time.Duration // the same
}

// Cluster is this host among its peers. It is the notifier's Peers and the API's Cluster. All methods are safe from any
// goroutine.
type Cluster struct {
	cfg     Config
	node    string
	log     *slog.Logger
	repl    *gossip.Replicator
	store   *store
	relay   *relay
	courier *courier
	watch   *watching
	box     *mailbox
	kept    kept
	shared  notify.Shared // set by Attach

	doubtful []string // API subscriptions of a host that was away for too long; until Restated

	clock clock // of the pump

	pumping sync.Mutex // one at a time takes mail and changes to the ledger, so that they stay in order

	mu     sync.Mutex // of the ledger and what it has ordered; held for moments, never while calling anybody
	ledger *ledger.Ledger
	writes []queued
	orders ledger.Orders // without Write
	wake   time.Time

	flushing sync.Mutex                  // one at a time writes, in the order of the ledger's words; of the next three, too
	unsaid   map[gossip.Key]ledger.Write // own records that the replica had no room for, the newest of each
	refusal  string                      // why
	full     bool                        // that was reported
	todo     chan struct{}
	watcher  atomic.Pointer[gossip.Watcher]
	begun    atomic.Bool
	lost     atomic.Bool // the peers, for the rest of this run
	term     atomic.Uint64
	knowns   chan told     // what members know of us
	asked    *rate.Limiter // of those who want to know what we know of them
	started  chan struct{} // closed when the replicator takes work
	ended    chan struct{} // closed when Run has ended
	complain *rate.Limiter
	written  atomic.Uint64
	failed   atomic.Uint64
	replica  atomic.Pointer[gossip.Status]
	self     atomic.Pointer[ledger.Host]
}

// queued is a write on its way to the replica; result, if not nil, learns what became of it.
type queued struct {
	ledger.Write
	result *result
}

// result is under Cluster.flushing.
type result struct{ err error }

// New makes a Cluster and reads what the last run has left. It starts nothing.
func New(cfg Config) (*Cluster, error) {
	if cfg.Log == nil || cfg.Home == nil || cfg.Dir == "" {
		return nil, errors.New("a cluster needs Log, Home and Dir")
	}
	c := &Cluster{
		cfg: cfg, node: cfg.Peer.Node, log: cfg.Log, box: newMailbox(),
		ledger: ledger.New(ledger.Config{Node: cfg.Peer.Node, Label: cfg.Peer.Label, Sealer: cfg.Sealer}),
		todo:   make(chan struct{}, 1), knowns: make(chan told, 2*knownPeers), started: make(chan struct{}), ended: make(chan struct{}),
		complain: rate.NewLimiter(rate.Every(10*time.Second), 5), unsaid: make(map[gossip.Key]ledger.Write),
		asked: rate.NewLimiter(knownRate, knownRate),
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the shared records: %w", err)
	}
	var err error
	if c.kept, err = loadStore(cfg.Dir, time.Now(), cfg.Log); err != nil {
		return nil, err
	}
	c.relay = newRelay(c.node, cfg.Log, func(to string, msg []byte) error { return c.repl.Tell(to, msg) }, c.others)
	c.courier = newCourier(cfg.Log, func(to string, msg []byte) error { return c.repl.Tell(to, msg) })
	c.relay.settled = func(subscription, alarmID string, r correlate.Revision) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ledger.Settled(subscription, alarmID, r)
	}
	c.relay.delivered = func(home string, h notify.HandOver, a notify.Answer) {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Handed(now, h, home, a) })
		c.flush()
	}
	peer := cfg.Peer
	peer.Log, peer.Metrics = cfg.Log, cfg.Metrics
	c.repl, err = gossip.NewReplicator(gossip.ReplicatorConfig{Peer: peer, Limits: cfg.limits, Log: cfg.Log, Heard: c.heard})
	if err != nil {
		return nil, err
	}
	c.store = newStore(cfg.Dir, cfg.Log, c.sharedRecords)
	c.watch = newWatching(c.node)
	c.ledger.SetPolicies(cfg.Watch.Policies)
	return c, nil
}

// Attach says who is told what the others say, and takes the subscriptions that he knows of; before Run, and after he has
// those of this host's file.
func (c *Cluster) Attach(shared notify.Shared) {
	c.shared = shared
	c.relay.open(shared.Deliver)
	var file, known []notify.Subscription
	for _, s := range shared.Held() {
		switch {
		case s.Origin == notify.OriginFile:
			file = append(file, s)
		case c.kept.expired && s.Origin == notify.OriginAPI: // it may have been ended while we were away
			c.doubtful = append(c.doubtful, s.ID)
			continue
		}
		known = append(known, s)
	}
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Known(now, known) })
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.File(now, file) })
	mutes := shared.Mutes()
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.KnownMutes(now, mutes) })
}

// dropExpired ends the subscriptions that only a host knows that was away for too long.
func (c *Cluster) dropExpired() {
	if len(c.doubtful) == 0 {
		return
	}
	live := make(map[string]bool)
	c.mu.Lock()
	for _, s := range c.ledger.Subscriptions() {
		live[s.ID] = true
	}
	c.mu.Unlock()
	for _, id := range c.doubtful {
		if !live[id] {
			c.log.Warn("a subscription ends: no other host knows it, and this one was away for too long", "subscription_id", id)
			c.shared.Drop(id)
		}
	}
	c.doubtful = nil
}

// A peer that ends while we have hardly begun could not listen or must not be; one that ends later is a trouble.
const early = time.Minute

// Run runs until ctx ends: then what is still to be said is said, and goodbye. An error means that this host could not
// begin: the address is taken, or another host has our name. What goes wrong later is logged, and this host works alone.
func (c *Cluster) Run(ctx context.Context) error {
	defer close(c.ended)
	began := time.Now()
	// The peer outlives the pump and the store, which use it on their way down.
	peerCtx, endPeer := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endPeer(nil)
	peerDone := make(chan error, 1)
	go func() { peerDone <- c.repl.Run(peerCtx) }()

	inner, end := context.WithCancel(ctx)
	defer end()
	if c.cfg.Metrics != nil {
		for _, figures := range []prometheus.Collector{newCollector(c), newWatchCollector(c)} {
			if err := c.cfg.Metrics.Register(figures); err != nil {
				endPeer(nil)
				return errors.Join(fmt.Errorf("register metrics: %w", err), <-peerDone)
			}
			defer c.cfg.Metrics.Unregister(figures)
		}
	}
	var group sync.WaitGroup
	storeCtx, endStore := context.WithCancel(context.WithoutCancel(ctx))
	defer endStore()
	if err := c.begin(ctx); err != nil {
		c.relay.close()
		c.courier.close()
		endPeer(nil)
		return errors.Join(ignoreEnd(ctx, err), <-peerDone)
	}
	group.Go(func() { c.store.run(storeCtx) })
	watchCtx, endWatch := context.WithCancel(context.WithoutCancel(ctx))
	defer endWatch()
	if err := c.openWatch(); err != nil {
		endStore()
		group.Wait()
		c.relay.close()
		c.courier.close()
		endPeer(nil)
		return errors.Join(err, <-peerDone)
	}
	watchDone := make(chan error, 1)
	go func() { watchDone <- c.runWatch(watchCtx) }()
	pumped := make(chan struct{})
	go func() { defer close(pumped); c.pump(inner) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-peerDone:
		peerDone <- nil
		switch {
		case ctx.Err() != nil, err != nil && time.Since(began) < cmp.Or(c.cfg.early, early):
		default:
			c.lost.Store(true)
			c.log.Error("this host has lost its peers and works alone until the agent is restarted", "error", err)
			c.unshared(fmt.Sprintf("this host has lost its peers and works alone: %v; restart its agent when that is mended", err))
			err = nil
			<-ctx.Done()
		}
	}
	end()
	<-pumped
	c.watch.lookout.Goodbye(c.watch.leaving())
	endWatch()
	err = errors.Join(err, <-watchDone)
	c.relay.close()
	c.courier.close()
	endStore()
	group.Wait()
	endPeer(context.Cause(ctx))
	return errors.Join(err, <-peerDone)
}

// ignoreEnd drops an error that only says that ctx has ended, or that the peer did: its own error says why.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil && !errors.Is(err, gossip.ErrStopped) {
		return err
	}
	return nil
}

// begin gives the replica what was kept, and the ledger all that the replica holds.
func (c *Cluster) begin(ctx context.Context) error {
	err := c.repl.Update(ctx, func(_ time.Time, w *gossip.Writer) error {
		w.Restore(c.kept.saved, c.kept.records)
		return nil
	})
	if err != nil {
		return fmt.Errorf("take back the shared records: %w", err)
	}
	w, err := c.repl.Watch(ctx)
	if err != nil {
		return fmt.Errorf("watch the replica: %w", err)
	}
	c.watcher.Store(w)
	c.kept.records = nil
	close(c.started)
	return nil
}

// pump takes mail and changes to the ledger and carries out its orders, until ctx ends.
func (c *Cluster) pump(ctx context.Context) {
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	members := c.repl.Peer().Changes()
	c.lookAround()
	for {
		c.listen()
		c.catchUp(time.Now())
		c.drain()
		c.flush()
		c.carryOut()
		c.decide()
		due := time.Hour
		c.mu.Lock()
		if !c.wake.IsZero() {
			due = max(0, time.Until(c.wake))
		}
		c.mu.Unlock()
		if at := c.watch.wakeAt; !at.IsZero() {
			due = min(due, max(0, time.Until(at)))
		}
		wake.Reset(due)
		select {
		case <-ctx.Done():
			c.drain()
			// What the ledger holds back to write it together is due now.
			c.stepAt(time.Now().Add(time.Second), func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Tick(now) })
			c.sayLeft()
			c.flush()
			return
		case <-c.box.wake:
		case <-c.watcher.Load().Ready():
		case <-c.todo:
		case <-c.watch.wake:
		case <-members:
			c.lookAround()
		case <-wake.C:
			c.mu.Lock()
			due := !c.wake.IsZero() && !time.Now().Before(c.wake)
			if due {
				c.wake = time.Time{}
			}
			c.mu.Unlock()
			if due {
				c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Tick(now) })
			}
		case <-second.C:
			c.lookAround()
			c.mourn(time.Now())
			c.look(ctx)
			c.sayAgain()
		}
	}
}

// look keeps the figures of the replica for those who must not wait, and judges our clock.
func (c *Cluster) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var p gossip.PeersClock
	_ = c.repl.View(ctx, func(r *gossip.Replica) { // on its end the last figures stay
		st := r.Status()
		c.replica.Store(&st)
		p = r.PeersClock()
	})
	if e, ok := c.clock.judge(time.Now(), p); ok {
		c.cfg.Home.Report(e)
	}
}

// drain gives the ledger what waits.
func (c *Cluster) drain() {
	c.pumping.Lock()
	defer c.pumping.Unlock()
	if w := c.watcher.Load(); w != nil {
		if ch := w.Take(); len(ch.Changed)+len(ch.Purged)+len(ch.Own) > 0 || ch.OwnTerm != 0 {
			for _, list := range [][]gossip.Record{ch.Changed, ch.Purged} {
				for i := range list {
					if list[i].Space == gossip.Shared {
						c.store.touch()
					}
				}
			}
			c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Take(now, ch) })
		}
	}
	m := c.box.take()
	if m.file != nil {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.File(now, *m.file) })
	}
	if m.host != nil {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Host(now, *m.host) })
	}
	for _, d := range m.inventory() {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Inventory(now, &d) })
	}
	if eff := m.effects(); len(eff.Save) > 0 {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Effects(now, eff) })
	}
	if pairs := m.sortedPairs(); len(pairs) > 0 {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Pairs(now, pairs) })
	}
	for id, r := range m.refused {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Refused(now, id, r.version, r.reason) })
	}
	if ids := m.forgotten(); len(ids) > 0 {
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Forgot(now, ids) })
	}
}

// sharedRecords is what the file holds.
func (c *Cluster) sharedRecords(ctx context.Context) ([]gossip.Record, error) {
	var all []gossip.Record
	err := c.repl.View(ctx, func(r *gossip.Replica) {
		for rec := range r.Records() {
			if rec.Space == gossip.Shared {
				all = append(all, rec)
			}
		}
	})
	return all, err
}

// others are the members without this host.
func (c *Cluster) others() []string {
	var names []string
	for _, m := range c.repl.Peer().Members() {
		if m.Node != c.node {
			names = append(names, m.Node)
		}
	}
	return names
}
