// Package service watches units of systemd that this host needs: those of the virtual network, of the hypervisor, of its
// storage and of its clock.
//
// It asks systemd over the system bus, and again whenever systemd says that one of them has changed. docs/service.md has the
// units, and what each state means.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	sourceName = "service"
	// apart is how long after a listing the next one is made at the earliest, whatever systemd says meanwhile.
	apart        = 200 * time.Millisecond
	firstBackoff = time.Second
	lastBackoff  = 30 * time.Second
	// absent is how often it is looked whether systemd is there now.
	absent = time.Minute
)

// Config says what to watch.
type Config struct {
	// Host and Hypervisor are who needs the services; an empty one needs none.
	Host, Hypervisor correlate.ID
	// Units come before those of Standard: the first that matches a unit has it.
	Units []Unit
	// Without are globs of units that are not watched.
	Without []string
	// Restarts within Window are a fault; defaults 3 and 10 minutes. It is over after a Window without one.
	Restarts int
	Window   time.Duration
	// Timeout of each call; default 10 s: systemd answers nobody while it reloads. Resync is how often all units are listed though nothing was heard; default 30 s.
	Timeout, Resync time.Duration
	// Socket of the system bus, and the directory that is there when systemd is (sd_booted(3)).
	Socket, Booted string
	// Standing gives the alarms of this source that stand at the start of a Run. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the service source. Make it with New.
type Source struct {
	config Config
	rules  []Unit
	// without holds only names.
	without []Unit
	log     *slog.Logger

	counters struct{ connections, signals, lists atomic.Uint64 }
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New checks the configuration and fills in the defaults. Its error names everything that is wrong.
func New(c Config) (*Source, error) {
	c.Restarts = cmp.Or(c.Restarts, 3)
	c.Window = cmp.Or(c.Window, 10*time.Minute)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Resync = cmp.Or(c.Resync, 30*time.Second)
	c.Socket = cmp.Or(c.Socket, "/run/dbus/system_bus_socket")
	c.Booted = cmp.Or(c.Booted, "/run/systemd/system")
	s := &Source{config: c, log: cmp.Or(c.Log, slog.New(slog.DiscardHandler))}
	var errs []error
	for i, name := range c.Without {
		s.without = append(s.without, Unit{Name: name})
		if err := s.without[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("hw.service.without[%d]: %w", i, err))
		}
	}
	for i := range c.Units {
		if err := c.Units[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("hw.service.units[%d]: %w", i, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.rules = slices.Concat(c.Units, Standard())
	return s, nil
}

// Name is "service".
func (s *Source) Name() string { return sourceName }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{"connections": c.connections.Load(), "signals": c.signals.Load(), "lists": c.lists.Load()}
}

// rule is the rule that a unit is watched by; nil: it is not.
func (s *Source) rule(name string) *Unit {
	for i := range s.without {
		if s.without[i].matches(name) {
			return nil
		}
	}
	for i := range s.rules {
		if s.rules[i].matches(name) {
			return &s.rules[i]
		}
	}
	return nil
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := &watch{Source: s, sink: sink, units: make(map[string]*unit)}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys {
			if k.Condition == correlate.CondServiceRestarted {
				w.inherited = append(w.inherited, k.Resource)
			}
		}
	}
	for backoff := firstBackoff; ; {
		began := time.Now()
		connected, err := w.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if connected {
			backoff = firstBackoff
			if time.Since(began) > lastBackoff { // the bus was restarted: it may be back already
				continue
			}
		}
		health, pause := w.lost(err), backoff
		if health.Sight != hw.SightBlind {
			pause = absent
		}
		sink.Health(health)
		if health.Sight == hw.SightAbsent && !w.stated {
			if err := sink.Emit(ctx, correlate.Delta{Source: sourceName, Full: true}); err != nil {
				return err
			}
			w.stated = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// watch is one Run.
type watch struct {
	*Source
	sink      hw.Sink
	units     map[string]*unit
	inherited []correlate.ID // alarms of the last run that are not yet with their units
	stated    bool           // a full truth was stated, if only that there is nothing
	seen      bool           // systemd has answered
}

// lost says what it means that systemd can't be asked.
func (w *watch) lost(err error) hw.Health {
	_, booted := os.Stat(w.config.Booted)
	switch {
	case !w.seen && errors.Is(booted, fs.ErrNotExist):
		return hw.Health{Sight: hw.SightAbsent, Text: "this host does not run systemd"}
	case !w.seen && errors.Is(err, fs.ErrNotExist):
		return hw.Health{Sight: hw.SightAbsent, Text: "there is no system bus to ask systemd by (" + w.config.Socket + "): install dbus"}
	case errors.Is(err, fs.ErrPermission):
		return hw.Health{Sight: hw.SightDegraded, Text: "systemd may not be asked: " + err.Error() + ": give the agent the right to " + w.config.Socket}
	}
	return hw.Health{Sight: hw.SightBlind, Text: err.Error()}
}

// session asks over one connection until that fails. connected: it has listed the units once.
func (w *watch) session(ctx context.Context) (connected bool, err error) {
	bus, err := connect(ctx, w.config.Socket, w.config.Timeout, &w.counters.signals)
	if err != nil {
		return false, err
	}
	defer bus.close()
	for i := range w.rules {
		if w.rules[i].literal() {
			if err := bus.follow(ctx, w.rules[i].pattern()); err != nil {
				return false, err
			}
		}
	}
	if err := bus.subscribe(ctx); err != nil {
		return false, err
	}
	w.counters.connections.Add(1)
	resync := time.NewTicker(w.config.Resync)
	defer resync.Stop()
	for {
		states, err := bus.list(ctx, w.rules)
		if err != nil {
			return connected, err
		}
		w.counters.lists.Add(1)
		now := time.Now()
		d := w.take(states, now, !connected)
		for name := range w.units {
			if err := bus.follow(ctx, name); err != nil {
				return connected, err
			}
		}
		if !connected {
			w.log.Info("systemd is asked for its units", "units", len(w.units))
		}
		w.sink.Health(hw.Health{})
		connected, w.seen, w.stated = true, true, true
		if d.Full || len(d.Set) > 0 || len(d.Gone) > 0 || len(d.Events) > 0 {
			if err := w.sink.Emit(ctx, d); err != nil {
				return connected, err
			}
		}
		if err := w.wait(ctx, bus, resync.C, now); err != nil {
			return connected, err
		}
	}
}

// wait returns when units are to be listed again.
func (w *watch) wait(ctx context.Context, bus *bus, resync <-chan time.Time, listed time.Time) error {
	var due <-chan time.Time
	if at := w.due(); !at.IsZero() {
		timer := time.NewTimer(max(apart, time.Until(at)))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-bus.closed():
		return errors.New("the system bus has closed the connection")
	case <-bus.changed:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(listed.Add(apart))):
		}
	case <-resync:
	case <-due:
	}
	return nil
}

func (w *watch) due() time.Time {
	var at time.Time
	for _, u := range w.units {
		if t := u.due(&w.config); !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// take judges all units as they were listed. A unit that was never seen to run is none: it is installed, and not used.
func (w *watch) take(states []state, now time.Time, full bool) correlate.Delta {
	d := correlate.Delta{Source: sourceName, Full: full}
	listed := make(map[string]bool, len(states))
	changed := full
	for _, s := range states {
		rule := w.rule(s.unit)
		u := w.units[s.unit]
		if rule == nil || u == nil && s.meaning() == ended {
			continue
		}
		listed[s.unit] = true
		if u == nil {
			u = &unit{rule: *rule}
			if i := slices.Index(w.inherited, resourceID(s.unit)); i >= 0 {
				u.inherited, u.restarting, u.told.restarting = now.Add(w.config.Window), true, true
				w.inherited = slices.Delete(w.inherited, i, i+1)
			}
			w.units[s.unit] = u
			changed = true
		}
		before := u.last
		u.judge(s, now, &w.config)
		if full || before != s {
			d.Set = append(d.Set, u.resource())
		}
		d.Events = append(d.Events, u.tell(now, &w.config, full)...)
	}
	for name, u := range w.units {
		if listed[name] {
			continue
		}
		// Not loaded any more: stopped and not wanted by any other unit, or uninstalled.
		delete(w.units, name)
		d.Gone = append(d.Gone, correlate.Gone{ID: resourceID(u.last.unit), Reason: correlate.GoneOrderly, Observed: now})
		changed = true
	}
	if changed {
		d.Require = w.require()
	}
	w.inherited = nil // what is not there now has ended with it
	slices.SortFunc(d.Set, func(a, b correlate.Resource) int { return cmp.Compare(a.ID, b.ID) })
	return d
}

// require says who needs the units. A service of the virtual network puts the host's domains at risk; it does not hit them.
func (w *watch) require() []correlate.Requirement {
	var network, hypervisor []correlate.ID
	for _, name := range slices.Sorted(maps.Keys(w.units)) {
		switch u := w.units[name]; {
		case u.rule.Network:
			network = append(network, resourceID(name))
		case slices.Contains(hypervisors, resourceID(name).Name()):
			hypervisor = append(hypervisor, resourceID(name))
		}
	}
	var all []correlate.Requirement
	for _, r := range []struct {
		holder correlate.ID
		need   correlate.Need
	}{
		{w.config.Host, correlate.Need{Mode: correlate.SomeOf, Of: network}},
		{w.config.Hypervisor, correlate.Need{Mode: correlate.AllOf, Of: hypervisor}},
	} {
		if r.holder == "" {
			continue
		}
		q := correlate.Requirement{ID: r.holder}
		if len(r.need.Of) > 0 {
			q.Needs = []correlate.Need{r.need}
		}
		all = append(all, q)
	}
	return all
}
