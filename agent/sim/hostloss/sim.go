package hostloss

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// Config is what a run is made of. Equal ones give equal runs, but for Trace.
type Config struct {
	Seed   uint64
	Hosts  int           // zero: drawn by the seed, from 1 to 1000
	Faulty time.Duration // virtual time in which faults happen; zero: drawn with the hosts, so that a run takes a second or so
	// Pace is the mean virtual time between two faults; zero: drawn by the seed.
	Pace      time.Duration
	Loss      float64 // of packets, 0 to 1; negative: drawn by the seed
	Probable  time.Duration
	Confirmed time.Duration
	Witness   bool // there is an outside witness
	NoEcho    bool // no agent may ask kernels
	WatchOnly bool // nobody speaks for the dead
	Bug       Bug  // a part that is broken on purpose
	Trace     io.Writer
}

// Bug is a part that is broken on purpose, to see that the invariants notice.
type Bug string

// The bugs.
const (
	IgnoresKernels    Bug = "has no ear for kernels"
	SaysNoGoodbye     Bug = "goes without a word"
	KeepsTerm         Bug = "does not answer an accusation"
	CountsMembersOnly Bug = "counts majorities of the members, not of the roster"
)

// Report is what came of a run.
type Report struct {
	Seed     uint64
	Err      error // which invariant broke, where; nil when all held
	Hosts    int
	Loss     float64
	Virtual  time.Duration // not summed over the hosts
	HostTime time.Duration // with running agents, summed
	Events   int
	Packets  int
	Watch    int // of them, those of the watch but for echoes of kernels
	Faults   map[string]int
	Deaths   int
	Verdicts map[string]int // by level and what they were: true, or which trouble excuses them, or false
	Isolated int
	Heard    int
	Calls    int // to consumers
	Doubled  int // of them, those with an id that the consumer had
	Spoken   int // deaths and levels, when nothing else was wrong, that somebody spoke of
	Twice    int // of them, those that two did

	// Latencies since the death.
	ProbableVerdict, ConfirmedVerdict, ProbableCall, ConfirmedCall []time.Duration

	Trace string
}

// simulation joins the parts.
type simulation struct {
	cfg       Config
	rng       *rand.Rand
	epoch     time.Time
	now       time.Duration
	end       time.Duration
	agenda    agenda
	calls     []func()
	freeCalls []uint32
	net       network
	hosts     []*host
	byName    map[string]int32
	zones     int
	told      []announcement
	versions  uint32
	consumers []*consumer
	records   map[string]takeover.Record        // of speakers, by host: the newest
	counts    map[string]map[string]watch.Level // by zone alarm: its hosts, and what was said of each
	receipts  []map[string]correlate.Revision   // of consumers, by alarm: the newest
	check     *checker
	calm      bool
	partedAt  time.Duration

	report Report
	digest hash.Hash
	mixed  uint64
	recent []string
}

// violation carries a broken invariant up to Run.
type violation struct{ text string }

// Run simulates until all phases are over or an invariant is broken.
func Run(cfg Config) Report {
	s := newSimulation(cfg)
	s.report.Err = s.story(s.trouble)
	return s.finish()
}

func newSimulation(cfg Config) *simulation {
	s := &simulation{
		cfg: cfg, digest: sha256.New(), epoch: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), byName: map[string]int32{}, records: map[string]takeover.Record{}, counts: map[string]map[string]watch.Level{},
		rng: rand.New(rand.NewPCG(cfg.Seed, 0x686f7374)),
	}
	c := &s.cfg
	if c.Hosts == 0 {
		c.Hosts = drawHosts(s)
	}
	if c.Faulty == 0 {
		c.Faulty = min(2*time.Minute, max(15*time.Second, 6000*time.Second/time.Duration(c.Hosts)))
	}
	if c.Pace == 0 {
		c.Pace = pick(s, []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second, 3 * time.Second})
	}
	if c.Loss < 0 {
		c.Loss = pick(s, []float64{0, 0, 0.01, 0.05, 0.05, 0.1, 0.2})
	}
	if c.Probable == 0 {
		c.Probable = 350 * time.Millisecond
	}
	if c.Confirmed == 0 {
		c.Confirmed = 700 * time.Millisecond
	}
	s.net.loss = c.Loss
	s.report = Report{Seed: cfg.Seed, Hosts: c.Hosts, Loss: c.Loss, Faults: map[string]int{}, Verdicts: map[string]int{}}
	s.check = newChecker(s)
	return s
}

