package hostloss

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// timerSlack is the most by which a timer of an agent that runs is late.
const timerSlack = 200 * time.Microsecond

// host is a machine with its kernel, and the one process on it that matters: the agent, as its shell runs the watch.
type host struct {
	s    *simulation
	id   int32
	name string
	zone string

	// The machine.
	up          bool // it has power
	gone        bool // it has left for good
	noEcho      bool // its kernel answers no echoes
	kernelUntil time.Duration
	kernelDrops bool     // what comes in a stall of the kernel is lost; or waits in the card's ring
	ring        []uint32 // of the card
	linkUntil   time.Duration
	brownUntil  time.Duration
	brown       float64
	refused     map[int32]time.Duration // when the kernel last refused a packet of a host
	wall        time.Duration           // how wrong its clock is
	stoppedAt   time.Duration           // its last goodbye for an upgrade
	troubles    []trouble               // newest last
	bornAt      time.Duration           // when it got power
	diedAt      time.Duration           // when it lost it

	// The disk.
	term uint64
	debt string // the delivery that it has not finished, as its peers hold it; empty: none
	view []seen // of the others and itself, by host: the roster, and while the agent runs also the membership

	// The agent.
	running     bool
	left        watch.Left // its goodbye
	session     uint32     // its life
	startedAt   time.Duration
	frozenUntil time.Duration
	starving    time.Duration // until then it runs a fifth of the time
	machine     *watch.Machine
	epoch       time.Time // of its monotonic clock
	socket      []uint32
	knows       []uint32 // the sessions that have proved themselves, by host
	asked       []time.Duration
	wake        time.Duration // when the machine wants to be woken
	planned     time.Duration // when it will be; zero: not
	plan        uint32
	dirty       bool // its view has changed since the machine was told
	isolated    bool
	accused     uint64 // the highest term in which it heard that it is lost
	mouth       *mouth // what speaks for others
}

// seen is what a host's membership says of one.
type seen struct {
	known   bool
	member  bool
	watched bool
	left    watch.Left
	term    uint64
	version uint32
}

func (h *host) clock() time.Time                { return h.epoch.Add(h.s.now) }
func (h *host) since(t time.Time) time.Duration { return t.Sub(h.epoch) }
func (h *host) at(d time.Duration) time.Time    { return h.epoch.Add(d) }
func (h *host) frozen() bool                    { return h.s.now < h.frozenUntil }
func (h *host) alive() bool                     { return h.up && h.running }
func (s *simulation) host(name string) *host    { return s.hosts[s.byName[name]] }
func (s *simulation) call(d time.Duration, f func()) {
	var i uint32
	if n := len(s.freeCalls); n > 0 {
		i = s.freeCalls[n-1]
		s.freeCalls = s.freeCalls[:n-1]
		s.calls[i] = f
	} else {
		i = uint32(len(s.calls)) //nolint:gosec // as many as wait
		s.calls = append(s.calls, f)
	}
	s.agenda.push(event{at: s.now + max(0, d), kind: evCall, arg: i})
}

// start runs a new agent, which joins the membership a little later.
func (h *host) start() {
	s := h.s
	h.session++
	h.running, h.left, h.startedAt = true, watch.LeftNot, s.now
	h.accused = 0
	h.isolated, h.dirty, h.planned, h.plan = false, false, 0, h.plan+1
	h.frozenUntil = max(h.frozenUntil, h.kernelUntil)
	h.epoch = s.epoch.Add(s.between(0, 1000*time.Hour))
	h.knows = make([]uint32, len(s.hosts))
	h.asked = make([]time.Duration, len(s.hosts))
	for i := range h.view { // the roster alone outlives a process
		h.view[i].member, h.view[i].watched = false, false
	}
	seeds := rand.New(rand.NewPCG(s.rng.Uint64(), s.rng.Uint64()))
	h.machine = watch.New(watch.Config{
		Self: h.name, Probable: s.cfg.Probable, Confirmed: s.cfg.Confirmed, Witness: s.cfg.Witness, Echo: !s.cfg.NoEcho,
	}, seeds.Uint64, h.clock())
	h.mouth = newMouth(h)
	s.trace("%s: the agent starts, life %d", h.name, h.session)
	h.be(seen{known: true, member: true, watched: true})
	session := h.session
	s.call(s.between(20*time.Millisecond, 300*time.Millisecond), func() {
		if h.session == session && h.alive() && h.left == watch.LeftNot {
			h.join()
		}
	})
	s.call(s.between(300*time.Millisecond, 900*time.Millisecond), func() {
		if h.session == session && h.alive() && h.left == watch.LeftNot {
			h.takeTerm(h.term)
		}
	})
}

