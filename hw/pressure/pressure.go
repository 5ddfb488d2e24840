// Package pressure watches how much is asked of this host: by the kernel's pressure figures (PSI), by what is left of its
// memory and of its tables, and by how long the virtual processors of its domains wait for a real one.
//
// docs/pressure.md has the conditions and their limits.
package pressure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	// alert is how often pressure is read for a window after a trigger has fired.
	alert = 500 * time.Millisecond
	// search is how often all processes are looked through for domains.
	search = 30 * time.Second
	// last is how long the end of Run waits for a search that hangs.
	last = time.Second
)

// Limits are in percent, by condition: of the window in which tasks stood still or waited, of the processors' time that was
// stolen, or what must be left of the memory or a table. A condition without one, or with zero, is not watched.
type Limits map[correlate.Condition]float64

// Config says how to watch.
type Config struct {
	Host correlate.ID
	Root hw.Root
	// Poll is how often everything is read; default 5 s.
	Poll time.Duration
	// Window is what shares are measured of; default 30 s.
	Window time.Duration
	Limits Limits
	// Standing gives the alarms of this source that stand at the start of a Run. nil: none.
	Standing func(context.Context) ([]correlate.Key, error)
	Log      *slog.Logger // nil: none
}

// Source is the pressure source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger
	proc   procfs.FS
	now    func() time.Time
	// triggers is where the kernel says at once that tasks stand still.
	triggers func() (fired <-chan struct{}, stop func(), err error)
	// searching is held by the one search that may run, also by one that hung when its Run ended.
	searching atomic.Bool

	counters struct{ polls, unreadable, triggers, searches atomic.Uint64 }
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New fills in the defaults. It fails when there is no /proc.
func New(c Config) (*Source, error) {
	if c.Poll <= 0 {
		c.Poll = 5 * time.Second
	}
	if c.Window <= 0 {
		c.Window = 30 * time.Second
	}
	proc, err := procfs.NewFS(c.Root.ProcPath())
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{config: c, log: log, proc: proc, now: time.Now}
	s.triggers = func() (<-chan struct{}, func(), error) {
		return triggers(c.Root, func(t stall) float64 { return c.Limits[t.condition] })
	}
	return s, nil
}

// Name is "pressure".
func (s *Source) Name() string { return "pressure" }

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	c := &s.counters
	return map[string]uint64{
		"polls": c.polls.Load(), "unreadable": c.unreadable.Load(), "triggers": c.triggers.Load(), "searches": c.searches.Load(),
	}
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	w := newWatch(s)
	d := correlate.Delta{Source: s.Name(), Full: true}
	if s.config.Standing != nil {
		keys, err := s.config.Standing(ctx)
		if err != nil {
			return fmt.Errorf("ask which alarms stand: %w", err)
		}
		for _, k := range keys { // what stands is to be proven well before it ends; what is not watched any more ends now
			if w.stands(k) {
				d.Events = append(d.Events, correlate.Event{Source: s.Name(), Resource: k.Resource, Condition: k.Condition})
			}
		}
	}
	fired, stop, err := s.triggers()
	if err != nil && !missing(err) {
		s.log.Info("the kernel will not say at once when pressure rises; it is seen with the polls", "error", err)
	}
	defer stop()

	found := make(chan result, 1)
	defer func() {
		for end := s.now().Add(last); s.searching.Load() && s.now().Before(end); {
			<-time.After(last / 100)
		}
	}()
	var alertUntil, searchAt, pollAt time.Time
	for {
		now := s.now()
		if s.config.Limits[correlate.CondCPUStarved] > 0 && !now.Before(searchAt) {
			searchAt = now.Add(search)
			s.search(found)
		}
		if !now.Before(pollAt) {
			pollAt = now.Add(s.config.Poll)
			s.counters.polls.Add(1)
			d.Events = append(d.Events, w.poll(now)...)
		} else if now.Before(alertUntil) {
			d.Events = append(d.Events, w.pressure(now)...)
		}
		sink.Health(w.health())
		if d.Full || len(d.Events) > 0 {
			if err := sink.Emit(ctx, d); err != nil {
				return err
			}
			d = correlate.Delta{Source: s.Name()}
		}
		next := pollAt.Sub(now)
		if now.Before(alertUntil) {
			next = min(next, alert)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-fired:
			s.counters.triggers.Add(1)
			alertUntil = s.now().Add(s.config.Window)
		case r := <-found:
			d.Events = append(d.Events, w.take(r, s.now())...)
		case <-time.After(next):
		}
	}
}

// result is what a search has found.
type result struct {
	guests []guest
	err    error
}

