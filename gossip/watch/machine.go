package watch

import (
	"cmp"
	"slices"
	"time"
)

// The paces of the watch.
const (
	beatEvery    = 50 * time.Millisecond
	beatsFor     = 2 * time.Second // for those that asked
	askAfter     = 120 * time.Millisecond
	askEvery     = 40 * time.Millisecond
	askSlowly    = 200 * time.Millisecond // those that were never heard, and the kernels of the stopped
	askSeldom    = 500 * time.Millisecond // the dead
	deadLong     = 10 * time.Second
	slowAfter    = 400 * time.Millisecond // a stopped host is asked as often as others
	margin       = 20 * time.Millisecond  // a vote is that much before the deadline of the verdict
	silentAfter  = 2 * time.Second
	hungAfter    = 10 * time.Second
	stoppedFor   = 10 * time.Minute
	stoppedProb  = time.Second
	stoppedConf  = 1350 * time.Millisecond
	unknownTimes = 4 // the deadlines where kernels say nothing
	accuseEvery  = 200 * time.Millisecond
	outageAfter  = 100 * time.Millisecond // without anything from outageOf hosts that send
	outageOf     = 4
	lateAfter    = 30 * time.Millisecond
	idle         = time.Second
	reorder      = 200 * time.Millisecond // a packet that arrives so soon after a goodbye was overtaken by it
	maxAskers    = 64
	maxBallots   = 64
)

// Machine is one host's part in the watch. Not safe for concurrent use. now never goes back between calls: the shell takes it
// from a monotonic clock. After a call that comes later than the Wake that was asked for, the machine takes itself to
// have been frozen, and accuses nobody for what it could not hear meanwhile.
//
// The shell hands in all that waits on its sockets before it calls Tick: a machine that is told of the time first accuses
// hosts whose heartbeats lie unread. Verdicts are therefore reached in Tick alone.
type Machine struct {
	cfg   Config
	rand  func() uint64
	start time.Time
	out   Effects
	wake  time.Duration
	gone  bool // said goodbye

	self   *peer
	peers  map[string]*peer // all but self
	sorted []*peer          // the same by name: effects come in one order
	others []*peer          // those that can be asked, by name
	roster int

	changed   bool    // who observes whom must be found out anew
	observers []*peer // of this host
	watched   []*peer // observed, lost or to be accused, by name
	heardAny  bool
	beatAt    time.Duration
	askers    map[string]time.Duration // until when they get heartbeats

	strangers []*peer
	meetAt    time.Duration // the first of them

	inquiries []*inquiry

	check     check
	lastAny   time.Duration // when any of the watched was heard
	restored  time.Duration // since when the self-check holds again
	thawed    time.Duration // since when this host is no longer frozen
	witness   time.Duration // answered a request of then
	withheld  time.Duration // since when the self-check has failed
	isolated  bool
	accused   uint64  // the term of the last accusation
	accusedOf []Level // in that term
}

// New makes a machine that knows nobody. rand returns random numbers; the machine draws from it in a fixed order.
func New(cfg Config, rand func() uint64, now time.Time) *Machine {
	return &Machine{
		cfg: cfg, rand: rand,
		start: now.Add(-time.Second), // so that no instant is zero
		self:  &peer{Host: Host{Name: cfg.Self}, places: hashes(cfg.Self)},
		peers: map[string]*peer{}, askers: map[string]time.Duration{},
		roster: 1,
	}
}

// begin starts a call: it gives everybody grace when the call is late.
func (m *Machine) begin(now time.Time) time.Duration {
	t := now.Sub(m.start)
	m.out = Effects{}
	if m.wake != 0 && t > m.wake+lateAfter {
		m.frozen(t-m.wake, t)
	}
	if m.wake == 0 {
		m.beatAt = t + m.below(beatEvery)
		m.wake = t
	}
	return t
}

func (m *Machine) end(now time.Duration) Effects {
	if m.changed {
		m.rewatch(now)
	}
	out := m.out
	m.out = Effects{}
	out.Wake, out.Calm = m.start.Add(m.wake), m.calm(now)
	return out
}

func (m *Machine) calm(now time.Duration) bool {
	if m.isolated || m.withheld != 0 || len(m.inquiries) > 0 {
		return false
	}
	return !slices.ContainsFunc(m.watched, func(p *peer) bool {
		return p.verdict == LevelNone && p.Left == LeftNot && !p.Lost && now-p.from >= askAfter
	})
}

