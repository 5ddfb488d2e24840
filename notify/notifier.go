package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

const (
	// hold is how long a delivery waits for its commit at most ("durable within 1 ms or sent anyway").
	hold = time.Millisecond
	// failingLong is how long a subscription may fail before an alarm about it is raised.
	failingLong = time.Minute
	stopGrace   = time.Second // for requests in flight when Run ends
	profileSize = 1000
	// orphanWait is how long what is kept for a subscription that the file names no more waits for the peers to name it.
	orphanWait = 5 * time.Minute
	source     = "notify" // of the events about ourselves
)

// Notifier is the Service.
//
// Locks are taken in this order: Notifier.mu, worker.mu, then the leaves (inbox, outbox, profile).
type Notifier struct {
	cfg      Config
	log      *slog.Logger
	dial     dialFunc             // of tests, instead of the real one
	exit     atomic.Pointer[exit] // replaced under mu
	box      *outbox
	restored Restored
	metrics  *metrics
	profile  ring

	in   inbox
	feed feed // used with Peers only

	mu        sync.Mutex
	alarms    map[string]alarmRecord // by id: standing ones, and cleared ones that somebody is owed or that are dismissed
	pairs     map[string]int         // by alarm id: how many subscriptions hold something of it, left ones included
	guests    map[string]struct{}    // of alarms, by id: those of other hosts, which this one speaks for
	owners    atomic.Pointer[Owners]
	places    Places // of the hosts that are known
	mutes     mutes
	muteMoved chan struct{}           // capacity 1: when the next mute ends may have changed
	left      map[string][]pairRecord // of an earlier run, by leg, until their owners are named (SetFile, Put)
	past      map[string]subscriptionRecord
	filed     bool                      // SetFile was called
	lost      bool                      // what the last run had told is not known
	orphaned  time.Time                 // when what nobody names was last left to the peers
	workers   atomic.Pointer[[]*worker] // replaced under mu; read by anybody

	running  atomic.Bool
	requests context.Context // of every request; ends stopGrace after Run's
	cancel   context.CancelFunc
	group    sync.WaitGroup // worker goroutines and requests
	runCtx   context.Context
}

var _ Service = (*Notifier)(nil)

// New opens the outbox, makes the new term durable, and takes back what the last run left. It fails only when the
// configuration is wrong or another process holds the outbox: one that is damaged is set aside, one that can't be
// written is done without, both said loudly.
func New(cfg Config) (*Notifier, error) {
	if cfg.Node == "" || cfg.Label == "" || cfg.Dir == "" {
		return nil, errors.New("notifier: node, label and directory must be given")
	}
	return newNotifier(cfg, nil)
}

