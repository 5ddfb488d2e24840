package cluster

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	freshFor  = flag.Duration("sim.for", 0, "how long TestFreshSeeds tries new seeds; zero: it tries one old one")
	oneSeed   = flag.Uint64("sim.seed", 0, "TestFreshSeeds runs this seed alone")
	traceFile = flag.String("sim.trace", "", "file for the trace of -sim.seed")
	faulty    = flag.Duration("sim.faulty", 0, "virtual time with faults in each of TestFreshSeeds' runs; zero: two minutes")
	hosts     = flag.Int("sim.hosts", 0, "hosts in each of TestFreshSeeds' runs; zero: 3 to 12, by the seed")
)

// total sums the reports of many runs.
type total struct {
	Report
	seeds     int
	hostHours float64
	began     time.Time
}

func (t *total) add(r Report) {
	t.seeds++
	t.Virtual += r.Virtual
	t.hostHours += float64(r.Hosts) * r.Virtual.Hours()
	t.Starts += r.Starts
	t.Revisions += r.Revisions
	t.Requests += r.Requests
	t.Settled += r.Settled
	t.Handed += r.Handed
	t.Messages += r.Messages
	t.Claims += r.Claims
	t.Adopted += r.Adopted
	t.Closed += r.Closed
	t.Residue += r.Residue
	if t.Faults == nil {
		t.Faults = map[string]int{}
	}
	for name, n := range r.Faults {
		t.Faults[name] += n
	}
}

func (t *total) String() string {
	faults := 0
	for _, n := range t.Faults {
		faults += n
	}
	out := fmt.Sprintf("%d seeds, %.1f virtual hours (%.0f of hosts) in %.1f s: %d faults, %d starts of agents, %d revisions, %d requests, %d settled, "+
		"%d by peers, %d messages between hosts, %d terms claimed, %d alarms adopted, %d closed, %d residue\n",
		t.seeds, t.Virtual.Hours(), t.hostHours, time.Since(t.began).Seconds(), faults, t.Starts, t.Revisions, t.Requests, t.Settled,
		t.Handed, t.Messages, t.Claims, t.Adopted, t.Closed, t.Residue)
	for _, name := range slices.Sorted(maps.Keys(t.Faults)) {
		out += fmt.Sprintf("  %s %d", name, t.Faults[name])
	}
	return out
}

// TestFixedSeeds runs the seeds that every change must pass, and makes sure that they go where it hurts.
func TestFixedSeeds(t *testing.T) {
	t.Parallel()
	sum := total{began: time.Now()}
	for seed := range uint64(6) {
		r := Run(Config{Seed: seed, Faulty: time.Minute})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		sum.add(r)
	}
	t.Log(&sum)
	for _, f := range faults {
		if sum.Faults[f.name] == 0 {
			t.Errorf("no seed has the fault %q", f.name)
		}
	}
}

// TestFreshSeeds runs seeds that nobody has seen, for as long as asked.
func TestFreshSeeds(t *testing.T) {
	cfg := Config{Seed: *oneSeed, Faulty: *faulty, Hosts: *hosts}
	if *traceFile != "" {
		f, err := os.Create(*traceFile)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cfg.Trace = f
	}
	sum := total{began: time.Now()}
	defer func() { t.Log(&sum) }()
	if cfg.Seed == 0 && *freshFor == 0 {
		cfg.Seed = 1000 // what a change has broken is told by seeds that held before it
	}
	if cfg.Seed != 0 {
		r := Run(cfg)
		sum.add(r)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return
	}
	for cfg.Seed = uint64(time.Now().UnixNano()); time.Since(sum.began) < *freshFor; cfg.Seed++ { //nolint:gosec // any number will do
		r := Run(cfg)
		sum.add(r)
		if r.Err != nil {
			t.Fatalf("replay: go test ./agent/sim/cluster -run TestFreshSeeds -sim.seed=%d -sim.faulty=%v -sim.hosts=%d -sim.trace=trace.txt\n%v",
				cfg.Seed, cfg.Faulty, cfg.Hosts, r.Err)
		}
	}
}

// TestSameSeedSameTrace holds the simulation, and with it all that it runs, to being deterministic.
func TestSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1) {
		var first, second strings.Builder
		a := Run(Config{Seed: seed, Faulty: time.Minute, Trace: &first})
		b := Run(Config{Seed: seed, Faulty: time.Minute, Trace: &second})
		if a.Trace == b.Trace && first.String() == second.String() && a.Messages == b.Messages {
			continue
		}
		one, two := strings.Split(first.String(), "\n"), strings.Split(second.String(), "\n")
		for i := range one {
			if i >= len(two) || one[i] != two[i] {
				t.Fatalf("seed %d: line %d differs:\n%s\n%s", seed, i+1, strings.Join(one[max(0, i-5):i+1], "\n"), two[min(i, len(two)-1)])
			}
		}
		t.Fatalf("seed %d: the second trace is longer, or other messages were sent: %d and %d", seed, a.Messages, b.Messages)
	}
}

// TestBrokenPartsAreCaught breaks one part at a time: the invariants must notice, and say the right thing.
func TestBrokenPartsAreCaught(t *testing.T) {
	t.Parallel()
	const within = 40 // seeds, from the one at which it was noticed when this was written
	for bug, by := range map[Bug]struct {
		from uint64
		says []string
	}{
		KeepsOlder:               {0, []string{"do not hold the same"}},
		LostTombstone:            {7, []string{"has ended, and", "is known at", "is still there"}},
		SnapshotWithoutTold:      {6, []string{"no longer stands", "which is at"}},
		LostAnswerSettles:        {1, []string{"which is at", "no longer stands"}},
		TermNotLearned:           {0, []string{"takes term"}},
		FloorBeforeRestatement:   {35, []string{"have not spoken yet", "gives up alarm"}},
		SubscriptionNotPersisted: {17, []string{"was acknowledged, and is lost", "has ended, and"}},
	} {
		t.Run(string(bug), func(t *testing.T) {
			for seed := by.from; seed < by.from+within; seed++ {
				r := Run(Config{Seed: seed, Hosts: 4, Faulty: time.Minute, Pace: 200 * time.Millisecond, Bug: bug})
				if r.Err == nil {
					continue
				}
				first, _, _ := strings.Cut(r.Err.Error(), "\nbefore it:")
				if !slices.ContainsFunc(by.says, func(s string) bool { return strings.Contains(first, s) }) {
					t.Fatalf("it was noticed for something else: %v", r.Err)
				}
				t.Logf("seed %d: %s", seed, first)
				return
			}
			t.Fatalf("%d seeds did not notice", within)
		})
	}
}
