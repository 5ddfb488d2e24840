package watch

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// maxObservers is how many watch one subject, where there are so many.
const maxObservers = 5

// quorum is how many votes of k observers, witnesses included, make a verdict.
func quorum(k int) int {
	switch {
	case k >= 4:
		return 3
	case k >= 2:
		return 2
	}
	return 1
}

// hashes are a host's places on the rings: FNV-1a of ring and name, mixed, because FNV alone leaves near names near.
func hashes(name string) (places [maxObservers]uint64) {
	for i := range places {
		h := (uint64(14695981039346656037) ^ uint64(i)) * 1099511628211
		for j := range len(name) {
			h = (h ^ uint64(name[j])) * 1099511628211
		}
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		places[i] = h ^ h>>31
	}
	return places
}

// ring orders the hosts that can observe.
type ring struct {
	n       int
	members []*peer
	other   []int // by place: how many places on the next host of another zone stands; 0: there is none
}

func newRing(n int, live []*peer) ring {
	r := ring{n: n, members: slices.Clone(live), other: make([]int, len(live))}
	slices.SortFunc(r.members, func(a, b *peer) int {
		return cmp.Or(cmp.Compare(a.places[n], b.places[n]), cmp.Compare(a.Name, b.Name))
	})
	// Twice around, backwards, so that the last ones see those after the start.
	for i := 2*len(live) - 2; i >= 0; i-- {
		here, next := i%len(live), (i+1)%len(live)
		switch {
		case r.members[here].Zone != r.members[next].Zone:
			r.other[here] = 1
		case r.other[next] > 0:
			r.other[here] = min(r.other[next]+1, len(live))
		}
	}
	return r
}

// after is the place that follows a host's own, whether or not it stands on the ring.
func (r ring) after(s *peer) int {
	return sort.Search(len(r.members), func(i int) bool {
		m := r.members[i]
		return cmp.Or(cmp.Compare(m.places[r.n], s.places[r.n]), cmp.Compare(m.Name, s.Name)) > 0
	})
}

// rings are all of them.
type rings struct {
	rings []ring
	zones map[string]int // how many of each zone stand on them
	live  int
}

func newRings(live []*peer) rings {
	rs := rings{zones: map[string]int{}, live: len(live)}
	for _, p := range live {
		rs.zones[p.Zone]++
	}
	if len(live) > 0 {
		for n := range maxObservers {
			rs.rings = append(rs.rings, newRing(n, live))
		}
	}
	return rs
}

// observers chooses who watches s, appending to chosen, which is empty: one of each ring, the next that is not of its zone.
func (rs rings) observers(s *peer, chosen []*peer) []*peer {
	candidates, outside := rs.live, rs.live-rs.zones[s.Zone]
	if s.live {
		candidates--
	}
	for n := range min(maxObservers, candidates) {
		r := rs.rings[n]
		i := r.after(s)
		for range r.members {
			i %= len(r.members)
			c := r.members[i]
			switch {
			case c.Zone == s.Zone && len(chosen) < outside: // those chosen so far are all of other zones
				i += max(r.other[i], 1)
				continue
			case c == s || slices.Contains(chosen, c):
				i++
				continue
			}
			chosen = append(chosen, c)
			break
		}
	}
	return chosen
}

// rewatch finds out anew who observes whom, and how many there are.
func (m *Machine) rewatch(now time.Duration) {
	m.changed = false
	m.roster, m.others = 1, m.others[:0]
	live := make([]*peer, 0, len(m.sorted)+1)
	m.self.live = m.self.Watched
	if m.self.live {
		live = append(live, m.self)
	}
	for _, p := range m.sorted {
		if p.Left != LeftShutdown {
			m.roster++
			if p.Watched {
				m.others = append(m.others, p)
			}
		}
		p.live = p.Watched && p.Member && p.Left == LeftNot && p.verdict == LevelNone && !p.Lost
		if p.live {
			live = append(live, p)
		}
	}
	rs := newRings(live)
	m.observers = rs.observers(m.self, nil)
	m.watched = m.watched[:0]
	var buf [maxObservers]*peer
	for _, p := range m.sorted {
		observed := false
		if p.subject() {
			chosen := rs.observers(p, buf[:0])
			if observed = slices.Contains(chosen, m.self); observed {
				p.observers = slices.Clone(chosen)
			}
		}
		switch {
		case observed && !p.observed:
			p.grace(now - askAfter) // it is asked at once
			p.askAt = now
			m.hurry(p, now)
			m.at(now)
		case !observed && p.observed:
			p.observers = nil
			p.unvote()
		}
		p.observed = observed
		if p.observed || p.verdict != LevelNone || p.accusations > 0 {
			m.watched = append(m.watched, p)
		}
	}
}
