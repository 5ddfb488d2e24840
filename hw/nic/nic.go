// Package nic watches the links of this host: physical adapters and their virtual functions, bonds, bridges, VLANs,
// and the taps that domains hang on.
//
// It listens to the kernel's link messages and lists all links at the start, after anything that may have cost it a
// message, and every half minute. docs/nic.md says which links count and what their conditions mean.
package nic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/time/rate"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// relistEvery is how often everything is listed anyway, as a repair and for the error counters.
const relistEvery = 30 * time.Second

// resyncsBurst resyncs come at once; then one each resyncEvery, and the source calls itself blind until a subscription
// has lasted for calm.
const (
	resyncEvery  = 100 * time.Millisecond
	resyncsBurst = 5
	calm         = time.Second
)

// Config says what to watch.
type Config struct {
	// Include and Exclude are name globs (path.Match). Exclude wins.
	Include, Exclude []string
	Root             hw.Root
	Log              *slog.Logger // nil: none
	// Alarmed tells, at the start of each Run, on which links alarms stand, and the bridges, bonds and links that need
	// those (correlate.Alarm.NeededBy): no list shows what has vanished, or whether a tap was ever up. nil: none. An error ends
	// the Run.
	Alarmed func(context.Context) (map[correlate.ID][]correlate.ID, error)
	// Namespace is the path of a network namespace; empty: the one that the process is in.
	Namespace string
}

// Source is the link source. Make it with New.
type Source struct {
	config Config
	log    *slog.Logger

	buffer   int // bytes of socket buffer
	relist   time.Duration
	counters struct {
		updates, resyncs, overruns, undecodable, relists atomic.Uint64
	}
}

// Stats counts since the source was made.
type Stats struct {
	Updates     uint64 // link messages taken
	Resyncs     uint64 // subscriptions that ended and were made anew, with a full relist
	Overruns    uint64 // of those, because messages came faster than they were taken
	Undecodable uint64 // messages, or links in a list, that could not be understood
	Relists     uint64 // all lists, the periodic ones included
}

var (
	_ hw.Source  = (*Source)(nil)
	_ hw.Counted = (*Source)(nil)
)

// New checks the configuration. Its error names every glob that is malformed.
func New(c Config) (*Source, error) {
	var errs []error
	check := func(key string, globs []string) {
		for i, g := range globs {
			if _, err := path.Match(g, ""); err != nil {
				errs = append(errs, fmt.Errorf("hw.nic.%s[%d]: %q: %w: close the bracket, or escape it with a backslash", key, i, g, err))
			}
		}
	}
	check("include", c.Include)
	check("exclude", c.Exclude)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{config: c, log: log, buffer: socketBuffer, relist: relistEvery}, nil
}

// Name is "nic".
func (s *Source) Name() string { return "nic" }

// Stats may be called from any goroutine.
func (s *Source) Stats() Stats {
	c := &s.counters
	return Stats{c.updates.Load(), c.resyncs.Load(), c.overruns.Load(), c.undecodable.Load(), c.relists.Load()}
}

// Counts implements hw.Counted.
func (s *Source) Counts() map[string]uint64 {
	st := s.Stats()
	return map[string]uint64{
		"updates": st.Updates, "resyncs": st.Resyncs, "overruns": st.Overruns, "undecodable": st.Undecodable, "relists": st.Relists,
	}
}

