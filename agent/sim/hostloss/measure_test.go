package hostloss

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var hours = flag.Float64("sim.hours", 0, "host-hours at rest, and the rest of TestFigures in proportion; zero: seconds of it, of few hosts")

// TestFigures measures what docs/host-loss.md shows, and demands what was promised: no process stall and no kernel stall up to
// 600 ms makes a living host confirmed, no process stall whatever its length makes it probable, and deaths are told in time.
func TestFigures(t *testing.T) {
	scale := *hours / 1000
	share := func(full time.Duration) time.Duration { return time.Duration(float64(full) * scale).Round(time.Second) }
	runs := 2
	if *hours == 0 {
		runs = 1
	}
	for _, f := range []struct {
		name string
		load Load
		full time.Duration // virtual time of all runs together
		want func(t *testing.T, r Report)
	}{
		{
			"latency, 100 hosts, 5 % loss",
			Load{Hosts: 100, Loss: 0.05},
			30 * time.Minute,
			func(t *testing.T, r Report) {
				if *hours > 0 && 200*r.Twice > r.Spoken {
					t.Errorf("of %d words about the dead %d were said twice", r.Spoken, r.Twice)
				}
			},
		},
		{
			"at rest with 36 stalls of 50-300 ms and 12 brown-outs a node-hour, 5 % loss",
			Load{Hosts: 100, Loss: 0.05, Stalls: 36, StallLeast: 50 * time.Millisecond, StallMost: 300 * time.Millisecond, BrownOuts: 12},
			10 * time.Hour,
			func(t *testing.T, r Report) {
				if n := r.Count("confirmed", ""); n > 0 {
					t.Errorf("%d living hosts were declared confirmed", n)
				}
			},
		},
		{
			"process stalls of 0.05-5 s, 5 % loss",
			Load{Hosts: 60, Loss: 0.05, Stalls: 720, StallLeast: 50 * time.Millisecond, StallMost: 5 * time.Second},
			time.Hour,
			func(t *testing.T, r Report) {
				if n := r.Count("probable", "") + r.Count("confirmed", ""); n > 0 {
					t.Errorf("%d living hosts were declared lost", n)
				}
			},
		},
		{
			"kernel stalls of 50-600 ms, 5 % loss",
			Load{Hosts: 60, Loss: 0.05, KernelStalls: 720, KernelStallLeast: 50 * time.Millisecond, KernelStallMost: 600 * time.Millisecond},
			time.Hour,
			func(t *testing.T, r Report) {
				if n := r.Count("confirmed", ""); n > 0 {
					t.Errorf("%d living hosts were declared confirmed", n)
				}
			},
		},
		{
			"bond failovers of 100-300 ms, 5 % loss",
			Load{Hosts: 60, Loss: 0.05, Failovers: 720},
			time.Hour,
			func(t *testing.T, r Report) {
				if n := r.Count("confirmed", ""); n > 0 {
					t.Errorf("%d living hosts were declared confirmed", n)
				}
			},
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			if *hours == 0 {
				f.load.Hosts = 20
			}
			f.load.For = max(20*time.Second, share(f.full/time.Duration(runs)))
			if strings.HasPrefix(f.name, "latency") {
				f.load.Deaths = int(f.load.For / (1500 * time.Millisecond))
			}
			began := time.Now()
			all := make([]Report, runs)
			var wait sync.WaitGroup
			for i := range all {
				wait.Go(func() { all[i] = Measure(uint64(i), f.load) }) //nolint:gosec // an index
			}
			wait.Wait()
			var sum Report
			for _, r := range all {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				sum.Add(r)
			}
			t.Logf("in %v: %v%s", time.Since(began).Round(time.Second), &sum, rates(sum))
			f.want(t, sum)
		})
	}
}

// rates are how often a living host is declared lost, with the bounds that so few cases allow.
func rates(r Report) string {
	out := ""
	for _, level := range []string{"probable", "confirmed"} {
		n := r.Count(level, "") - r.Count(level, "true") - r.Count(level, tDead) // that one had been dead until a moment before
		out += fmt.Sprintf("  %s, and alive: %d, at 95 %% less than %.3g a node-hour", level, n, UpperBound(n)/r.HostHours())
		if stalls := r.Faults["process stall"] + r.Faults["kernel stall"] + r.Faults["bond failover"]; stalls > 0 {
			out += fmt.Sprintf(", %.3g a stall", UpperBound(n)/float64(stalls))
		}
		out += "\n"
	}
	return out
}
