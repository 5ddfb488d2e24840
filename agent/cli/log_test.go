package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
)

// A consumer that fails a thousand times a minute writes some lines, others are heard beside it, and nothing is lost track of.
func TestALogIsNotFloodedByWhatRepeats(t *testing.T) {
	var out bytes.Buffer
	log := newLog(&out, config.Log{Level: "info", Format: "text"}, new(slog.LevelVar))
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	say := func(h slog.Handler, event string, attrs ...slog.Attr) {
		t.Helper()
		r := slog.NewRecord(now, slog.LevelWarn, event, 0)
		r.AddAttrs(attrs...)
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	lines := func() int { return strings.Count(out.String(), "\n") }

	const times = 1000
	for range times {
		say(log.Handler(), "a delivery is parked", slog.String("subscription", "noisy"))
		now = now.Add(time.Minute / times)
	}
	if n := lines(); n < fewLines || n > fewLines+6 {
		t.Errorf("one consumer has written %d lines in a minute, want %d to %d:\n%s", n, fewLines, fewLines+6, out.String())
	}
	told, written := 0, lines()
	for line := range strings.Lines(out.String()) {
		if _, n, ok := strings.Cut(line, "suppressed="); ok {
			var k int
			if _, err := fmt.Sscan(n, &k); err != nil {
				t.Fatal(err)
			}
			told += k
		}
	}
	out.Reset()
	now = now.Add(time.Hour)
	say(log.Handler(), "a delivery is parked", slog.String("subscription", "noisy"))
	var last int
	if _, n, _ := strings.Cut(out.String(), "suppressed="); n == "" {
		t.Errorf("the line behind a flood does not say how many were left out: %s", out.String())
	} else if _, err := fmt.Sscan(n, &last); err != nil || written+told+last != times {
		t.Errorf("%d lines written, %d and %d said to be left out, of %d (%v)", written, told, last, times, err)
	}

	out.Reset()
	for range 50 {
		say(log.Handler(), "a delivery is parked", slog.String("subscription", "noisy"))
	}
	say(log.Handler(), "a delivery is parked", slog.String("subscription", "other"))
	say(log.With("source", "nic").Handler(), "a source runs again")
	for _, want := range []string{"subscription=other", "source=nic"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("beside a flood nothing of %s is written:\n%s", want, out.String())
		}
	}

	out.Reset()
	for i := range times { // a thousand consumers at once
		say(log.Handler(), "a delivery is parked", slog.String("subscription", fmt.Sprint("s", i)))
	}
	if n := lines(); n == 0 || n > manyLines {
		t.Errorf("a thousand consumers have written %d lines at once, want 1 to %d", n, manyLines)
	}

	out.Reset()
	for range times {
		say(log.Handler(), "audit", slog.String("who", "ops"))
	}
	if n := lines(); n != times {
		t.Errorf("%d of %d lines of the audit log were written", n, times)
	}
}

// What the gate remembers is bounded, however many things there are.
func TestTheGateForgets(t *testing.T) {
	g := &gate{seen: make(map[line]*bucket)}
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	for i := range 3 * maxBuckets {
		g.pass("event", fmt.Sprint(i), now)
		if len(g.seen) > maxBuckets+2 {
			t.Fatalf("%d are remembered", len(g.seen))
		}
	}
}

// docs/logs.md shows a line as it is written.
func TestTheLineOfTheManualIsOne(t *testing.T) {
	var out bytes.Buffer
	log := newLog(&out, config.Log{Level: "info", Format: "json"}, new(slog.LevelVar))
	r := slog.NewRecord(time.Date(2026, 11, 29, 10, 0, 0, 123456789, time.UTC), slog.LevelWarn, "a delivery is parked", 0)
	r.AddAttrs(slog.String("subscription", "vnfm-a"), slog.String("notification", "3f9c0d7e"), slog.Int("attempts", 1), slog.String("error", "answered 400 Bad Request"))
	if err := log.Handler().Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "<!-- captured: json -->\n```json\n" + out.String() + "```\n"; !strings.Contains(string(page), want) {
		t.Errorf("docs/logs.md has not:\n%s", want)
	}
}
