package hostloss

import (
	"flag"
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
	faulty    = flag.Duration("sim.faulty", 0, "virtual time with faults in each of TestFreshSeeds' runs; zero: by the number of hosts")
	hosts     = flag.Int("sim.hosts", 0, "hosts in each of TestFreshSeeds' runs; zero: 1 to 1000, by the seed")
)

// TestFixedSeeds runs the seeds that every change must pass, and makes sure that they go where it hurts.
func TestFixedSeeds(t *testing.T) {
	t.Parallel()
	var sum Report
	for seed, n := range []int{1, 2, 3, 4, 5, 7, 12, 30, 60} {
		r := Run(Config{Seed: uint64(seed), Hosts: n, Loss: -1, Faulty: 30 * time.Second, Witness: seed%2 == 1})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		sum.Add(r)
	}
	t.Log(&sum)
	for _, f := range faults() {
		if sum.Faults[f.name] == 0 {
			t.Errorf("no seed has the fault %q", f.name)
		}
	}
}

// fresh is the run of a seed of TestFreshSeeds.
func fresh(seed uint64) Config {
	return Config{Seed: seed, Faulty: *faulty, Hosts: *hosts, Loss: -1, Witness: seed%3 == 1, NoEcho: seed%17 == 5}
}

// TestFreshSeeds runs seeds that nobody has seen, for as long as asked.
func TestFreshSeeds(t *testing.T) {
	began, seeds := time.Now(), 0
	var sum Report
	defer func() { t.Logf("%d seeds in %v: %v", seeds, time.Since(began).Round(time.Second), &sum) }()
	seed := *oneSeed
	if seed == 0 && *freshFor == 0 {
		seed = 1000 // what a change has broken is told by seeds that held before it
	}
	if seed != 0 {
		cfg := fresh(seed)
		if *traceFile != "" {
			f, err := os.Create(*traceFile)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cfg.Trace = f
		}
		r := Run(cfg)
		seeds++
		sum.Add(r)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return
	}
	for seed = uint64(time.Now().UnixNano()); time.Since(began) < *freshFor; seed++ { //nolint:gosec // any number will do
		r := Run(fresh(seed))
		seeds++
		sum.Add(r)
		if r.Err != nil {
			t.Fatalf("replay: go test ./agent/sim/hostloss -run TestFreshSeeds -sim.seed=%d -sim.faulty=%v -sim.hosts=%d -sim.trace=trace.txt\n%v",
				seed, *faulty, *hosts, r.Err)
		}
	}
}

// TestSameSeedSameTrace holds the simulation, and with it all that it runs, to being deterministic.
func TestSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	var first, second strings.Builder
	cfg := Config{Seed: 1, Hosts: 12, Loss: 0.05, Faulty: 20 * time.Second, Pace: 300 * time.Millisecond}
	cfg.Trace = &first
	a := Run(cfg)
	cfg.Trace = &second
	b := Run(cfg)
	if a.Trace == b.Trace && first.String() == second.String() && a.Events == b.Events {
		return
	}
	one, two := strings.Split(first.String(), "\n"), strings.Split(second.String(), "\n")
	for i := range one {
		if i >= len(two) || one[i] != two[i] {
			t.Fatalf("line %d differs:\n%s\n%s", i+1, strings.Join(one[max(0, i-5):i+1], "\n"), two[min(i, len(two)-1)])
		}
	}
	t.Fatalf("the second trace is longer, or other events happened: %d and %d", a.Events, b.Events)
}

// TestBrokenPartsAreCaught breaks one part at a time: the invariants must notice, and say the right thing.
func TestBrokenPartsAreCaught(t *testing.T) {
	t.Parallel()
	const within = 20 // seeds, from the one at which it was noticed when this was written
	for bug, by := range map[Bug]struct {
		from uint64
		says []string
	}{
		IgnoresKernels:    {0, []string{"which lives"}},
		SaysNoGoodbye:     {0, []string{"which went down with a goodbye", "and was stopped"}},
		KeepsTerm:         {0, []string{"was declared lost in term"}},
		CountsMembersOnly: {0, []string{"and declares", "does not know that it is cut off"}},
	} {
		t.Run(string(bug), func(t *testing.T) {
			for seed := by.from; seed < by.from+within; seed++ {
				r := Run(Config{Seed: seed, Hosts: 8, Loss: 0.01, Faulty: 40 * time.Second, Pace: 400 * time.Millisecond, Bug: bug})
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