// Run implements hw.Source.
func (s *Source) Run(ctx context.Context, sink hw.Sink) error {
	ns := netns.None()
	if s.config.Namespace != "" {
		var err error
		if ns, err = netns.GetFromPath(s.config.Namespace); err != nil {
			return fmt.Errorf("open network namespace %s: %w", s.config.Namespace, err)
		}
		defer func() { _ = ns.Close() }()
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	w := &watch{
		Source: s, sink: sink, ns: ns,
		table:     newTable(s.config.Root, s.config.Include, s.config.Exclude),
		questions: make(chan asked), answers: make(chan answered),
	}
	if s.config.Alarmed != nil {
		alarmed, err := s.config.Alarmed(ctx)
		if err != nil {
			return fmt.Errorf("ask on which links alarms stand: %w", err)
		}
		w.table.remember(alarmed)
	}
	wg.Go(func() {
		err := hw.Contain(func() error { return ask(ctx, ns, s.config.Root, w.questions, w.answers) })
		if ctx.Err() == nil {
			s.log.Warn("speed, duplex and firmware of links are not read", "error", err)
		}
	})
	return w.run(ctx)
}

// undecodable is safe for the feed's goroutine.
func (s *Source) undecodable(err error) {
	if s.counters.undecodable.Add(1) == 1 { // once: a driver that does so does it in each message
		s.log.Warn("a link message was not understood; the link stays as last seen", "error", err)
	}
}

// watch is one Run.
type watch struct {
	*Source
	sink  hw.Sink
	ns    netns.NsHandle
	table *table
	// wanted are links whose details are to be asked for; unbuffered channels lead to the one who asks.
	wanted    []asked
	questions chan asked
	answers   chan answered
	storm     bool // resyncs had to wait for each other
}

func (w *watch) run(ctx context.Context) error {
	limit := rate.NewLimiter(rate.Every(resyncEvery), resyncsBurst)
	var said string
	for {
		if limit.Tokens() < 1 {
			w.storm = true
			w.sink.Health(hw.Health{Sight: hw.SightBlind, Text: "link changes come faster than they can be taken in"})
		}
		if err := limit.Wait(ctx); err != nil {
			return ctx.Err()
		}
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.counters.resyncs.Add(1)
		if err.Error() != said {
			said = err.Error()
			w.log.Warn("link subscription ended; subscribing anew and relisting", "error", err)
		}
	}
}

// follow subscribes, states everything and follows the changes until the subscription ends; it returns why.
func (w *watch) follow(ctx context.Context) error {
	f, ample, err := w.openFeed(ctx, w.ns)
	if err != nil {
		w.sink.Health(hw.Health{Sight: hw.SightBlind, Text: err.Error()})
		return err
	}
	defer f.close()
	// Subscribed first, listed then: what changes meanwhile is told twice and not lost.
	if err := w.list(ctx, true); err != nil {
		w.sink.Health(hw.Health{Sight: hw.SightBlind, Text: err.Error()})
		return err
	}
	health := hw.Health{}
	if !ample {
		health = hw.Health{
			Sight: hw.SightDegraded,
			Text:  "the receive buffer for link changes is limited: set net.core.rmem_max to 8388608, or give the agent CAP_NET_ADMIN",
		}
	}
	return w.watch(ctx, f, health)
}

// watch follows a feed. health is how well it sees.
func (w *watch) watch(ctx context.Context, f *feed, health hw.Health) error {
	relist := time.NewTicker(w.relist)
	defer relist.Stop()
	wake := time.NewTimer(calm)
	defer wake.Stop()
	calmAt := time.Now().Add(calm)
	if !w.storm {
		w.sink.Health(health)
	}
	for {
		var questions chan asked
		var question asked
		if len(w.wanted) > 0 {
			questions, question = w.questions, w.wanted[0]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u, ok := <-f.updates:
			if !ok {
				return f.err
			}
			if err := w.take(ctx, f, u); err != nil {
				return err
			}
		case <-relist.C:
			if err := w.list(ctx, false); err != nil {
				return err
			}
		case <-wake.C:
		case questions <- question:
			w.wanted = w.wanted[1:]
			continue
		case a := <-w.answers:
			w.answer(a)
		}
		now := time.Now()
		next := w.table.expire(now)
		if w.storm && !now.Before(calmAt) {
			w.storm = false
			w.sink.Health(health)
		}
		if w.storm && (next.IsZero() || calmAt.Before(next)) {
			next = calmAt
		}
		if !next.IsZero() {
			wake.Reset(next.Sub(now))
		}
		if err := w.tell(ctx, false, now); err != nil {
			return err
		}
	}
}

// take applies an update, and those that wait behind it, and tells the edges at once.
func (w *watch) take(ctx context.Context, f *feed, u update) error {
	at := u.at
	for more, n := true, 0; more; n++ {
		w.counters.updates.Add(1)
		if u.deleted {
			w.table.remove(u.link.Attrs().Index, u.moved, u.at)
		} else {
			w.table.apply(u.link, false, u.at)
			w.want(u.link.Attrs().Index)
		}
		more = n < feedCapacity
		select {
		case next, ok := <-f.updates:
			u, more = next, more && ok
		default:
			more = false
		}
	}
	if events := w.table.edges(at); len(events) > 0 {
		return w.emit(ctx, correlate.Delta{Events: events})
	}
	return nil
}

// list dumps all links and, at the start of a subscription, states them all.
func (w *watch) list(ctx context.Context, full bool) error {
	var l listing
	for range 5 {
		var err error
		if l, err = dump(w.ns, w.undecodable); err != nil {
			return err
		}
		if !l.interrupted {
			break
		}
	}
	now := time.Now()
	w.counters.relists.Add(1)
	w.table.relist(l, now)
	for _, link := range l.links {
		w.want(link.Attrs().Index)
	}
	if full && l.interrupted && len(w.table.stated) == 0 {
		return errors.New("list links: they change too fast for a whole list")
	}
	// A list with holes is no full truth: what it lacks would be taken for gone.
	return w.tell(ctx, full && !l.interrupted, now)
}

func (w *watch) tell(ctx context.Context, full bool, now time.Time) error {
	d := w.table.delta(full, now)
	if !full && len(d.Set)+len(d.Gone)+len(d.Events) == 0 {
		return nil
	}
	return w.emit(ctx, d)
}

func (w *watch) emit(ctx context.Context, d correlate.Delta) error {
	d.Source = w.Name()
	for i := range d.Events {
		d.Events[i].Source = d.Source
	}
	return w.sink.Emit(ctx, d)
}

// wantedAtMost links wait to be asked for. Further ones are left to the next list.
const wantedAtMost = 4096

// want notes that the details of a link may have changed.
func (w *watch) want(index int) {
	l := w.table.links[index]
	if !l.hardware() && l.kind != kindBond && !match(w.table.include, l.name) {
		return
	}
	q := asked{index, l.name}
	for _, have := range w.wanted {
		if have == q {
			return
		}
	}
	if len(w.wanted) < wantedAtMost {
		w.wanted = append(w.wanted, q)
	}
}

func (w *watch) answer(a answered) {
	if l, ok := w.table.links[a.index]; ok && l.name == a.name && w.table.details[a.index] != a.details {
		w.table.details[a.index] = a.details
		w.table.dirty[a.index] = true
	}
}
