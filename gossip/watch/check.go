package watch

import "time"

const (
	checkBefore   = 110 * time.Millisecond // of the vote
	widenBefore   = 60 * time.Millisecond
	checkFor      = 300 * time.Millisecond // how long a sample says something
	sampleSize    = 20                     // of which one may be missing: half a cluster takes itself for the whole once in 50 000 samples
	reachWithin   = 150 * time.Millisecond // well under a deadline: who was heard just before a split is not reached after it
	reachEvery    = 100 * time.Millisecond
	pollEvery     = 10 * time.Millisecond
	staleFor      = 10 * time.Millisecond // after a freeze: what is read then is of before it, and says nothing of who is there now
	restoredFor   = 60 * time.Millisecond // a heartbeat, and two echoes
	isolatedAfter = 250 * time.Millisecond
	isolatedPoll  = 20 * time.Millisecond
	suspectFor    = 2 * time.Second // after the deadline: the long dead are nobody's suspects
)

// check is the question whether it is this host that hears nothing.
type check struct {
	at     time.Duration
	sample []*peer
	of     int           // how many it was drawn from
	allAt  time.Duration // when all were asked

	witnessAt time.Duration // when the outside witness was
}

// prepare asks a few others, and all when those don't answer or there are several suspects, shortly before a vote is due.
func (m *Machine) prepare(p *peer, deadline, now time.Duration) {
	if now < deadline-checkBefore {
		m.at(deadline - checkBefore)
		return
	}
	if len(p.observers) == 1 {
		m.askWitness(now)
	}
	if m.roster <= 2 {
		return
	}
	if m.check.at == 0 || now > m.check.at+checkBefore+askEvery {
		m.drawSample(now)
	}
	switch {
	case now < deadline-widenBefore:
		m.at(deadline - widenBefore)
	case now < deadline && (m.suspects(now) > 1 || !m.sampleAnswers(now)):
		m.askAll(now)
	}
}

// drawSample asks random hosts that nothing speaks against.
func (m *Machine) drawSample(now time.Duration) {
	m.check.at, m.check.sample = now, nil
	candidates := make([]*peer, 0, len(m.others))
	for _, p := range m.others {
		if p.Member && p.heard != 0 && p.verdict == LevelNone && !p.Lost && !m.suspect(p, now) && (p.Left == LeftNot || p.kernel != 0) {
			candidates = append(candidates, p)
		}
	}
	m.check.of = len(candidates)
	for n := len(candidates); n > 0 && len(m.check.sample) < sampleSize; n-- {
		i := int(m.rand() % uint64(n))
		p := candidates[i]
		candidates[i] = candidates[n-1]
		m.check.sample = append(m.check.sample, p)
		m.ask(p, now, true)
	}
}

func (m *Machine) sampleAnswers(now time.Duration) bool {
	if m.check.at < max(m.thawed+staleFor, now-checkFor, 1) || len(m.check.sample) == 0 || 4*m.check.of < 3*m.roster {
		return false
	}
	n := 0
	for _, p := range m.check.sample {
		if p.lastHeard() >= m.check.at {
			n++
		}
	}
	return n >= len(m.check.sample)-len(m.check.sample)/sampleSize
}

// agentsAnswer says whether half of the sample's agents do, if there is one: where the port is blocked all agents are silent.
func (m *Machine) agentsAnswer(now time.Duration) bool {
	if m.check.at == 0 || now > m.check.at+checkFor {
		m.drawSample(now)
		return len(m.check.sample) == 0
	}
	n := 0
	for _, p := range m.check.sample {
		if p.heard >= m.check.at {
			n++
		}
	}
	return 2*n >= len(m.check.sample)
}

// askAll asks everybody, not too often.
func (m *Machine) askAll(now time.Duration) {
	if m.check.allAt != 0 && now < m.check.allAt+reachEvery {
		return
	}
	m.check.allAt = now
	for _, p := range m.others {
		m.ask(p, now, true)
	}
	m.askWitness(now)
}

// askWitness asks the outside witness, as often as a silent host.
func (m *Machine) askWitness(now time.Duration) {
	if !m.cfg.Witness {
		return
	}
	if m.check.witnessAt == 0 || now >= m.check.witnessAt+askEvery {
		m.check.witnessAt = now
		m.out.PingWitness = true
	}
	m.at(m.check.witnessAt + askEvery)
}

// reach counts who was heard just now, oneself included, and of how many. An outside witness breaks the ties of an even
// roster.
func (m *Machine) reach(now time.Duration) (reached, roster int) {
	reached, roster = 1, m.roster
	since := max(now-reachWithin, m.thawed+staleFor, 1)
	for _, p := range m.others {
		if p.lastHeard() >= since {
			reached++
		}
	}
	if m.cfg.Witness && m.roster%2 == 0 {
		roster++
		if m.witnessAnswers(now, reachWithin) {
			reached++
		}
	}
	return reached, roster
}

