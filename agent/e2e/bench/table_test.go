package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goTestOutput = `goos: linux
pkg: github.com/paramedic-ha/paramedic/correlate
BenchmarkStep/uplink_of_50_domains_of_1000-2     	  172 	   6932.5 ns/op	    4211 B/op	      12 allocs/op
BenchmarkStep/uplink_of_1000_domains-2           	  7 	   153000 ns/op
PASS
ok  	github.com/paramedic-ha/paramedic/correlate	12.1s
pkg: github.com/paramedic-ha/paramedic/notify
BenchmarkPublish/1_subscriptions-2  	   55 	 0.5 ns/op	 408123 changes/s
2026/11/29 09:00:00 a line of somebody's log
BenchmarkPublishToWire-2  	   1000 	 812 p50-us	 2950 p99-us
`

func TestBenchmarksAreRowsOfTheTable(t *testing.T) {
	list, err := parseBenchmarks(goTestOutput)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, m := range list {
		got.WriteString(m.row().String())
	}
	want := `| Step: uplink of 50 domains of 1000 (correlate) | 172 | | | 6.93 µs, 12 allocations | ≤ 50 µs | held |
| Step: uplink of 1000 domains (correlate) | 7 | | | 153 µs | | |
| Publish: 1 subscriptions (notify) | 55 | | | 408 123 /s | | |
| PublishToWire (notify) | 1000 | 0.81 | 2.95 | | | |
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	if _, err := parseBenchmarks("BenchmarkStep-2 many 1 ns/op\n"); err == nil {
		t.Error("a line that can't be read gave no error")
	}
}

func TestTable(t *testing.T) {
	var watched bytes.Buffer
	r := &report{progress: &watched}
	at := time.Date(2026, 11, 29, 9, 20, 0, 0, time.UTC)
	r.section("Carrier lost | found", machine{at, "0.10"})
	r.sections[0].after = "0.25"
	ms := func(all ...float64) (s spread) {
		for _, f := range all {
			s = append(s, time.Duration(f*1e6))
		}
		return s
	}
	r.times("**paramedic**", ms(3, 1, 2), aim{99, 3 * time.Millisecond})
	r.times("too late", ms(1, 2, 1200), aim{100, time.Second})
	r.times("nothing came", nil, aim{99, time.Second})
	r.times("floor", ms(0.5))
	r.atMost("memory", 23.96, "MB", 40)
	r.atMost("wrong calls", 1, "", 0)
	r.atMost("times", 1.125, "", 1.5)
	r.atLeast("events", 408_000, "/s", 20_000)
	r.atLeast("too few", 19_000, "/s", 20_000)
	r.flat("from 10 to 50", 1.42)
	table := table{about: "About.", sections: r.sections}
	want := `About.

| what | n | p50 | p99 | max, or the figure | aim | |
|---|--:|--:|--:|--:|---|---|
| **Carrier lost \| found** (09:20, load 0.10 to 0.25) | | | | | | |
| **paramedic** | 3 | 2.00 | 3.00 | 3.00 | p99 ≤ 3.00 | held |
| too late | 3 | 2.00 | 1200 | 1200 | longest ≤ 1000 | **missed** |
| nothing came | | 0.00 | 0.00 | 0.00 | p99 ≤ 1000 | **missed** |
| floor | 1 | 0.50 | 0.50 | 0.50 | | |
| memory | | | | 24.0 MB | ≤ 40 MB | held |
| wrong calls | | | | 1 | ≤ 0 | **missed** |
| times | | | | 1.12 | ≤ 1.50 | held |
| events | | | | 408 000 /s | ≥ 20 000 /s | held |
| too few | | | | 19 000 /s | ≥ 20 000 /s | **missed** |
| from 10 to 50 | | | | +42 % | within 20 % | **missed** |
`
	if got := table.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if rows := strings.Count(watched.String(), "\n"); rows != 12 { // an empty line and the head of the section
		t.Errorf("who watches saw %d lines:\n%s", rows, watched.String())
	}
}

// The page of the manual has a place for the table, and what stands around it is left as it is.
func TestTheTableIsPutIntoThePage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first\n\n| a |\n", "second"} { // the second in the place of the first
		if err := update(file, text); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(page), tableBegins)
	_, after, _ := strings.Cut(rest, tableEnds)
	if want := before + tableBegins + "\nsecond\n" + tableEnds + after; string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if before == "" || after == "" {
		t.Error("docs/performance.md is nothing but the table")
	}
	for _, bad := range []string{"", tableBegins + "\n", tableEnds + "\n" + tableBegins + "\n", tableBegins + "\n" + tableBegins + "\n" + tableEnds + "\n"} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := update(file, ""); !errors.Is(err, errNoMarkers) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The table of the page is one that this program made, whole.
func TestThePageHasAWholeTable(t *testing.T) {
	page, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), tableBegins)
	text, _, _ := strings.Cut(rest, tableEnds)
	_, rows, ok := strings.Cut(text, tableHead)
	if !ok {
		t.Fatalf("no table of this form: %s", text)
	}
	for line := range strings.Lines(rows) {
		if strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 8 {
			t.Errorf("not a row: %s", line)
		}
		if strings.Contains(line, "**failed**") {
			t.Errorf("a part failed: %s", line)
		}
	}
	for _, part := range []string{"Carrier lost → callback", "told by paramedic and by Prometheus", "qemu killed", "at rest", "consumers", "engine and outbox", "go test -bench"} {
		if !strings.Contains(rows, part) {
			t.Errorf("the table lacks %s", part)
		}
	}
}

func TestCommandOfATable(t *testing.T) {
	for args, want := range map[string]string{
		"":                                    "make bench",
		"-update docs/performance.md":         "make bench",
		"-short --update=docs/performance.md": "make bench SHORT=1",
		"-short -faults 10":                   "go run ./agent/e2e/bench -short -faults 10",
		"-only link":                          "go run ./agent/e2e/bench -only link",
	} {
		if got := command(strings.Fields(args)); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func TestWhatCannotBeMeasuredIsSaidAtOnce(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "page.md")
	for _, p := range []plan{{only: "everything"}, {only: "link", update: missing}, {update: missing}} {
		if err := run(context.Background(), p, &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v: no error", p)
		}
	}
}
