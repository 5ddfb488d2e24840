// Package mem watches the memory modules of this host through the kernel's EDAC counters.
//
// Each poll reads all counters and states the full truth. An uncorrected error stands until it is acknowledged; corrected
// ones are a fault when they come faster than a threshold. docs/hardware.md says more.
package mem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// takenIn is how long after it was told what a source says is surely in the engine.
const takenIn = time.Second

// Config says how to watch.
type Config struct {
	// Host needs the modules: one that failed degrades it.
	Host correlate.ID
	Root hw.Root
	// Poll is how often the counters are read; default 10 s. Prompt has them read at once.
	Poll   time.Duration
	Prompt hw.Prompt
	// Corrected errors within Window are a fault; defaults 100 and an hour. It is over after a Window with a tenth of that
	// at most.
	Corrected uint64
	Window    time.Duration
	// Baseline is the file that remembers which uncorrected errors were told; empty: each start tells all there were.
	Baseline string
	// Standing gives the alarms of this source that stand at the start of a Run. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the memory source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	now    func() time.Time

	counters struct{ polls, unreadable, corrected, uncorrected atomic.Uint64 }
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
	if c.Corrected == 0 {
		c.Corrected = 100
	}
	if c.Window <= 0 {
		c.Window = time.Hour
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, now: time.Now}
}

// Name is "mem".
func (s *Source) Name() string { return "mem" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{
		"polls": c.polls.Load(), "unreadable": c.unreadable.Load(),
		"corrected": c.corrected.Load(), "uncorrected": c.uncorrected.Load(),
	}
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := &watch{Source: s, modules: make(map[correlate.ID]*module)}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys {
			if k.Condition == correlate.CondMemoryDegraded {
				w.degraded = append(w.degraded, k.Resource)
			}
		}
	}
	rounds := hw.NewRounds(s.config.Poll, s.config.Prompt)
	defer rounds.Stop()
	w.known = s.load()
	for {
		now := s.now()
		if len(w.modules) > 0 && now.Sub(w.told) >= takenIn {
			w.save()
		}
		d, health := w.poll(now)
		sink.Health(health)
		if d.Full {
			if err := sink.Emit(ctx, d); err != nil {
				return err
			}
		}
		if err := rounds.Next(ctx); err != nil {
			return err
		}
	}
}

// watch is one Run.
type watch struct {
	*Source
	modules  map[correlate.ID]*module
	degraded []correlate.ID // with an alarm of the last run: to be proven well before it ends
	absent   bool           // that there is nothing was stated
	known    baseline       // what was told of before this Run
	told     time.Time      // when an uncorrected error was told last
}

// poll reads everything. The delta is full, unless the controllers can't be listed: then nothing is known.
func (w *watch) poll(now time.Time) (correlate.Delta, hw.Health) {
	w.counters.polls.Add(1)
	readings, err := read(w.config.Root)
	d := correlate.Delta{Source: w.Name(), Full: true}
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(w.modules) > 0: // a driver that was unloaded takes no module away
		return correlate.Delta{}, hw.Health{Sight: hw.SightBlind, Text: "the kernel counts memory errors no more: load the EDAC driver again"}
	case errors.Is(err, fs.ErrNotExist):
		d.Full = !w.absent // once
		w.absent = true
		return d, hw.Health{Sight: hw.SightAbsent, Text: "the kernel counts no memory errors here: no EDAC driver has a memory controller"}
	case err != nil:
		w.counters.unreadable.Add(1)
		return correlate.Delta{}, hw.Health{Sight: hw.SightBlind, Text: err.Error()}
	}
	health := hw.Health{}
	need := correlate.Need{Mode: correlate.SomeOf}
	for _, r := range readings {
		m := w.modules[r.id]
		if m == nil {
			m = &module{ue: w.known.Uncorrected[r.path], rate: hw.Tally{Limit: w.config.Corrected, Window: w.config.Window}}
			if slices.Contains(w.degraded, r.id) {
				m.rate.Hold()
			}
			w.modules[r.id] = m
		}
		if r.err != nil {
			w.counters.unreadable.Add(1)
			health = hw.Health{Sight: hw.SightDegraded, Text: r.err.Error()}
		}
		d.Set = append(d.Set, r.resource())
		need.Of = append(need.Of, r.id)
		lost := m.ue
		d.Events = append(d.Events, m.judge(w.Source, &r, now)...)
		if m.ue != lost {
			w.told = now
		}
	}
	d.Require = []correlate.Requirement{{ID: w.config.Host, Needs: []correlate.Need{need}}}
	maps.DeleteFunc(w.modules, func(id correlate.ID, _ *module) bool {
		return !slices.ContainsFunc(readings, func(r reading) bool { return r.id == id })
	})
	return d, health
}
