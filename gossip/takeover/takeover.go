// Package takeover decides who speaks for a host that can't speak for itself, when, and when no more.
//
// It is pure: no clock, goroutine, I/O or randomness of its own. Each host has one Machine; they agree because they rank the
// living by the same hash, and because whoever speaks says so (Claim) and leaves records that all see (Recorded). Two that
// speak at once do no harm: what they write and send is the same.
package takeover

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

const (
	// step is between the turns of two ranks.
	step = 50 * time.Millisecond
	// claimHeld is how long a claim keeps others from speaking; who is at it renews it each step.
	claimHeld = 2 * step
	// claimTo is how many of the next in rank are told.
	claimTo = 4
	// claimFor is how long a speaker renews its claim when nobody says that it has told all.
	claimFor = 30 * time.Second
	// gather is how long several losses at once are collected, so that each consumer gets one call. The last heartbeats of hosts that
	// go together are up to watch's 50 ms apart, and so are the verdicts.
	gather = 60 * time.Millisecond
	// massWithin is the time in which losses count as one event; massLeast and massShare (one in) how many are many.
	massWithin = 2 * time.Second
	massLeast  = 3
	massShare  = 20
)

// ZonePrefix tells zones from hosts in Effects.Hush: no host has a slash in its name.
const ZonePrefix = "zone/"

// Member is a host that is there.
type Member struct{ Name, Zone string }

// Loss is one host of a Speech.
type Loss struct {
	Host    string
	Verdict watch.Verdict
	At      time.Time // that was known here
}

// Speech is what this host says from now on, in place of what it said before of the same host or zone. Level LevelNone says
// that the host is well known to be gone: there is no alarm to raise, only deliveries to finish.
type Speech struct {
	Zone  string // a mass loss: one alarm on the zone, the hosts' correlated under it; empty: Hosts holds one
	Term  uint64 // of the zone's alarm; odd
	Hosts []Loss // by name; none: all hosts of the zone are back
}

// Claim says that a host speaks. It is small, and goes directly to those who would be next.
type Claim struct {
	Host  string // or
	Zone  string
	Term  uint64 // of the host, as the verdict names it; of a zone: its alarm's
	Level watch.Level
	Hosts []string // of the zone
	Done  bool     // all who had to be told at once are
}

// Send is one claim on its way.
type Send struct {
	To    string
	Claim Claim
}

// Effects are what the shell does, in any order; Hush before Speak.
type Effects struct {
	Speak []Speech
	Hush  []string // hosts, and zones as ZonePrefix and the name, for which this one no longer speaks: another does, or they are back
	Send  []Send
	Wake  time.Time // call Tick then; zero: never
}

// Record is what the replica holds of a speaker's word about a host.
type Record struct {
	Host   string
	Term   uint64 // of the host, as the verdict named it: one below the record's
	Level  watch.Level
	Zone   string // its alarm is correlated under that of this zone
	ZTerm  uint64 // the zone's
	Writer string
}

// Machine is one host's part. Not safe for concurrent use. What it is told it only notes; Tick decides, so that a host that was held up
// for a moment takes in all that was said meanwhile before it speaks.
type Machine struct {
	self     string
	now      time.Time
	members  map[string]string // name → zone
	isolated bool
	cases    map[string]*loss
	zones    map[string]*zone
	back     map[string]uint64 // hosts that speak for themselves again, and under which term: older verdicts may yet come
	eff      Effects
}

// turn is the question whose turn it is to speak: of a host, or of a zone.
type turn struct {
	level  watch.Level // what is to be said
	at     time.Time   // since when
	holder string      // who says that it speaks; empty: nobody
	holds  watch.Level // up to which level
	heard  time.Time   // its claim
	sticky bool        // it has told all, or its record is there: only its own end ends it

	speaking bool // we do
	said     watch.Level
	began    time.Time // saying that
	done     bool      // we have told all
	renew    time.Time
}

// loss is a host of which there is a verdict.
type loss struct {
	turn
	host    string
	zone    string // where it stands
	term    uint64
	verdict watch.Verdict
	first   time.Time
	known   time.Time   // that it is of this level
	grouped bool        // it is its zone's speaker who speaks
	joined  watch.Level // of what its zone says of it
}

type zone struct {
	turn
	name  string
	term  uint64
	dirty bool      // something in it changed since it was said
	due   time.Time // when that is to be said
	empty time.Time // since when all its hosts are back; zero: they are not, or it never had one
	had   bool      // it had hosts
}

// New makes a machine that knows nobody.
func New(self string) *Machine {
	return &Machine{self: self, members: map[string]string{}, cases: map[string]*loss{}, zones: map[string]*zone{}, back: map[string]uint64{}}
}

