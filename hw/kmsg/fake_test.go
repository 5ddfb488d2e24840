package kmsg

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func newSource(t testing.TB, c Config) (*Source, hw.Root) {
	t.Helper()
	dir := t.TempDir()
	c.Host, c.Root = host, hw.Root{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys")}
	put(t, c.Root.ProcPath("sys", "kernel", "random", "boot_id"), "this\n")
	put(t, c.Root.ProcPath("uptime"), "60.00 10.0\n")
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, c.Root
}

func newReader(s *Source) *reader {
	return &reader{Source: s, told: make(map[faultKey]time.Time), memcg: make(map[string]string)}
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func spell(events []correlate.Event) string {
	var words []string
	for _, e := range events {
		words = append(words, string(e.Resource)+" "+string(e.Condition))
	}
	return strings.Join(words, ", ")
}

// fakeLog gives one record a read, or the error that a record names, and then blocks as the device does.
type fakeLog struct {
	records  []string
	deadline time.Time
	closed   chan struct{}
	once     sync.Once
}

func newLog(records ...string) *fakeLog {
	return &fakeLog{records: records, closed: make(chan struct{})}
}

func (f *fakeLog) Read(p []byte) (int, bool, error) {
	if len(f.records) == 0 {
		select {
		case <-f.closed:
			return 0, true, os.ErrClosed
		case <-f.late():
			return 0, true, os.ErrDeadlineExceeded
		}
	}
	next := f.records[0]
	f.records = f.records[1:]
	switch next {
	case "EPIPE":
		return 0, false, syscall.EPIPE
	case "EINVAL":
		return 0, false, syscall.EINVAL
	}
	return copy(p, next+"\n"), false, nil
}

func (f *fakeLog) SetReadDeadline(t time.Time) error {
	f.deadline = t
	return nil
}

func (f *fakeLog) late() <-chan time.Time {
	if f.deadline.IsZero() {
		return nil
	}
	return time.After(time.Until(f.deadline))
}

func (f *fakeLog) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// follow runs the source over a log until it has read all of it.
func follow(t *testing.T, s *Source, records ...string) *ledger {
	t.Helper()
	s.open = func() (recordLog, error) { return newLog(slices.Clone(records)...), nil }
	l, stop := start(t, s)
	synctest.Wait()
	stop()
	return l
}

func start(t testing.TB, s *Source) (*ledger, func()) {
	t.Helper()
	l := newLedger()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	return l, func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
}

// ledger is a sink that keeps what it is told.
type ledger struct {
	mu     sync.Mutex
	deltas []correlate.Delta
	health []hw.Health
	news   chan struct{}
}

func newLedger() *ledger { return &ledger{news: make(chan struct{}, 4096)} }

func (l *ledger) Emit(_ context.Context, d correlate.Delta) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deltas = append(l.deltas, d)
	select {
	case l.news <- struct{}{}:
	default:
	}
	return nil
}

func (l *ledger) Health(h hw.Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = append(l.health, h)
}

func (l *ledger) lastHealth() hw.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.health) == 0 {
		return hw.Health{}
	}
	return l.health[len(l.health)-1]
}

func (l *ledger) events() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []correlate.Event
	for _, d := range l.deltas {
		all = append(all, d.Events...)
	}
	return spell(all)
}
