package watch

import (
	"slices"
	"strings"
	"time"
)

const (
	voteFor      = 200 * time.Millisecond // how long a vote is fresh
	ballotEvery  = 40 * time.Millisecond
	ballotsFor   = 100 * time.Millisecond // told to the others though the verdict is reached: one of them may lack a vote
	witnessAfter = 30 * time.Millisecond
	witnessEvery = 60 * time.Millisecond
	witnessesOf  = 3
	freshEcho    = 200 * time.Millisecond  // a kernel that answers
	freshRefusal = 1500 * time.Millisecond // a kernel that says, once a second at most (icmp(7), icmp_ratelimit), that a port is closed
)

// deadlines are when a host is due for each level; zero: never. Those of Silent and Hung hold only while the kernel answers.
func (m *Machine) deadlines(p *peer) (at [LevelConfirmed + 1]time.Duration) {
	probable, confirmed := m.cfg.Probable, m.cfg.Confirmed
	answers := m.kernelAnswers(p)
	switch {
	case p.Left == LeftStopped && !answers: // nothing is left to hear of it
		return at
	case p.Left == LeftStopped:
		probable, confirmed = max(probable, stoppedProb), max(confirmed, stoppedConf)
		at[LevelSilent] = p.leftAt + stoppedFor
	case !answers:
		probable, confirmed = unknownTimes*probable-margin, unknownTimes*confirmed-margin
		if p.closed {
			at[LevelSilent] = p.from + silentAfter
		}
	default:
		probable, confirmed = probable-margin, confirmed-margin
		at[LevelSilent] = p.from + silentAfter
		if !p.closed {
			at[LevelHung] = p.from + hungAfter
		}
	}
	at[LevelProbable] = p.lastSign() + probable
	if len(p.observers) > 1 || m.cfg.Witness { // one alone can't tell a dead host from a cut link
		at[LevelConfirmed] = p.lastSign() + confirmed
	}
	return at
}

// kernelAnswers says that its kernel can be asked for echoes, and is known to answer.
func (m *Machine) kernelAnswers(p *peer) bool { return m.cfg.Echo && p.kernel != 0 }

// opinion is the level that this host would vote for, and when the next higher one is due.
func (m *Machine) opinion(p *peer, now time.Duration) (level Level, next time.Duration) {
	fresh := freshEcho
	switch {
	case p.Left == LeftStopped:
		fresh = slowAfter
	case p.closed && !m.kernelAnswers(p):
		fresh = freshRefusal
	}
	answers := p.kernelFrom > p.from && now-p.kernelFrom <= fresh
	for l, at := range m.deadlines(p) {
		switch l := Level(l); {
		case at == 0 || l <= LevelHung && !answers:
		case now >= at:
			level = l
		case next == 0 || at < next:
			next = at
		}
	}
	return level, next
}

// suspicions looks after every host that this one watches.
func (m *Machine) suspicions(now time.Duration) {
	withheld := false
	for _, p := range m.watched {
		m.accuse(p, now)
		if p.accusations > 0 {
			m.at(p.accuseAt)
		}
		m.askDue(p, now)
		if p.observed && p.heard != 0 && !m.isolated {
			withheld = m.judge(p, now) || withheld
		}
	}
	if !withheld {
		m.withheld, m.restored = 0, 0
	}
}

// askDue asks a silent host for echoes.
func (m *Machine) askDue(p *peer, now time.Duration) {
	after, every := askAfter, askEvery
	since := p.from
	switch {
	case !p.observed && p.verdict == LevelNone:
		return
	case !p.observed: // to learn of its return
		after, every = 0, askSeldom
	case p.heard == 0:
		after, every = 0, askSlowly
	case p.verdict == LevelConfirmed && now-p.verdictAt > deadLong:
		every = askSeldom
	case p.verdict == LevelSilent || p.verdict == LevelHung: // more often only when the kernel misses an answer
		since = p.lastSign()
	case p.Left == LeftStopped:
		after, since = askSlowly, p.lastSign()
		if now-since < slowAfter {
			every = askSlowly
		}
	}
	if due := max(since+after, p.askAt); now < due {
		m.at(due)
		return
	}
	m.ask(p, now, p.heard != 0 || p.pinged < calibration)
	p.askAt = now + every
	m.at(p.askAt)
}

// judge votes about one host when it is time to, and says whether a vote is withheld.
func (m *Machine) judge(p *peer, now time.Duration) (withheld bool) {
	level, next := m.opinion(p, now)
	if next != 0 {
		m.at(next)
		m.prepare(p, next, now)
	}
	if level < p.vote {
		p.unvote()
	}
	if level <= p.verdict {
		if p.vote == p.verdict && p.vote != LevelNone && now < p.votedAt+ballotsFor {
			m.tellVote(p, now)
		}
		return false
	}
	if !m.trusted(p, level, now) { // a vote that was cast as well: the others may be gone since
		m.restored = 0
		m.withhold(now)
		return true
	}
	if level >= LevelProbable && m.withheld != 0 && !m.seenSince(now) {
		return true
	}
	if level > p.vote {
		p.vote, p.votedAt = level, now
		p.ballotAt, p.witnessAt = now, now+witnessAfter
	}
	m.tellVote(p, now)
	if m.decide(p, now) {
		return false
	}
	m.askWitnesses(p, now)
	return false
}

// ballotOf is this host's word about another.
func (m *Machine) ballotOf(p *peer, level Level, witness bool, suspects int, now time.Duration) Packet {
	v := m.voteOf(p, now)
	return Packet{
		Kind: Ballot, Host: p.Name, Level: level, Term: p.term,
		Silence: v.Silence, Kernel: v.Kernel, Closed: v.Closed, Witness: witness, Suspects: uint16(min(suspects, 1<<16-1)),
	}
}

