// Package disk watches the host's block devices and what stands on them: partitions, device mapper, arrays, multipath and
// file systems, down to the disks of the domains.
//
// It reads sysfs and the mount table; it sends no command to any drive. docs/hardware.md says what it tells.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// VDisk is a disk of a domain that runs, by libvirt's definition of it.
type VDisk struct {
	ID   correlate.ID
	Path string // of the image or device on this host
}

// Config says what to look for.
type Config struct {
	Root hw.Root
	Poll time.Duration // default 2 s
	Full uint64        // percent of space or inodes in use that are a fault; default 95
	// VDisks gives the disks of the domains. nil: none.
	VDisks func(context.Context) ([]VDisk, error)
	Log    *slog.Logger // nil: none
}

// Source is the disk source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	now    func() time.Time
	probe  *prober

	counters struct{ polls, unreadable, hung atomic.Uint64 }
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New fills in the defaults.
func New(c Config) *Source {
	if c.Poll <= 0 {
		c.Poll = 2 * time.Second
	}
	if c.Full == 0 {
		c.Full = 95
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, now: time.Now, probe: newProber()}
}

// Name is "disk".
func (s *Source) Name() string { return "disk" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{"polls": c.polls.Load(), "unreadable": c.unreadable.Load(), "hung": c.hung.Load()}
}

// Run implements hw.Source. A look at a file system that hangs outlives it; no more than maxHung of them do.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := newWatch(s)
	tick := time.NewTicker(s.config.Poll)
	defer tick.Stop()
	for {
		var vdisks []VDisk
		var err error
		if s.config.VDisks != nil {
			if vdisks, err = s.config.VDisks(ctx); err != nil {
				return fmt.Errorf("ask for the disks of the domains: %w", err)
			}
		}
		d, health := w.poll(ctx, s.now(), vdisks)
		sink.Health(health)
		if d.Full {
			if err := sink.Emit(ctx, d); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watch is one Run.
type watch struct {
	*Source
	stack   *stack                   // of the last poll
	mounted map[correlate.ID]*device // file systems of the last poll
	full    map[correlate.ID]bool    // file systems that were told to be full
	places  map[string]string        // by path of a vdisk: the number of the device that it leads to
	polled  bool
}

func newWatch(s *Source) *watch {
	return &watch{Source: s, stack: new(stack), full: make(map[correlate.ID]bool)}
}

// poll reads everything. The delta is full, unless the devices or mounts can't be listed: then nothing is known.
func (w *watch) poll(ctx context.Context, now time.Time, vdisks []VDisk) (correlate.Delta, hw.Health) {
	w.counters.polls.Add(1)
	devices, err := readStack(w.config.Root)
	if errors.Is(err, fs.ErrNotExist) {
		first := !w.polled
		w.polled = true
		return correlate.Delta{Source: w.Name(), Full: first}, hw.Health{Sight: hw.SightAbsent, Text: "the kernel shows no block devices here"}
	}
	var mounts []mount
	if err == nil {
		mounts, err = readMounts(w.config.Root)
	}
	if err != nil {
		w.counters.unreadable.Add(1)
		return correlate.Delta{}, hw.Health{Sight: hw.SightBlind, Text: err.Error()}
	}
	d := correlate.Delta{Source: w.Name(), Full: true}
	w.polled = true
	w.stack, d.Gone = settle(w.stack, devices)
	mounted := w.stack.filesystems(mounts)
	d.Gone = append(d.Gone, unmounted(w.mounted, mounted)...)
	w.mounted = mounted
	for i := range d.Gone {
		d.Gone[i].Observed = now
	}
	d.Set = w.stack.resources(mounted)
	d.Require = w.require(ctx, vdisks)
	d.Events = append(w.judge(), w.measure(ctx, mounts)...)
	for i := range d.Events {
		d.Events[i].Source, d.Events[i].Observed = w.Name(), now
	}
	slices.SortFunc(d.Events, func(a, b correlate.Event) int {
		if c := strings.Compare(string(a.Resource), string(b.Resource)); c != 0 {
			return c
		}
		return strings.Compare(string(a.Condition), string(b.Condition))
	})
	health := hw.Health{}
	if path := w.probe.stuck(); path != "" {
		health = hw.Health{Sight: hw.SightDegraded, Text: path + " does not answer: what stands on it is not seen"}
	}
	return d, health
}