// newNotifier has the seam where tests put connections of their own.
func newNotifier(cfg Config, dial dialFunc) (*Notifier, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = delivery.DefaultConfig().MaxAge
	}
	if cfg.Report == nil {
		cfg.Report = func(correlate.Event) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "paramedic"
	}
	box, l, err := openOutbox(cfg.Dir, cfg.Now, cfg.Log, cfg.Sealer)
	if err != nil {
		return nil, err
	}
	n := &Notifier{
		cfg: cfg, log: cfg.Log, dial: dial, box: box, alarms: map[string]alarmRecord{}, pairs: map[string]int{}, guests: map[string]struct{}{}, left: l.pairs,
		past: map[string]subscriptionRecord{}, places: Places{cfg.Node: cfg.Place},
		mutes: mutes{}, muteMoved: make(chan struct{}, 1),
	}
	for _, m := range l.mutes { // before anybody is offered anything
		n.mutes[m.ID] = m
	}
	n.exit.Store(n.exitBy(cfg.AllowCallbacks, cfg.Proxy))
	n.workers.Store(&[]*worker{})
	n.owners.Store(&cfg.Owners)
	n.requests, n.cancel = context.WithCancel(context.Background())
	n.in.init()
	n.feed.init()
	if n.metrics, err = newMetrics(cfg.Metrics, n); err != nil {
		box.closeQuietly()
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	box.committed, box.contents, box.report, box.observe = n.committed, n.contents, n.outboxReport, n.metrics.commit

	n.restored.Term, n.lost = l.term, l.lost
	for _, r := range l.alarms {
		n.alarms[r.Alarm.ID] = r
		if r.Alarm.Standing() || r.Alarm.Dismissed() {
			n.restored.Alarms = append(n.restored.Alarms, r.Alarm)
		}
	}
	for _, pairs := range n.left {
		for _, p := range pairs {
			n.pairs[p.AlarmID]++
		}
	}
	for _, r := range l.subscriptions {
		if r.Origin == OriginFile {
			n.past[r.ID] = r
			continue
		}
		if err := r.Validate(); err != nil && r.Paused == "" { // of an earlier version, which took what this one refuses
			r.Paused = "it can't be used by this version of paramedic: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		w := n.adopt(r.Subscription, r)[0]
		if cfg.Sealer != nil && len(r.Keys)+len(r.Bare) > 0 { // written without one
			n.box.put(w.record())
		}
	}
	return n, nil
}

// Restored is what the last run left; constant after New.
func (n *Notifier) Restored() Restored { return n.restored }

// Run delivers until ctx ends; see Service.
func (n *Notifier) Run(ctx context.Context) error {
	boxCtx, stopBox := context.WithCancel(context.Background())
	boxDone := make(chan struct{})
	go func() { defer close(boxDone); n.box.run(boxCtx) }()

	for _, a := range n.restored.Alarms {
		if a.Key.Condition == correlate.CondOutbox && n.box.problem() == "" {
			n.outboxReport("") // it stood when the last run ended
		}
	}
	n.mu.Lock()
	n.runCtx = ctx
	n.running.Store(true)
	for _, w := range n.list() {
		n.startWorker(w)
	}
	n.mu.Unlock()
	feedCtx, stopFeed := context.WithCancel(context.Background())
	feedDone := make(chan struct{})
	go func() {
		defer close(feedDone)
		if cfg := n.cfg; cfg.Peers != nil {
			n.feed.run(feedCtx, cfg.Peers)
		}
	}()

	n.dispatchLoop(ctx)

	n.mu.Lock()
	n.running.Store(false)
	for _, w := range n.list() { // whoever saw it running has started what it wanted; nothing is started from here on
		w.mu.Lock()
		w.mu.Unlock() //nolint:staticcheck // a barrier, not a section
	}
	n.mu.Unlock()
	grace := time.AfterFunc(stopGrace, n.cancel)
	n.group.Wait()
	grace.Stop()
	n.cancel()
	n.mu.Lock()
	for _, w := range n.list() {
		w.sender.close()
	}
	n.mu.Unlock()
	stopFeed()
	<-feedDone
	stopBox()
	<-boxDone
	n.metrics.unregister()
	return ctx.Err()
}

func (n *Notifier) list() []*worker { return *n.workers.Load() }

func (n *Notifier) startWorker(w *worker) {
	n.group.Go(func() { w.run(n.runCtx) })
}

// Publish hands effects over; see Service.
func (n *Notifier) Publish(eff correlate.Effects) { n.in.add(eff) }

func (n *Notifier) dispatchLoop(ctx context.Context) {
	orphans := time.NewTicker(orphanWait / 2)
	defer orphans.Stop()
	ending := time.NewTimer(n.endMutes())
	defer ending.Stop()
	for {
		select {
		case <-ending.C:
			ending.Reset(n.endMutes())
		case <-n.muteMoved:
			ending.Reset(n.endMutes())
		case <-n.in.wake:
			n.dispatch()
		case <-orphans.C:
			n.mu.Lock()
			if n.filed && n.cfg.Now().Sub(n.orphaned) >= orphanWait {
				n.purge()
			}
			n.endLapsed(n.cfg.Now())
			n.mu.Unlock()
		case <-ctx.Done():
			n.dispatch() // so that what was published is owed when the next run begins
			return
		}
	}
}

// dispatch saves what was published and owes it to whoever wants it.
func (n *Notifier) dispatch() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
}