// Members replaces who is there, ourselves included. Hosts under a verdict don't count as there, whatever is said here.
func (m *Machine) Members(now time.Time, members []Member) Effects {
	m.begin(now)
	clear(m.members)
	for _, v := range members {
		m.members[v.Name] = v.Zone
	}
	m.succeed()
	return m.noted()
}

// Isolated says that this host is cut off, or is no more: cut off it speaks for nobody, and forgets whom it knew to be lost. What
// stands afterwards is to be Recorded again.
func (m *Machine) Isolated(now time.Time, isolated bool) Effects {
	m.begin(now)
	m.isolated = isolated
	if isolated {
		for _, c := range m.sorted() {
			m.forget(c)
		}
		for _, z := range m.zonesSorted() {
			if z.speaking {
				m.eff.Hush = append(m.eff.Hush, ZonePrefix+z.name)
			}
		}
		clear(m.zones)
	}
	return m.noted()
}

// Verdict takes the word of a quorum, of which this host may be one. where is the host's zone.
func (m *Machine) Verdict(now time.Time, where string, v watch.Verdict) Effects {
	m.begin(now)
	if m.isolated || v.Host == m.self || v.Term < m.back[v.Host] {
		return m.noted()
	}
	c := m.cases[v.Host]
	switch {
	case c == nil || v.Term > c.term:
		if c != nil {
			m.forget(c)
		}
		c = &loss{host: v.Host, term: v.Term, first: now}
		m.cases[v.Host] = c
	case v.Term < c.term || v.Level <= c.level && c.verdict.Level != watch.LevelNone:
		return m.noted()
	}
	c.zone, c.verdict, c.level, c.at, c.known = cmp.Or(where, c.zone), v, v.Level, now, now
	if v.Suspects > 1 && v.Level >= watch.LevelProbable {
		c.at = now.Add(gather)
	}
	m.succeed() // it may have been a speaker
	if v.Level >= watch.LevelProbable {
		m.group(c)
	}
	return m.noted()
}

// Departed says that a host has said goodbye for good: what it owed is to be told.
func (m *Machine) Departed(now time.Time, host string, term uint64) Effects {
	m.begin(now)
	if c := m.cases[host]; !m.isolated && host != m.self && term >= m.back[host] && (c == nil || c.term < term) {
		if c != nil {
			m.forget(c)
		}
		m.cases[host] = &loss{
			host: host, term: term, first: now, known: now, turn: turn{at: now},
			verdict: watch.Verdict{Host: host, Term: term}, // whoever missed the goodbye may record it as lost: then that is said in its term
		}
		m.succeed()
	}
	return m.noted()
}

// Forgotten is the term of a host that will not come back.
const Forgotten = math.MaxUint64

// Returned says that a host speaks for itself again, under term, or that it is Forgotten.
func (m *Machine) Returned(now time.Time, host string, term uint64) Effects {
	m.begin(now)
	if term == Forgotten {
		delete(m.back, host)
	} else {
		m.back[host] = max(m.back[host], term)
	}
	c := m.cases[host]
	if c == nil || term <= c.term {
		return m.noted()
	}
	if z := m.zones[c.zone]; z != nil && c.grouped {
		z.touch(now)
	}
	m.forget(c)
	return m.noted()
}

// Claim takes another speaker's word.
func (m *Machine) Claim(now time.Time, from string, c Claim) Effects {
	m.begin(now)
	if from == m.self {
		return m.noted()
	}
	if c.Zone == "" {
		if l := m.cases[c.Host]; l != nil && c.Term == l.term {
			m.hear(&l.turn, l.host, from, c)
		}
		return m.noted()
	}
	z := m.zones[c.Zone]
	if z != nil && z.over() && z.term < c.Term {
		z = nil
	}
	if z == nil || z.term < c.Term {
		if z == nil {
			z = &zone{name: c.Zone}
			m.zones[c.Zone] = z
			z.level, z.at = c.Level, now
		}
		z.term = c.Term
	}
	m.hear(&z.turn, z.name, from, c)
	for _, host := range c.Hosts {
		if l := m.cases[host]; l != nil && l.zone == c.Zone {
			m.join(l, z)
		}
	}
	return m.noted()
}

