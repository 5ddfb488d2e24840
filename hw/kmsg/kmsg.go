// Package kmsg watches the kernel's log for lines that mean a fault.
//
// It reads /dev/kmsg from where it was when the agent ended, judges each line by a table and tells the engine what happened
// to what. The kernel's ring buffer is its queue: when the agent is slow, the kernel overwrites the oldest lines and says
// so. docs/hardware.md has the table.
package kmsg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	device0 = "/dev/kmsg"
	// recordSize holds any record: the kernel's own limit is below (PRINTKRB_RECORD_MAX and its dictionary, escaped).
	recordSize = 16384
	// backlog is how old a line may be that is told at the first start of the agent under this kernel.
	backlog = 10 * time.Minute
	// again is how long the same fault of the same resource is not told again: a storm needs no more.
	again = time.Second
	// saveAfter is how long after a line the cursor is written: the engine has taken in what the line told by then. A crash
	// before it reads the line twice, which raises nothing new while the fault still stands.
	saveAfter = time.Second
	// retry is how often it is looked whether the right that was missing has come.
	retry = time.Minute
	// remembered bounds the faults that again is known of.
	remembered = 4096
)

// Pattern is one of the operator's own.
type Pattern struct {
	Name, Match string
	Severity    correlate.Severity // unset: warning
}

