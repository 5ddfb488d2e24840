package watch

import (
	"slices"
	"time"
)

const (
	inquiryFor   = 60 * time.Millisecond
	inquiryEvery = 20 * time.Millisecond
	inquiryAsks  = 3
	maxInquiries = 256
	maxAsking    = 16
	objectWithin = 120 * time.Millisecond
	heardApart   = 60 * time.Millisecond // one lost heartbeat is no difference
)

// inquiry is what this host does as a witness: look whether a host answers, for those that asked.
type inquiry struct {
	about *peer
	level Level // the lowest that was asked about
	began time.Duration
	asks  int
	from  []*peer
}

// objects sends an objection to one that votes about a host which was heard lately. Only what was heard directly counts: two
// hosts must not keep a dead one alive by telling each other of it.
func (m *Machine) objects(to, s *peer, level Level, now time.Duration) bool {
	agent := s.heard != 0 && now-s.heard <= objectWithin
	kernel := s.kernel != 0 && now-s.kernel <= objectWithin && level >= LevelProbable
	if agent || kernel {
		m.object(to, s, now)
	}
	return agent || kernel
}

// heardLater says that this host has heard another one later than a voter, by so much that the vote is too early: the voter's
// own link may have been down. Else it and witnesses, who look only for a moment, could outvote the other observers.
func (m *Machine) heardLater(s *peer, vote Packet, now time.Duration) bool {
	silence := vote.Silence
	if vote.Kernel >= 0 && vote.Level >= LevelProbable {
		silence = min(silence, vote.Kernel)
	}
	least := now - silence + heardApart
	return !vote.Witness && silence >= 0 && (s.heard > max(least, 0) || vote.Level >= LevelProbable && s.kernel > max(least, 0))
}

func (m *Machine) object(to, s *peer, now time.Duration) {
	m.send(to.Name, Packet{Kind: Objection, Host: s.Name, Silence: age(s.heard, now), Kernel: age(s.kernel, now)})
}

// age is in whole milliseconds, as on the wire.
func age(at, now time.Duration) time.Duration {
	if at == 0 {
		return AgeNever
	}
	return max(0, min(now-at, maxAge)).Truncate(time.Millisecond)
}

// inquire takes up the question of another host.
func (m *Machine) inquire(from, s *peer, level Level, now time.Duration) {
	if m.objects(from, s, level, now) || m.isolated || !s.Watched {
		return
	}
	q := s.inquiry
	if q == nil {
		if len(m.inquiries) >= maxInquiries {
			return
		}
		q = &inquiry{about: s, level: level, began: now}
		s.inquiry = q
		m.inquiries = append(m.inquiries, q)
	}
	q.level = min(q.level, level)
	if !slices.Contains(q.from, from) && len(q.from) < maxAsking {
		q.from = append(q.from, from)
	}
	if q.asks == 0 {
		m.inquiryDue(q, now)
	}
}

// inquiryDue asks, and says whether the inquiry is over.
func (m *Machine) inquiryDue(q *inquiry, now time.Duration) bool {
	if now >= q.began+inquiryFor {
		if m.doubts(now) {
			return true
		}
		for _, to := range q.from {
			m.send(to.Name, m.ballotOf(q.about, q.level, true, 1, now))
		}
		return true
	}
	if q.asks < inquiryAsks && now >= q.began+time.Duration(q.asks)*inquiryEvery {
		q.asks++
		m.ask(q.about, now, true)
	}
	next := q.began + inquiryFor
	if q.asks < inquiryAsks {
		next = q.began + time.Duration(q.asks)*inquiryEvery
	}
	m.at(next)
	return false
}

func (m *Machine) inquiriesDue(now time.Duration) {
	m.inquiries = slices.DeleteFunc(m.inquiries, func(q *inquiry) bool {
		over := m.isolated || m.inquiryDue(q, now)
		if over {
			q.about.inquiry = nil
		}
		return over
	})
}

// answer ends an inquiry: the host lives.
func (m *Machine) answer(q *inquiry, now time.Duration) {
	m.close(q)
	for _, to := range q.from {
		m.object(to, q.about, now)
	}
}

func (m *Machine) close(q *inquiry) {
	q.about.inquiry = nil
	m.inquiries = slices.DeleteFunc(m.inquiries, func(x *inquiry) bool { return x == q })
}