func (m *Machine) voteOf(p *peer, now time.Duration) Vote {
	v := Vote{Voter: m.cfg.Self, Silence: age(p.heard, now), Kernel: AgeNever, Closed: p.closed}
	if p.kernel > p.heard {
		v.Kernel = age(p.kernel, now)
	}
	return v
}

// tellVote sends the own vote to the other observers, again and again: packets are lost.
func (m *Machine) tellVote(p *peer, now time.Duration) {
	if now >= p.ballotAt {
		p.ballotAt = now + ballotEvery
		pkt := m.ballotOf(p, p.vote, false, m.suspectsAtOnce(now), now)
		for _, o := range p.observers {
			if o != m.self {
				m.send(o.Name, pkt)
			}
		}
	}
	m.at(p.ballotAt)
}

// ballot takes another's vote. Who is no observer of the host looks whether it answers.
func (m *Machine) ballot(from *peer, pkt Packet, now time.Duration) {
	if pkt.Host == m.cfg.Self { // the voter has not heard us: this is what it lacks
		if !m.gone {
			m.send(from.Name, Packet{Kind: Heartbeat, Term: m.self.Term})
		}
		return
	}
	s := m.peers[pkt.Host]
	if s == nil || s == from || pkt.Level == LevelNone || pkt.Level > LevelConfirmed {
		return
	}
	if !s.observed && !pkt.Witness {
		m.inquire(from, s, pkt.Level, now)
		return
	}
	if !s.observed || m.objects(from, s, pkt.Level, now) {
		return
	}
	if m.heardLater(s, pkt, now) {
		m.object(from, s, now)
	}
	if _, has := s.ballots[from.Name]; !has && len(s.ballots) >= maxBallots {
		return
	}
	if s.ballots == nil {
		s.ballots = map[string]ballot{}
	}
	s.ballots[from.Name] = ballot{
		at: now, level: pkt.Level, suspects: int(pkt.Suspects),
		vote: Vote{Voter: from.Name, Silence: clampAge(pkt.Silence), Kernel: clampAge(pkt.Kernel), Closed: pkt.Closed, Witness: pkt.Witness},
	}
	if s.vote != LevelNone {
		m.at(now)
	}
}

func clampAge(age time.Duration) time.Duration {
	if age < 0 {
		return AgeNever
	}
	return min(age, maxAge)
}

// objection counts as having heard the host oneself, as long ago as it says.
func (m *Machine) objection(pkt Packet, now time.Duration) {
	s := m.peers[pkt.Host]
	if s == nil || !s.observed {
		return
	}
	if pkt.Silence >= 0 {
		s.from = max(s.from, now-min(pkt.Silence, maxAge))
	}
	if pkt.Kernel >= 0 {
		s.kernelFrom = max(s.kernelFrom, now-min(pkt.Kernel, maxAge))
	}
}

// supports says whether a vote for one level is one for another.
func supports(vote, level Level) bool {
	return vote == level || vote == LevelConfirmed && level == LevelProbable || vote == LevelHung && level == LevelSilent
}

// decide counts the fresh votes, and says whether they are a verdict.
func (m *Machine) decide(p *peer, now time.Duration) bool {
	votes, suspects := []Vote{m.voteOf(p, now)}, m.suspectsAtOnce(now)
	for _, b := range p.ballots {
		if now-b.at <= voteFor && supports(b.level, p.vote) {
			votes = append(votes, b.vote)
			suspects = max(suspects, b.suspects)
		}
	}
	if len(votes) < quorum(len(p.observers)) {
		return false
	}
	slices.SortFunc(votes, func(a, b Vote) int { return strings.Compare(a.Voter, b.Voter) })
	p.last = Verdict{
		Host: p.Name, Term: p.term, Level: p.vote, By: m.cfg.Self, Votes: votes,
		Suspects: min(suspects, m.roster), Members: m.roster,
	}
	p.verdict, p.verdictAt = p.vote, now
	m.changed = true
	m.out.News = append(m.out.News, News{Kind: NewsVerdict, Host: p.Name, Verdict: p.last})
	return true
}

// askWitnesses asks hosts that don't watch this one whether it answers them, when the observers don't agree or don't answer.
func (m *Machine) askWitnesses(p *peer, now time.Duration) {
	if quorum(len(p.observers)) == 1 {
		return
	}
	if now < p.witnessAt {
		m.at(p.witnessAt)
		return
	}
	p.witnessAt = now + witnessEvery
	m.at(p.witnessAt)
	fit := func(skipAsked bool) []*peer {
		var list []*peer
		for _, o := range m.others {
			if o != p && o.live && !slices.Contains(p.observers, o) && !m.suspect(o, now) && (!skipAsked || !p.witnesses[o.Name]) {
				list = append(list, o)
			}
		}
		return list
	}
	candidates := fit(true)
	if len(candidates) < witnessesOf { // all were asked: from the beginning
		p.witnesses = nil
		candidates = fit(false)
	}
	if p.witnesses == nil {
		p.witnesses = map[string]bool{}
	}
	for n := len(candidates); n > 0 && n > len(candidates)-witnessesOf; n-- {
		i := int(m.rand() % uint64(n))
		o := candidates[i]
		candidates[i] = candidates[n-1]
		p.witnesses[o.Name] = true
		m.send(o.Name, Packet{Kind: WitnessRequest, Host: p.Name, Level: p.vote, Term: p.term})
	}
}
