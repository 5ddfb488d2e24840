// Package host watches what else of this host the kernel shows: its processors, the error counters of PCI Express devices,
// and, where there is no BMC, the sensors of the mainboard (hwmon). It also finds out why the host was restarted.
//
// Everything is polled; what the kernel tells at once (uevents of processors, sensors and PCI devices) has it look at once.
// docs/host.md says more.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// Sensors says when those of the kernel are watched.
type Sensors string

// SensorsAuto: as long as no driver of a BMC is loaded, which would tell the same.
const (
	SensorsAuto   Sensors = "auto"
	SensorsAlways Sensors = "always"
	SensorsNever  Sensors = "never"
)

// Config says how to watch.
type Config struct {
	// Host needs the processors and sensors, and has what belongs to no other resource.
	Host correlate.ID
	Root hw.Root
	// Poll is how often everything is read; default 10 s.
	Poll time.Duration
	// Corrected errors of a PCIe function within Window are a fault; defaults 100 and an hour.
	Corrected uint64
	Window    time.Duration
	// Throttled is how often a processor may be slowed down for its heat within a minute; default 10.
	Throttled uint64
	Sensors   Sensors // default auto
	// Known is the file that remembers which processors worked under this kernel, and what was told of them. Empty: each
	// start takes those that it finds for all there are.
	Known string
	// Standing gives the alarms of this source that stand at the start of a Run. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	now    func() time.Time
	prompt hw.Prompt
	// patience is how long all sensors together may take: some are behind a slow bus, or firmware that hangs.
	patience time.Duration
	// reading: sensors are being read. A driver that hangs holds one goroutine, whatever else is started again.
	reading atomic.Bool
	// last are the sensors of the last look, of whichever Run: while a driver hangs, the next one knows them.
	last sensors

	counters struct{ polls, unreadable, uevents, throttled, corrected, uncorrected atomic.Uint64 }
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
	if c.Throttled == 0 {
		c.Throttled = 10
	}
	if c.Sensors == "" {
		c.Sensors = SensorsAuto
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, now: time.Now, prompt: hw.NewPrompt(), patience: 2 * time.Second}
}

// Name is "host".
func (s *Source) Name() string { return "host" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{
		"polls": c.polls.Load(), "unreadable": c.unreadable.Load(), "uevents": c.uevents.Load(),
		"throttled": c.throttled.Load(), "corrected": c.corrected.Load(), "uncorrected": c.uncorrected.Load(),
	}
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w, err := s.watch(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		if err := hw.Contain(func() error { return s.listen(ctx) }); err != nil && ctx.Err() == nil {
			s.log.Warn("the kernel's device events can't be received: changes are seen at the next poll", "error", err)
		}
	}()
	defer func() {
		cancel()
		<-listening
	}()
	rounds := hw.NewRounds(s.config.Poll, s.prompt)
	defer rounds.Stop()
	for first := true; ; first = false {
		d, health := w.look(ctx, s.now())
		if d.Full = first; first {
			w.keep(&d)
		}
		sink.Health(health)
		if first || len(d.Set)+len(d.Require)+len(d.Gone)+len(d.Events) > 0 {
			if err := sink.Emit(ctx, d); err != nil {
				return err
			}
		}
		if err := rounds.Next(ctx); err != nil {
			return err
		}
	}
}

// watch is one Run. Its parts tell what has changed since they looked last, and at first everything.
type watch struct {
	*Source
	standing   map[correlate.Key]bool // alarms of the last run that were not seen to yet, without their home
	processors processors
	functions  functions
	correcting map[correlate.ID]bool // told that a function of it corrects too often
	sensors    sensors
	needs      []correlate.Need // what was required of the host
	blind      []correlate.Kind // that the last look could not see
}

func (s *Source) watch(ctx context.Context) (*watch, error) {
	w := &watch{Source: s, standing: make(map[correlate.Key]bool)}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys {
			w.standing[correlate.Key{Resource: k.Resource, Condition: k.Condition}] = true
		}
	}
	w.processors = newProcessors(s, s.load())
	w.functions, w.correcting = make(functions), make(map[correlate.ID]bool)
	w.sensors = make(sensors)
	for id, old := range s.last {
		w.sensors[id] = &sensor{label: old.label, condition: old.condition, well: old.well}
	}
	return w, nil
}

// look reads everything and gives what has changed.
func (w *watch) look(ctx context.Context, now time.Time) (correlate.Delta, hw.Health) {
	w.counters.polls.Add(1)
	d := correlate.Delta{Source: w.Name()}
	w.blind = w.blind[:0]
	var errs []error
	for _, part := range []struct {
		look  func(context.Context, *correlate.Delta, time.Time) error
		kinds []correlate.Kind
	}{
		{w.lookProcessors, []correlate.Kind{correlate.KindCPU}},
		{w.lookFunctions, []correlate.Kind{correlate.KindNIC, correlate.KindDisk, correlate.KindHost}},
		{w.lookSensors, []correlate.Kind{correlate.KindSensor, correlate.KindFan}},
	} {
		if err := part.look(ctx, &d, now); err != nil {
			errs = append(errs, err)
			w.blind = append(w.blind, part.kinds...)
			w.counters.unreadable.Add(1)
		}
	}
	w.require(&d)
	if err := errors.Join(errs...); err != nil {
		return d, hw.Health{Sight: hw.SightDegraded, Text: err.Error()}
	}
	return d, hw.Health{}
}

// keep leaves standing what was told before and is not seen to in the first look.
func (w *watch) keep(d *correlate.Delta) {
	mentioned := func(k correlate.Key) bool {
		return slices.ContainsFunc(d.Events, func(e correlate.Event) bool { return e.Resource == k.Resource && e.Condition == k.Condition })
	}
	for k := range w.standing {
		switch {
		case !slices.Contains(w.blind, k.Resource.Kind()):
			delete(w.standing, k)
		case !mentioned(k):
			d.Events = append(d.Events, correlate.Event{Source: w.Name(), Resource: k.Resource, Condition: k.Condition})
		}
	}
}

// require states what the host needs: some of its processors, and its sensors, which put it at risk at most. A fan alone does
// not: the temperatures say whether the others suffice.
func (w *watch) require(d *correlate.Delta) {
	var needs []correlate.Need
	for _, ids := range [][]correlate.ID{w.processors.ids(), w.sensors.ids(correlate.KindSensor)} {
		if len(ids) > 0 {
			needs = append(needs, correlate.Need{Mode: correlate.SomeOf, Of: ids})
		}
	}
	same := func(a, b correlate.Need) bool { return slices.Equal(a.Of, b.Of) }
	if !slices.EqualFunc(needs, w.needs, same) {
		w.needs = needs
		d.Require = []correlate.Requirement{{ID: w.config.Host, Needs: needs}}
	}
}

// event is one of this source.
func (w *watch) event(id correlate.ID, c correlate.Condition, status correlate.Status, now time.Time, text string) correlate.Event {
	return correlate.Event{
		Source: w.Name(), Resource: id, Condition: c, Status: status, Text: text, Occurred: now, Observed: now,
	}
}

// list reads a directory; one that is not there is empty.
func list(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
