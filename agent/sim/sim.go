package sim

import (
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"
)

// Config is what a run is made of. Equal ones give equal runs, but for Trace.
type Config struct {
	Seed   uint64
	Faulty time.Duration // virtual time in which faults happen; zero: five minutes
	// Pace is the mean virtual time between two faults; zero: drawn by the seed, from 50 ms to 5 s.
	Pace  time.Duration
	Bug   Bug       // a part that is broken on purpose
	Trace io.Writer // takes every event as a line; nil: none
}

// Report is what came of a run.
type Report struct {
	Seed       uint64
	Err        error // which invariant broke, where; nil when all held
	Virtual    time.Duration
	Events     int // of the agenda
	Faults     map[string]int
	Starts     int // runs of the process
	Revisions  int // that the engine published
	Attempts   int // requests to consumers
	Settled    int
	Superseded int // revisions that a newer one replaced unsent
	Residue    int // deliveries that were sent before their commit, which a crash then lost
	Compared   int // times that the engine's health was held against the world
	Trace      string
}

// epoch is when every simulation begins.
var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// item is one event of the agenda.
type item struct {
	at   time.Duration
	seq  uint64
	what string // empty: too small to be traced
	do   func()
}

type agenda []item

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(item)) } //nolint:forcetypeassert // container/heap hands back what after pushed
func (a *agenda) Pop() any {
	last := len(*a) - 1
	it := (*a)[last]
	(*a)[last] = item{}
	*a = (*a)[:last]
	return it
}

// simulation joins the parts.
type simulation struct {
	cfg  Config
	rng  *rand.Rand
	now  time.Duration // virtual, never goes back
	wall time.Duration // what the host's clock is off by
	todo agenda
	seq  uint64

	calm      bool // faults are over
	world     *world
	disk      *disk
	process   *process
	consumers []*consumer
	check     *checker

	report Report
	digest hash.Hash
	recent []string
}

// violation carries a broken invariant up to Run.
type violation struct{ text string }

// Run simulates until all phases are over or an invariant is broken.
func Run(cfg Config) Report {
	s := &simulation{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x9a7a3ed1c)), digest: sha256.New()} //nolint:gosec // it must be replayable
	if s.cfg.Faulty == 0 {
		s.cfg.Faulty = 5 * time.Minute
	}
	if s.cfg.Pace == 0 {
		s.cfg.Pace = []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, time.Second, 5 * time.Second}[s.rng.IntN(4)]
	}
	s.report = Report{Seed: cfg.Seed, Faults: map[string]int{}}
	s.world = newWorld(s.rng)
	s.disk = newDisk(s)
	s.check = newChecker(s)
	s.consumers = newConsumers(s)
	s.report.Err = s.story()
	s.report.Virtual = s.now
	s.report.Trace = hex.EncodeToString(s.digest.Sum(nil))
	return s.report
}

// story is the phases of a run.
func (s *simulation) story() (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			err = fmt.Errorf("seed %d, virtual time %v: %s\nbefore it:\n%s", s.cfg.Seed, s.now, p.text, s.tail())
		default:
			err = fmt.Errorf("seed %d, virtual time %v: panic: %v\n%s\nbefore it:\n%s", s.cfg.Seed, s.now, p, debug.Stack(), s.tail())
		}
	}()
	s.start()
	s.nextFault()
	s.run(s.cfg.Faulty)

	s.trace("calm")
	s.calmDown()
	s.run(time.Minute)
	s.resume()              // what was answered 410 just before the calm, too
	s.run(10 * time.Minute) // longer than the longest backoff, Retry-After, hold-down and impulse
	s.check.settled(true)
	s.unpark()
	s.run(time.Minute)
	s.check.settled(false)

	s.trace("restart without change")
	published := s.report.Revisions
	s.process.crash()
	s.start()
	s.run(2 * time.Minute)
	s.check.settled(false)
	if n := s.report.Revisions - published; n > 0 {
		s.fail("a restart without change published %d revisions", n)
	}

	s.trace("heal")
	s.world.heal()
	s.process.look()
	s.run(time.Minute)
	s.process.acknowledgeLost()
	s.run(2 * time.Minute)
	s.check.settled(false)
	s.check.nothingStands()
	return nil
}

func (s *simulation) start() {
	s.process = newProcess(s)
	s.report.Starts++
}

// run lets virtual time pass.
func (s *simulation) run(d time.Duration) {
	end := s.now + d
	for len(s.todo) > 0 && s.todo[0].at <= end {
		it := heap.Pop(&s.todo).(item) //nolint:forcetypeassert // see Push
		s.now = it.at
		s.report.Events++
		if it.what != "" {
			s.trace("%s", it.what)
		}
		it.do()
		s.process.maybeDie()
	}
	s.now = end
}

// after puts an event on the agenda. Events of one moment happen in the order in which they were put there.
func (s *simulation) after(d time.Duration, what string, do func()) {
	s.seq++
	heap.Push(&s.todo, item{s.now + max(0, d), s.seq, what, do})
}

// clock is the host's wall clock.
func (s *simulation) clock() time.Time { return epoch.Add(s.now + s.wall) }

// between draws a duration evenly.
func (s *simulation) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)+1))
}

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }

func (s *simulation) trace(format string, args ...any) {
	line := fmt.Sprintf("%v ", s.now) + fmt.Sprintf(format, args...) + "\n"
	io.WriteString(s.digest, line) //nolint:errcheck // a hash never fails
	if s.cfg.Trace != nil {
		if _, err := io.WriteString(s.cfg.Trace, line); err != nil {
			s.fail("write the trace: %v", err)
		}
	}
	const kept = 40
	if len(s.recent) >= 2*kept {
		s.recent = slices.Delete(s.recent, 0, kept)
	}
	s.recent = append(s.recent, line)
}

func (s *simulation) tail() string {
	out := ""
	for _, l := range s.recent[max(0, len(s.recent)-40):] {
		out += "  " + l
	}
	return out
}

func (s *simulation) fail(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}