// drain is dispatch under mu.
func (n *Notifier) drain() {
	batch := n.in.take()
	if len(batch) == 0 {
		return
	}
	now := n.cfg.Now()
	writes := make([]write, 0, len(batch))
	for _, b := range batch {
		r := alarmRecord(b.newest)
		if k, ok := n.alarms[r.Alarm.ID]; ok {
			if r.Alarm.Revision.Compare(k.Alarm.Revision) < 0 {
				continue
			}
			if b.saveOnly { // the same revision: its times are known
				r = k
				r.Alarm = b.newest.Alarm
			}
		}
		n.alarms[r.Alarm.ID] = r
		writes = append(writes, write{place{shelfAlarms, r.Alarm.ID}, r})
	}
	done := n.box.together()
	n.box.stage(writes...) // with what is owed of them
	for _, w := range n.list() {
		w.offer(batch, now)
	}
	done()
	n.box.flush()
	for _, b := range batch {
		n.forgetSettled(b.newest.Alarm.ID)
	}
}

// forgetSettled drops a cleared alarm that nobody is owed and that is not dismissed. Under mu.
func (n *Notifier) forgetSettled(alarmID string) {
	if k, ok := n.alarms[alarmID]; ok && n.pairs[alarmID] == 0 && !k.Alarm.Standing() && !k.Alarm.Dismissed() {
		delete(n.alarms, alarmID)
		if has(n.guests, alarmID) {
			delete(n.guests, alarmID)
		} else {
			n.box.put(write{place{shelfAlarms, alarmID}, nil})
		}
		if n.cfg.Peers != nil {
			n.feed.forget(alarmID)
		}
	}
}

// released takes back pairs that ended. Not under mu.
func (n *Notifier) released(alarmIDs []string) {
	if len(alarmIDs) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.release(alarmIDs)
}

func (n *Notifier) release(alarmIDs []string) {
	for _, id := range alarmIDs {
		if n.pairs[id]--; n.pairs[id] <= 0 {
			delete(n.pairs, id)
			n.forgetSettled(id)
		}
	}
}

func (n *Notifier) committed(seq uint64, c delivery.Commit) {
	for _, w := range n.list() {
		w.committed(seq, c)
	}
}

// contents is everything that the outbox should hold.
func (n *Notifier) contents() []write {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []write
	for id, r := range n.alarms {
		if !has(n.guests, id) {
			all = append(all, write{place{shelfAlarms, id}, r})
		}
	}
	for _, w := range n.list() {
		all = append(all, w.contents()...)
	}
	for sub, pairs := range n.left {
		for _, p := range pairs {
			all = append(all, write{pairPlace(sub, p.AlarmID), p})
		}
	}
	for id, m := range n.mutes {
		all = append(all, write{place{shelfMutes, id}, muteRecord(m)})
	}
	for id, r := range n.past {
		all = append(all, write{place{shelfSubscriptions, id}, r})
	}
	return all
}

// adopt makes the workers of a subscription, with what an earlier run left for it, and owes it the standing alarms that
// match. Of kept, the record of the earlier run, what is not contents counts. Under mu, or before anybody else knows n.
func (n *Notifier) adopt(sub Subscription, kept subscriptionRecord) []*worker {
	legs := n.prepare(sub, kept)
	for _, w := range legs {
		n.join(w)
	}
	return legs
}

// prepare makes workers that nobody knows yet.
func (n *Notifier) prepare(sub Subscription, kept subscriptionRecord) []*worker {
	legs, now := n.makeLegs(sub), n.cfg.Now()
	for _, w := range legs {
		n.takeLeft(w, kept, now)
	}
	n.inheritLeft(legs, now)
	return legs
}