// search looks for domains, in a goroutine: the kernel may let it wait for a process that is stuck. There is never more than
// one, and a Run that ends drops the result of one that hangs.
func (s *Source) search(found chan<- result) {
	if !s.searching.CompareAndSwap(false, true) {
		return
	}
	s.counters.searches.Add(1)
	go func() {
		var r result
		if err := hw.Contain(func() error {
			r.guests, r.err = guests(s.config.Root)
			return nil
		}); err != nil {
			r.err = err
		}
		s.searching.Store(false) // before: whoever has the result may search again
		select {
		case found <- r:
		default: // the last one was not taken yet
		}
	}()
}

// follow is one condition of one resource.
type follow struct {
	history history
	verdict verdict
}

type key struct {
	resource  correlate.ID
	condition correlate.Condition
}

// domain is one that runs.
type domain struct {
	guest
	histories map[string]*history // by thread
}

// watch is one Run.
type watch struct {
	*Source
	follows map[key]*follow
	domains map[string]*domain // by UUID
	steal   struct {
		seen        bool
		steal, all  uint64
		at          time.Time
		accumulated time.Duration
	}
	errs map[string]error // by what could not be read
}

func newWatch(s *Source) *watch {
	return &watch{Source: s, follows: make(map[key]*follow), domains: make(map[string]*domain), errs: make(map[string]error)}
}

func (w *watch) of(id correlate.ID, c correlate.Condition) *follow {
	f := w.follows[key{id, c}]
	if f == nil {
		f = &follow{}
		w.follows[key{id, c}] = f
	}
	return f
}

// stands takes over an alarm of the last run, and reports whether it is one of what is watched now.
func (w *watch) stands(k correlate.Key) bool {
	if w.config.Limits[k.Condition] <= 0 || k.Resource != w.config.Host && k.Condition != correlate.CondCPUStarved {
		return false
	}
	w.of(k.Resource, k.Condition).verdict.failed = true
	return true
}

// health says what can't be read.
func (w *watch) health() hw.Health {
	for _, what := range readings {
		if err := w.errs[what]; err != nil {
			return hw.Health{Sight: hw.SightDegraded, Text: err.Error()}
		}
	}
	return hw.Health{}
}

// What is read, in the order in which troubles are told.
const (
	readPressure  = "pressure"
	readSupplies  = "supplies"
	readStolen    = "stolen"
	readProcesses = "processes"
	readThreads   = "threads"
)

var readings = []string{readPressure, readSupplies, readStolen, readProcesses, readThreads}

var errNoPressure = errors.New("this kernel keeps no pressure figures: boot it with psi=1")

func (w *watch) failed(what string, err error) {
	w.counters.unreadable.Add(1)
	if w.errs[what] == nil {
		w.errs[what] = err
	}
}

// poll reads everything, and gives what has changed.
func (w *watch) poll(now time.Time) []correlate.Event {
	events := w.pressure(now)
	events = append(events, w.supplies(now)...)
	events = append(events, w.stolen(now)...)
	return append(events, w.waiting(now)...)
}

func (w *watch) pressure(now time.Time) []correlate.Event {
	w.errs[readPressure] = nil
	var events []correlate.Event
	for _, s := range stalls {
		limit := w.config.Limits[s.condition]
		if limit <= 0 {
			continue
		}
		total, err := s.read(w.proc)
		if missing(err) {
			w.errs[readPressure] = errNoPressure
			events = append(events, w.over(now, w.config.Host, s.condition, "")...)
			continue
		}
		if err != nil {
			w.failed(readPressure, err)
			continue
		}
		events = append(events, w.rate(now, s.condition, limit, total, s.text)...)
	}
	return events
}

func (w *watch) supplies(now time.Time) []correlate.Event {
	w.errs[readSupplies] = nil
	var events []correlate.Event
	for _, s := range supplies {
		limit := w.config.Limits[s.condition]
		if limit <= 0 {
			continue
		}
		left, all, err := s.read(w.config.Root, w.proc)
		if missing(err) {
			events = append(events, w.over(now, w.config.Host, s.condition, "")...)
			continue
		}
		if err != nil {
			w.failed(readSupplies, err)
			continue
		}
		f := w.of(w.config.Host, s.condition)
		part := 100 * float64(left) / max(1, float64(all))
		if f.verdict.judge(now, part < limit, part >= 1.5*limit, w.config.Window) {
			events = append(events, w.event(now, w.config.Host, s.condition, f, fmt.Sprintf("%d of %d %s are left", left, all, s.unit),
				map[string]string{"left": strconv.FormatUint(left, 10), "all": strconv.FormatUint(all, 10), "limit_percent": number1(limit)}))
		}
	}
	return events
}

