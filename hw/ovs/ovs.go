// Package ovs watches Open vSwitch on this host: its bridges, bonds and ports, what the kernel's links can't show (DPDK and
// vhost-user ports, tunnels), and whether its two daemons live and answer.
//
// It follows the database over its socket (OVSDB, RFC 7047) and ovs-vswitchd over its control socket. docs/ovs.md says what
// each condition means.
package ovs

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// Config says what to watch.
type Config struct {
	// Socket of ovsdb-server. The process ids and the control socket of ovs-vswitchd stand beside it.
	Socket string
	// Timeout after which a daemon that does not answer is hung; default 5 s.
	Timeout time.Duration
	// Interval between questions to a daemon that is silent; default 2 s.
	Interval time.Duration
	// Include are name globs of veths that lead out of the host (those of the links' source).
	Include []string
	Root    hw.Root
	// Standing gives the alarms of this source that stand at the start of a Run. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// DefaultSocket is where packages have it.
const DefaultSocket = "/run/openvswitch/db.sock"

// Source is the Open vSwitch source. Make it with New.
type Source struct {
	config   Config
	log      *slog.Logger
	counters struct{ updates, losses atomic.Uint64 }
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New fills in the defaults. Its error names a glob that is malformed.
func New(c Config) (*Source, error) {
	for _, g := range c.Include {
		if _, err := path.Match(g, ""); err != nil {
			return nil, fmt.Errorf("%q: %w", g, err)
		}
	}
	if c.Socket == "" {
		c.Socket = DefaultSocket
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Interval <= 0 {
		c.Interval = 2 * time.Second
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log}, nil
}

// Name is "ovs".
func (s *Source) Name() string { return "ovs" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	return map[string]uint64{"updates": s.counters.updates.Load(), "losses": s.counters.losses.Load()}
}

// reportsAtMost wait to be taken in, of each daemon. A daemon that says more waits, and is not held for hung.
const reportsAtMost = 64

// watch is one Run.
type watch struct {
	*Source
	sink                     hw.Sink
	table                    *table
	fromDatabase, fromSwitch chan report
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := &watch{
		Source: s, sink: sink, table: newTable(s.config.Root, s.config.Include),
		fromDatabase: make(chan report, reportsAtMost), fromSwitch: make(chan report, reportsAtMost),
	}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys {
			if k.Resource == ovsdb || k.Resource == vswitchd {
				w.table.seen = true
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	failed := make(chan error, 2)
	for _, f := range []func(context.Context) error{w.followDatabase, w.followSwitch} {
		wg.Go(func() { failed <- hw.Contain(func() error { return f(ctx) }) })
	}
	tick := time.NewTicker(s.config.Interval)
	defer tick.Stop()
	// A daemon says how it is within the timeout; nothing is stated before both have.
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case r := <-w.fromDatabase:
			now = r.at
			for more := true; more; { // what waits together is judged once
				w.table.takeDatabase(r)
				select {
				case r = <-w.fromDatabase:
				default:
					more = false
				}
			}
		case r := <-w.fromSwitch:
			w.table.takeSwitch(r)
			now = r.at
		case <-tick.C:
			if !w.table.poll() {
				continue
			}
			now = time.Now()
		}
		if err := w.tell(ctx, now); err != nil {
			return err
		}
	}
}

func (w *watch) tell(ctx context.Context, now time.Time) error {
	if !w.table.judged() {
		return nil
	}
	d := w.table.delta(now)
	w.sink.Health(w.table.health())
	if !d.Full && len(d.Set)+len(d.Require)+len(d.Gone)+len(d.Events) == 0 {
		return nil
	}
	d.Source = w.Name()
	for i := range d.Events {
		d.Events[i].Source = d.Source
	}
	return w.sink.Emit(ctx, d)
}
