// Package ipmi watches what the BMC of this host knows: sensors, power supplies, fans, and its event log.
//
// One goroutine talks to the BMC, one command at a time, each with a deadline. Sensors are read in turn; an event of the BMC, or
// a new record in its log, comes before them. A BMC that does not answer is asked ever less often and told of as our own
// blindness: what it said before stands. docs/ipmi.md says more.
package ipmi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	// absentPause is how often it is looked whether there is a device now, or the right to it.
	absentPause = time.Minute
	// choresGap is how often the less urgent is asked: the repository's stamp, the log's room, the chassis.
	choresGap = time.Minute
	// saveAfter is how long after a record was told its place in the log is noted: the engine has taken it in by then.
	saveAfter = time.Second
	// backlog is how old an event may be that is told at the first start.
	backlog = 10 * time.Minute
)

// Config says how to watch.
type Config struct {
	// Host needs the parts, and has what belongs to the machine as a whole.
	Host correlate.ID
	// Device is the number of the BMC's device, /dev/ipmi0.
	Device uint64
	// Interval is how often it is looked for new records of the event log; default 2 s. Scan is how often each sensor is read;
	// default 30 s. Timeout of each command; default 2 s.
	Interval, Scan, Timeout time.Duration
	// Ignore are globs on the names of sensors that are not looked at, nor their events.
	Ignore []string
	// PowerSupplies and Fans that the host needs; 0: of the supplies half of those that are there, rounded up, and one fan: with
	// a few it gets hot, which its temperatures tell, and only without any it is lost.
	PowerSupplies, Fans uint64
	// Dir is where it is kept what was read; empty: nowhere.
	Dir string
	// Standing gives the alarms of this source that stand at the start of a Run. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the BMC. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	now    func() time.Time
	line   *line
	// stated: an earlier Run has said what there is.
	stated atomic.Bool
	chores time.Duration

	counters struct{ readings, unreadable, records, vendor, undescribed, relocated, sessions atomic.Uint64 }
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New fills in the defaults. Its error names the globs that are none.
func New(c Config) (*Source, error) {
	device := fmt.Sprintf("/dev/ipmi%d", c.Device)
	return newSource(c, func() (Transport, error) { return openDevice(device) })
}

func newSource(c Config, open func() (Transport, error)) (*Source, error) {
	if c.Interval <= 0 {
		c.Interval = 2 * time.Second
	}
	if c.Scan <= 0 {
		c.Scan = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	var errs []error
	for i, glob := range c.Ignore {
		if _, err := path.Match(glob, ""); err != nil {
			errs = append(errs, fmt.Errorf("hw.ipmi.ignore[%d]: %w", i, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, now: time.Now, line: &line{open: open, timeout: c.Timeout}, chores: choresGap}, nil
}

// Name is "ipmi".
func (s *Source) Name() string { return "ipmi" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{
		"commands": s.line.commands.Load(), "timeouts": s.line.timeouts.Load(), "sessions": c.sessions.Load(),
		"readings": c.readings.Load(), "unreadable": c.unreadable.Load(), "records": c.records.Load(),
		"vendor": c.vendor.Load(), "undescribed": c.undescribed.Load(), "relocated": c.relocated.Load(),
	}
}

// file is where something is kept; empty when nothing is.
func (s *Source) file(name string) string {
	if s.config.Dir == "" {
		return ""
	}
	return filepath.Join(s.config.Dir, name)
}

func (s *Source) ignored(name string) bool {
	for _, glob := range s.config.Ignore {
		if ok, err := path.Match(glob, name); err == nil && ok {
			return true
		}
	}
	return false
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := &watch{
		Source: s, sink: sink, said: s.stated.Load(), ownFaults: make(map[correlate.Condition]fault),
		told: make(map[correlate.Key]correlate.Severity), held: make(map[correlate.Key]bool), gone: make(map[correlate.ID]bool),
	}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys {
			w.held[correlate.Key{Resource: k.Resource, Condition: k.Condition}] = true
		}
	}
	defer func() {
		if err := s.line.close(); err != nil {
			s.log.Warn("the BMC's device was not closed well", "error", err)
		}
	}()
	pause := firstPause
	for {
		began := w.sessions
		err := w.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.sessions > began { // it has answered meanwhile
			pause = firstPause
		}
		if errors.Is(err, errRearranged) {
			s.log.Info("the BMC's sensor data have changed and are read anew")
			continue
		}
		wait := pause
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.stated.Load():
			wait = absentPause
			sink.Health(hw.Health{Sight: hw.SightBlind, Text: fmt.Sprintf("/dev/ipmi%d is gone: load its drivers (ipmi_si, ipmi_devintf) again", s.config.Device)})
		case errors.Is(err, fs.ErrNotExist):
			wait = absentPause
			sink.Health(hw.Health{Sight: hw.SightAbsent, Text: fmt.Sprintf("there is no /dev/ipmi%d: no BMC, or its drivers (ipmi_si, ipmi_devintf) are not loaded", s.config.Device)})
		case errors.Is(err, fs.ErrPermission):
			wait = absentPause
			sink.Health(hw.Health{Sight: hw.SightDegraded, Text: fmt.Sprintf(
				"/dev/ipmi%d may not be opened: run the agent as root, or give the device to a group of the agent's by a udev rule (docs/ipmi.md)", s.config.Device)})
		default:
			pause = min(2*pause, longestPause)
			sink.Health(hw.Health{Sight: hw.SightBlind, Text: err.Error()})
		}
		if err := w.unknown(ctx); err != nil {
			return err
		}
		if isBroken(err) {
			if err := s.line.close(); err != nil {
				s.log.Warn("the BMC's device was not closed well", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
