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
	log, gate := newLog(&out, config.Log{Level: "info", Format: "text"}, new(slog.LevelVar))
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

	if err := gate.releaseAll(now); err != nil {
		t.Fatal(err)
	}
	if n := lines(); n != times+1 { // noisy is the further one
		t.Errorf("at the end %d of the last words about %d consumers were written", n, times+1)
	}

	out.Reset()
	for range times {
		say(log.Handler(), "audit", slog.String("who", "ops"))
	}
	if n := lines(); n != times {
		t.Errorf("%d of %d lines of the audit log were written", n, times)
	}
}

// What was held back last is written when there is room: a log does not end with the opposite of what is true.
func TestTheLastWordOfAFloodIsWritten(t *testing.T) {
	var out bytes.Buffer
	log, gate := newLog(&out, config.Log{Level: "info", Format: "text"}, new(slog.LevelVar))
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	h := log.With("peer", "cmp-2").Handler()
	for i := range fewLines + 5 {
		r := slog.NewRecord(now, slog.LevelWarn, "trouble with a peer", 0)
		r.AddAttrs(slog.Int("count", i))
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Millisecond)
	}
	release := func() string {
		t.Helper()
		out.Reset()
		if err := gate.release(now); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := release(); got != "" {
		t.Errorf("without room it writes %s", got)
	}
	now = now.Add(oneLine)
	if got, want := release(), fmt.Sprintf("peer=cmp-2 count=%d suppressed=4\n", fewLines+4); !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("with room it writes %q, not %q", got, want)
	}
	now = now.Add(time.Hour)
	if got := release(); got != "" {
		t.Errorf("it writes again: %s", got)
	}
	if err := gate.releaseAll(now); err != nil || out.Len() > 0 {
		t.Errorf("at the end it writes again: %s (%v)", out.String(), err)
	}
}

// An event is about what its attributes name: of each id ten lines, but not of each notification to one subscription.
func TestAnEventIsAboutWhatItNames(t *testing.T) {
	page, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{
		"subscription": 2 * fewLines, "source": 2 * fewLines, "host": 2 * fewLines, "peer": 2 * fewLines, "file": 2 * fewLines, "part": 2 * fewLines,
		"alarm": 2 * fewLines, "mute": 2 * fewLines, "notification": 2 * fewLines, "subscription_id": 2 * fewLines, "error": fewLines, "": fewLines,
	} {
		var out bytes.Buffer
		log, _ := newLog(&out, config.Log{Level: "info", Format: "text"}, new(slog.LevelVar))
		for i := range 6 * fewLines {
			if key == "" {
				log.Warn("an event", "subscription", "a", "notification", i)
			} else {
				log.Warn("an event", key, i%2)
			}
		}
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("of two that %q names there are %d lines, want %d", key, got, want)
		}
		if _, rules, _ := strings.Cut(string(page), "What repeats does not fill the disk"); key != "" && key != "error" && !strings.Contains(rules[:strings.Index(rules, "\n\n")], "`"+key+"`") {
			t.Errorf("docs/logs.md does not say that an event is about what %s names", key)
		}
	}
}

// What the gate remembers is bounded, however many things there are.
func TestTheGateForgets(t *testing.T) {
	g := &gate{seen: make(map[line]*bucket)}
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	for i := range 3 * maxBuckets {
		g.pass(fmt.Sprint(i), slog.NewRecord(now, slog.LevelWarn, "event", 0), slog.DiscardHandler)
		if len(g.seen) > maxBuckets+2 {
			t.Fatalf("%d are remembered", len(g.seen))
		}
	}
}

// docs/logs.md shows a line as it is written.
func TestTheLineOfTheManualIsOne(t *testing.T) {
	var out bytes.Buffer
	log, _ := newLog(&out, config.Log{Level: "info", Format: "json"}, new(slog.LevelVar))
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