// at asks for a Tick.
func (m *Machine) at(t time.Duration) { m.wake = min(m.wake, t) }

func (m *Machine) below(d time.Duration) time.Duration {
	return time.Duration(m.rand() % uint64(d))
}

func (m *Machine) send(to string, p Packet) { m.out.Send = append(m.out.Send, Send{to, p}) }

// ask asks for an echo of the agent, and of the kernel when kernel is set. Once per host and call is enough.
func (m *Machine) ask(p *peer, now time.Duration, kernel bool) {
	if p.sentAt == now {
		return
	}
	p.sentAt = now
	if p.Left == LeftNot {
		m.send(p.Name, Packet{Kind: EchoRequest, Stamp: uint64(now), Observe: p.observed})
	}
	if kernel && m.cfg.Echo {
		p.pinged++
		m.out.Ping = append(m.out.Ping, p.Name)
	}
}

// frozen forgives everybody what this host could not hear, and forgets what it was about to say.
func (m *Machine) frozen(late, now time.Duration) {
	m.forgive(late, now)
	for _, q := range m.inquiries {
		q.began, q.asks = now, 0
	}
	m.check = check{}
	m.withheld = 0
	m.thawed, m.lastAny = now, now
	m.wake = now
}

// came notes that one of those that this host watches was heard. Where several send and none was heard for a while, it was this
// host that was cut off: nobody is suspect for that time.
func (m *Machine) came(from *peer, now time.Duration) {
	if !from.observed {
		return
	}
	gap := now - m.lastAny
	if m.lastAny != 0 && gap > outageAfter {
		n := 0
		for _, p := range m.watched {
			if p.observed && p.verdict == LevelNone {
				n++
			}
		}
		if n >= outageOf {
			m.forgive(gap, now)
		}
	}
	m.lastAny = now
}

// forgive lets everybody's silence begin later.
func (m *Machine) forgive(by, now time.Duration) {
	for _, p := range m.sorted {
		if p.from != 0 {
			p.from = min(p.from+by, now)
		}
		if p.kernelFrom != 0 {
			p.kernelFrom = min(p.kernelFrom+by, now)
		}
		p.unvote()
	}
}

// Receive takes a packet; from is authenticated. Strangers to the roster are ignored.
func (m *Machine) Receive(now time.Time, from string, pkt Packet) Effects {
	t := m.begin(now)
	p := m.peers[from]
	if p == nil || m.gone {
		return m.end(t)
	}
	m.came(p, t)
	if pkt.Kind != EchoReply {
		m.hear(p, t, t)
	}
	if goodbye := pkt.Kind == Heartbeat && pkt.Left != LeftNot; goodbye {
		m.leave(p, pkt.Left, t)
	} else if p.Left != LeftNot && t > p.leftAt+reorder { // whoever said goodbye says nothing more
		m.leave(p, LeftNot, t)
	}
	switch pkt.Kind {
	case Heartbeat:
		p.term = max(p.term, pkt.Term)
	case EchoRequest:
		m.send(from, Packet{Kind: EchoReply, Term: m.self.Term, Stamp: pkt.Stamp})
		if _, asks := m.askers[from]; pkt.Observe && (asks || len(m.askers) < maxAskers) {
			m.askers[from] = t + beatsFor
		}
	case EchoReply:
		if asked := time.Duration(pkt.Stamp); asked > 0 && asked <= t { // else it is nonsense, or an answer to an earlier run
			p.term = max(p.term, pkt.Term)
			p.answers = min(p.answers+1, calibration)
			m.hear(p, asked, t)
		}
	case Ballot:
		m.ballot(p, pkt, t)
	case Objection:
		m.objection(pkt, t)
	case WitnessRequest:
		if s := m.peers[pkt.Host]; s != nil {
			m.inquire(p, s, pkt.Level, t)
		}
	case Accusation:
		m.accusation(pkt)
	}
	return m.end(t)
}

// accusation is about this host. Each level of each term is told once.
func (m *Machine) accusation(pkt Packet) {
	if pkt.Term < m.self.Term || pkt.Term < m.accused {
		return
	}
	if pkt.Term > m.accused {
		m.accused, m.accusedOf = pkt.Term, nil
	}
	if slices.Contains(m.accusedOf, pkt.Level) || pkt.Level > LevelConfirmed {
		return
	}
	m.accusedOf = append(m.accusedOf, pkt.Level)
	m.out.News = append(m.out.News, News{Kind: NewsAccused, Host: m.cfg.Self, Verdict: Verdict{
		Host: m.cfg.Self, Term: pkt.Term, Level: pkt.Level, Members: m.roster,
	}})
}

