package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
)

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// newLog writes at most so many lines of one event as a gate lets through. level can change while it is used. Whoever makes it calls
// release on the gate now and then, and releaseAll at the end.
func newLog(w io.Writer, c config.Log, level *slog.LevelVar) (*slog.Logger, *gate) {
	level.Set(levels[c.Level])
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, options)
	if c.Format == "json" {
		h = slog.NewJSONHandler(w, options)
	}
	g := &gate{seen: make(map[line]*bucket)}
	return slog.New(&bounded{next: h, gate: g}), g
}

// What repeats is written so often: of one event about one thing the first few lines and then one in a while; of one event about
// all things together the more. How many lines were not written says the next one that is; the last of them is kept and written when
// there is room again, so that the log does not end with what is true no more.
const (
	fewLines   = 10
	oneLine    = 10 * time.Second // 6 a minute
	manyLines  = 100
	anyLine    = time.Second // 60 a minute
	maxBuckets = 4096
)

// about are the attributes that name what an event is about; ids do where none of these is.
var (
	about = map[string]bool{"subscription": true, "source": true, "host": true, "peer": true, "file": true, "part": true}
	ids   = map[string]bool{"alarm": true, "mute": true, "notification": true, "subscription_id": true}
)

// thing is what attributes say that an event is about.
type thing struct{ name, id string }

func (t thing) with(a slog.Attr) thing {
	switch {
	case about[a.Key]:
		t.name += "\x00" + a.Key + "\x00" + a.Value.String()
	case ids[a.Key]:
		t.id += "\x00" + a.Key + "\x00" + a.Value.String()
	}
	return t
}

// bounded is a handler before which a gate stands.
type bounded struct {
	next  slog.Handler
	gate  *gate
	about thing // what the attributes of With say
}

// Enabled implements slog.Handler.
func (b *bounded) Enabled(ctx context.Context, level slog.Level) bool {
	return b.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (b *bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	other := &bounded{next: b.next.WithAttrs(attrs), gate: b.gate, about: b.about}
	for _, a := range attrs {
		other.about = other.about.with(a)
	}
	return other
}

// WithGroup implements slog.Handler.
func (b *bounded) WithGroup(name string) slog.Handler {
	return &bounded{next: b.next.WithGroup(name), gate: b.gate, about: b.about}
}

// Handle implements slog.Handler. Of the audit log nothing is left out: it has a limit of its own, on what was refused. Who asks for
// debugging wants everything.
func (b *bounded) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == api.AuditEvent || r.Level < slog.LevelInfo {
		return b.next.Handle(ctx, r)
	}
	what := b.about
	r.Attrs(func(a slog.Attr) bool {
		what = what.with(a)
		return true
	})
	suppressed, ok := b.gate.pass(cmp.Or(what.name, what.id), r, b.next)
	if !ok {
		return nil
	}
	return write(ctx, b.next, r, suppressed)
}

func write(ctx context.Context, h slog.Handler, r slog.Record, suppressed uint64) error {
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("suppressed", suppressed))
	}
	return h.Handle(ctx, r)
}

// line is one event about one thing; about all of them when thing is empty.
type line struct{ event, thing string }

// bucket is what may be written of a line: one more each gap, up to most.
type bucket struct {
	left       float64
	at         time.Time
	suppressed uint64 // since the last that was written, held among them
	held       slog.Record
	to         slog.Handler // of held
}

func (b *bucket) fill(now time.Time, most int, gap time.Duration) {
	b.left = min(float64(most), b.left+max(0, now.Sub(b.at).Seconds())/gap.Seconds())
	b.at = now
}

// gate is safe for concurrent use.
type gate struct {
	mu   sync.Mutex
	seen map[line]*bucket
}

// pass reports whether a record about a thing may be written, and how many like it were not since the last. One that may not is kept
// for its handler, in place of that before.
func (g *gate) pass(thing string, r slog.Record, to slog.Handler) (suppressed uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	event, now := r.Message, r.Time
	if len(g.seen) >= maxBuckets {
		g.sweep(now)
	}
	all := g.bucket(line{event: event}, now, manyLines, anyLine)
	one := g.bucket(line{event, thing + "\x00"}, now, fewLines, oneLine)
	if all.left < 1 || one.left < 1 {
		one.suppressed++
		one.held, one.to = r.Clone(), to
		return 0, false
	}
	all.left--
	one.left--
	suppressed, one.suppressed = one.suppressed, 0
	one.held, one.to = slog.Record{}, nil
	return suppressed, true
}

// release writes the kept lines for which there is room by now, the oldest first.
func (g *gate) release(now time.Time) error { return g.write(now, false) }

// releaseAll writes every kept line.
func (g *gate) releaseAll(now time.Time) error { return g.write(now, true) }

// write holds the lock while it writes: a newer line about the same comes after the kept one.
func (g *gate) write(now time.Time, every bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var kept []line
	for l, b := range g.seen {
		if b.to != nil {
			kept = append(kept, l)
		}
	}
	slices.SortFunc(kept, func(x, y line) int { return g.seen[x].held.Time.Compare(g.seen[y].held.Time) })
	var errs []error
	for _, l := range kept {
		all := g.bucket(line{event: l.event}, now, manyLines, anyLine)
		one := g.bucket(l, now, fewLines, oneLine)
		if !every && (all.left < 1 || one.left < 1) {
			continue
		}
		all.left--
		one.left--
		r, to, others := one.held, one.to, one.suppressed-1
		one.held, one.to, one.suppressed = slog.Record{}, nil, 0
		if ctx := context.Background(); to.Enabled(ctx, r.Level) {
			errs = append(errs, write(ctx, to, r, others))
		}
	}
	return errors.Join(errs...)
}

func (g *gate) bucket(l line, now time.Time, most int, gap time.Duration) *bucket {
	b := g.seen[l]
	if b == nil {
		b = &bucket{left: float64(most), at: now}
		g.seen[l] = b
	}
	b.fill(now, most, gap)
	return b
}

// sweep forgets what is full again, then what keeps no line, and all when that is not enough: to forget lets more through.
func (g *gate) sweep(now time.Time) {
	for l, b := range g.seen {
		if now.Sub(b.at) >= manyLines*oneLine && b.suppressed == 0 {
			delete(g.seen, l)
		}
	}
	if len(g.seen) >= maxBuckets {
		maps.DeleteFunc(g.seen, func(_ line, b *bucket) bool { return b.to == nil })
	}
	if len(g.seen) >= maxBuckets {
		clear(g.seen)
	}
}
