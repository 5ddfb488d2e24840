package notify

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// mountTmpfs mounts a real file system of its own at a new directory; this needs root.
func mountTmpfs(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a tmpfs (run as root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// fill leaves no byte free on dir's file system.
func fill(t *testing.T, dir string) (path string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// TestADiskThatFillsUpStopsNoNotificationAndHeals: the file must grow, by its memory map too, where there is no room.
func TestADiskThatFillsUpStopsNoNotificationAndHeals(t *testing.T) {
	t.Parallel()
	dir := mountTmpfs(t, "4m")
	c := newConsumer(t, nil)
	cfg, r := testConfig(t, dir)
	n, stop := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a0", 1, correlate.Raised)))
	c.waitFor(t, 1)
	eventually(t, "the first is settled", func() bool { return len(n.Deliveries("")) == 0 })
	ballast := fill(t, dir)
	const alarms = 400
	for i := 1; i <= alarms; i++ {
		n.Publish(effects(alarm(fmt.Sprint("a", i), uint64(i+1), correlate.Raised, make([]string, 10)...)))
	}
	c.waitFor(t, alarms+1)
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondOutbox) == correlate.StatusFailed })
	if ok, why := n.Durable(); ok || why == "" {
		t.Error("said to be durable")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it heals", func() bool { return r.last(correlate.CondOutbox) == correlate.StatusOK })
	stop()
	if bad, _ := filepath.Glob(filepath.Join(dir, "*.bad-*")); len(bad) > 0 {
		t.Errorf("a full disk was taken for damage: %v", bad)
	}
	n, stop = start(t, cfg, fileSub("a", c.URL))
	if got := len(n.Restored().Alarms); got != alarms+1 {
		t.Errorf("%d alarms came back, want %d", got, alarms+1)
	}
	if got := len(c.messages()); got != alarms+1 {
		t.Errorf("%d messages, want %d: what was told is told again", got, alarms+1)
	}
	stop()
}

// TestAnAgentThatStartsOnABadDiskRemembers: what the last run left can be read, though nothing can be written.
func TestAnAgentThatStartsOnABadDiskRemembers(t *testing.T) {
	for name, disk := range map[string]struct {
		spoil, mend func(t *testing.T, dir string)
	}{
		"read-only": {
			func(t *testing.T, dir string) { remount(t, dir, syscall.MS_RDONLY) },
			func(t *testing.T, dir string) { remount(t, dir, 0) },
		},
		"full": {
			func(t *testing.T, dir string) { fill(t, dir) },
			func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "ballast")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := mountTmpfs(t, "4m")
			c := newConsumer(t, nil)
			cfg, _ := testConfig(t, dir)
			n, stop := start(t, cfg, fileSub("a", c.URL))
			n.Publish(effects(alarm("a1", 1, correlate.Raised)))
			c.waitFor(t, 1)
			eventually(t, "it is settled", func() bool { return len(n.Deliveries("")) == 0 })
			stop()

			disk.spoil(t, dir)
			cfg, r := testConfig(t, dir)
			n, stop = start(t, cfg, fileSub("a", c.URL))
			if got := n.Restored(); len(got.Alarms) != 1 || got.Term <= 2 {
				t.Errorf("restored %+v", got)
			}
			n.Publish(effects(alarm("a2", 2, correlate.Raised)))
			if m := c.waitFor(t, 2)[1]; m.event.Data.Alarm.ID != "a2" {
				t.Errorf("told again: %s", m.body)
			}
			if name == "read-only" { // a full disk may have room within the file
				eventually(t, "it is reported", func() bool { return r.last(correlate.CondOutbox) == correlate.StatusFailed })
			}
			disk.mend(t, dir)
			eventually(t, "it heals", func() bool { ok, _ := n.Durable(); return ok })
			stop()
			n, stop = start(t, cfg, fileSub("a", c.URL))
			if got := n.Restored(); len(got.Alarms) != 2 {
				t.Errorf("%d alarms came back, want 2", len(got.Alarms))
			}
			stop()
		})
	}
}

// TestARevisionAndWhatIsOwedOfItShareACommit: two commits would be two fsyncs on the way to the wire, and a crash could part them.
func TestARevisionAndWhatIsOwedOfItShareACommit(t *testing.T) {
	release := make(chan struct{})
	c := newConsumer(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	cfg, _ := testConfig(t, t.TempDir())
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var commits []int
	n.box.observe = func(records int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		commits = append(commits, records)
	}
	const subs = 100
	var all []Subscription
	for i := range subs {
		all = append(all, fileSub(fmt.Sprint("s", i), c.URL))
	}
	if err := n.SetFile(all); err != nil {
		t.Fatal(err)
	}
	run(t, n)
	read := func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(commits)
	}
	eventually(t, "the subscriptions are committed", func() bool { return slices.Equal(read(), []int{subs}) })
	for i := range uint64(5) { // fewer than may be in flight: none is settled
		before := len(read())
		n.Publish(effects(alarm(fmt.Sprint("a", i), i+1, correlate.Raised)))
		c.waitFor(t, subs*int(i+1))
		eventually(t, "it is committed", func() bool {
			sum := 0
			for _, r := range read()[before:] {
				sum += r
			}
			return sum > subs
		})
		if got := read()[before:]; !slices.Equal(got, []int{subs + 1}) {
			t.Errorf("records by commit: %v", got)
		}
	}
}

// TestAClearedAlarmThatACrashLeftBehindIsForgotten: its last delivery was settled, and the process died before it was removed.
func TestAClearedAlarmThatACrashLeftBehindIsForgotten(t *testing.T) {
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	o, _, err := openOutbox(dir, time.Now, cfg.Log, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.put(write{place{shelfAlarms, "a1"}, alarmRecord{Alarm: alarm("a1", 2, correlate.Cleared)}})
	o.commit()
	o.closeQuietly()
	_, stop := start(t, cfg, fileSub("a", "http://127.0.0.1:1"))
	stop()
	if _, l, err := openOutbox(dir, time.Now, cfg.Log, nil); err != nil || len(l.alarms) != 0 {
		t.Fatalf("%v: %d alarms", err, len(l.alarms))
	}
}

// TestADiskThatDoesNotAnswerIsReportedAndDelaysNobody: a write transaction that never ends stands in for the fdatasync
// that does not return.
func TestADiskThatDoesNotAnswerIsReportedAndDelaysNobody(t *testing.T) {
	t.Parallel()
	c := newConsumer(t, nil)
	cfg, r := testConfig(t, t.TempDir())
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.box.patience = 10 * time.Millisecond
	if err := n.SetFile([]Subscription{fileSub("a", c.URL)}); err != nil {
		t.Fatal(err)
	}
	blocking, err := n.box.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	run(t, n)
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondOutbox) == correlate.StatusFailed })
	if ok, why := n.Durable(); ok || why == "" {
		t.Error("said to be durable")
	}
	if err := blocking.Rollback(); err != nil {
		t.Fatal(err)
	}
	// For good, once no later commit takes that long: a loaded machine has some.
	eventually(t, "the report ends, and it is durable", func() bool {
		ok, _ := n.Durable()
		return ok && r.last(correlate.CondOutbox) == correlate.StatusOK
	})
}