func drawHosts(s *simulation) int {
	switch r := s.rng.IntN(100); {
	case r < 6:
		return 1 + s.rng.IntN(2)
	case r < 20:
		return 2 + s.rng.IntN(3)
	case r < 55:
		return 5 + s.rng.IntN(16)
	case r < 85:
		return 20 + s.rng.IntN(80)
	case r < 97:
		return 100 + s.rng.IntN(150)
	case r < 99:
		return 400
	}
	return 1000
}

// warmUp is how long hosts may get acquainted before anything happens.
const warmUp = 15 * time.Second

// story is the phases of a run.
func (s *simulation) story(faulty func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			err = fmt.Errorf("seed %d, %d hosts, virtual time %v: %s\nbefore it:\n%s", s.cfg.Seed, s.cfg.Hosts, s.now, p.text, s.tail())
		default:
			err = fmt.Errorf("seed %d, %d hosts, virtual time %v: panic: %v\n%s\nbefore it:\n%s", s.cfg.Seed, s.cfg.Hosts, s.now, p, debug.Stack(), s.tail())
		}
	}()
	s.build()
	s.run(warmUp)
	faulty()
	return nil
}

// trouble is what Run does: faults, then calm.
func (s *simulation) trouble() {
	s.nextFault()
	s.run(s.cfg.Faulty)
	s.trace("calm")
	s.calmDown()
	s.run(20 * time.Second)
	s.check.settled()
}

func (s *simulation) finish() Report {
	for _, h := range s.hosts {
		if h.alive() {
			s.report.HostTime += s.now - h.startedAt
		}
	}
	s.report.Virtual = s.now
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], s.mixed)
	_, _ = s.digest.Write(b[:])
	s.report.Trace = hex.EncodeToString(s.digest.Sum(nil))
	return s.report
}

// build makes the hosts, some of which come later, and starts them.
func (s *simulation) build() {
	n := s.cfg.Hosts
	spare := 1 + n/10
	s.zones = max(1, min(8, n/4))
	for i := range n + spare {
		h := &host{
			s: s, id: int32(i), name: fmt.Sprintf("h%03d", i), zone: fmt.Sprintf("z%d", i%s.zones), view: make([]seen, n+spare), //nolint:gosec // an index
			refused: map[int32]time.Duration{}, gone: i >= n,
		}
		s.byName[h.name] = h.id
		s.hosts = append(s.hosts, h)
	}
	s.net.side = make([]int32, n+spare)
	s.buildConsumers()
	for _, h := range s.hosts[:n] {
		s.call(s.between(0, 2*time.Second), h.boot)
	}
}

// run lets time pass.
func (s *simulation) run(d time.Duration) {
	s.end = s.now + d
	for len(s.agenda.heap) > 0 && s.agenda.heap[0].at <= s.end {
		e := s.agenda.pop()
		s.now = e.at
		s.report.Events++
		s.mixed = mix(s.mixed ^ uint64(e.at)<<16 ^ uint64(e.kind)<<56 ^ uint64(e.host)) //nolint:gosec // a digest of all that happens
		switch h := s.hosts[e.host]; e.kind {
		case evArrive:
			h.arrive(e.arg)
		case evWake:
			h.woken(e.arg)
		case evResume:
			h.resume()
		case evThaw:
			h.thaw()
		case evTold:
			h.hear(e.arg)
		case evSync:
			h.sync(e.arg)
		case evLose:
			h.lose(e.arg)
		case evHosts:
			h.tell(e.arg)
		case evCall:
			do := s.calls[e.arg]
			s.calls[e.arg] = nil
			s.freeCalls = append(s.freeCalls, e.arg)
			do()
		}
	}
	s.now = s.end
}

// between draws a duration evenly.
func (s *simulation) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)+1))
}

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }

func pick[T any](s *simulation, from []T) T { return from[s.rng.IntN(len(from))] }

func (s *simulation) trace(format string, args ...any) {
	line := fmt.Sprintf("%v ", s.now) + fmt.Sprintf(format, args...) + "\n"
	_, _ = io.WriteString(s.digest, line)
	if s.cfg.Trace != nil {
		if _, err := io.WriteString(s.cfg.Trace, line); err != nil {
			s.fail("write the trace: %v", err)
		}
	}
	const kept = 150
	if len(s.recent) >= 2*kept {
		s.recent = slices.Delete(s.recent, 0, kept)
	}
	s.recent = append(s.recent, line)
}

func (s *simulation) tail() string {
	out := ""
	for _, l := range s.recent[max(0, len(s.recent)-150):] {
		out += "  " + l
	}
	return out
}

func (s *simulation) fail(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

// living are the hosts whose agents run.
func (s *simulation) living() []*host {
	var all []*host
	for _, h := range s.hosts {
		if h.alive() && h.left == 0 {
			all = append(all, h)
		}
	}
	return all
}
