package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report gathers the table, and tells what is measured as soon as it is.
type report struct {
	progress io.Writer
	sections []*section
}

// section begins what was measured together; before is how the machine was then. It is called when all is measured.
func (r *report) section(title string, before machine) {
	s := &section{title: title, at: before.at, before: before.load, after: machineNow().load}
	r.sections = append(r.sections, s)
	fmt.Fprint(r.progress, "\n", s.head())
}

// note is for who watches; it is not in the table.
func (r *report) note(format string, args ...any) { fmt.Fprintf(r.progress, format+"\n", args...) }

func (r *report) add(one row) {
	s := r.sections[len(r.sections)-1]
	s.rows = append(s.rows, one)
	fmt.Fprint(r.progress, one)
}

// aim is an upper bound of a percentile; of 100: of the longest.
type aim struct {
	percent int
	most    time.Duration
}

// times is a row of measured times, in milliseconds. It sorts them.
func (r *report) times(what string, s spread, aims ...aim) {
	slices.Sort(s)
	ms := func(percent int) string { return figure(milliseconds(s.at(percent))) }
	one := row{what: what, n: len(s), p50: ms(50), p99: ms(99), most: ms(100)}
	for _, a := range aims {
		where := "longest"
		if a.percent < 100 {
			where = fmt.Sprint("p", a.percent)
		}
		one.aim, one.verdict = fmt.Sprintf("%s ≤ %s", where, figure(milliseconds(a.most))), judged(len(s) > 0 && s.at(a.percent) <= a.most)
	}
	r.add(one)
}

func judged(ok bool) string {
	if ok {
		return held
	}
	return missed
}

// value is a row of one figure, with its unit.
func (r *report) value(what string, f float64, unit string) {
	r.add(row{what: what, most: amount(f, unit)})
}

// atMost is a value with an upper bound, and atLeast one with a lower one.
func (r *report) atMost(what string, f float64, unit string, bound float64) {
	r.add(row{what: what, most: amount(f, unit), aim: "≤ " + amount(bound, unit), verdict: judged(f <= bound)})
}

func (r *report) atLeast(what string, f float64, unit string, bound float64) {
	r.add(row{what: what, most: amount(f, unit), aim: "≥ " + amount(bound, unit), verdict: judged(f >= bound)})
}

// amount is a whole number as such.
func amount(f float64, unit string) string {
	text := figure(f)
	if f == math.Trunc(f) {
		text = thousands(int(f))
	}
	return strings.TrimSpace(text + " " + unit)
}

// flat is about what should not grow with the cluster.
func (r *report) flat(what string, ratio float64) {
	r.add(row{what: what, most: fmt.Sprintf("%+.0f %%", 100*(ratio-1)), aim: "within 20 %", verdict: judged(ratio <= 1.2 && ratio >= 0.8)})
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

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// collect takes one time out of each sample.
func collect(samples []sample, f func(sample) time.Duration) spread {
	out := make(spread, 0, len(samples))
	for _, s := range samples {
		out = append(out, f(s))
	}
	return out
}

// machine is when something was measured, and how busy the machine was.
type machine struct {
	at   time.Time
	load string // of the last minute
}

func machineNow() machine {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown")
	}
	one, _, _ := strings.Cut(string(load), " ")
	return machine{time.Now(), one}
}

// about says what a run was of, and on what.
func about(ctx context.Context, command, bin string, began time.Time) string {
	parts := []string{
		version(ctx, "libvirtd", "--version"), version(ctx, "qemu-system-x86_64", "--version"),
		version(ctx, "prometheus", "--version"), version(ctx, "prometheus-node-exporter", "--version"), version(ctx, "prometheus-alertmanager", "--version"),
	}
	return fmt.Sprintf("`%s`, %s to %s UTC: %s; %s, %d cores, %.0f GiB, Linux %s; %s; %s. Milliseconds, unless a unit is said. "+
		"With each part, when it began, and the load average of the last minute at its beginning and end.",
		command, began.UTC().Format("2006-01-02 15:04"), time.Now().UTC().Format("15:04"), version(ctx, bin, "version"),
		processor(), runtime.NumCPU(), memory(), kernel(), strings.Join(parts, ", "), scheduling())
}

var numbered = regexp.MustCompile(`\bv?\d+\.\d+[^\s,)]*`)

// version asks a program; who does not say one is named alone.
func version(ctx context.Context, program string, args ...string) string {
	name := program[strings.LastIndex(program, "/")+1:]
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return name + " of unknown version"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	if n := numbered.FindString(first); n != "" {
		return name + " " + n
	}
	return strings.TrimSpace(first)
}

func memory() float64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return float64(number(info, "MemTotal:")) / (1 << 20)
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
		return fmt.Sprintf("ordinary priority (nice %d)", attr.Nice)
	}
	return fmt.Sprintf("scheduling policy %d, priority %d", attr.Policy, attr.Priority) // 1 and 2: FIFO and RR, sched(7)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	release := unix.ByteSliceToString(u.Release[:])
	if short := numbered.FindString(release); strings.Count(short, ".") > 1 {
		return strings.Join(strings.SplitN(short, ".", 3)[:2], ".")
	}
	return release
}

// faults is the section of a kind of fault.
func (r *report) faults(k kind, before machine, floorAlone, both, agentAlone []sample) {
	r.section(k.name, before)
	over := func(s sample) time.Duration { return s.agent.at.Sub(s.floor) }
	var whole []aim
	if k.aim > 0 {
		whole = []aim{{99, k.aim}}
	}
	r.times("**paramedic**", collect(both, sample.told), whole...)
	r.times("floor: a bare listener that posts at once, the same faults", collect(both, sample.floorTold))
	r.times("**paramedic minus floor**, fault by fault", collect(both, over), aim{99, 2 * time.Millisecond})
	r.times("paramedic: "+k.mended+" → cleared", collect(both, sample.clear))
	r.times("paramedic alone, no bare listener", collect(agentAlone, sample.told))
	r.times("floor alone, no agent", collect(floorAlone, sample.floorTold))
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
		r.times("of it: "+st.name, collect(both, func(s sample) time.Duration { return moment(s, st.to).Sub(moment(s, st.from)) }))
	}
	r.times("floor: fault → its message", collect(both, func(s sample) time.Duration { return s.floorAt.Sub(s.fault) }))
	r.times("floor: its message → arrival", collect(both, func(s sample) time.Duration { return s.floor.Sub(s.floorAt) }))
	if len(both) == 0 {
		return
	}
	r.value(fmt.Sprintf("the body, signed; domains that it names: %d", k.affected), float64(both[0].agent.size), "bytes")

	slowest := slices.SortedFunc(slices.Values(both), func(a, b sample) int { return cmp.Compare(over(b), over(a)) })
	r.note("The slowest over the floor, ms: over it, by stage, floor's message and arrival, and how long paramedic's threads waited for a processor, together:")
	for _, s := range slowest[:min(5, len(slowest))] {
		line := fmt.Sprintf("%7.2f =", milliseconds(over(s)))
		for _, st := range stages {
			line += fmt.Sprintf(" %7.2f", milliseconds(moment(s, st.to).Sub(moment(s, st.from))))
		}
		r.note("%s | %7.2f %7.2f | %7.2f", line, milliseconds(s.floorAt.Sub(s.fault)), milliseconds(s.floor.Sub(s.floorAt)), milliseconds(s.waited))
	}
}
