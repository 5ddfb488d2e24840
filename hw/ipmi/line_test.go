package ipmi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// scripted is a transport that does what it is told to.
type scripted struct {
	do        func(Request) ([]byte, error)
	underWay  atomic.Int32
	most      atomic.Int32
	closed    chan struct{}
	attention chan struct{}
}

func newScripted(do func(Request) ([]byte, error)) *scripted {
	return &scripted{do: do, closed: make(chan struct{}), attention: make(chan struct{}, 1)}
}

func (s *scripted) Do(r Request) ([]byte, error) {
	if n := s.underWay.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.underWay.Add(-1)
	return s.do(r)
}
func (s *scripted) Attention() <-chan struct{} { return s.attention }
func (s *scripted) Close() error               { close(s.closed); return nil }

func TestCommandThatHangsIsGivenUpAndNoOtherIsSentUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Int64
		hangs.Store(int64(7 * time.Second))
		s := newScripted(func(Request) ([]byte, error) { <-time.After(time.Duration(hangs.Load())); return []byte{1}, nil })
		l := &line{open: func() (Transport, error) { return s, nil }, timeout: 2 * time.Second}
		begun := time.Now()
		for want := 2 * time.Second; want <= 6*time.Second; want += 2 * time.Second {
			if _, err := l.do(t.Context(), Request{}); !errors.Is(err, errSilent) || time.Since(begun) != want {
				t.Fatalf("after %s: %v", time.Since(begun), err)
			}
		}
		hangs.Store(0)
		if b, err := l.do(t.Context(), Request{}); err != nil || len(b) != 1 || time.Since(begun) != 7*time.Second {
			t.Errorf("after %s: % x, %v", time.Since(begun), b, err)
		}
		if n := s.most.Load(); n != 1 || l.commands.Load() != 2 || l.silent() {
			t.Errorf("%d at once, %d commands, silent %t", n, l.commands.Load(), l.silent())
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestBusyBMCIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := newScripted(func(Request) ([]byte, error) {
			if tries++; tries < 3 {
				return nil, errBusy
			}
			return []byte{1}, nil
		})
		l := &line{open: func() (Transport, error) { return s, nil }, timeout: 2 * time.Second}
		if b, err := l.do(t.Context(), Request{}); err != nil || len(b) != 1 {
			t.Errorf("% x, %v", b, err)
		}
	})
}

func TestTransportThatPanicsIsBroken(t *testing.T) {
	s := newScripted(func(Request) ([]byte, error) { panic("index out of range") })
	l := &line{open: func() (Transport, error) { return s, nil }, timeout: 2 * time.Second}
	_, err := l.do(t.Context(), Request{})
	if p := (*hw.PanicError)(nil); !errors.As(err, &p) || !isBroken(err) {
		t.Errorf("%v", err)
	}
}

// pass lets time pass, and whoever it wakes come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// The answers stop after the first scan: the source says that it is blind, asks ever less often, and sees again with the first.
func TestSilentBMCIsAskedEverLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool
		var asked []time.Time
		s := newScripted(func(r Request) ([]byte, error) {
			if silent.Load() {
				asked = append(asked, time.Now())
				return nil, errTimedOut
			}
			if r.NetFn == netApp {
				return []byte{0x20, 1, 2, 0x15, 2, 0x02, 0, 0, 0, 0, 0}, nil
			}
			if r.NetFn == netStorage && r.Cmd == 0x20 {
				return make([]byte, 14), nil
			}
			return nil, errNotPresent
		})
		source, err := newSource(Config{Host: self0}, func() (Transport, error) { return s, nil })
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t, source: source, engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- source.Run(ctx, b) }()
		pass(10 * time.Minute)
		silent.Store(true)
		pass(10 * time.Minute)
		if h := b.healths[len(b.healths)-1]; h.Sight != hw.SightBlind {
			t.Errorf("health %+v", h)
		}
		if n := len(asked); n < 15 || n > 30 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		silent.Store(false)
		pass(longestPause)
		if h := b.healths[len(b.healths)-1]; h.Sight != hw.SightClear {
			t.Errorf("health %+v", h)
		}
		cancel()
		<-ended
	})
}

// shelf is a BMC's repository with the whims of real ones.
type shelf struct {
	records     [][]byte
	buffer      int // bytes of a record at once
	refuses     CompletionError
	lose        int // reads until the reservation is lost
	reservation uint16
	stamp       [13]byte
	reads       int
}

func (s *shelf) ask(_ context.Context, r Request) ([]byte, error) {
	switch r.Cmd {
	case 0x20:
		return slices.Clone(s.stamp[:]), nil
	case 0x22:
		s.reservation++
		return binary.LittleEndian.AppendUint16(nil, s.reservation), nil
	}
	s.reads++
	if s.lose--; s.lose == 0 {
		s.reservation++
	}
	id, offset, n := binary.LittleEndian.Uint16(r.Data[2:]), int(r.Data[4]), int(r.Data[5])
	i := int(id)
	record := s.records[i]
	if n == 0xFF {
		n = len(record)
	}
	switch {
	case binary.LittleEndian.Uint16(r.Data) != s.reservation:
		return nil, errReservation
	case n > s.buffer:
		return nil, s.refuses
	case offset > len(record):
		return nil, errRange
	}
	next := uint16(i + 1)
	if i == len(s.records)-1 {
		next = 0xFFFF
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), record[offset:min(len(record), offset+n)]...), nil
}

