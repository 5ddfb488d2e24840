// Package clock watches whether something keeps this host's clock right, by what time services tell the kernel. Whether it
// agrees with the clocks of other hosts is the agent's to see.
package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// Config says how to watch.
type Config struct {
	Host correlate.ID
	// Poll is how often the kernel is asked; default 10 s.
	Poll time.Duration
	// Limit of the error that the clock may have; default 2 s.
	Limit time.Duration
	Log   *slog.Logger // nil: none
}

// Source is the clock source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	ask    func(*unix.Timex) (int, error)

	polls, unreadable atomic.Uint64
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New fills in the defaults.
func New(c Config) *Source {
	if c.Poll <= 0 {
		c.Poll = 10 * time.Second
	}
	if c.Limit <= 0 {
		c.Limit = 2 * time.Second
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, ask: unix.Adjtimex}
}

// Name is "clock".
func (s *Source) Name() string { return "clock" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	return map[string]uint64{"polls": s.polls.Load(), "unreadable": s.unreadable.Load()}
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	tick := time.NewTicker(s.config.Poll)
	defer tick.Stop()
	for last, full := correlate.StatusUnknown, true; ; full = false {
		e, health := s.look()
		sink.Health(health)
		if full || e.Status != last && e.Status != correlate.StatusUnknown {
			if err := sink.Emit(ctx, correlate.Delta{Source: s.Name(), Full: full, Events: []correlate.Event{e}}); err != nil {
				return err
			}
		}
		if e.Status != correlate.StatusUnknown {
			if e.Status != last && !full {
				s.log.Info("the clock's state has changed", "synchronised", e.Status == correlate.StatusOK, "reason", e.Text)
			}
			last = e.Status
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look asks the kernel (adjtimex(2), reading only: that needs no right). It sets STA_UNSYNC itself when nobody has told it the
// clock's error for hours; the error that it presumes grows by 0.5 ms a second from what the time service told it.
func (s *Source) look() (correlate.Event, hw.Health) {
	s.polls.Add(1)
	e := correlate.Event{
		Source: s.Name(), Resource: s.config.Host, Condition: correlate.CondUnsynchronised, Observed: time.Now(),
	}
	var t unix.Timex
	_, err := s.ask(&t)
	if err != nil {
		s.unreadable.Add(1)
		text := fmt.Sprintf("the kernel does not say whether the clock is kept right: %v", err)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			text += ": let the agent's unit call adjtimex (no ProtectClock=)"
		}
		return e, hw.Health{Sight: hw.SightDegraded, Text: text}
	}
	most := time.Duration(t.Maxerror) * time.Microsecond
	e.Evidence = map[string]string{"status": "0x" + strconv.FormatInt(int64(t.Status), 16), "maximum_error": most.String()}
	switch {
	case t.Status&unix.STA_UNSYNC != 0:
		e.Status, e.Text = correlate.StatusFailed, "no time service sets the clock"
	case most > s.config.Limit:
		e.Status, e.Text = correlate.StatusFailed, fmt.Sprintf("the clock may be wrong by %v: its time service has not corrected it for long, or from far away", most.Round(time.Millisecond))
	default:
		e.Status = correlate.StatusOK
	}
	return e, hw.Health{}
}
