package sim

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
	freshFor  = flag.Duration("sim.for", time.Second, "how long TestFreshSeeds tries new seeds")
	oneSeed   = flag.Uint64("sim.seed", 0, "TestFreshSeeds runs this seed alone")
	traceFile = flag.String("sim.trace", "", "file for the trace of -sim.seed")
	faulty    = flag.Duration("sim.faulty", 0, "virtual time with faults in each of TestFreshSeeds' runs; zero: five minutes")
)

// total sums the reports of many runs.
type total struct {
	Report
	seeds int
	began time.Time
}

func (t *total) add(r Report) {
	t.seeds++
	t.Virtual += r.Virtual
	t.Events += r.Events
	t.Starts += r.Starts
	t.Revisions += r.Revisions
	t.Attempts += r.Attempts
	t.Settled += r.Settled
	t.Superseded += r.Superseded
	t.Residue += r.Residue
	t.Compared += r.Compared
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
	took := time.Since(t.began)
	out := fmt.Sprintf("%d seeds, %.1f virtual hours in %.1f s: %d events (%.0f/s), %d faults, %d starts of the process, %d revisions, "+
		"%d requests, %d settled, %d superseded, %d residue of crashes, %d comparisons with the world\n", t.seeds, t.Virtual.Hours(), took.Seconds(),
		t.Events, float64(t.Events)/took.Seconds(), faults, t.Starts, t.Revisions, t.Attempts, t.Settled, t.Superseded, t.Residue, t.Compared)
	for _, name := range slices.Sorted(maps.Keys(t.Faults)) {
		out += fmt.Sprintf("  %s %d", name, t.Faults[name])
	}
	return out
}

// TestFixedSeeds runs the seeds that every change must pass, and makes sure that they go where it hurts.
func TestFixedSeeds(t *testing.T) {
	sum := total{began: time.Now()}
	for seed := range uint64(200) {
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
	if sum.Starts < 3*sum.seeds || sum.Superseded == 0 || sum.Settled == 0 || sum.Compared < 100*sum.seeds {
		t.Errorf("the seeds do not go far enough")
	}
}

// TestFreshSeeds runs seeds that nobody has seen, for as long as asked.
func TestFreshSeeds(t *testing.T) {
	cfg := Config{Seed: *oneSeed, Faulty: *faulty}
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
			t.Fatalf("replay: go test ./agent/sim -run TestFreshSeeds -sim.seed=%d -sim.faulty=%v -sim.trace=trace.txt\n%v", cfg.Seed, cfg.Faulty, r.Err)
		}
	}
}

// TestSameSeedSameTrace holds the simulation, and with it all that it runs, to being deterministic.
func TestSameSeedSameTrace(t *testing.T) {
	for seed := range uint64(20) {
		var first, second strings.Builder
		a := Run(Config{Seed: seed, Faulty: time.Minute, Trace: &first})
		b := Run(Config{Seed: seed, Faulty: time.Minute, Trace: &second})
		if a.Trace == b.Trace && first.String() == second.String() {
			continue
		}
		one, two := strings.Split(first.String(), "\n"), strings.Split(second.String(), "\n")
		for i := range one {
			if i >= len(two) || one[i] != two[i] {
				t.Fatalf("seed %d: line %d differs:\n%s\n%s", seed, i+1, strings.Join(one[max(0, i-5):i+1], "\n"), two[min(i, len(two)-1)])
			}
		}
		t.Fatalf("seed %d: the second trace is longer", seed)
	}
}

// TestBrokenPartsAreCaught breaks one part at a time: the invariants must notice, and say the right thing.
func TestBrokenPartsAreCaught(t *testing.T) {
	const within = 40 // seeds
	for bug, says := range map[Bug][]string{
		DropsRevisions:     {"which is at", "no longer stands"},
		ForgetsClears:      {"no longer stands"},
		SendsTwice:         {"at once"},
		Reorders:           {"after", "which it has acknowledged"},
		ForgetfulDisk:      {"comes after", "which is at", "no longer stands", "two contents", "without change", "the outbox holds"},
		SameTerm:           {"comes after", "two contents"},
		SwallowsDeliveries: {"which is at", "no longer stands"},
		TakesStale:         {"went back"},
		UnknownMeansWell:   {"by the engine", "is unknown", "by the alarms that are sent"},
		DeafToTaps:         {"by the engine"},
	} {
		t.Run(string(bug), func(t *testing.T) {
			for seed := range uint64(within) {
				r := Run(Config{Seed: seed, Faulty: 2 * time.Minute, Bug: bug})
				if r.Err == nil {
					continue
				}
				first, _, _ := strings.Cut(r.Err.Error(), "\nbefore it:")
				if !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(first, s) }) {
					t.Fatalf("it was noticed for something else: %v", r.Err)
				}
				t.Logf("seed %d: %s", seed, first)
				return
			}
			t.Fatalf("%d seeds did not notice", within)
		})
	}
}
