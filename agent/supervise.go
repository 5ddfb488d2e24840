package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// A source that fails is started again after firstBackoff, doubling to longestBackoff; one that ran for settled is well again.
const (
	firstBackoff   = 100 * time.Millisecond
	longestBackoff = 30 * time.Second
	settled        = 10 * time.Second
)

// supervisor keeps one source running and tells what it says of itself. It is the source's hw.Sink.
type supervisor struct {
	source hw.Source
	queue  *queue
	self   *queue // of events about ourselves
	log    *slog.Logger
	now    func() time.Time

	mu       sync.Mutex
	health   hw.Health
	restarts int
	failure  string // why it last failed; empty when it is well

	cancel context.CancelFunc
	done   chan struct{}
}

func newSupervisor(source hw.Source, queue, self *queue, log *slog.Logger, now func() time.Time) *supervisor {
	return &supervisor{
		source: source, queue: queue, self: self, now: now,
		log:  log.With("source", source.Name()),
		done: make(chan struct{}),
	}
}

// selfResource is the resource that stands for a part of paramedic itself.
func selfResource(part string) correlate.ID {
	return correlate.NewID(correlate.KindService, "paramedic/"+part)
}

// start runs the source until stop, or until parent ends.
func (s *supervisor) start(parent context.Context) {
	ctx, cancel := context.WithCancel(parent)
	s.cancel = cancel
	go func() {
		defer close(s.done)
		defer cancel()
		s.run(ctx)
	}()
}

// stop ends the source and waits for it.
func (s *supervisor) stop() {
	s.cancel()
	<-s.done
}

// retire ends the source for good: what was wrong with it is over, and another one will speak for itself.
func (s *supervisor) retire() {
	s.stop()
	s.tell(correlate.CondSourceFailed, correlate.StatusOK, "the "+s.source.Name()+" source was configured anew")
	s.tell(correlate.CondSourceBlind, correlate.StatusOK, "the "+s.source.Name()+" source was configured anew")
}

func (s *supervisor) run(ctx context.Context) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		well := time.AfterFunc(settled, s.recovered)
		started := s.now()
		err := s.runOnce(ctx)
		well.Stop()
		if ctx.Err() != nil {
			return
		}
		if s.now().Sub(started) >= settled {
			backoff = firstBackoff
		}
		s.failed(err, backoff)
		// Half fixed, half random: sources that failed together don't come back together.
		wait := time.NewTimer(backoff/2 + rand.N(backoff/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

var errReturned = errors.New("it returned without a reason")

func (s *supervisor) runOnce(ctx context.Context) error {
	if err := hw.Contain(func() error { return s.source.Run(ctx, s) }); err != nil {
		return err
	}
	return errReturned
}

func (s *supervisor) failed(err error, backoff time.Duration) {
	s.mu.Lock()
	s.restarts++
	s.failure = err.Error()
	s.mu.Unlock()
	attrs := []any{"error", err, "backoff_max", backoff}
	if p := (*hw.PanicError)(nil); errors.As(err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	s.log.Error("a source failed and is started again", attrs...)
	s.tell(correlate.CondSourceFailed, correlate.StatusFailed, "the "+s.source.Name()+" source failed: "+err.Error())
}

func (s *supervisor) recovered() {
	s.mu.Lock()
	was := s.failure
	s.failure = ""
	s.mu.Unlock()
	if was != "" {
		s.log.Info("a source runs again")
	}
	s.tell(correlate.CondSourceFailed, correlate.StatusOK, "the "+s.source.Name()+" source runs")
}

// Emit implements hw.Sink.
func (s *supervisor) Emit(ctx context.Context, d correlate.Delta) error { return s.queue.put(ctx, d) }

// Health implements hw.Sink.
func (s *supervisor) Health(h hw.Health) {
	s.mu.Lock()
	changed := s.health != h
	s.health = h
	s.mu.Unlock()
	if !changed {
		return
	}
	switch h.Sight {
	case hw.SightClear:
		s.log.Info("a source sees clearly")
	case hw.SightAbsent:
		s.log.Info("a source has nothing to watch", "reason", h.Text)
	case hw.SightDegraded, hw.SightBlind:
		s.log.Warn("a source does not see everything", "sight", h.Sight.String(), "reason", h.Text)
	}
	status := correlate.StatusOK
	if h.Sight == hw.SightBlind {
		status = correlate.StatusFailed
	}
	s.tell(correlate.CondSourceBlind, status, h.Text)
}

func (s *supervisor) tell(c correlate.Condition, status correlate.Status, text string) {
	now := s.now()
	s.self.offer(correlate.Delta{Events: []correlate.Event{{
		Resource: selfResource(s.source.Name()), Condition: c, Status: status, Text: text, Occurred: now, Observed: now,
	}}})
}

// condition returns how the source is now.
func (s *supervisor) condition() (h hw.Health, restarts int, failure string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health, s.restarts, s.failure
}
