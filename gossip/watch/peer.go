package watch

import "time"

// peer is what is known of one host. All instants are since Machine.start; zero is never.
type peer struct {
	Host
	told   Left // what the membership said last: only a change of it is news
	leftAt time.Duration
	member bool // it was one in this run
	term   uint64
	places [maxObservers]uint64
	live   bool // it stands on the rings

	// Heard directly: the agent and the kernel, at the instant at which what they answered was sent.
	heard, kernel time.Duration
	// From when silence counts. Later than the above when others have heard it, or when this host itself could not hear.
	from, kernelFrom time.Duration

	closed   bool // the port, in this silence
	pinged   int  // how often its kernel was asked
	answers  int  // of its agent
	sentAt   time.Duration
	stranger bool
	meetAt   time.Duration // when to ask a stranger again

	observed  bool
	observers []*peer // of an observed one, this host among them
	askAt     time.Duration
	inquiry   *inquiry

	vote      Level // this host's, in this silence
	votedAt   time.Duration
	ballotAt  time.Duration
	witnessAt time.Duration
	witnesses map[string]bool // asked in this suspicion
	ballots   map[string]ballot

	verdict   Level // that stands
	verdictAt time.Duration
	last      Verdict

	accusations int // still to be made
	accused     Verdict
	accuseAt    time.Duration
}

// ballot is another's vote.
type ballot struct {
	at       time.Duration
	level    Level
	vote     Vote
	suspects int
}

// subject says whether somebody has to watch it.
func (p *peer) subject() bool {
	return p.Watched && p.Left != LeftShutdown && (p.Member || p.member)
}

// lastSign is when anything of it was heard last, by anybody and with grace.
func (p *peer) lastSign() time.Duration { return max(p.from, p.kernelFrom) }

// lastHeard is when this host itself heard anything of it.
func (p *peer) lastHeard() time.Duration { return max(p.heard, p.kernel) }

// noEcho says that its kernel never answers, which is known when its agent does.
func (p *peer) noEcho() bool {
	return p.kernel == 0 && p.answers >= calibration && p.pinged >= calibration
}

// grace lets its silence begin now.
func (p *peer) grace(now time.Duration) {
	p.from = now
	if p.kernelFrom != 0 {
		p.kernelFrom = now
	}
	p.unvote()
}

func (p *peer) unvote() {
	p.vote = LevelNone
	p.witnesses = nil
	p.ballots = nil
}

// hear takes a sign of life of the agent: a packet that arrived, or an answer to what was asked then.
func (m *Machine) hear(p *peer, at, now time.Duration) {
	m.heardAny = true
	p.heard = max(p.heard, at)
	if at >= p.from {
		p.from, p.closed = at, false
	}
	if p.verdict != LevelNone && at > p.verdictAt {
		p.accused, p.accusations, p.accuseAt = p.last, 5, now
		p.verdict = LevelNone
		p.unvote()
		m.changed = true
		m.out.News = append(m.out.News, News{Kind: NewsHeard, Host: p.Name, Verdict: p.last})
		m.accuse(p, now)
	}
	if q := p.inquiry; q != nil && at >= q.began {
		m.answer(q, now)
	}
}

// hearKernel takes an answer of the kernel.
func (m *Machine) hearKernel(p *peer, asked, now time.Duration) {
	p.kernel = max(p.kernel, asked)
	p.kernelFrom = max(p.kernelFrom, asked)
	if q := p.inquiry; q != nil && asked >= q.began && q.level >= LevelProbable {
		m.answer(q, now)
	}
}

// accuse tells a host that came back of the verdict about it, until it takes a higher term.
func (m *Machine) accuse(p *peer, now time.Duration) {
	if p.accusations == 0 || now < p.accuseAt {
		return
	}
	if p.term > p.accused.Term {
		p.accusations = 0
		return
	}
	p.accusations--
	p.accuseAt = now + accuseEvery
	m.send(p.Name, Packet{Kind: Accusation, Level: p.accused.Level, Term: p.accused.Term})
	if p.accusations > 0 {
		m.at(p.accuseAt)
	}
}

// leave takes a goodbye, or the end of one.
func (m *Machine) leave(p *peer, left Left, now time.Duration) {
	if p.Left == left {
		return
	}
	p.Left, p.leftAt = left, now
	p.unvote()
	if left == LeftNot {
		p.grace(now)
	}
	if left == LeftShutdown {
		p.verdict, p.accusations = LevelNone, 0
	}
	m.changed = true
	m.at(now)
}