// Recorded says what the replica holds of a host that can't speak for itself: so a host that was not there at the verdict
// knows of it, and who speaks.
func (m *Machine) Recorded(now time.Time, where string, r Record) Effects {
	m.begin(now)
	if m.isolated || r.Host == m.self || r.Term < m.back[r.Host] {
		return m.noted()
	}
	c := m.cases[r.Host]
	if c == nil || c.term < r.Term {
		if c != nil {
			m.forget(c)
		}
		c = &loss{host: r.Host, term: r.Term, first: now, zone: where, verdict: watch.Verdict{Host: r.Host, Term: r.Term, Level: r.Level}}
		c.level, c.at, c.known = r.Level, now, now
		m.cases[r.Host] = c
		m.succeed()
	}
	if c.term != r.Term {
		return m.noted()
	}
	if c.level < r.Level {
		c.level, c.at, c.known, c.verdict.Level = r.Level, now, now, r.Level
	}
	if r.Zone != "" {
		z := m.zones[r.Zone]
		if z == nil {
			z = &zone{name: r.Zone, term: r.ZTerm}
			z.level, z.at = r.Level, now
			m.zones[r.Zone] = z
		}
		c.zone = r.Zone
		m.join(c, z)
		m.hear(&z.turn, z.name, r.Writer, Claim{Zone: z.name, Term: z.term, Level: r.Level, Done: true})
		return m.noted()
	}
	m.hear(&c.turn, c.host, r.Writer, Claim{Host: c.host, Term: c.term, Level: r.Level, Done: true})
	return m.noted()
}

// Orphaned says that the replica holds an alarm of a zone of which no host is lost any more: its speaker has not ended it.
func (m *Machine) Orphaned(now time.Time, name string, term uint64) Effects {
	m.begin(now)
	if z := m.zones[name]; !m.isolated && (z == nil || z.over() && z.term <= term) {
		z = &zone{name: name, term: term, had: true, dirty: true}
		z.level, z.at = watch.LevelConfirmed, now
		m.zones[name] = z
	}
	return m.noted()
}

// Told says that all who had to be told at once of what this host says of a host or zone are told.
func (m *Machine) Told(now time.Time, hostOrZone string) Effects {
	m.begin(now)
	if c := m.cases[hostOrZone]; c != nil && c.speaking && !c.done {
		c.done = true
		m.claim(c.host, Claim{Host: c.host, Term: c.term, Level: c.said, Done: true})
	}
	if z := m.zones[hostOrZone]; z != nil && z.speaking && !z.done {
		z.done = true
		m.claim(z.name, m.zoneClaim(z, true))
	}
	return m.noted()
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) Effects {
	m.begin(now)
	return m.finish()
}

// Speaks reports for which hosts this one speaks, by name.
func (m *Machine) Speaks() []string {
	var names []string
	for _, c := range m.sorted() {
		if c.speaking || c.grouped && m.zones[c.zone] != nil && m.zones[c.zone].speaking {
			names = append(names, c.host)
		}
	}
	return names
}

func (m *Machine) begin(now time.Time) { m.now, m.eff = now, Effects{} }

// noted ends a call that only takes something in.
func (m *Machine) noted() Effects {
	m.eff.Wake = m.now
	return m.eff
}

func (m *Machine) finish() Effects {
	for _, z := range m.zonesSorted() {
		m.turnOfZone(z)
	}
	for _, c := range m.sorted() {
		m.turnOfHost(c)
	}
	return m.eff
}

func (m *Machine) wake(at time.Time) {
	if m.eff.Wake.IsZero() || at.Before(m.eff.Wake) {
		m.eff.Wake = at
	}
}

func (m *Machine) sorted() []*loss {
	return slices.SortedFunc(maps.Values(m.cases), func(a, b *loss) int { return cmp.Compare(a.host, b.host) })
}

func (m *Machine) zonesSorted() []*zone {
	return slices.SortedFunc(maps.Values(m.zones), func(a, b *zone) int { return cmp.Compare(a.name, b.name) })
}

// lives reports whether a member may speak: it is there, and there is no verdict about it.
func (m *Machine) lives(name string) bool {
	_, member := m.members[name]
	return member && m.cases[name] == nil
}

// forget ends a case, and what we say of it.
func (m *Machine) forget(c *loss) {
	delete(m.cases, c.host)
	if z := m.zones[c.zone]; c.speaking || c.grouped && z != nil && z.speaking {
		m.eff.Hush = append(m.eff.Hush, c.host)
	}
}

// succeed frees the turns of those who hold one and can't speak any more.
func (m *Machine) succeed() {
	free := func(t *turn) {
		if t.holder != "" && t.holder != m.self && !m.lives(t.holder) {
			t.holder, t.sticky, t.holds = "", false, watch.LevelNone
			t.at = m.now
		}
	}
	for _, c := range m.cases {
		free(&c.turn)
	}
	for _, z := range m.zones {
		free(&z.turn)
	}
}