func someRecords(n int) (all [][]byte) {
	for i := range n {
		body := bytes.Repeat([]byte{byte(i)}, 20+i)
		all = append(all, append([]byte{byte(i), 0, 0x51, recordOEM, byte(len(body))}, body...))
	}
	return all
}

func TestRecordsAreReadWhateverTheBMCsBufferHolds(t *testing.T) {
	for _, refuses := range []CompletionError{errTooMany, errLong, errUnspecified} {
		for _, buffer := range []int{255, 40, 22, 16, 10, 5} {
			s := &shelf{records: someRecords(30), buffer: buffer, refuses: refuses, lose: 25}
			got, err := s.walk(t)
			if err != nil || !slices.EqualFunc(got, s.records, bytes.Equal) {
				t.Errorf("buffer of %d, code %02X: %d records, %v", buffer, byte(refuses), len(got), err)
			}
		}
	}
}

func (s *shelf) walk(t *testing.T) ([][]byte, error) {
	got, _, _, err := sdrRepository(s.ask).records(t.Context())
	return got, err
}

func TestReservationThatIsAlwaysLostEnds(t *testing.T) {
	s := &shelf{records: someRecords(3), buffer: 255}
	repository := sdrRepository(func(ctx context.Context, r Request) ([]byte, error) {
		s.reservation += map[bool]uint16{true: 1}[r.Cmd == 0x23]
		return s.ask(ctx, r)
	})
	if _, _, _, err := repository.records(t.Context()); !errors.Is(err, errReservation) || s.reads > 2*again {
		t.Errorf("%v after %d reads", err, s.reads)
	}
}

func TestSensorDataAreKeptForTheSameDeviceAndTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sdr.json")
	records := someRecords(5)
	if err := saveCache(file, []byte{1}, []byte{2}, records); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		device, stamp []byte
		want          int
	}{{[]byte{1}, []byte{2}, 5}, {[]byte{9}, []byte{2}, 0}, {[]byte{1}, []byte{9}, 0}} {
		if got, err := loadCache(file, c.device, c.stamp); err != nil || len(got) != c.want {
			t.Errorf("device %x stamp %x: %d records, %v", c.device, c.stamp, len(got), err)
		}
	}
	records[2][7]++
	c := cache{Device: "01", Stamp: "02", Sum: "0", Records: records}
	if err := save(file, c); err != nil {
		t.Fatal(err)
	}
	if got, err := loadCache(file, []byte{1}, []byte{2}); err == nil || !strings.Contains(err.Error(), "damaged") || got != nil {
		t.Errorf("a damaged file: %d records, %v", len(got), err)
	}
}

// paper is an event log.
type paper struct{ records []logRecord }

func (p *paper) add(n byte) {
	id := uint16(1)
	if len(p.records) > 0 {
		id = p.records[len(p.records)-1].id()%0xFFFE + 1
	}
	p.records = append(p.records, logRecord{byte(id), byte(id >> 8), 0x02, n, 0, 0, 0x30})
}

func (p *paper) ask(_ context.Context, r Request) ([]byte, error) {
	if r.Cmd == commandLogReserve {
		return nil, errTooMany // knows none
	}
	id := binary.LittleEndian.Uint16(r.Data[2:])
	i := slices.IndexFunc(p.records, func(r logRecord) bool { return r.id() == id })
	switch {
	case len(p.records) == 0:
		return nil, errNotPresent
	case id == firstRecord:
		i = 0
	case id == lastRecord:
		i = len(p.records) - 1
	case i < 0:
		return nil, errNotPresent
	}
	next := lastRecord
	if i+1 < len(p.records) {
		next = p.records[i+1].id()
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), p.records[i][:]...), nil
}

func news(t *testing.T, e *eventLog) (all []byte) {
	t.Helper()
	for more := true; more; {
		var records []logRecord
		var err error
		if records, more, err = e.news(t.Context(), func(r logRecord) bool { return r[3] >= 3 }); err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			all = append(all, r[3])
		}
	}
	return all
}

func TestEventLogIsFollowedWhateverBecomesOfIt(t *testing.T) {
	p := &paper{}
	e := &eventLog{ask: p.ask}
	expect := func(what string, want ...byte) {
		t.Helper()
		if got := news(t, e); !bytes.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	for n := range byte(5) {
		p.add(n)
	}
	expect("at the first start what is recent", 3, 4)
	expect("nothing new")
	p.add(5)
	p.add(6)
	expect("two more", 5, 6)
	p.records = p.records[:len(p.records)-2]
	expect("somebody deleted the last two")
	p.add(7)
	expect("and one came in the place of the first", 7)
	p.records = nil
	expect("cleared")
	p.add(8)
	expect("one after that", 8)
	p.records = nil
	p.add(9)
	expect("cleared, and another with the same id", 9)
	p.records[0][0], p.records[0][1] = 0xFE, 0xFF
	expect("renumbered by hand", 9)
	p.add(10)
	if id := p.records[1].id(); id != 1 {
		t.Fatalf("id %d", id)
	}
	expect("ids begin anew", 10)
	for n := range byte(200) {
		p.add(n)
	}
	if got := news(t, e); len(got) != 200 {
		t.Errorf("%d of 200", len(got))
	}
	p.records = p.records[150:]
	p.add(201)
	expect("the oldest were overwritten", 201)
}