// takeTerm takes the next even term above all that was seen.
func (h *host) takeTerm(above uint64) {
	h.term = (max(h.term, above) + 2) &^ 1
	h.s.trace("%s: term %d", h.name, h.term)
	h.be(seen{known: true, member: true, watched: true, term: h.term})
	h.s.announce(h, h.view[h.id])
}

// be changes what a host says of itself.
func (h *host) be(as seen) {
	h.s.versions++
	as.version = h.s.versions
	h.view[h.id] = as
	h.touch()
}

// kill ends the agent; the kernel goes on.
func (h *host) kill() {
	if !h.running {
		return
	}
	h.running = false
	h.s.report.HostTime += h.s.now - h.startedAt
	h.mouth.close()
	h.s.check.forgets(h)
	for _, i := range h.socket {
		h.s.net.release(i)
	}
	h.socket = h.socket[:0]
	h.machine = nil
	h.starving = 0
}

// die takes the power.
func (h *host) die() {
	h.kill()
	for _, i := range h.ring {
		h.s.net.release(i)
	}
	h.ring = h.ring[:0]
	h.up, h.diedAt = false, h.s.now
	h.frozenUntil, h.kernelUntil, h.linkUntil, h.brownUntil = 0, 0, 0, 0
}

// boot gives it back, and starts the agent.
func (h *host) boot() {
	h.up, h.bornAt = true, h.s.now
	h.start()
}

// freeze keeps the process from running.
func (h *host) freeze(d time.Duration) {
	if until := h.s.now + d; until > h.frozenUntil {
		h.frozenUntil = until
		h.s.agenda.push(event{at: until, kind: evResume, host: h.id})
	}
}

// stall keeps the kernel, and with it the process, from running.
func (h *host) stall(d time.Duration, drops bool) {
	until := h.s.now + d
	if until <= h.kernelUntil {
		return
	}
	h.kernelUntil, h.kernelDrops = until, drops
	h.s.agenda.push(event{at: until, kind: evThaw, host: h.id})
	h.freeze(d)
}

// thaw is the end of a stall of the kernel: what waits in the card is worked off.
func (h *host) thaw() {
	if h.s.now < h.kernelUntil || !h.up {
		return
	}
	waiting := h.ring
	h.ring = nil
	for _, i := range waiting {
		h.arrive(i)
	}
	h.ring = waiting[:0]
}

// resume is the end of a stall of the process: it drains its socket, and only then looks at the time.
func (h *host) resume() {
	if h.frozen() || !h.alive() {
		return
	}
	waiting := h.socket
	h.socket = nil
	for n, i := range waiting {
		if !h.running {
			for _, i := range waiting[n:] {
				h.s.net.release(i)
			}
			break
		}
		h.handle(i)
	}
	h.socket = waiting[:0]
	if h.running {
		if h.wake <= h.s.now {
			h.tick()
		} else {
			h.sleep(h.wake)
		}
		h.mouth.resume()
	}
}

// handle gives the machine what the agent has read.
func (h *host) handle(i uint32) {
	s := h.s
	in := s.net.pool[i]
	s.net.release(i)
	from := s.hosts[in.from]
	switch in.kind {
	case inPacket:
		if h.knows[in.from] != in.session { // nobody is believed before it has answered a challenge
			if in.session > h.knows[in.from] && (h.asked[in.from] == 0 || s.now >= h.asked[in.from]+20*time.Millisecond) {
				h.asked[in.from] = s.now
				s.send(h, from, input{kind: inChallenge, session: h.session})
			}
			return
		}
		h.do(h.machine.Receive(h.clock(), from.name, in.packet))
	case inChallenge:
		s.send(h, from, input{kind: inProof, session: h.session})
	case inProof:
		h.knows[in.from] = max(h.knows[in.from], in.session)
	case inEcho:
		if s.cfg.Bug != IgnoresKernels || s.now < warmUp {
			h.do(h.machine.Echoed(h.clock(), from.name, h.at(in.asked)))
		}
	case inClosed:
		h.do(h.machine.Closed(h.clock(), from.name))
	case inWitness:
		h.do(h.machine.WitnessEchoed(h.clock(), h.at(in.asked)))
	case inMessage:
		h.mouth.receive(from, in.message)
	case inEchoAsk: // the kernel's
	}
}

