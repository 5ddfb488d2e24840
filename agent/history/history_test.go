package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// alarm is the nth revision of one that was raised so many minutes after noon.
func alarm(id string, n int, last correlate.Transition, minute int) *correlate.Alarm {
	a := &correlate.Alarm{
		ID: id, Key: correlate.Key{Home: "cmp-1", Resource: "nic/eth0", Condition: correlate.CondCarrier},
		Revision: correlate.Revision{Term: 2, Counter: uint64(n)}, Last: last, Severity: correlate.SeverityMajor, Text: "no carrier",
	}
	a.Times.Raised = noon.Add(time.Duration(minute) * time.Minute)
	a.Times.Changed = a.Times.Raised.Add(time.Duration(n) * time.Second)
	if last == correlate.Cleared {
		a.Severity, a.ClearReason, a.Times.Cleared = correlate.SeverityCleared, correlate.ReasonRecovered, a.Times.Changed
	}
	return a
}

type setup struct {
	t   *testing.T
	cfg Config
	now time.Time
	log *bytes.Buffer
}

func newSetup(t *testing.T) *setup {
	s := &setup{t: t, now: noon.Add(time.Hour), log: new(bytes.Buffer)}
	s.cfg = Config{
		Dir: filepath.Join(t.TempDir(), "state"), MaxAlarms: 100, MaxAge: 24 * time.Hour,
		Log: slog.New(slog.NewTextHandler(s.log, nil)), Now: func() time.Time { return s.now },
	}
	return s
}

func (s *setup) open() *Store {
	h := New(s.cfg)
	h.Open()
	s.t.Cleanup(h.Close)
	return h
}

func everything(Entry) bool { return true }

func cleared(t *testing.T, s *Store) (ids []string) {
	t.Helper()
	all, err := s.Cleared(t.Context(), Position{}, 1000, everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		ids = append(ids, a.ID)
	}
	return ids
}

func steps(t *testing.T, s *Store, id string) (what []string) {
	t.Helper()
	e, known, err := s.Entry(t.Context(), id)
	if err != nil || !known {
		t.Fatalf("entry of %s: %v %v", id, known, err)
	}
	for _, step := range e.Steps {
		what = append(what, step.What)
	}
	return what
}

func TestWhatBecameOfAlarmsIsKnownAtOnceAndAfterARestart(t *testing.T) {
	s := newSetup(t)
	h := s.open()
	h.Note(alarm("a", 1, correlate.Raised, 0), "raised")
	h.Note(alarm("b", 2, correlate.Raised, 1), "raised")
	acked := alarm("a", 1, correlate.Raised, 0)
	acked.Ack = &correlate.Acknowledgement{By: "ops", Comment: "on my way", At: noon.Add(time.Second)}
	h.Note(acked, correlate.Acknowledged)
	h.write(t.Context())
	h.Note(alarm("a", 3, correlate.Changed, 0), "changed")
	h.Note(alarm("a", 4, correlate.Cleared, 0), "cleared")
	for _, when := range []string{"half of it written", "all of it written", "after a restart", "after a restart that nobody expected"} {
		if got := cleared(t, h); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: %v have ended", when, got)
		}
		if diff := cmp.Diff([]string{"raised", correlate.Acknowledged, "changed", "cleared"}, steps(t, h, "a")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		if got := steps(t, h, "b"); !slices.Equal(got, []string{"raised"}) || h.Ended()("b") || !h.Ended()("a") || !h.Stands("b") {
			t.Errorf("%s: b %v", when, got)
		}
		e, _, _ := h.Entry(t.Context(), "a")
		if e.Worst != correlate.SeverityMajor || e.Steps[1].By != "ops" || e.Steps[1].Text != "on my way" || e.Steps[3].Text != correlate.ReasonRecovered {
			t.Errorf("%s: %+v", when, e)
		}
		h.write(t.Context())
		switch when {
		case "all of it written":
			h.Close()
			h = s.open()
		case "after a restart":
			h.closeFile() // without the mark
			h = s.open()
		}
	}
	if h.Status().Problem != "" || s.log.Len() > 0 {
		t.Errorf("%s %s", h.Status().Problem, s.log)
	}
}

