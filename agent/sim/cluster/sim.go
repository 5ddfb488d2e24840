package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/simnet"
)

// Config is what a run is made of. Equal ones give equal runs, but for Trace.
type Config struct {
	Seed   uint64
	Hosts  int           // zero: drawn by the seed, from 3 to 12
	Faulty time.Duration // virtual time in which faults happen; zero: two minutes
	// Pace is the mean virtual time between two faults; zero: drawn by the seed, from 50 ms to 3 s.
	Pace  time.Duration
	Bug   Bug       // a part that is broken on purpose
	Trace io.Writer // takes every event as a line; nil: none
}

// Report is what came of a run.
type Report struct {
	Seed      uint64
	Err       error // which invariant broke, where; nil when all held
	Hosts     int
	Virtual   time.Duration // of the cluster, not summed over its hosts
	Faults    map[string]int
	Starts    int // of agents
	Revisions int // that engines published
	Requests  int // to consumers
	Settled   int
	Handed    int // requests that a peer made for a home
	Messages  int // between hosts
	Claims    int // terms taken because the peers knew a higher one
	Adopted   int // alarms of a former life that a host had from its peers
	Closed    int // alarms that were cleared because a consumer was told of them and nobody knew them any more
	Residue   int // alarms that nobody held any more
	Trace     string
}

// simulation joins the parts.
type simulation struct {
	cfg       Config
	net       *simnet.Net
	rng       *rand.Rand
	epoch     time.Time
	calm      bool // faults are over
	hosts     []*host
	domains   []*domain
	consumers []*consumer
	wishes    []*wish // subscriptions, as those who made them know them
	check     *checker
	sealed    uint64
	ids       int

	report Report
	digest hash.Hash
	recent []string
}

// violation carries a broken invariant up to Run.
type violation struct{ text string }

// Run simulates until all phases are over or an invariant is broken.
func Run(cfg Config) Report {
	s := &simulation{cfg: cfg, net: simnet.New(cfg.Seed, simnet.LAN), digest: sha256.New()}
	s.rng, s.epoch = s.net.Rand(), s.net.Now()
	if s.cfg.Faulty == 0 {
		s.cfg.Faulty = 2 * time.Minute
	}
	if s.cfg.Pace == 0 {
		s.cfg.Pace = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second, 3 * time.Second}[s.rng.IntN(4)]
	}
	if s.cfg.Hosts == 0 {
		s.cfg.Hosts = 3 + s.rng.IntN(10)
	}
	s.report = Report{Seed: cfg.Seed, Hosts: s.cfg.Hosts, Faults: map[string]int{}}
	s.check = newChecker(s)
	s.report.Err = s.story()
	s.report.Virtual = s.now()
	for _, h := range s.hosts {
		s.report.Messages += h.node.Messages
	}
	s.report.Trace = hex.EncodeToString(s.digest.Sum(nil))
	return s.report
}

// story is the phases of a run.
func (s *simulation) story() (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			err = fmt.Errorf("seed %d, virtual time %v: %s\nbefore it:\n%s", s.cfg.Seed, s.now(), p.text, s.tail())
		default:
			err = fmt.Errorf("seed %d, virtual time %v: panic: %v\n%s\nbefore it:\n%s", s.cfg.Seed, s.now(), p, debug.Stack(), s.tail())
		}
	}()
	s.build()
	s.run(10 * time.Second)
	s.nextFault()
	s.run(s.cfg.Faulty)

	s.trace("calm")
	s.calmDown()
	for range 4 { // files that differ are several versions, each of which may be paused
		s.run(time.Minute)
		s.resume()
	}
	s.run(12 * time.Minute) // longer than the longest backoff, Retry-After and wait of a receipt
	s.resume()
	s.unpark()
	s.run(2 * time.Minute)
	s.check.settled()
	s.check.quiet(3 * time.Minute)

	s.trace("power cycle without change")
	published := s.check.ofSources
	s.powerCycle()
	s.run(3 * time.Minute)
	s.check.settled()
	if n := s.check.ofSources - published; n > 0 {
		s.fail("a power cycle without change published %d revisions", n)
	}

	s.trace("heal")
	s.heal()
	s.run(2 * time.Minute)
	s.check.settled()
	s.check.nothingStands()
	return nil
}

// now is the virtual time since the beginning.
func (s *simulation) now() time.Duration { return s.net.Now().Sub(s.epoch) }

func (s *simulation) run(d time.Duration) { s.net.Run(d) }

func (s *simulation) after(d time.Duration, do func()) { s.net.After(max(0, d), do) }

// between draws a duration evenly.
func (s *simulation) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)+1))
}

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }

func pick[T any](s *simulation, from []T) T { return from[s.rng.IntN(len(from))] }

// id makes a name that no other thing has.
func (s *simulation) id(prefix string) string {
	s.ids++
	return fmt.Sprintf("%s-%d", prefix, s.ids)
}

func (s *simulation) trace(format string, args ...any) {
	line := fmt.Sprintf("%v ", s.now()) + fmt.Sprintf(format, args...) + "\n"
	io.WriteString(s.digest, line) //nolint:errcheck // a hash never fails
	if s.cfg.Trace != nil {
		if _, err := io.WriteString(s.cfg.Trace, line); err != nil {
			s.fail("write the trace: %v", err)
		}
	}
	const kept = 60
	if len(s.recent) >= 2*kept {
		s.recent = slices.Delete(s.recent, 0, kept)
	}
	s.recent = append(s.recent, line)
}

func (s *simulation) tail() string {
	out := ""
	for _, l := range s.recent[max(0, len(s.recent)-60):] {
		out += "  " + l
	}
	return out
}

func (s *simulation) fail(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

// live are the agents that run.
func (s *simulation) live() []*agent {
	var all []*agent
	for _, h := range s.hosts {
		if h.agent != nil {
			all = append(all, h.agent)
		}
	}
	return all
}

// begun are those that have a term.
func (s *simulation) begun() []*agent {
	return slices.DeleteFunc(s.live(), func(a *agent) bool { return a.engine == nil })
}