// Echoed says that a host's kernel has answered the echo that was sent at asked.
func (m *Machine) Echoed(now time.Time, host string, asked time.Time) Effects {
	t, at := m.begin(now), asked.Sub(m.start)
	if p := m.peers[host]; p != nil && at > 0 && at <= t {
		m.came(p, t)
		m.hearKernel(p, at, t)
	}
	return m.end(t)
}

// Closed says that a host's kernel has refused a packet of ours: nobody listens on the agent's port. Which packet it was is not
// known, and so not how old the answer is: as a sign of life it counts only where kernels are asked for no echoes.
func (m *Machine) Closed(now time.Time, host string) Effects {
	t := m.begin(now)
	if p := m.peers[host]; p != nil {
		p.closed = true
		if !m.kernelAnswers(p) {
			p.kernelFrom = max(p.kernelFrom, t-askEvery)
		}
	}
	return m.end(t)
}

// WitnessEchoed says that the outside witness has answered the echo that was sent at asked.
func (m *Machine) WitnessEchoed(now, asked time.Time) Effects {
	t, at := m.begin(now), asked.Sub(m.start)
	if at > 0 && at <= t {
		m.witness = max(m.witness, at)
	}
	return m.end(t)
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) Effects {
	t := m.begin(now)
	m.wake = t + idle
	if m.gone {
		return m.end(t)
	}
	m.beat(t)
	m.greet(t)
	m.inquiriesDue(t)
	if m.isolated {
		m.outside(t)
	}
	m.suspicions(t)
	if m.changed { // before the wake is fixed: new subjects want to be asked soon
		m.rewatch(t)
	}
	m.wake = max(m.wake, t+time.Millisecond)
	return m.end(t)
}

// beat sends what is due to those that watch this host.
func (m *Machine) beat(now time.Duration) {
	if now >= m.beatAt {
		m.beatAt += beatEvery
		if m.beatAt <= now {
			m.beatAt = now + beatEvery
		}
		pkt := Packet{Kind: Heartbeat, Term: m.self.Term}
		for _, p := range m.observers {
			m.send(p.Name, pkt)
		}
		for _, name := range m.asking(now) {
			m.send(name, pkt)
		}
	}
	m.at(m.beatAt)
}

// asking is who asked for heartbeats lately and is no observer, by name.
func (m *Machine) asking(now time.Duration) []string {
	var names []string
	for name, until := range m.askers {
		if until <= now {
			delete(m.askers, name)
			continue
		}
		if !slices.ContainsFunc(m.observers, func(p *peer) bool { return p.Name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Goodbye tells everybody once that this host leaves; the machine then does nothing more but say so again, when it is called
// again.
func (m *Machine) Goodbye(now time.Time, why Left) Effects {
	t := m.begin(now)
	m.gone = true
	for _, p := range m.sorted {
		if p.Watched && p.Left == LeftNot {
			m.send(p.Name, Packet{Kind: Heartbeat, Term: m.self.Term, Left: why})
		}
	}
	m.wake = t + idle
	return m.end(t)
}

// Status is of this moment.
func (m *Machine) Status(now time.Time) Status {
	t := now.Sub(m.start)
	s := Status{Isolated: m.isolated, Blind: !m.heardAny && len(m.others) > 0}
	for _, p := range m.observers {
		s.Observers = append(s.Observers, p.Name)
	}
	slices.SortFunc(s.Observers, cmp.Compare[string])
	for _, p := range m.sorted {
		if p.observed {
			o := Observed{Host: p.Name, Silence: AgeNever, Level: p.verdict, Left: p.Left}
			if p.heard != 0 {
				o.Silence = max(0, t-p.heard)
			}
			for _, by := range p.observers {
				o.Observers = append(o.Observers, by.Name)
			}
			slices.Sort(o.Observers)
			s.Observed = append(s.Observed, o)
		}
		if p.noEcho() && m.cfg.Echo {
			s.NoEcho = append(s.NoEcho, p.Name)
		}
	}
	return s
}
