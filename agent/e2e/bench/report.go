package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report writes Markdown.
type report struct{ out io.Writer }

func (r *report) line(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// machine is where and when a block was measured.
type machine struct {
	at   time.Time
	load string
}

func machineNow() machine {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown")
	}
	f := strings.Fields(string(load))
	return machine{time.Now(), strings.Join(f[:min(3, len(f))], " ")}
}

// heading names the block and the machine; before is how it was when the block began.
func (r *report) heading(title string, before machine) {
	r.line("\n### %s\n", title)
	r.line("%s, %d cores, Linux %s, %s; %s; load average %s before, %s after.\n", processor(), runtime.NumCPU(), kernel(), scheduling(),
		before.at.UTC().Format("2006-01-02 15:04 MST"), before.load, machineNow().load)
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// scheduling is how the kernel treats us, and with us all that we start.
func scheduling() string {
	attr, err := unix.SchedGetAttr(0, 0)
	switch {
	case err != nil:
		return "scheduling unknown"
	case attr.Policy == unix.SCHED_NORMAL:
		return fmt.Sprintf("ordinary scheduling, nice %d", attr.Nice)
	}
	return fmt.Sprintf("scheduling policy %d, priority %d", attr.Policy, attr.Priority) // 1 and 2: FIFO and RR, sched(7)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// spread is a set of measured times.
type spread []time.Duration

func (s spread) at(percent int) time.Duration {
	if len(s) == 0 {
		return 0
	}
	rank := (len(s)*percent + 99) / 100 // nearest rank
	return s[max(rank, 1)-1]
}

func (r *report) table(columns string) {
	r.line("| %s | n | p50 ms | p99 ms | max ms |", columns)
	r.line("|---|--:|--:|--:|--:|")
}

func (r *report) row(name string, s spread) spread {
	slices.Sort(s)
	r.line("| %s | %d | %.2f | %.2f | %.2f |", name, len(s), milliseconds(s.at(50)), milliseconds(s.at(99)), milliseconds(s.at(100)))
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// collect takes one time out of each sample.
func collect(samples []sample, f func(sample) time.Duration) spread {
	out := make(spread, 0, len(samples))
	for _, s := range samples {
		out = append(out, f(s))
	}
	return out
}

func (r *report) faults(k kind, before machine, floorAlone, both, agentAlone []sample) {
	r.heading(k.name, before)
	floor := func(s sample) time.Duration { return s.floor.Sub(s.fault) }
	agent := func(s sample) time.Duration { return s.agent.at.Sub(s.fault) }
	cleared := func(s sample) time.Duration { return s.cleared.Sub(s.mend) }
	r.table("from the fault to the consumer")
	r.row("floor: a bare listener that posts at once, the same faults", collect(both, floor))
	total := r.row("**paramedic**, the same faults", collect(both, agent))
	over := r.row("**paramedic minus floor**, fault by fault", collect(both, func(s sample) time.Duration { return s.agent.at.Sub(s.floor) }))
	r.row("floor alone, no agent running", collect(floorAlone, floor))
	r.row("paramedic alone, no bare listener", collect(agentAlone, agent))
	r.row("paramedic, mended → cleared", collect(both, cleared))

	r.line("")
	r.table("paramedic by stage (paired faults)")
	stages := []struct{ name, from, to string }{
		{"fault → T01 observed (" + k.from + ")", "", "T01"},
		{"T01 → T02 affected found (queue, engine)", "T01", "T02"},
		{"T02 → T06 outbox passed (commit, or 1 ms)", "T02", "T06"},
		{"T06 → T08 sent (worker)", "T06", "T08"},
		{"T08 → arrival (format, sign, HTTP, consumer)", "T08", "arrival"},
	}
	moment := func(s sample, name string) time.Time {
		switch name {
		case "":
			return s.fault
		case "arrival":
			return s.agent.at
		}
		return s.agent.Data.Timeline[name]
	}
	for _, st := range stages {
		r.row(st.name, collect(both, func(s sample) time.Duration { return moment(s, st.to).Sub(moment(s, st.from)) }))
	}
	r.row("floor: fault → its message", collect(both, func(s sample) time.Duration { return s.floorAt.Sub(s.fault) }))
	r.row("floor: its message → arrival", collect(both, func(s sample) time.Duration { return s.floor.Sub(s.floorAt) }))
	r.row("paramedic: its threads waited for a processor, together", collect(both, func(s sample) time.Duration { return s.waited }))
	if len(both) == 0 {
		return
	}

	slowest := slices.SortedFunc(slices.Values(both), func(a, b sample) int { return cmp.Compare(b.agent.at.Sub(b.floor), a.agent.at.Sub(a.floor)) })
	r.line("\nThe slowest over the floor, by stage in ms:\n\n| over the floor | → T01 | → T02 | → T06 | → T08 | → arrival | floor → message | → arrival | waited for a processor |")
	r.line("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, s := range slowest[:min(5, len(slowest))] {
		cells := []time.Duration{s.agent.at.Sub(s.floor)}
		for _, st := range stages {
			cells = append(cells, moment(s, st.to).Sub(moment(s, st.from)))
		}
		cells = append(cells, s.floorAt.Sub(s.fault), s.floor.Sub(s.floorAt), s.waited)
		for _, c := range cells {
			fmt.Fprintf(r.out, "| %.2f ", milliseconds(c))
		}
		r.line("|")
	}
	r.line("\nEach notification: %d bytes, signed, naming %d domains.", both[0].agent.size, k.affected)
	r.verdict("over the floor at p99", over.at(99), 2*time.Millisecond)
	if k.aim > 0 {
		r.verdict("in all at p99", total.at(99), k.aim)
	}
}

func (r *report) verdict(what string, got, aim time.Duration) {
	word := "held"
	if got > aim {
		word = "MISSED"
	}
	r.line("Aim ≤ %v %s: %.2f ms, **%s**.", aim, what, milliseconds(got), word)
}

// flat is about what should not grow with the cluster.
func (r *report) flat(what string, ratio float64) {
	word := "held"
	if ratio > 1.2 || ratio < 0.8 {
		word = "MISSED"
	}
	r.line("Aim ±20 %% for the %s: %+.0f %%, **%s**.", what, 100*(ratio-1), word)
}

// most is an upper bound.
func (r *report) most(what string, got, aim float64, unit string) {
	word := "held"
	if got > aim {
		word = "MISSED"
	}
	r.line("Aim ≤ %g %s %s: %.4g, **%s**.", aim, unit, what, got, word)
}
