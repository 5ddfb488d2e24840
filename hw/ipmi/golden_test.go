package ipmi

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// fixture is a file of bytes, by section, and what is read from them.
type fixture struct {
	path                         string
	archive                      *txtar.Archive
	records, events, inventories [][]byte
}

func fixtures(t testing.TB) []fixture {
	t.Helper()
	paths, err := filepath.Glob("testdata/decode/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	var all []fixture
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		f := fixture{path: p, archive: a}
		for _, s := range a.Files {
			switch s.Name {
			case "records":
				f.records = hexLines(t, s.Data)
			case "events":
				f.events = hexLines(t, s.Data)
			case "inventories":
				f.inventories = hexLines(t, s.Data)
			}
		}
		all = append(all, f)
	}
	return all
}

// hexLines reads bytes, a line each; # begins a comment.
func hexLines(t testing.TB, text []byte) (all [][]byte) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.ReplaceAll(strings.TrimSpace(line), " ", ""); line == "" {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, b)
	}
	return all
}

func TestRecordedBytesAreReadAsTheyWere(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(filepath.Base(f.path), func(t *testing.T) {
			var got strings.Builder
			p, errs := decodeRecords(f.records)
			writeParts(&got, &p, errs)
			for _, b := range f.events {
				if len(b) != len(logRecord{}) {
					t.Fatalf("% X is no record of an event log", b)
				}
				writeEvent(&got, decodeEvent(logRecord(b)))
			}
			for _, b := range f.inventories {
				writeInventory(&got, b)
			}
			checkGolden(t, f, got.String())
		})
	}
}

func checkGolden(t *testing.T, f fixture, got string) {
	t.Helper()
	at := -1
	for i, s := range f.archive.Files {
		if s.Name == "read" {
			at = i
		}
	}
	if *rewrite {
		if at < 0 {
			at, f.archive.Files = len(f.archive.Files), append(f.archive.Files, txtar.File{Name: "read"})
		}
		f.archive.Files[at].Data = []byte(got)
		if err := os.WriteFile(f.path, txtar.Format(f.archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if at < 0 {
		t.Fatalf("%s has no section read: go test ./hw/ipmi -rewrite", f.path)
	}
	if d := cmp.Diff(string(f.archive.Files[at].Data), got); d != "" {
		t.Errorf("%s (-was +is):\n%s", f.path, d)
	}
}

func writeParts(w *strings.Builder, p *parts, errs []error) {
	for _, s := range p.sensors {
		fmt.Fprintf(w, "sensor %02X/%d/%02X %q type %02X event %02X entity %s", s.owner, s.lun, s.num, s.name, s.kind, s.event, s.entity)
		for _, flag := range []struct {
			set  bool
			word string
		}{{s.eventOnly, "event-only"}, {s.skippable, "skippable"}, {s.logical, "logical"}} {
			if flag.set {
				fmt.Fprintf(w, " %s", flag.word)
			}
		}
		if s.states != 0 {
			fmt.Fprintf(w, " states %04X", s.states)
		}
		if s.numeric() {
			low, _ := s.conversion.value(0)
			fmt.Fprintf(w, " 0=%.6g", low)
			if v, ok := s.conversion.value(100); ok {
				fmt.Fprintf(w, " 100=%.6g", v)
			}
			fmt.Fprintf(w, " %s", s.unit)
		}
		for n := range thresholdCount {
			if raw, ok := s.thresholds.of(n); ok {
				v, _ := s.conversion.value(raw)
				fmt.Fprintf(w, ", %s %.6g", n, v)
			}
		}
		fmt.Fprintln(w)
	}
	for _, d := range p.devices {
		fmt.Fprintf(w, "device %02X %q entity %s address %02X logical %t\n", d.kind, d.name, d.entity, d.address, d.logical)
	}
	for _, g := range p.groups {
		fmt.Fprintf(w, "group %s of %v\n", g.container, g.members)
	}
	for _, err := range errs {
		fmt.Fprintf(w, "error %v\n", err)
	}
}

func writeEvent(w *strings.Builder, e logEvent) {
	fmt.Fprintf(w, "event %04X ", e.id)
	switch e.kind {
	case kindPlain, kindUnknown:
		fmt.Fprintf(w, "kind %d % X\n", e.kind, e.raw)
		return
	case kindStamped:
		fmt.Fprintf(w, "kind %d stamp %08X vendor %d % X\n", e.kind, uint32(e.stamp), e.vendor, e.raw)
		return
	case kindEvent:
	}
	fmt.Fprintf(w, "stamp %08X sensor %02X/%d/%02X type %02X event %02X offset %X", uint32(e.stamp), e.sensor.owner, e.sensor.lun, e.sensor.num, e.of, e.event, e.offset)
	if st, ok := e.state(); ok {
		fmt.Fprintf(w, ": %s (%s)", st.text, st.grade)
	}
	if _, rising, ok := e.threshold(); ok {
		fmt.Fprintf(w, " rising %t", rising)
	}
	if r, l, hasReading, hasLimit := e.measured(); hasReading || hasLimit {
		fmt.Fprintf(w, " reading %02X %t limit %02X %t", r, hasReading, l, hasLimit)
	}
	if d := e.detail(); d != "" {
		fmt.Fprintf(w, ", %s", d)
	}
	if e.ended {
		fmt.Fprint(w, ", over")
	}
	fmt.Fprintf(w, " software %t channel %d\n", e.software(), e.channel)
}

func writeInventory(w *strings.Builder, b []byte) {
	f, err := decodeInventory(b)
	if err != nil {
		fmt.Fprintf(w, "inventory error %v\n", err)
		if !errors.Is(err, errNoInventory) {
			panic(err)
		}
		return
	}
	fmt.Fprintf(w, "inventory chassis %q board %q %s product %q damaged %v\n",
		[]string{f.chassis.part, f.chassis.serial}, []string{f.board.maker, f.board.name, f.board.serial, f.board.part},
		f.board.made.Format(time.RFC3339), []string{f.product.maker, f.product.name, f.product.part, f.product.version, f.product.serial, f.product.asset}, f.damaged)
}