// A write may be said to have failed and be on the disk nevertheless; then it comes again.
func TestWhatIsWrittenTwiceIsOnce(t *testing.T) {
	s := newSetup(t)
	h := s.open()
	h.Note(alarm("a", 1, correlate.Raised, 0), "raised")
	h.Note(alarm("a", 2, correlate.Changed, 0), "changed")
	again := h.waiting["a"]
	h.write(t.Context())
	h.waiting["a"] = again
	h.Note(alarm("a", 3, correlate.Cleared, 0), "cleared")
	want := []string{"raised", "changed", "cleared"}
	if got := steps(t, h, "a"); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	h.write(t.Context())
	if got := steps(t, h, "a"); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestAListComesInPlacesNewestFirstAndByWhatIsWanted(t *testing.T) {
	h := newSetup(t).open()
	for i := range 10 {
		id := fmt.Sprint("a", i)
		h.Note(alarm(id, 1, correlate.Cleared, i), "cleared")
		if i == 4 {
			h.write(t.Context())
		}
	}
	var got []string
	var after Position
	for {
		page, err := h.Cleared(t.Context(), after, 2, func(e Entry) bool { return e.Alarm.ID != "a5" })
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.ID)
			after = Position{a.Times.Raised.UnixNano(), a.ID}
		}
	}
	if want := []string{"a9", "a8", "a7", "a6", "a4", "a3", "a2", "a1", "a0"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	since, err := h.ClearedSince(t.Context(), noon.Add(7*time.Minute), 10, everything)
	if err != nil || len(since) != 3 || since[0].ID != "a9" {
		t.Errorf("since: %v %v", since, err)
	}
}

func TestTheHistoryIsBoundByCountAndAge(t *testing.T) {
	s := newSetup(t)
	s.cfg.MaxAlarms = 3
	h := s.open()
	for i := range 6 {
		h.Note(alarm(fmt.Sprint("a", i), 1, correlate.Cleared, i), "cleared")
	}
	h.Note(alarm("stands", 1, correlate.Raised, 0), "raised")
	h.write(t.Context())
	want := []string{"a5", "a4", "a3"}
	if got := cleared(t, h); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	h.Note(alarm("a6", 1, correlate.Cleared, 6), "cleared")
	h.write(t.Context())
	h.Close()
	h = s.open()
	if got := cleared(t, h); !slices.Equal(got, []string{"a6", "a5", "a4"}) {
		t.Errorf("after a restart: %v", got)
	}
	s.now = noon.Add(24*time.Hour + 5*time.Minute + 30*time.Second)
	h.write(t.Context())
	if got := cleared(t, h); !slices.Equal(got, []string{"a6"}) || !h.Stands("stands") {
		t.Errorf("a day later: %v", got)
	}
	h.SetBounds(0, time.Minute)
	h.write(t.Context())
	h.Close()
	if h = s.open(); len(h.index) != 0 || h.bytes != 0 {
		t.Errorf("%d left", len(h.index))
	}
}

func TestTheStepsOfAnAlarmAreBound(t *testing.T) {
	h := newSetup(t).open()
	for i := range 200 {
		a := alarm("a", i+1, correlate.Changed, 0)
		if i == 0 {
			a.Last = correlate.Raised
		}
		h.Note(a, string(a.Last))
		if i%30 == 0 {
			h.write(t.Context())
		}
	}
	h.write(t.Context())
	e, _, err := h.Entry(t.Context(), "a")
	if err != nil || len(e.Steps) != maxSteps || e.Omitted != 200-maxSteps || e.Steps[0].What != "raised" || e.Steps[maxSteps-1].Revision.Counter != 200 {
		t.Errorf("%d steps, %d omitted, %v", len(e.Steps), e.Omitted, err)
	}
}

func TestADamagedFileIsSetAsideAndSaid(t *testing.T) {
	s := newSetup(t)
	h := s.open()
	h.Note(alarm("a", 1, correlate.Cleared, 0), "cleared")
	h.write(t.Context())
	h.Close()
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, fileName), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	h = s.open()
	if got := cleared(t, h); len(got) != 0 || h.Status().Problem != "" || !strings.Contains(s.log.String(), "set aside") {
		t.Errorf("%v %s %s", got, h.Status().Problem, s.log)
	}
	h.Note(alarm("b", 1, correlate.Cleared, 0), "cleared")
	h.write(t.Context())
	h.Close()
	if got := cleared(t, s.open()); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v", got)
	}
	if bad, _ := filepath.Glob(filepath.Join(s.cfg.Dir, fileName+".bad-*")); len(bad) != 1 {
		t.Errorf("set aside: %v", bad)
	}
}

