package hostloss

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Load is what Measure puts on a cluster: all of it evenly at random, nothing else.
type Load struct {
	Hosts int
	For   time.Duration // virtual time
	Loss  float64       // of packets, 0 to 1

	// Each host's, in an hour.
	Stalls, KernelStalls, BrownOuts, Failovers float64

	StallLeast, StallMost             time.Duration // of a process
	KernelStallLeast, KernelStallMost time.Duration

	Deaths int // one after the other

	Probable, Confirmed time.Duration // zero: 350 and 700 ms
}

// Measure runs a load, and breaks off for nothing: what is false is counted. Report.Faults says what there was of each trouble.
func Measure(seed uint64, l Load) Report {
	s := newSimulation(Config{Seed: seed, Hosts: l.Hosts, Loss: l.Loss, Faulty: l.For, Pace: time.Second, Probable: l.Probable, Confirmed: l.Confirmed})
	s.check.measuring = true
	s.report.Err = s.story(func() {
		s.often(l.Stalls, "process stall", func(h *host) { h.stallProcess(s.between(l.StallLeast, l.StallMost)) })
		s.often(l.KernelStalls, "kernel stall", func(h *host) { h.stallKernel(s.between(l.KernelStallLeast, l.KernelStallMost), s.chance(0.5)) })
		s.often(l.BrownOuts, "brown-out", func(h *host) {
			h.brownOut(s.between(50*time.Millisecond, 400*time.Millisecond), 0.3+0.5*s.rng.Float64())
		})
		s.often(l.Failovers, "bond failover", func(h *host) { h.failover(s.between(100*time.Millisecond, 300*time.Millisecond)) })
		if l.Deaths > 0 {
			s.deathAfterDeath(l.For / time.Duration(l.Deaths))
		}
		s.run(l.For)
		s.calm = true
		s.run(5 * time.Second)
	})
	return s.finish()
}

// often has something happen to random hosts, so many times an hour to each.
func (s *simulation) often(perHour float64, name string, do func(*host)) {
	if perHour == 0 {
		return
	}
	mean := float64(time.Hour) / perHour / float64(s.cfg.Hosts)
	var next func()
	wait := func() time.Duration { return time.Duration(s.rng.ExpFloat64() * mean) }
	next = func() {
		if s.calm {
			return
		}
		s.one(func(h *host) {
			if got, _ := h.stretch(2*time.Second, func(string) bool { return true }); got == 0 { // two in a row would be a longer one
				s.report.Faults[name]++
				do(h)
			}
		})
		s.call(wait(), next)
	}
	s.call(wait(), next)
}

// deathAfterDeath kills a host that has been there for a while each time; it is back after a few seconds.
func (s *simulation) deathAfterDeath(every time.Duration) {
	var next func()
	next = func() {
		if s.calm {
			return
		}
		var old []*host
		for _, h := range s.living() {
			if s.now-h.startedAt > acquainted {
				old = append(old, h)
			}
		}
		if len(old) > 0 && s.spare(1) {
			s.report.Faults["host dies"]++
			s.killHost(pick(s, old), s.between(3*time.Second, 6*time.Second))
		}
		s.call(every-every/8+s.between(0, every/4), next)
	}
	next()
}

// HostHours are those of running agents.
func (r Report) HostHours() float64 { return r.HostTime.Hours() }

// Count sums what was counted of a level, for all the reasons that begin so.
func (r Report) Count(level, why string) int {
	n := 0
	for what, count := range r.Verdicts {
		if strings.HasPrefix(what, level+": "+why) {
			n += count
		}
	}
	return n
}

// Add sums reports of runs of the same kind.
func (r *Report) Add(o Report) {
	r.Virtual += o.Virtual
	r.HostTime += o.HostTime
	r.Events += o.Events
	r.Packets += o.Packets
	r.Watch += o.Watch
	r.Deaths += o.Deaths
	r.Isolated += o.Isolated
	r.Heard += o.Heard
	r.Calls += o.Calls
	r.Doubled += o.Doubled
	r.Spoken += o.Spoken
	r.Twice += o.Twice
	for _, m := range []struct{ to, from *map[string]int }{{&r.Faults, &o.Faults}, {&r.Verdicts, &o.Verdicts}} {
		if *m.to == nil {
			*m.to = map[string]int{}
		}
		for name, n := range *m.from {
			(*m.to)[name] += n
		}
	}
	r.ProbableVerdict = append(r.ProbableVerdict, o.ProbableVerdict...)
	r.ConfirmedVerdict = append(r.ConfirmedVerdict, o.ConfirmedVerdict...)
	r.ProbableCall = append(r.ProbableCall, o.ProbableCall...)
	r.ConfirmedCall = append(r.ConfirmedCall, o.ConfirmedCall...)
}

// UpperBound is the 95 % upper confidence bound of the mean of a Poisson count of n: the rule of three where n is zero, and
// Wilson and Hilferty's approximation of the chi-squared quantile else.
func UpperBound(n int) float64 {
	if n == 0 {
		return 3
	}
	k := float64(n + 1)
	x := 1 - 1/(9*k) + 1.645/(3*math.Sqrt(k))
	return k * x * x * x
}

// Latencies puts the usual quantiles into words.
func Latencies(of []time.Duration) string {
	if len(of) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(of))
	at := func(q float64) time.Duration {
		return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, max %v of %d", at(0.5), at(0.99), at(0.999), sorted[len(sorted)-1].Round(time.Millisecond), len(sorted))
}

func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.1f host-hours, %d events, %d packets (%.0f a host and second), %d deaths, %d isolated, %d heard again, %d calls, %d of them doubled, %d spoken of, %d by two\n",
		r.HostHours(), r.Events, r.Packets, float64(r.Packets)/max(1, r.HostTime.Seconds()), r.Deaths, r.Isolated, r.Heard, r.Calls, r.Doubled, r.Spoken, r.Twice)
	for _, l := range []struct {
		name string
		of   []time.Duration
	}{
		{"probable: verdict", r.ProbableVerdict},
		{"probable: consumer's call done", r.ProbableCall},
		{"confirmed: verdict", r.ConfirmedVerdict},
		{"confirmed: consumer's call done", r.ConfirmedCall},
	} {
		if len(l.of) > 0 {
			fmt.Fprintf(&b, "  %s: %s\n", l.name, Latencies(l.of))
		}
	}
	for _, m := range []map[string]int{r.Faults, r.Verdicts} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "  %s %d", name, m[name])
		}
		b.WriteString("\n")
	}
	return b.String()
}