func (w *watch) stolen(now time.Time) []correlate.Event {
	w.errs[readStolen] = nil
	limit := w.config.Limits[correlate.CondCPUStolen]
	if limit <= 0 {
		return nil
	}
	steal, all, err := stolen(w.config.Root)
	if err != nil {
		w.failed(readStolen, err)
		return nil
	}
	s := &w.steal
	if s.seen && all > s.all && steal >= s.steal { // the kernel lets the counters go back at times
		s.accumulated += time.Duration(float64(now.Sub(s.at)) * float64(steal-s.steal) / float64(all-s.all))
	}
	s.seen, s.steal, s.all, s.at = true, steal, all, now
	return w.rate(now, correlate.CondCPUStolen, limit, s.accumulated, "the hypervisor below took the processors")
}

// rate judges a time that grows, on the host.
func (w *watch) rate(now time.Time, c correlate.Condition, limit float64, total time.Duration, text string) []correlate.Event {
	f := w.of(w.config.Host, c)
	part, whole := f.history.share(now, total, w.config.Window)
	if !f.verdict.judge(now, 100*part >= limit, whole && 100*part < limit/2, 0) {
		return nil
	}
	return []correlate.Event{w.event(now, w.config.Host, c, f, fmt.Sprintf("%s for %.0f %% of the last %v", text, 100*part, w.config.Window),
		map[string]string{"percent": number1(100 * part), "limit_percent": number1(limit)})}
}

// over ends a condition of something that is not there any more.
func (w *watch) over(now time.Time, id correlate.ID, c correlate.Condition, reason string) []correlate.Event {
	f := w.follows[key{id, c}]
	delete(w.follows, key{id, c})
	if f == nil || !f.verdict.failed {
		return nil
	}
	f.verdict.failed = false
	e := w.event(now, id, c, f, "", nil)
	e.Reason = reason
	return []correlate.Event{e}
}

func (w *watch) event(now time.Time, id correlate.ID, c correlate.Condition, f *follow, text string, evidence map[string]string) correlate.Event {
	e := correlate.Event{
		Source: w.Name(), Resource: id, Condition: c, Status: correlate.StatusOK, Text: text, Observed: now, Evidence: evidence,
	}
	if f.verdict.failed {
		e.Status = correlate.StatusFailed
	}
	return e
}

func number1(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// take follows the domains that were found, and no others.
func (w *watch) take(r result, now time.Time) []correlate.Event {
	w.errs[readProcesses] = nil
	if r.err != nil {
		w.failed(readProcesses, r.err)
		return nil
	}
	before := w.domains
	w.domains = make(map[string]*domain, len(r.guests))
	for _, g := range r.guests {
		d := &domain{guest: g, histories: make(map[string]*history, len(g.vcpus))}
		for _, v := range g.vcpus {
			if old := before[g.uuid]; old != nil && old.pid == g.pid && old.histories[v.thread] != nil {
				d.histories[v.thread] = old.histories[v.thread]
			} else {
				d.histories[v.thread] = &history{}
			}
		}
		w.domains[g.uuid] = d
	}
	var events []correlate.Event
	for k := range w.follows {
		if k.condition == correlate.CondCPUStarved && w.domains[k.resource.Name()] == nil {
			events = append(events, w.over(now, k.resource, k.condition, correlate.ReasonGone)...)
		}
	}
	return events
}

// waiting looks at the virtual processor of each domain that waits most.
func (w *watch) waiting(now time.Time) []correlate.Event {
	w.errs[readThreads] = nil
	limit := w.config.Limits[correlate.CondCPUStarved]
	if limit <= 0 {
		return nil
	}
	var events []correlate.Event
	for uuid, d := range w.domains {
		most, worst, seen, well := -1.0, "", 0, true
		for _, v := range d.vcpus {
			total, err := d.waited(w.config.Root, v.thread)
			if ended(err) {
				continue // the next search has what is left
			}
			if err != nil {
				w.failed(readThreads, err)
				well = false
				continue
			}
			part, whole := d.histories[v.thread].share(now, total, w.config.Window)
			seen++
			well = well && whole
			if part > most {
				most, worst = part, v.name
			}
		}
		if seen == 0 {
			continue
		}
		id := correlate.NewID(correlate.KindDomain, uuid)
		f := w.of(id, correlate.CondCPUStarved)
		if f.verdict.judge(now, 100*most >= limit, well && 100*most < limit/2, 0) {
			events = append(events, w.event(now, id, correlate.CondCPUStarved, f,
				fmt.Sprintf("%s waited for a processor for %.0f %% of the last %v", worst, 100*most, w.config.Window),
				map[string]string{"percent": number1(100 * most), "limit_percent": number1(limit), "process": d.pid, "vcpu": worst}))
		}
	}
	return events
}
