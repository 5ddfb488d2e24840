package notify

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// TestWhatWasToldBeforeASlowDiskTookItIsClearedAfterAKill: the commit has not begun, or has not come back, when the process is
// killed; what the kernel has of its files is what the next run finds.
func TestWhatWasToldBeforeASlowDiskTookItIsClearedAfterAKill(t *testing.T) {
	c := newConsumer(t, nil)
	dir := t.TempDir()
	sub := fileSub("a", c.URL)
	cfg, _ := testConfig(t, dir)
	n, stop := start(t, cfg, sub)
	n.Publish(effects(alarm("old", 1, correlate.Raised)))
	c.waitFor(t, 1)
	settledAll(t, n)
	n.box.await(t.Context(), n.box.put(), durableWait)
	n.box.writer.Lock() // the disk is slow
	n.Publish(effects(alarm("a1", 2, correlate.Raised), alarm("old", 3, correlate.Cleared)))
	c.waitFor(t, 3)
	eventually(t, "the kernel has it", func() bool {
		b := readTail(filepath.Join(dir, dbName), n.box.runID).batch
		_, known := b[place{shelfAlarms, "a1"}]
		gone, over := b[place{shelfAlarms, "old"}]
		return known && over && gone == nil // its clear is told, so it is forgotten
	})
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n.box.writer.Unlock()
	stop()
	if left, err := filepath.Glob(filepath.Join(dir, "*.tail-*")); err != nil || len(left) > 0 {
		t.Errorf("a clean stop leaves %v %v", left, err)
	}

	cfg, _ = testConfig(t, killed)
	n, stop = start(t, cfg, sub)
	r := n.Restored()
	if r.Term != 4 || len(r.Alarms) != 1 || r.Alarms[0].ID != "a1" {
		t.Fatalf("%+v", r)
	}
	a := alarm("a1", 1, correlate.Cleared)
	a.Revision.Term = 4
	n.Publish(effects(a))
	eventually(t, "the clear is told", func() bool { return slices.Contains(c.revisions("a1"), "4.1") })
	if got := c.revisions("old"); len(got) != 2 {
		t.Errorf("what was over is told again: %v", got)
	}
	settledAll(t, n)
	stop()
}

// TestAFileBesideTheOutboxCountsOnlyWhenItIsNewer than what is committed, and of the same run.
func TestAFileBesideTheOutboxCountsOnlyWhenItIsNewer(t *testing.T) {
	batch := func(r any) map[place]any { return map[place]any{{shelfPairs, "s\x00a"}: r} }
	for name, c := range map[string]struct {
		change func(newest, older *tail)
		want   string // LastError of the pair
	}{
		"newer":                {func(_, _ *tail) {}, "tail"},
		"of another run":       {func(n, o *tail) { n.run++; o.run++ }, "committed"},
		"one left by a run":    {func(n, _ *tail) { n.run++ }, "older"}, // which wrote more of them than the one after it
		"committed":            {func(n, o *tail) { n.seq--; o.seq-- }, "committed"},
		"the older, committed": {func(_, o *tail) { o.seq-- }, "tail"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o, _, err := openOutbox(dir, time.Now, discard, nil)
			if err != nil {
				t.Fatal(err)
			}
			o.stage(writesOf(batch(pairRecord(delivery.Record{AlarmID: "a", LastError: "committed"})))...)
			o.commit()
			// Two that were left.
			newest := tail{number: 7, run: o.runID, seq: o.seq, batch: batch(pairRecord(delivery.Record{AlarmID: "a", LastError: "tail"}))}
			older := newest
			older.number, older.batch = 6, batch(pairRecord(delivery.Record{AlarmID: "a", LastError: "older"}))
			c.change(&newest, &older)
			for _, x := range []tail{newest, older} {
				if err := x.write(tailPath(o.path, x.number)); err != nil {
					t.Fatal(err)
				}
			}
			o.closeQuietly()
			o, l, err := openOutbox(dir, time.Now, discard, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer o.closeQuietly()
			if p := l.pairs["s"]; len(p) != 1 || p[0].LastError != c.want {
				t.Errorf("%+v, want %q", p, c.want)
			}
		})
	}
}

func writesOf(batch map[place]any) (all []write) {
	for p, r := range batch {
		all = append(all, write{p, r})
	}
	return all
}

func FuzzDecodeTail(f *testing.F) {
	whole, err := tail{number: 1, run: 2, seq: 3, batch: map[place]any{
		{shelfAlarms, "a"}: alarmRecord{Alarm: alarm("a", 1, correlate.Raised)}, {shelfPairs, "s\x00a"}: nil,
	}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(slices.Clone(whole), "of an earlier, longer one"...))
	f.Add(whole[:len(whole)-1])
	f.Add(append(slices.Clone(whole[:32]), make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeTail(b)
		if err != nil {
			return
		}
		again, err := got.encode()
		if err != nil {
			return // too big to be one of ours
		}
		same, err := decodeTail(again)
		if err != nil || !slices.Equal(slices.Sorted(maps.Values(keysOf(got))), slices.Sorted(maps.Values(keysOf(same)))) {
			t.Errorf("%v %v %v", err, got, same)
		}
	})
}

func keysOf(t tail) map[place]string {
	all := map[place]string{}
	for p, r := range t.batch {
		raw, _ := r.(rawRecord)
		all[p] = p.key + string(raw)
	}
	return all
}
