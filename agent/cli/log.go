package cli

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
)

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// newLog writes at most so many lines of one event as a gate lets through. level can change while it is used.
func newLog(w io.Writer, c config.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(levels[c.Level])
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, options)
	if c.Format == "json" {
		h = slog.NewJSONHandler(w, options)
	}
	return slog.New(&bounded{next: h, gate: &gate{seen: make(map[line]*bucket)}})
}

// What repeats is written so often: of one event about one thing the first few lines and then one in a while; of one event about
// all things together the more. How many lines were not written says the next one that is.
const (
	fewLines   = 10
	oneLine    = 10 * time.Second // 6 a minute
	manyLines  = 100
	anyLine    = time.Second // 60 a minute
	maxBuckets = 4096
)

// about are the attributes that name what an event is about.
var about = map[string]bool{"subscription": true, "source": true, "host": true, "peer": true, "file": true, "part": true}

// bounded is a handler before which a gate stands.
type bounded struct {
	next  slog.Handler
	gate  *gate
	thing string // what the attributes of With say that it is about
}

// Enabled implements slog.Handler.
func (b *bounded) Enabled(ctx context.Context, level slog.Level) bool {
	return b.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (b *bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	other := &bounded{next: b.next.WithAttrs(attrs), gate: b.gate, thing: b.thing}
	for _, a := range attrs {
		other.thing = cmpThing(other.thing, a)
	}
	return other
}

// WithGroup implements slog.Handler.
func (b *bounded) WithGroup(name string) slog.Handler {
	return &bounded{next: b.next.WithGroup(name), gate: b.gate, thing: b.thing}
}

func cmpThing(thing string, a slog.Attr) string {
	if about[a.Key] {
		thing += "\x00" + a.Value.String()
	}
	return thing
}

// Handle implements slog.Handler. Of the audit log nothing is left out: it has a limit of its own, on what was refused. Who asks for
// debugging wants everything.
func (b *bounded) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == api.AuditEvent || r.Level < slog.LevelInfo {
		return b.next.Handle(ctx, r)
	}
	thing := b.thing
	r.Attrs(func(a slog.Attr) bool {
		thing = cmpThing(thing, a)
		return true
	})
	suppressed, ok := b.gate.pass(r.Message, thing, r.Time)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("suppressed", suppressed))
	}
	return b.next.Handle(ctx, r)
}

// line is one event about one thing; about all of them when thing is empty.
type line struct{ event, thing string }

// bucket is what may be written of a line: one more each gap, up to most.
type bucket struct {
	left       float64
	at         time.Time
	suppressed uint64
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

// pass reports whether a line may be written, and how many like it were not since the last.
func (g *gate) pass(event, thing string, now time.Time) (suppressed uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) >= maxBuckets {
		g.sweep(now)
	}
	all := g.bucket(line{event: event}, now, manyLines, anyLine)
	one := g.bucket(line{event, thing + "\x00"}, now, fewLines, oneLine)
	if all.left < 1 || one.left < 1 {
		one.suppressed++
		return 0, false
	}
	all.left--
	one.left--
	suppressed, one.suppressed = one.suppressed, 0
	return suppressed, true
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

// sweep forgets what is full again, and all when that is not enough: to forget lets more through, never less.
func (g *gate) sweep(now time.Time) {
	for l, b := range g.seen {
		if now.Sub(b.at) >= manyLines*oneLine && b.suppressed == 0 {
			delete(g.seen, l)
		}
	}
	if len(g.seen) >= maxBuckets {
		clear(g.seen)
	}
}