// Config says what to look for.
type Config struct {
	Host   correlate.ID
	Root   hw.Root
	Device string // default /dev/kmsg
	// Cursor is the file that remembers what was read; empty: nothing does.
	Cursor string
	// Without names rules of the table that are not used; Ignore are expressions of lines that are not judged.
	Without, Ignore []string
	Patterns        []Pattern
	// Prompts asks other sources, by their names, to look now: the kernel has written of what they watch. It may lack some.
	Prompts map[string]hw.Prompt
	// Standing gives the alarms of this source that stand at the start of a Run: nothing states them again. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the kernel log source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	rules  []rule
	ignore []*regexp.Regexp

	open func() (recordLog, error)
	now  func() time.Time
	// anybody judges also lines that processes wrote: tests can't make the kernel write.
	anybody bool

	counters struct{ records, matched, repeated, undecodable, overruns, lost atomic.Uint64 }
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New checks the configuration. Its error names everything that is wrong.
func New(c Config) (*Source, error) {
	s := &Source{config: c, log: c.Log, now: time.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.config.Device == "" {
		s.config.Device = device0
	}
	s.open = func() (recordLog, error) { return openDevice(s.config.Device) }
	var errs []error
	for i, text := range c.Ignore {
		re, err := regexp.Compile(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("hw.kmsg.ignore[%d]: %w", i, err))
			continue
		}
		s.ignore = append(s.ignore, re)
	}
	known := Rules()
	for i, name := range c.Without {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("hw.kmsg.without[%d]: no rule is called %q: known are %s", i, name, strings.Join(known, ", ")))
		}
	}
	rules, err := custom(c.Patterns)
	if err != nil {
		errs = append(errs, err)
	}
	s.rules = rules
	for _, r := range standard() {
		if !slices.Contains(c.Without, r.name) {
			s.rules = append(s.rules, r)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// Name is "kmsg".
func (s *Source) Name() string { return "kmsg" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{
		"records": c.records.Load(), "matched": c.matched.Load(), "repeated": c.repeated.Load(),
		"undecodable": c.undecodable.Load(), "overruns": c.overruns.Load(), "lost": c.lost.Load(),
	}
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	full := correlate.Delta{Source: s.Name(), Full: true}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys { // the log says that something happened once: not to say it again takes nothing back
			full.Events = append(full.Events, correlate.Event{Source: s.Name(), Resource: k.Resource, Condition: k.Condition})
		}
	}
	if err := sink.Emit(ctx, full); err != nil {
		return err
	}
	for {
		err := s.follow(ctx, sink)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			sink.Health(hw.Health{Sight: hw.SightAbsent, Text: "there is no " + s.config.Device})
		case errors.Is(err, fs.ErrPermission):
			sink.Health(hw.Health{Sight: hw.SightDegraded, Text: "the kernel's log may not be read: give the agent CAP_SYSLOG (and the right to read " + s.config.Device + ")"})
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// follow reads the log until ctx ends or a read fails.
func (s *Source) follow(ctx context.Context, sink hw.Sink) error {
	f, err := s.open()
	if err != nil {
		return fmt.Errorf("open the kernel's log: %w", err)
	}
	defer f.Close()                                      //nolint:errcheck // it was only read
	defer context.AfterFunc(ctx, func() { f.Close() })() //nolint:errcheck // it was only read
	r := reader{Source: s, sink: sink, told: make(map[faultKey]time.Time), memcg: make(map[string]string)}
	if r.boot, err = s.config.Root.Boot(); err != nil {
		s.log.Warn("which boot this is is not known: after a restart, lines may be read twice", "error", err)
	}
	if r.stamps.zero, err = s.config.Root.BootTime(s.now()); err != nil {
		return err
	}
	r.load()
	defer r.save()
	sink.Health(hw.Health{})
	buf := make([]byte, recordSize)
	var pace pace
	for {
		n, waited, err := f.Read(buf)
		switch {
		case err == nil:
			now := s.now()
			if err := r.take(ctx, string(buf[:n]), now, waited); err != nil {
				return err
			}
			if r.fresh && !r.timed {
				if err := f.SetReadDeadline(time.Now().Add(saveAfter)); err != nil {
					return fmt.Errorf("read the kernel's log: %w", err)
				}
				r.timed = true
			}
			if pace.line(now, waited) {
				select {
				case <-ctx.Done():
				case <-time.After(gather):
				}
			}
		case errors.Is(err, os.ErrDeadlineExceeded): // nothing more has come: what was told is taken in by now
			r.save()
			r.timed = false
			if err := f.SetReadDeadline(time.Time{}); err != nil {
				return fmt.Errorf("read the kernel's log: %w", err)
			}
		case errors.Is(err, syscall.EPIPE): // overwritten before it was read; the next read is of the oldest that is left
			s.counters.overruns.Add(1)
			s.log.Warn("the kernel's log was overwritten before it was read; going on at its oldest line")
		case errors.Is(err, syscall.EINVAL): // a record longer than any: the kernel has passed it
			s.counters.undecodable.Add(1)
		case errors.Is(err, syscall.EINTR):
		default:
			return fmt.Errorf("read the kernel's log: %w", err)
		}
	}
}

type faultKey struct {
	resource  correlate.ID
	condition correlate.Condition
}

// reader is one pass over the log.
type reader struct {
	*Source
	sink   hw.Sink
	boot   string
	stamps stamps

	known bool   // next is known from the cursor or from a record
	next  uint64 // the first record not yet taken
	fresh bool   // next is not saved
	timed bool   // a deadline will save it
	mute  bool   // that it can't be saved was said
	told  map[faultKey]time.Time
	memcg map[string]string // the control group of a process that is about to be killed
}

// take judges one record; waited is what its read said.
func (r *reader) take(ctx context.Context, line string, now time.Time, waited bool) error {
	rec, err := parse(line)
	if err != nil {
		if r.counters.undecodable.Add(1) == 1 {
			r.log.Warn("a line of the kernel's log was not understood", "error", err)
		}
		return nil
	}
	at := r.stamps.at(&rec, now, waited)
	switch {
	case r.known && rec.seq < r.next:
		return nil // taken before a restart
	case r.known:
		r.counters.lost.Add(rec.seq - r.next)
	case now.Sub(at) > backlog:
		return nil
	}
	r.known = true
	r.counters.records.Add(1)
	if events := r.judge(rec, at, now); len(events) > 0 {
		if err := r.sink.Emit(ctx, correlate.Delta{Source: r.Name(), Events: events}); err != nil {
			return err
		}
	}
	r.next, r.fresh = rec.seq+1, true
	return nil
}

// judge gives what a record means.
func (r *reader) judge(rec record, at, now time.Time) []correlate.Event {
	if rec.facility != 0 && !r.anybody { // a process can write what it likes
		return nil
	}
	if kill, ok := strings.CutPrefix(rec.text, "oom-kill:"); ok {
		r.noteGroup(kill)
		return nil
	}
	for i := range r.rules {
		rule := &r.rules[i]
		if len(rule.hints) > 0 && !slices.ContainsFunc(rule.hints, func(h string) bool { return strings.Contains(rec.text, h) }) {
			continue
		}
		groups := rule.pattern.FindStringSubmatch(rec.text)
		if groups == nil {
			continue
		}
		if slices.ContainsFunc(r.ignore, func(re *regexp.Regexp) bool { return re.MatchString(rec.text) }) {
			return nil
		}
		if rule.prompts != "" {
			r.config.Prompts[rule.prompts].Give()
		}
		if rule.condition == "" {
			r.counters.matched.Add(1)
			return nil
		}
		ids := []correlate.ID{r.config.Host}
		if rule.on != nil {
			ids = rule.on(r.Source, rec, groups)
		}
		if len(ids) == 0 {
			continue
		}
		r.counters.matched.Add(1)
		return r.events(rule, rec, ids, at, now)
	}
	return nil
}

func (r *reader) events(rule *rule, rec record, ids []correlate.ID, at, now time.Time) []correlate.Event {
	var events []correlate.Event
	for _, id := range ids {
		key := faultKey{id, rule.condition}
		if last, ok := r.told[key]; ok && now.Sub(last) < again && !now.Before(last) {
			r.counters.repeated.Add(1)
			continue
		}
		if len(r.told) >= remembered {
			clear(r.told)
		}
		r.told[key] = now
		evidence := map[string]string{"rule": rule.name, "sequence": strconv.FormatUint(rec.seq, 10)}
		if rec.device != "" {
			evidence["device"] = rec.device
		}
		if rule.condition == correlate.CondOutOfMemory {
			if groups := rule.pattern.FindStringSubmatch(rec.text); len(groups) > 2 && r.memcg[groups[2]] != "" {
				evidence["control_group"] = r.memcg[groups[2]]
			}
		}
		events = append(events, correlate.Event{
			Source: r.Name(), Resource: id, Condition: rule.condition, Status: correlate.StatusFailed, Severity: rule.severity,
			Text: rec.text, Occurred: at, Observed: now, Evidence: evidence,
		})
	}
	return events
}

// noteGroup keeps the control group of who is about to be killed (mm/oom_kill.c: dump_oom_victim): the next lines name it by
// its process id only.
func (r *reader) noteGroup(kill string) {
	var group, pid string
	for field := range strings.SplitSeq(kill, ",") {
		if v, ok := strings.CutPrefix(field, "task_memcg="); ok {
			group = v
		} else if v, ok := strings.CutPrefix(field, "pid="); ok {
			pid = v
		}
	}
	clear(r.memcg) // one is killed at a time
	r.memcg[pid] = group
}