func (m *Machine) witnessAnswers(now, within time.Duration) bool {
	return m.witness != 0 && now-m.witness <= within
}

func (m *Machine) majority(now time.Duration) bool {
	reached, roster := m.reach(now)
	return 2*reached > roster
}

// trusted says whether this host may vote: that it is not the one which is cut off. Where it is a host's only observer,
// confirmed needs the outside witness; two hosts have nobody else to ask.
func (m *Machine) trusted(p *peer, level Level, now time.Duration) bool {
	switch {
	case level <= LevelHung:
		return m.roster <= 2 || m.agentsAnswer(now)
	case len(p.observers) == 1 && m.cfg.Witness && (m.roster <= 2 || level == LevelConfirmed) && !m.witnessAnswers(now, m.cfg.Probable):
		return false
	case m.roster <= 2:
		return true
	}
	// Once a check has failed, only a majority helps: many samples would find a lucky one.
	if m.withheld == 0 && m.suspects(now) <= 1 && m.sampleAnswers(now) || m.majority(now) {
		return true
	}
	m.askAll(now)
	return false
}

// seenSince says that a self-check which had failed holds again for long enough that the suspects, too, would have been heard:
// after a split the first answers may be those of the others.
func (m *Machine) seenSince(now time.Duration) bool {
	if m.restored == 0 {
		m.restored = now
	}
	m.at(now + pollEvery)
	return now >= m.restored+restoredFor
}

// doubts says that this host may be the one which is cut off: it is no good witness.
func (m *Machine) doubts(now time.Duration) bool {
	return m.isolated || m.withheld != 0 || m.suspects(now) > 1 && m.roster > 2 && !m.majority(now)
}

// suspect says that a host is about to be voted on, or was lately.
func (m *Machine) suspect(p *peer, now time.Duration) bool {
	if !p.observed || p.heard == 0 || p.Lost && p.verdict == LevelNone { // what others know already is no sign of more
		return false
	}
	at := m.deadlines(p)[LevelProbable]
	return at != 0 && now >= at-checkBefore && now <= at+suspectFor
}

// suspects counts those whose fate is open.
func (m *Machine) suspects(now time.Duration) int {
	n := 0
	for _, p := range m.watched {
		if p.verdict < LevelConfirmed && m.suspect(p, now) {
			n++
		}
	}
	return n
}

// suspectsAtOnce is what a vote says of how many may be lost together: the own suspects, or those that did not answer when
// all were asked, whichever are more.
func (m *Machine) suspectsAtOnce(now time.Duration) int {
	own, missing := 0, 0
	for _, p := range m.watched {
		if m.suspect(p, now) {
			own++
		}
	}
	if since := now - m.check.allAt; m.check.allAt != 0 && since >= 25*time.Millisecond && since <= checkFor {
		for _, p := range m.others {
			if p.Member && p.Left == LeftNot && p.heard != 0 && p.lastHeard() < m.check.allAt && !p.Lost &&
				(p.verdict == LevelNone || m.suspect(p, now)) {
				missing++
			}
		}
		missing -= 1 + len(m.others)/20 // so many answers may be lost on a bad network: a lone death must not look like many
	}
	return max(own, missing, 1)
}

// withhold notes that a vote was due and the self-check failed. When that lasts, this host is isolated.
func (m *Machine) withhold(now time.Duration) {
	m.at(now + pollEvery)
	m.askWitness(now)
	if m.withheld == 0 {
		m.withheld = now
	}
	if now < m.withheld+isolatedAfter || m.majority(now) {
		return
	}
	m.isolated, m.withheld = true, 0
	m.newsOfReach(NewsIsolated, now)
	for _, p := range m.sorted {
		p.unvote()
	}
	m.at(now + isolatedPoll)
}

// outside is what an isolated host does: ask everybody now and then.
func (m *Machine) outside(now time.Duration) {
	if now >= m.check.allAt+askSeldom {
		m.askAll(now)
	}
	if !m.majority(now) {
		m.at(now + isolatedPoll)
		return
	}
	m.isolated = false
	m.check = check{}
	m.newsOfReach(NewsRejoined, now)
	for _, p := range m.sorted {
		if p.from != 0 {
			p.grace(now)
		}
	}
}

func (m *Machine) newsOfReach(kind NewsKind, now time.Duration) {
	reached, roster := m.reach(now)
	m.out.News = append(m.out.News, News{Kind: kind, Host: m.cfg.Self, Reached: reached, Roster: roster})
}