// takeLeft gives a worker that nobody knows yet what an earlier run left for it.
func (n *Notifier) takeLeft(w *worker, kept subscriptionRecord, now time.Time) {
	sub, id := w.sub, w.leg.id
	if sub.Paused != "" && kept.Refused == sub.Version {
		w.refused = kept.Refused
	}
	w.rebuilt.ID, w.rebuilt.Since = kept.Rebuilt.ID, kept.Rebuilt.Since
	if n.lost && kept.ID == "" {
		w.rebuild(n.cfg.Node, n.restored.Term, now)
	}
	for _, r := range n.left[id] {
		k, ok := n.alarms[r.AlarmID]
		if !ok { // the alarm's record was lost: nothing can be said of it any more
			n.box.put(write{pairPlace(id, r.AlarmID), nil})
			n.release([]string{r.AlarmID})
			continue
		}
		w.machine.Restore(delivery.Record(r), correlate.Change(k), now)
	}
	delete(n.left, id)
	if kept.ID == "" {
		n.doubt(w, now)
	}
}

// join makes a worker known, owes it what stands, and starts it.
func (n *Notifier) join(w *worker) {
	n.workers.Store(ptr(append(slices.Clone(n.list()), w)))
	w.mu.Lock()
	w.restate()
	w.mu.Unlock()
	w.offer(n.standing(), n.cfg.Now())
	n.box.flush()
	if n.running.Load() {
		n.startWorker(w)
	}
}

// standing is every known alarm as changes that stood before, oldest revision first.
func (n *Notifier) standing() []change {
	all := make([]change, 0, len(n.alarms))
	for _, k := range n.alarms {
		all = append(all, change{newest: correlate.Change(k), stood: true})
	}
	slices.SortFunc(all, func(a, b change) int {
		if d := a.newest.Alarm.Revision.Compare(b.newest.Alarm.Revision); d != 0 {
			return d
		}
		return strings.Compare(a.newest.Alarm.ID, b.newest.Alarm.ID)
	})
	return all
}

// end takes a worker and all that it owes away. Under mu.
func (n *Notifier) end(w *worker) {
	n.workers.Store(ptr(slices.DeleteFunc(slices.Clone(n.list()), func(o *worker) bool { return o == w })))
	ids := w.end()
	n.unseat(w.owner)
	var writes []write
	for _, id := range ids {
		writes = append(writes, write{pairPlace(w.leg.id, id), nil})
	}
	n.box.put(writes...)
	n.release(ids)
}

// orphan takes a worker away but keeps what it was told and owes, for the peers may name its subscription. Under mu.
func (n *Notifier) orphan(w *worker) {
	n.workers.Store(ptr(slices.DeleteFunc(slices.Clone(n.list()), func(o *worker) bool { return o == w })))
	w.mu.Lock()
	records, _ := w.machine.Records()
	n.past[w.owner] = w.record().record.(subscriptionRecord)
	w.close()
	w.mu.Unlock()
	n.unseat(w.owner)
	for _, r := range records {
		n.left[w.leg.id] = append(n.left[w.leg.id], pairRecord(r))
	}
}

// unseat gives the series of a subscription that has ended to the next. Under mu.
func (n *Notifier) unseat(owner string) {
	if len(n.legsOf(owner)) == 0 {
		n.metrics.seats.leave(owner)
	}
}

func (n *Notifier) outboxReport(problem string) {
	n.metrics.broken(problem != "")
	n.report(correlate.NewID(correlate.KindService, "paramedic/outbox"), correlate.CondOutbox, problem)
}

// report says that something of ourselves failed, or, with an empty problem, that it works again.
func (n *Notifier) report(resource correlate.ID, condition correlate.Condition, problem string) {
	now := n.cfg.Now()
	e := correlate.Event{Source: source, Resource: resource, Condition: condition, Status: correlate.StatusOK, Occurred: now, Observed: now, Text: problem}
	if problem != "" {
		e.Status = correlate.StatusFailed
	}
	n.cfg.Report(e)
}

func ptr[T any](v T) *T { return &v }

func has[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }
