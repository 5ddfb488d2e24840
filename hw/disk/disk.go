// Package disk watches the host's block devices and what stands on them: partitions, device mapper, arrays, multipath and
// file systems, down to the disks of the domains.
//
// It reads sysfs and the mount table, and asks drives what they say of themselves. docs/disk.md says what it tells.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
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
	Root   hw.Root
	Poll   time.Duration // default 2 s
	Prompt hw.Prompt     // look at once; nil: only the kernel's device events and mounts ask for it
	// Full is how many percent of space or inodes in use are a fault; default 95. It is judged of the file systems that
	// hold the host, Dir or disks of domains, and of those whose mount points match one of Filesystems (globs).
	Full        uint64
	Filesystems []string
	Dir         string // where the agent keeps its state
	// Health is how often drives are asked what they say of themselves; default 1 min. Negative: never.
	Health time.Duration
	// Sectors that an ATA drive can't read or could not write are a fault from this many on; default 10.
	Sectors uint64
	// VDisks gives the disks of the domains. nil: none.
	VDisks func(context.Context) ([]VDisk, error)
	// Standing gives the alarms of this source that stand at the start of a Run: they end below the limit that raised
	// them. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the disk source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	now    func() time.Time
	probe  *prober
	drives *drives

	counters struct{ polls, unreadable, hung, prompts atomic.Uint64 }
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
	if c.Health == 0 {
		c.Health = time.Minute
	}
	if c.Sectors == 0 {
		c.Sectors = 10
	}
	if c.Prompt == nil {
		c.Prompt = hw.NewPrompt()
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, now: time.Now, probe: newProber(), drives: newDrives(c.Prompt)}
}

// Name is "disk".
func (s *Source) Name() string { return "disk" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{"polls": c.polls.Load(), "unreadable": c.unreadable.Load(), "hung": c.hung.Load(), "prompts": c.prompts.Load()}
}

// Run implements hw.Source. A look at a file system and a question to a drive that hang outlive it: at most maxHung of the
// former, and one a drive of the latter.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := newWatch(s)
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		w.remember(keys)
	}
	ctx, cancel := context.WithCancel(ctx)
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer cancel()
	hearing.Go(func() {
		if err := hw.Contain(func() error { return s.listen(ctx) }); err != nil && ctx.Err() == nil {
			s.log.Warn("the kernel's device events can't be received: changes are seen at the next poll", "error", err)
		}
	})
	hearing.Go(func() {
		if err := hw.Contain(func() error { return s.attend(ctx) }); err != nil && ctx.Err() == nil {
			s.log.Warn("changes of mounts and arrays can't be waited for: they are seen at the next poll", "error", err)
		}
	})
	rounds := hw.NewRounds(s.config.Poll, s.config.Prompt)
	defer rounds.Stop()
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
		if err := rounds.Next(ctx); err != nil {
			return err
		}
	}
}

// watch is one Run.
type watch struct {
	*Source
	stack   *stack                    // of the last poll
	mounted map[correlate.ID]*device  // file systems of the last poll
	full    map[correlate.ID]bool     // file systems that were told to be full
	written map[correlate.ID][]string // file systems that were written to, by their mounts; none: an alarm of the last run says so
	damages map[correlate.ID]*damage  // of the ext4 among them
	places  map[string]string         // by path of a vdisk: the number of the device that it leads to
	polled  bool
}

func newWatch(s *Source) *watch {
	return &watch{Source: s, stack: new(stack), full: make(map[correlate.ID]bool), written: make(map[correlate.ID][]string)}
}

// remember takes up what alarms of the last run say.
func (w *watch) remember(keys []correlate.Key) {
	for _, k := range keys {
		if k.Condition == correlate.CondFilesystemFull {
			w.full[k.Resource] = true
		}
		if k.Condition == correlate.CondReadOnly {
			w.written[k.Resource] = nil
		}
	}
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
	before := w.stack
	if !w.polled {
		before = missing(w.config.Root, devices, mounts)
	}
	w.stack, d.Gone = settle(before, devices, w.used(before, mounts, vdisks))
	if !w.polled { // say that it was there, and that it is not
		for _, lost := range w.stack.lost {
			d.Set = append(d.Set, correlate.Resource{ID: lost.id, Name: lost.name})
			d.Gone = append(d.Gone, correlate.Gone{ID: lost.id, Text: "it is not there, and something still stands on it"})
		}
	}
	w.polled = true
	mounted := w.stack.filesystems(mounts)
	d.Gone = append(d.Gone, unmounted(w.mounted, mounted)...)
	w.mounted = mounted
	for i := range d.Gone {
		d.Gone[i].Observed = now
	}
	d.Set = append(d.Set, w.stack.resources(mounted)...)
	d.Require = w.require(ctx, mounts, vdisks)
	d.Events = slices.Concat(w.judge(), w.measure(ctx, mounts, d.Require), w.ask(now))
	for i := range d.Events {
		d.Events[i].Source, d.Events[i].Observed = w.Name(), now
	}
	slices.SortFunc(d.Events, func(a, b correlate.Event) int {
		if c := compareIDs(a.Resource, b.Resource); c != 0 {
			return c
		}
		return strings.Compare(string(a.Condition), string(b.Condition))
	})
	health := hw.Health{}
	if denied := w.drives.denied(); denied != nil {
		health = hw.Health{Sight: hw.SightDegraded, Text: "drives can't be asked what they say of themselves (CAP_SYS_ADMIN and CAP_SYS_RAWIO): " + denied.Error()}
	}
	if path := w.probe.stuck(); path != "" {
		health = hw.Health{Sight: hw.SightDegraded, Text: path + " does not answer: what stands on it is not seen"}
	}
	return d, health
}

// used are the numbers of the devices that something stands on beside other devices.
func (w *watch) used(s *stack, mounts []mount, vdisks []VDisk) map[string]bool {
	numbers := make(map[string]bool)
	for _, m := range mounts {
		numbers[m.number] = true
		if d := s.under(m); d != nil {
			numbers[d.number] = true
		}
	}
	for _, name := range readSwaps(w.config.Root) {
		if d := s.devices[name]; d != nil {
			numbers[d.number] = true
		}
	}
	for _, v := range vdisks {
		numbers[w.places[v.Path]] = true
	}
	delete(numbers, "")
	return numbers
}