// tick lets the machine look at the time.
func (h *host) tick() { h.do(h.machine.Tick(h.clock())) }

// do carries out what the machine wants.
func (h *host) do(eff watch.Effects) {
	s := h.s
	for i := range eff.Send {
		to := s.host(eff.Send[i].To)
		s.report.Watch++
		s.send(h, to, input{kind: inPacket, session: h.session, packet: eff.Send[i].Packet})
	}
	for _, name := range eff.Ping {
		s.send(h, s.host(name), input{kind: inEchoAsk, asked: s.now})
	}
	if eff.PingWitness {
		h.askWitness()
	}
	if h.running && h.left == watch.LeftNot {
		h.sleep(h.since(eff.Wake))
	}
	for _, n := range eff.News {
		h.news(n)
	}
}

// sleep plans the next look at the time. An earlier plan stays, and is found to be too early when its time comes.
func (h *host) sleep(until time.Duration) {
	h.wake = until
	if h.planned == 0 || until < h.planned {
		h.planned = max(until, h.s.now)
		h.plan++
		slack := time.Duration(h.s.rng.Uint64()>>32) * timerSlack >> 32 //nolint:gosec // 32 bits
		h.s.agenda.push(event{at: h.planned + slack, kind: evWake, host: h.id, arg: h.plan})
	}
}

func (h *host) woken(plan uint32) {
	if plan != h.plan || !h.alive() {
		return
	}
	h.planned = 0
	switch {
	case h.frozen(): // resume looks
	case h.left != watch.LeftNot: // it has said goodbye, and waits for nothing
	case h.wake <= h.s.now:
		h.tick()
	default:
		h.sleep(h.wake)
	}
}

// goodbye has the machine say it.
func (h *host) goodbye(why watch.Left) {
	h.left = why
	h.s.trace("%s: goodbye %d", h.name, why)
	if h.s.cfg.Bug != SaysNoGoodbye {
		h.do(h.machine.Goodbye(h.clock(), why))
		v := h.view[h.id]
		h.be(seen{known: true, member: false, watched: true, left: why, term: v.term})
		h.s.announce(h, h.view[h.id])
	}
}

// news is what others must know.
func (h *host) news(n watch.News) {
	h.s.traceNews(h, n)
	switch n.Kind {
	case watch.NewsVerdict:
		h.s.check.verdict(h, n.Verdict)
	case watch.NewsHeard:
		h.s.check.heard(h, n.Host)
	case watch.NewsIsolated:
		h.isolated = true
		h.s.check.isolated(h)
	case watch.NewsRejoined:
		h.isolated = false
		h.s.check.rejoined(h)
	case watch.NewsAccused:
		h.accused = max(h.accused, n.Verdict.Term)
		if n.Verdict.Term >= h.term && h.s.cfg.Bug != KeepsTerm {
			h.takeTerm(n.Verdict.Term + 1)
		}
	}
	h.mouth.news(n)
}

func (s *simulation) traceNews(h *host, n watch.News) {
	v := n.Verdict
	switch n.Kind {
	case watch.NewsVerdict:
		votes := ""
		for _, b := range v.Votes {
			votes += fmt.Sprintf(" %s(%v,%v)", b.Voter, b.Silence, b.Kernel)
		}
		reached, roster := s.reach(h)
		s.trace("%s, which reaches %d of %d: %s is %s in term %d, one of %d suspects:%s", h.name, reached, roster, n.Host, v.Level, v.Term, v.Suspects, votes)
	case watch.NewsHeard:
		s.trace("%s: hears %s again, which was %s in term %d", h.name, n.Host, v.Level, v.Term)
	case watch.NewsAccused:
		s.trace("%s: hears that it is %s in term %d", h.name, v.Level, v.Term)
	case watch.NewsIsolated, watch.NewsRejoined:
		s.trace("%s: cut off: %v, reaches %d of %d", h.name, n.Kind == watch.NewsIsolated, n.Reached, n.Roster)
	}
}
