package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// loop owns the engine: it is its only caller, on one goroutine. What comes in waits in one queue per source; what goes
// out goes to mailboxes that never block. Queues are looked at in their order of urgency after every step, so that a
// flood from a slow-news source delays no link and no domain.
type loop struct {
	engine  *correlate.Engine // nil until the peers have said what this host was before
	publish func(correlate.Effects)
	peers   *peers // nil: this host is alone
	feed    *feed
	now     func() time.Time

	mu     sync.Mutex
	queues []*queue // most urgent first
	stated map[string]bool
	turns  bool // there is an engine

	woken   chan struct{}            // capacity 1: something waits in a queue
	calls   chan func(now time.Time) // API questions and the operator's words; unbuffered, so that the caller waits
	wake    *time.Timer
	beats   *time.Ticker
	beat    func() // called every beatGap while the loop turns: what a watchdog is fed with
	beatGap time.Duration

	steps prometheus.Histogram
}

// newLoop makes a loop whose queues can be filled; publish, and either engine or peers, must be set before it runs.
func newLoop(reg prometheus.Registerer, past *history.Store, now func() time.Time) *loop {
	l := &loop{
		feed:    newFeed(past),
		now:     now,
		stated:  make(map[string]bool),
		woken:   make(chan struct{}, 1),
		calls:   make(chan func(time.Time)),
		beat:    func() {},
		beatGap: time.Second,
		steps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "paramedic_engine_step_seconds",
			Help:    "Time that the engine took for one delta of a source.",
			Buckets: prometheus.ExponentialBuckets(5e-6, 2, 14),
		}),
	}
	reg.MustRegister(l.steps)
	return l
}

// queue makes the queue of a source. Queues made earlier are more urgent. A source that is replaced keeps its queue.
func (l *loop) queue(source string) *queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queues {
		if q.source == source {
			return q
		}
	}
	q := newQueue(source, l.wakeUp)
	l.queues = append(l.queues, q)
	return q
}

func (l *loop) wakeUp() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// run turns until ctx ends, and then takes what still waits, so that what the sources said before they ended is told. It fails
// when there can be no engine.
func (l *loop) run(ctx context.Context) error {
	l.wake = time.NewTimer(time.Hour)
	defer l.wake.Stop()
	l.beats = time.NewTicker(l.beatGap)
	defer l.beats.Stop()
	if err := l.begin(ctx); err != nil {
		return err
	}
	var said <-chan struct{}
	if l.peers != nil {
		said = l.peers.words.wake
	}
	l.tick()
	for {
		select {
		case <-ctx.Done():
			for d, ok := l.next(); ok; d, ok = l.next() {
				l.step(d)
			}
			return ctx.Err()
		case <-l.woken:
			l.drain(ctx)
		case <-said:
			l.listen()
		case call := <-l.calls:
			call(l.now())
		case <-l.wake.C:
			l.tick()
		case <-l.beats.C:
			l.beat()
		}
	}
}

// begin gets the engine from the peers when there are any, and goes on beating meanwhile. What is said and asked before
// waits. It fails when ctx ends first, or when the peers can't be asked.
func (l *loop) begin(ctx context.Context) error {
	if l.peers != nil {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		var err error
		settled := make(chan *correlate.Engine, 1)
		go func() {
			var e *correlate.Engine
			e, err = l.peers.settle(inner)
			settled <- e
		}()
		for waits := true; waits; {
			select {
			case l.engine = <-settled:
				waits = false
			case <-l.beats.C:
				l.beat()
			}
		}
		switch {
		case errors.Is(err, gossip.ErrStopped):
			<-ctx.Done() // the agent is about to be told why by the cluster itself
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("learn from the peers what this host was: %w", err)
		}
	}
	l.feed.know(l.engine.Alarms())
	l.mu.Lock()
	l.turns = true
	l.mu.Unlock()
	return nil
}

// turning reports whether there is an engine.
func (l *loop) turning() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turns
}

// drain takes deltas until no queue holds any, always from the most urgent queue. Between two deltas the callers of the
// API and the timers have their turn.
func (l *loop) drain(ctx context.Context) {
	for ctx.Err() == nil {
		d, ok := l.next()
		if !ok {
			return
		}
		l.step(d)
		select {
		case call := <-l.calls:
			call(l.now())
		case <-l.wake.C:
			l.tick()
		case <-l.beats.C:
			l.beat()
		default:
		}
	}
}

func (l *loop) next() (correlate.Delta, bool) {
	l.mu.Lock()
	queues := l.queues
	l.mu.Unlock()
	for _, q := range queues {
		if d, ok := q.take(); ok {
			return d, true
		}
	}
	return correlate.Delta{}, false
}

func (l *loop) step(d correlate.Delta) {
	start := l.now()
	eff := l.engine.Topology(start, d)
	found := l.now()
	l.steps.Observe(found.Sub(start).Seconds())
	l.act(eff, found)
	l.feed.addDelta(&d)
	if l.peers != nil {
		l.peers.cluster.Inventory(&d)
	}
	if d.Full {
		l.mu.Lock()
		l.stated[d.Source] = true
		l.mu.Unlock()
	}
}

func (l *loop) tick() {
	now := l.now()
	l.act(l.engine.Tick(now), now)
}

// act carries out what the engine decided, in the order that correlate.Effects states.
func (l *loop) act(eff correlate.Effects, found time.Time) {
	for i := range eff.Publish {
		eff.Publish[i].Found = found
	}
	if len(eff.Save) > 0 || len(eff.Publish) > 0 {
		l.publish(eff)
		l.feed.addChanges(eff.Publish)
		for _, a := range eff.Save { // what was published is no news any more; what was said of it is
			if a.Standing() {
				l.feed.addChanges([]correlate.Change{{Alarm: a}})
			}
		}
	}
	if eff.Wake.IsZero() {
		l.wake.Stop()
		return
	}
	l.wake.Reset(max(0, eff.Wake.Sub(l.now())))
}

// call runs f on the loop's goroutine and waits for it, or for ctx. When ctx ended first f may still run.
func (l *loop) call(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	wrapped := func(now time.Time) {
		defer close(done)
		f(now)
	}
	select {
	case l.calls <- wrapped:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hasStated reports whether the source has stated its full truth since the start.
func (l *loop) hasStated(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stated[source]
}

func (l *loop) snapshotQueues() []*queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.queues)
}