// hear notes that another host speaks; of two that do the lower rank yields.
func (m *Machine) hear(t *turn, key, from string, c Claim) {
	if from == m.self { // our own record comes back; or we wrote it in a former life, and go on
		return
	}
	if !m.lives(from) {
		return
	}
	if t.speaking && c.Level <= t.said && !better(key, from, m.self) { // it yields when it hears us
		c.Level, c.Done, c.Hosts = t.said, true, nil
		m.eff.Send = append(m.eff.Send, Send{from, c})
		return
	}
	if t.holder != "" && t.holder != from && t.holder != m.self && m.lives(t.holder) && c.Level <= t.holds && !better(key, from, t.holder) {
		return
	}
	t.sticky = c.Done || t.sticky && t.holder == from && c.Level <= t.holds
	if t.holder != from || t.holds < c.Level { // of a zone's hosts some may be recorded at a lower level than it was said at
		t.holds = c.Level
	}
	t.holder, t.heard = from, m.now
	if t.speaking {
		t.speaking = false
		if l := m.cases[key]; l != nil && &l.turn == t {
			m.eff.Hush = append(m.eff.Hush, key)
			return
		}
		m.eff.Hush = append(m.eff.Hush, ZonePrefix+key)
		for _, l := range m.sorted() {
			if l.grouped && l.zone == key {
				m.eff.Hush = append(m.eff.Hush, l.host)
			}
		}
	}
}

// score orders members for a host or zone: the same everywhere.
func score(key, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(member))
	x := h.Sum64() // FNV's high bits hardly know the last bytes: mix (splitmix64's finaliser)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func better(key, a, b string) bool {
	x, y := score(key, a), score(key, b)
	return x > y || x == y && a < b
}

// rank is how many living members come before us.
func (m *Machine) rank(key string) int {
	n := 0
	for name := range m.members {
		if name != m.self && m.lives(name) && better(key, name, m.self) {
			n++
		}
	}
	return n
}

// next are the other living, those first that would speak first.
func (m *Machine) next(key string) []string {
	var names []string
	for name := range m.members {
		if name != m.self && m.lives(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if better(key, a, b) {
			return -1
		}
		return 1
	})
	return names
}

// mine reports whether it is our turn to say what t.level says; if not yet it notes when to look again.
func (m *Machine) mine(t *turn, key string) bool {
	if m.isolated || t.speaking && t.said >= t.level {
		return false
	}
	due := t.at
	switch held := t.holder != "" && t.holder != m.self && m.lives(t.holder); {
	case t.speaking || t.holder == m.self: // we go on with what we began
	case held && t.holds >= t.level && t.sticky:
		return false
	case held && t.holds >= t.level:
		due = t.heard.Add(claimHeld + time.Duration(m.rank(key))*step)
	case held: // it has said less: it is the first in turn for the rest, and is heard before the next
		due = due.Add(claimHeld + time.Duration(1+m.rank(key))*step)
	default:
		due = due.Add(time.Duration(m.rank(key)) * step)
	}
	if m.now.Before(due) {
		m.wake(due)
		return false
	}
	return true
}

func (t *turn) speak(now time.Time, self string) {
	t.speaking, t.said, t.began, t.done, t.holder, t.holds, t.sticky = true, t.level, now, false, self, t.level, true
	t.renew = now
}

// renewal repeats a claim until all are told.
func (m *Machine) renewal(t *turn, key string, c Claim) {
	if !t.speaking || t.done || m.now.Sub(t.began) >= claimFor {
		return
	}
	if !m.now.Before(t.renew) {
		t.renew = m.now.Add(step / 2)
		m.claim(key, c)
	}
	m.wake(t.renew)
}

// claim says that we speak to those who would be next. Of a host that said goodbye there is no record that would show it: all are told.
func (m *Machine) claim(key string, c Claim) {
	to := m.next(key)
	if c.Level > watch.LevelNone {
		to = to[:min(len(to), claimTo)]
	}
	for _, to := range to {
		m.eff.Send = append(m.eff.Send, Send{to, c})
	}
}

func (m *Machine) turnOfHost(c *loss) {
	if c.grouped {
		if m.zones[c.zone] != nil {
			return
		}
		c.grouped = false
	}
	if m.mine(&c.turn, c.host) {
		c.speak(m.now, m.self)
		m.eff.Speak = append(m.eff.Speak, Speech{Hosts: []Loss{{c.host, c.verdict, c.known}}})
	}
	m.renewal(&c.turn, c.host, Claim{Host: c.host, Term: c.term, Level: c.said})
}
