package kmsg

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// recordLog is what is read: a record at a time.
type recordLog interface {
	// Read gives the next record. waited says that there was none at first: this one has just been written.
	Read(p []byte) (n int, waited bool, err error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// kernelLog is the kernel's.
type kernelLog struct {
	file *os.File
	conn syscall.RawConn
}

// openDevice opens the log at its oldest line. Not blocking, so that the file belongs to the poller and closing it ends a read.
func openDevice(path string) (recordLog, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	d, err := newKernelLog(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

func newKernelLog(f *os.File) (*kernelLog, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("wait for lines: %w", err)
	}
	return &kernelLog{f, conn}, nil
}

func (d *kernelLog) Read(p []byte) (n int, waited bool, err error) {
	var failed error
	err = d.conn.Read(func(fd uintptr) bool {
		n, failed = syscall.Read(int(fd), p)
		if errors.Is(failed, syscall.EAGAIN) {
			waited = true
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return 0, waited, err
	case failed != nil:
		return 0, waited, failed
	case n == 0:
		return 0, waited, io.EOF
	}
	return n, waited, nil
}

func (d *kernelLog) SetReadDeadline(t time.Time) error { return d.file.SetReadDeadline(t) }
func (d *kernelLog) Close() error                      { return d.file.Close() }

// pace leaves lines to gather while they come fast: to wake for each costs more than to judge it. The kernel's buffer holds them.
type pace struct {
	lines int
	since time.Time // the first of lines
	storm bool
}

// Lines come fast when inStorm of them come within a tenth of a second. Then the log is read every gather.
const (
	inStorm = 100
	gather  = 10 * time.Millisecond
)

// line counts a line and reports whether to pause after it.
func (p *pace) line(now time.Time, waited bool) bool {
	if p.lines++; p.lines >= inStorm || now.Sub(p.since) > time.Second {
		p.storm = p.lines >= inStorm && now.Sub(p.since) < 100*time.Millisecond
		p.lines, p.since = 0, now
	}
	return p.storm && waited
}

// stamps turns the kernel's time stamps into times. The kernel's log has a clock of its own, which no time service sets right:
// within months it is off by seconds, even minutes.
type stamps struct {
	zero  time.Time     // of that clock
	least time.Duration // by which lines that were just written seemed too old, the least of the last few
	seen  int
}

// A clock is off when enough lines running, just written, seem older than tolerated: an agent that was held up sees one so.
const (
	tolerated = time.Second
	enough    = 8
)

// at is when a record was written that is read now.
func (s *stamps) at(rec *record, now time.Time, waited bool) time.Time {
	at := s.zero.Add(rec.at)
	age := now.Sub(at)
	switch {
	case age < 0: // not possible
		s.zero, s.seen = now.Add(-rec.at), 0
		return now
	case !waited:
		return at
	case s.seen == 0 || age < s.least:
		s.least = age
	}
	if s.seen++; s.seen >= enough {
		if s.least > tolerated {
			s.zero = s.zero.Add(s.least)
		}
		s.seen = 0
	}
	return s.zero.Add(rec.at)
}
