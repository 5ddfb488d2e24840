package ovs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// life is how a daemon is.
type life uint8

const (
	unseen life = iota // not known yet
	alive
	dead   // its process is gone, or is stopped
	hung   // it runs and does not answer
	denied // we have no right to ask it
	odd    // it answers what we don't understand
	absent // nothing says that it should be there
)

// report is what a watch of a daemon sees.
type report struct {
	at      time.Time
	life    life
	text    string
	process string // "ovs-vswitchd (Open vSwitch) 3.1.0", when known
	tables  update // of the database
	whole   bool   // tables holds all rows
}

// retry is how soon a daemon that is not there is looked for again: the first seconds, and then.
const (
	retrySoon  = 100 * time.Millisecond
	retryLater = time.Second
	retryFor   = 10 * time.Second
)

// pause waits before the next try. It returns false when ctx has ended.
func pause(ctx context.Context, since time.Time) bool {
	wait := retryLater
	if time.Since(since) < retryFor {
		wait = retrySoon
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// follow keeps a connection to a daemon, and reports each end of one and each that could not be made. once is one connection,
// from the dial to its end, and what that tells.
func follow(ctx context.Context, to chan<- report, once func(context.Context) (report, error)) error {
	since := time.Now()
	for {
		began := time.Now()
		r, err := once(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > retryFor { // it was well meanwhile
			since = time.Now()
		}
		r.at = time.Now()
		if r.text == "" {
			r.text = printable(err.Error())
		}
		select {
		case to <- r:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !pause(ctx, since) {
			return ctx.Err()
		}
	}
}

// lost says what the end of a connection, or one that could not be made, tells of a daemon.
func lost(err error) life {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return denied
	case errors.Is(err, errOdd):
		return odd
	case errors.Is(err, errSilent), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN): // the queue of its socket is full
		return hung
	}
	return dead
}

var errOdd = errors.New("what it answers is not understood")

// followDatabase watches ovsdb-server, and with it the configuration and state of the switch.
func (w *watch) followDatabase(ctx context.Context) error {
	return follow(ctx, w.fromDatabase, func(ctx context.Context) (report, error) {
		l, err := connect(ctx, w.config.Socket, w.config.Timeout)
		if err != nil {
			r := report{life: lost(err)}
			if errors.Is(err, fs.ErrNotExist) {
				r.life = absent
			}
			return r, err
		}
		defer l.close()
		if err := l.send(monitor()); err != nil {
			return report{life: lost(err)}, err
		}
		err = l.attend(ctx, w.config.Interval, request{Method: "echo", ID: "echo", Params: []any{}}, func(m *message) error {
			return w.take(ctx, l, m)
		})
		w.counters.losses.Add(1)
		r := report{life: lost(err)}
		if r.life == hung && w.stopped(w.pidFile("ovsdb-server")) {
			r.life, r.text = dead, "its process is stopped"
		}
		return r, err
	})
}

// take is one message of ovsdb-server.
func (w *watch) take(ctx context.Context, l *link, m *message) error {
	r := report{at: time.Now(), life: alive}
	var err error
	switch {
	case m.Method == "echo":
		return l.send(answer{Result: m.Params, ID: m.ID})
	case m.Method == "update":
		r.tables, err = parseUpdate(m.Params)
	case string(m.ID) == `"monitor"`:
		if err = m.refused(); err == nil {
			r.tables, err = parseTables(m.Result)
			r.whole = true
		}
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errOdd, err)
	}
	w.counters.updates.Add(1)
	select {
	case w.fromDatabase <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// followSwitch watches ovs-vswitchd over its control socket, which its main loop serves: it answers when that turns, and the
// connection closes when the process ends.
func (w *watch) followSwitch(ctx context.Context) error {
	return follow(ctx, w.fromSwitch, func(ctx context.Context) (report, error) {
		pid := w.pidFile("ovs-vswitchd")
		path := w.control(pid)
		if path == "" {
			return report{life: absent}, errors.New("it has neither a control socket nor a process")
		}
		l, err := connect(ctx, path, w.config.Timeout)
		if err == nil {
			defer l.close()
			ask := request{Method: "version", ID: "version", Params: []any{}}
			if err = l.send(ask); err == nil {
				told := false
				err = l.attend(ctx, w.config.Interval, ask, func(m *message) error {
					if told {
						return nil
					}
					told = true
					r := report{at: time.Now(), life: alive}
					_ = json.Unmarshal(m.Result, &r.process) // only shown
					r.process = printable(strings.TrimSpace(r.process))
					select {
					case w.fromSwitch <- r:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
			}
			w.counters.losses.Add(1)
		}
		r := report{life: lost(err)}
		switch {
		case (r.life == denied || r.life == dead) && !w.runs(pid):
			r.life, r.text = dead, "its process is gone"
		case r.life == hung && w.stopped(pid):
			r.life, r.text = dead, "its process is stopped"
		}
		return r, err
	})
}

// pidFile reads the process id that a daemon has left beside the database's socket; 0 when there is none.
func (w *watch) pidFile(daemon string) int {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(w.config.Socket), daemon+".pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// control finds ovs-vswitchd's control socket: that of the process in its pid file, else the newest. A daemon that ended in
// an orderly way leaves none.
func (w *watch) control(pid int) string {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(w.config.Socket), "ovs-vswitchd*.ctl"))
	if err != nil || len(found) == 0 {
		return ""
	}
	if i := slices.IndexFunc(found, func(f string) bool { return strings.HasSuffix(f, "."+strconv.Itoa(pid)+".ctl") }); i >= 0 {
		return found[i]
	}
	return slices.MaxFunc(found, func(a, b string) int { return made(a).Compare(made(b)) })
}

func made(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// runs and stopped look at a process in /proc (proc(5)); one that can't be seen neither runs nor is stopped.
func (w *watch) runs(pid int) bool { return w.state(pid) != "" && w.state(pid) != "Z" }

func (w *watch) stopped(pid int) bool { return w.state(pid) == "T" }

func (w *watch) state(pid int) string {
	if pid <= 0 {
		return ""
	}
	b, err := os.ReadFile(w.config.Root.ProcPath(strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The name in parentheses may hold anything.
	_, rest, _ := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), " ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// printable is text of another process as it may stand in ours.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > 255 {
		s = strings.ToValidUTF8(s[:255], "")
	}
	return s
}