func TestADamagedRecordIsLeftOut(t *testing.T) {
	s := newSetup(t)
	h := s.open()
	h.Note(alarm("a", 1, correlate.Cleared, 0), "cleared")
	h.Note(alarm("b", 1, correlate.Cleared, 1), "cleared")
	h.write(t.Context())
	h.Close()
	file := filepath.Join(s.cfg.Dir, fileName)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := encode(Entry{Alarm: alarm("a", 1, correlate.Cleared, 0)}.add(alarm("a", 1, correlate.Cleared, 0), "cleared"),
		timesOf(alarm("a", 1, correlate.Cleared, 0), s.now))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, v[recordHead:])
	if at < 0 {
		t.Fatal("the record is not in the file")
	}
	for ; at >= 0 && at < len(text); at += max(1, bytes.Index(text[at+1:], v[recordHead:])+1) { // older pages have it, too
		text[at] ^= 0xff
		if !bytes.Contains(text[at+1:], v[recordHead:]) {
			break
		}
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h = s.open()
	if got := cleared(t, h); len(got) != 1 || !strings.Contains(s.log.String(), "can't be read and is removed") {
		t.Errorf("%v %s", got, s.log)
	}
}

func TestWithoutADiskItWorksFromMemoryAndSaysSo(t *testing.T) {
	s := newSetup(t)
	if err := os.WriteFile(s.cfg.Dir, nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	s.cfg.MaxAlarms = 10 * maxWaiting
	h := s.open()
	for i := range maxWaiting + 10 {
		s.now = s.now.Add(time.Millisecond)
		h.Note(alarm(fmt.Sprintf("a%04d", i), 1, correlate.Cleared, i), "cleared")
	}
	h.write(t.Context())
	if got := cleared(t, h); len(got) != maxWaiting || got[0] != fmt.Sprintf("a%04d", maxWaiting+9) || h.Status().Problem == "" {
		t.Errorf("%d, %s", len(got), h.Status().Problem)
	}
	if st := h.Status(); st.Ended != maxWaiting || st.Lost != 10 {
		t.Errorf("%+v", st)
	}
}

func TestADiskThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	h := newSetup(t).open()
	h.Note(alarm("a", 1, correlate.Cleared, 0), "cleared")
	h.write(t.Context())
	leave, inside := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	for range maxReaders {
		group.Go(func() {
			_, _ = read(context.Background(), h, func(getter) int { inside <- struct{}{}; <-leave; return 0 })
		})
		<-inside
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Cleared(ctx, Position{}, 1, everything); !errors.Is(err, errBusy) {
		t.Errorf("%v", err)
	}
	h.Note(alarm("b", 1, correlate.Cleared, 0), "cleared") // does not wait
	close(leave)
	group.Wait()
}

func TestWhatMonitorsHandedInIsKnownAfterARestart(t *testing.T) {
	s := newSetup(t)
	h := s.open()
	h.Keep(Key{1}, s.now.Add(time.Hour))
	h.Keep(Key{2}, s.now.Add(time.Hour))
	h.Keep(Key{3}, s.now.Add(time.Minute))
	h.write(t.Context())
	h.Drop(Key{2})
	h.Drop(Key{9})
	h.write(t.Context())
	h.Close()
	h = s.open()
	s.now = s.now.Add(2 * time.Minute)
	if diff := cmp.Diff(map[Key]time.Time{{1}: s.now.Add(58 * time.Minute)}, h.Kept()); diff != "" {
		t.Error(diff)
	}
	h.write(t.Context())
	h.Close()
	if h = s.open(); len(h.monitor) != 1 {
		t.Errorf("what is over is still in the file: %v", h.monitor)
	}
}

func TestRunWritesAndClosesWithoutBeingAsked(t *testing.T) {
	s := newSetup(t)
	h := New(s.cfg)
	h.Open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.Note(alarm("a", 1, correlate.Cleared, 0), "cleared")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	h.Note(alarm("late", 1, correlate.Cleared, 0), "cleared") // of nobody any more
	if got := cleared(t, s.open()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%v", got)
	}
}

// Whoever looks while it is written sees each step once.
func TestWhoLooksWhileItIsWrittenSeesAllOfItOnce(t *testing.T) {
	h := newSetup(t).open()
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				h.write(context.Background())
			}
		}
	})
	for i := range 40 {
		h.Note(alarm("a", i+1, correlate.Changed, 0), "changed")
		e, known, err := h.Entry(t.Context(), "a")
		if err != nil || !known || len(e.Steps) != i+1 {
			t.Errorf("after %d: %d steps, %v", i+1, len(e.Steps), err)
			break
		}
	}
	close(stop)
	group.Wait()
}

func FuzzDecode(f *testing.F) {
	good, err := encode(Entry{}.add(alarm("a", 1, correlate.Cleared, 0), "cleared"), timesOf(alarm("a", 1, correlate.Cleared, 0), noon))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:recordHead])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= recordHead { // let damage pass its checksum
			seal(b)
		}
		e, err := decode("a", b)
		if err != nil {
			return
		}
		again, err := encode(e.add(alarm("a", 2, correlate.Changed, 0), "changed"), times{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode("a", again); err != nil {
			t.Fatalf("%+v is written and can't be read: %v", e, err)
		}
	})
}
