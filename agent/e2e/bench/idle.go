package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used so far (proc_pid_stat(5), proc_pid_status(5)).
type usage struct {
	cpu                time.Duration // user and system, all threads
	rss, anon, highest int64         // KiB
	threads            int64
	switches           int64 // voluntary, all threads
}

func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
	f := strings.Fields(rest)
	if len(f) < 13 {
		return u, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	for _, field := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		u.cpu += time.Duration(n) * tick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	u.rss, u.anon, u.highest, u.threads = number(status, "VmRSS:"), number(status, "RssAnon:"), number(status, "VmHWM:"), number(status, "Threads:")
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return u, err
	}
	for _, t := range tasks {
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, t.Name())); err == nil {
			u.switches += number(status, "voluntary_ctxt_switches:")
		}
	}
	return u, nil
}

// tick is USER_HZ, which Linux keeps at 100 for everybody.
const tick = 10 * time.Millisecond

func number(status []byte, name string) int64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// waitedOf is how long a process's threads have waited for a processor so far, all together: the second figure of
// /proc/<pid>/task/<tid>/schedstat (Documentation/scheduler/sched-stats.rst). Threads that end take theirs away.
func waitedOf(pid int) (time.Duration, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, t := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		if err != nil {
			continue
		}
		if f := strings.Fields(string(stat)); len(f) == 3 {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/task/%s/schedstat: %w", pid, t.Name(), err)
			}
			sum += time.Duration(n)
		}
	}
	return sum, nil
}

// idle watches the agent while nothing happens, after all those faults.
func (s *stage) idle(ctx context.Context, p plan, r *report) error {
	if s.agent == nil {
		if err := s.startAgent(); err != nil {
			return err
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	before := machineNow()
	pid := s.agent.Process().PID()
	first, err := usageOf(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	select {
	case <-time.After(p.idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	last, err := usageOf(pid)
	if err != nil {
		return err
	}
	took := time.Since(began)
	percent := 100 * float64(last.cpu-first.cpu) / float64(took)
	r.section(fmt.Sprintf("The agent at rest: %d domains, %.0f s", p.domains, took.Seconds()), before)
	r.atMost("**resident memory**", float64(last.rss)*1024/1e6, "MB", 40)
	r.value("of it anonymous (heap, stacks)", float64(last.anon)*1024/1e6, "MB")
	r.value("its highest since its start", float64(last.highest)*1024/1e6, "MB")
	r.atMost("**processor**, of a core", percent, "%", 1)
	r.value("wake-ups", float64(last.switches-first.switches)/took.Seconds(), "/s")
	return nil
}
