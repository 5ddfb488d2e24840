package hostloss

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

const (
	commit       = time.Millisecond       // a delivery waits so long for its outbox
	level        = time.Second            // a replica that has joined is level with the others
	perPeer      = 20 * time.Microsecond  // to send one more of the same
	receiptAgain = 20 * time.Millisecond  // a receipt is sent three times
	gossipLeast  = 50 * time.Millisecond  // what was lost comes by gossip
	gossipMost   = 500 * time.Millisecond //
)

// message is between takeovers: one of these.
type message struct {
	verdict *watch.Verdict
	claim   *takeover.Claim
	record  *takeover.Record
	receipt *receipt
}

// receipt says that a consumer was told.
type receipt struct {
	consumer int
	alarm    string
	revision correlate.Revision
}

// call is what a consumer is told with one alarm.
type call struct {
	key   string // the host or zone that is spoken of
	hosts []lost
}

type lost struct {
	host  *host
	term  uint64
	level watch.Level
}

// mouth is what an agent has to speak for others: the real takeover, the real deliveries, and around them what agent and
// notify do.
type mouth struct {
	h        *host
	machine  *takeover.Machine
	closed   bool
	stale    bool // the replica has more than the machine was told
	ready    bool // the replica is level with those of the others: before that it can't know who was told what
	due      bool // a time has come while the process stood still
	plan     int
	later    []func() // what came while it stood still
	owes     []*delivery.Machine
	calls    map[string]call
	open     map[string]map[int]bool // by key: the consumers that are still to be told
	told     []map[string]correlate.Revision
	cases    map[int32]uint64 // the highest term of each host that was heard of here
	departed map[int32]uint64
}

func newMouth(h *host) *mouth {
	m := &mouth{h: h, machine: takeover.New(h.name), calls: map[string]call{}, open: map[string]map[int]bool{}, cases: map[int32]uint64{}, departed: map[int32]uint64{}}
	for range h.s.consumers {
		m.owes = append(m.owes, delivery.New(delivery.DefaultConfig(), h.s.rng.Float64))
		m.told = append(m.told, map[string]correlate.Revision{})
	}
	m.machine.Isolated(h.clock(), true) // until it is ready
	return m
}

func (m *mouth) close() { m.closed = true }

// resume works off what came while the process stood still.
func (m *mouth) resume() {
	waiting := m.later
	m.later = nil
	for _, do := range waiting {
		m.run(do)
	}
	if m.due {
		m.due = false
		m.tick()
	}
}

// run does something unless the process is gone; when it stands still, then later.
func (m *mouth) run(do func()) {
	switch {
	case m.closed:
	case m.h.frozen():
		m.later = append(m.later, do)
	default:
		do()
	}
}

func (m *mouth) after(d time.Duration, do func()) { m.h.s.call(d, func() { m.run(do) }) }

// members hands in who is there, and who is back or has left.
func (m *mouth) members() {
	h := m.h
	if h.s.cfg.WatchOnly {
		return
	}
	all := make([]takeover.Member, 0, len(h.view))
	for i := range h.view {
		if h.view[i].known && h.view[i].member {
			all = append(all, takeover.Member{Name: h.s.hosts[i].name, Zone: h.s.hosts[i].zone})
		}
	}
	m.do(m.machine.Members(h.clock(), all))
	for i := range h.view {
		x, v := int32(i), &h.view[i] //nolint:gosec // an index
		if term, ok := m.cases[x]; ok && (v.term > term || !v.known) {
			delete(m.cases, x)
			if !v.known {
				v.term = term + 2
			}
			m.do(m.machine.Returned(h.clock(), h.s.hosts[i].name, v.term))
		}
		if v.left == watch.LeftShutdown && x != h.id && m.departed[x] < v.term {
			m.departed[x] = v.term
			m.cases[x] = max(m.cases[x], v.term)
			m.do(m.machine.Departed(h.clock(), h.s.hosts[i].name, v.term))
		}
	}
	if m.ready {
		m.catchUp()
	}
}

// joined is when the replica gets level.
func (m *mouth) joined() {
	m.stale = true
	m.after(level, func() {
		m.ready = true
		if !m.h.isolated {
			m.do(m.machine.Isolated(m.h.clock(), false))
			m.catchUp()
		}
	})
}

// catchUp hands in what the replica has.
func (m *mouth) catchUp() {
	if m.stale {
		m.stale = false
		m.restore()
	}
}

// news is what our own watch says.
func (m *mouth) news(n watch.News) {
	if m.h.s.cfg.WatchOnly {
		return
	}
	switch n.Kind {
	case watch.NewsVerdict:
		m.verdict(n.Verdict)
		v := n.Verdict
		m.broadcast(&message{verdict: &v})
	case watch.NewsIsolated, watch.NewsRejoined:
		if !m.ready {
			return
		}
		m.do(m.machine.Isolated(m.h.clock(), n.Kind == watch.NewsIsolated))
		if m.stale = n.Kind == watch.NewsRejoined; m.stale {
			m.catchUp()
		}
	case watch.NewsHeard, watch.NewsAccused: // its higher term tells
	}
}

func (m *mouth) verdict(v watch.Verdict) {
	x := m.h.s.host(v.Host)
	if view := m.h.view[x.id]; view.term > v.Term || !view.known {
		return // it is back already
	}
	m.cases[x.id] = max(m.cases[x.id], v.Term)
	m.do(m.machine.Verdict(m.h.clock(), x.zone, v))
}

// restore hands in what the replica has: of records it misses none for long.
func (m *mouth) restore() {
	if m.h.s.cfg.WatchOnly {
		return
	}
	s := m.h.s
	for k, told := range s.receipts {
		for id, rev := range told {
			if m.told[k][id].Compare(rev) < 0 {
				m.told[k][id] = rev
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.records)) {
		if r := s.records[name]; !s.net.apart(m.h.id, s.host(r.Writer).id) {
			m.recorded(r)
		}
	}
}

func (m *mouth) recorded(r takeover.Record) {
	x := m.h.s.host(r.Host)
	if view := m.h.view[x.id]; view.term > r.Term || !view.known || r.Writer == m.h.name {
		return
	}
	m.cases[x.id] = max(m.cases[x.id], r.Term)
	m.do(m.machine.Recorded(m.h.clock(), x.zone, r))
}

// receive takes a message.
func (m *mouth) receive(from *host, msg *message) {
	switch {
	case msg.verdict != nil:
		m.verdict(*msg.verdict)
	case msg.claim != nil:
		m.do(m.machine.Claim(m.h.clock(), from.name, *msg.claim))
	case msg.record != nil:
		m.recorded(*msg.record)
	case msg.receipt != nil:
		m.receipt(*msg.receipt)
	}
}

// broadcast sends to all directly, and has gossip make sure.
func (m *mouth) broadcast(msg *message) {
	m.direct(msg)
	h, s := m.h, m.h.s
	for _, o := range s.hosts {
		if o != h && h.view[o.id].member {
			s.call(s.between(gossipLeast, gossipMost), func() { s.gossip(h, o, msg, 20) })
		}
	}
}

// direct sends to all that are there.
func (m *mouth) direct(msg *message) {
	h, s := m.h, m.h.s
	var late time.Duration
	for _, o := range s.hosts {
		if o == h || !h.view[o.id].member {
			continue
		}
		late += perPeer
		s.call(late, func() {
			if h.up && s.now >= h.kernelUntil {
				s.send(h, o, input{kind: inMessage, message: msg})
			}
		})
	}
}

// gossip brings a message to one who may have missed it, through whoever has it; while they are apart, later.
func (s *simulation) gossip(from, to *host, msg *message, tries int) {
	switch {
	case !to.alive() || tries == 0:
	case s.net.apart(from.id, to.id) || s.now < to.linkUntil:
		s.call(s.between(500*time.Millisecond, 2*time.Second), func() { s.gossip(from, to, msg, tries-1) })
	default:
		to.mouth.run(func() { to.mouth.receive(from, msg) })
	}
}

func (m *mouth) tick() { m.do(m.machine.Tick(m.h.clock())) }

// do carries out what the takeover wants.
func (m *mouth) do(eff takeover.Effects) {
	s := m.h.s
	for _, name := range eff.Hush {
		m.hush(name)
	}
	for _, sp := range eff.Speak {
		m.speak(sp)
	}
	for _, send := range eff.Send {
		c := send.Claim
		s.send(m.h, s.host(send.To), input{kind: inMessage, message: &message{claim: &c}})
	}
	if !eff.Wake.IsZero() {
		m.plan++
		plan := m.plan
		s.call(max(m.h.since(eff.Wake)-s.now, timerSlack), func() {
			switch {
			case m.closed || plan != m.plan:
			case m.h.frozen():
				m.due = true
			default:
				m.tick()
			}
		})
	}
}

// hush gives up what is still to be told of a host.
func (m *mouth) hush(name string) {
	s := m.h.s
	s.trace("%s: no longer speaks for %s", m.h.name, name)
	for _, id := range slices.Sorted(maps.Keys(m.calls)) {
		c := m.calls[id]
		if !slices.ContainsFunc(c.hosts, func(l lost) bool { return l.host.name == name }) {
			continue
		}
		for _, machine := range m.owes {
			machine.Forget(id)
		}
		delete(m.calls, id)
		delete(m.open, c.key)
	}
}

// speak says something of a host or a zone to all whom it concerns.
func (m *mouth) speak(sp takeover.Speech) {
	h, s := m.h, m.h.s
	now := h.clock()
	if len(sp.Hosts) == 0 {
		m.do(m.machine.Told(now, sp.Zone))
		return
	}
	c := call{key: sp.Zone}
	var level watch.Level
	for _, l := range sp.Hosts {
		x := s.host(l.Host)
		c.hosts = append(c.hosts, lost{x, l.Verdict.Term, l.Verdict.Level})
		level = max(level, l.Verdict.Level)
		r := takeover.Record{Host: l.Host, Term: l.Verdict.Term, Level: l.Verdict.Level, Zone: sp.Zone, ZTerm: sp.Term, Writer: h.name}
		s.records[l.Host] = r
		m.broadcast(&message{record: &r})
		s.check.spoke(h, x, l.Verdict.Term, l.Verdict.Level)
	}
	var id string
	var rev correlate.Revision
	if sp.Zone != "" {
		id = fmt.Sprintf("zone %s %d", sp.Zone, sp.Term)
		rev = correlate.Revision{Term: sp.Term, Counter: m.count(id, c.hosts)}
	} else {
		c.key = sp.Hosts[0].Host
		id, rev = fmt.Sprintf("host %s %d", c.key, c.hosts[0].term), correlate.Revision{Term: c.hosts[0].term + 1, Counter: uint64(level)}
	}
	s.trace("%s: speaks for %s, level %d, %d hosts", h.name, id, level, len(c.hosts))
	m.calls[id] = c
	m.open[c.key] = map[int]bool{}
	for k, consumer := range s.consumers {
		if level >= consumer.least && slices.ContainsFunc(c.hosts, func(l lost) bool { return consumer.hasVMs(l.host) }) {
			m.owe(k, c.key, id, rev)
		}
		for _, l := range c.hosts { // what it owed itself
			if debt := l.host.debt; debt != "" && consumer.hasVMs(l.host) {
				m.calls[debt] = call{key: c.key, hosts: []lost{{l.host, l.term, watch.LevelNone}}}
				m.owe(k, c.key, debt, correlate.Revision{Term: 1, Counter: 1})
			}
		}
	}
	m.finished(c.key)
}

// count numbers what is said of a zone, as the ledger does: each host that joins, is confirmed or is back makes it grow. What other
// speakers have counted before stands in the replica.
func (m *mouth) count(id string, hosts []lost) uint64 {
	all := m.h.s.counts[id]
	if all == nil {
		all = map[string]watch.Level{}
		m.h.s.counts[id] = all
	}
	here := map[string]bool{}
	for _, l := range hosts {
		here[l.host.name] = true
		all[l.host.name] = max(all[l.host.name], l.level)
	}
	n := uint64(0)
	for name, level := range all {
		n++
		if level == watch.LevelConfirmed {
			n++
		}
		if !here[name] {
			n++
		}
	}
	return n
}

// owe enqueues a delivery that the consumer has not had.
func (m *mouth) owe(k int, key, id string, rev correlate.Revision) {
	now := m.h.clock()
	if m.told[k][id].Compare(rev) >= 0 {
		return
	}
	m.open[key][k] = true
	m.owes[k].Enqueue(correlate.Change{Alarm: &correlate.Alarm{ID: id, Revision: rev, Last: correlate.Raised}, Occurred: now.Add(m.h.wall)}, now)
	m.owes[k].Hold(1, now.Add(commit))
	m.after(commit, func() { m.pump(k) })
}

// pump starts what is due.
func (m *mouth) pump(k int) {
	eff := m.owes[k].Tick(m.h.clock())
	for _, start := range eff.Start {
		m.request(k, start.Change)
	}
	if !eff.Wake.IsZero() {
		m.after(max(m.h.since(eff.Wake)-m.h.s.now, 100*time.Microsecond), func() { m.pump(k) })
	}
}

// request is one call.
func (m *mouth) request(k int, change correlate.Change) {
	h, s := m.h, m.h.s
	a, c := change.Alarm, m.calls[change.Alarm.ID]
	wait := time.Duration(0)
	if s.now < h.linkUntil || s.now < h.kernelUntil {
		wait = max(h.linkUntil, h.kernelUntil) - s.now + 200*time.Millisecond // a retransmission
	}
	s.call(wait+s.delay(), func() {
		if !h.up {
			return
		}
		serves := s.consumers[k].serves()
		s.call(serves, func() { s.consumers[k].take(h, a, c) })
		s.call(serves+s.delay(), func() {
			m.run(func() {
				m.owes[k].Result(a.ID, delivery.Outcome{}, h.clock())
				r := receipt{k, a.ID, a.Revision}
				m.receipt(r)
				if s.receipts[k][a.ID].Compare(a.Revision) < 0 {
					s.receipts[k][a.ID] = a.Revision
				}
				m.broadcast(&message{receipt: &r})
				for n := range 2 {
					m.after(time.Duration(n+1)*receiptAgain, func() { m.direct(&message{receipt: &r}) })
				}
				m.pump(k)
			})
		})
	})
}

// receipt notes that a consumer was told, by whomever.
func (m *mouth) receipt(r receipt) {
	now := m.h.clock()
	if m.told[r.consumer][r.alarm].Compare(r.revision) >= 0 {
		return
	}
	m.told[r.consumer][r.alarm] = r.revision
	m.owes[r.consumer].Settle(r.alarm, r.revision, false, now)
	if c, ok := m.calls[r.alarm]; ok {
		if !m.owed(c.key, r.consumer) {
			delete(m.open[c.key], r.consumer)
		}
		m.finished(c.key)
	}
}

// owed reports whether a consumer is still to be told something of a host or zone.
func (m *mouth) owed(key string, k int) bool {
	for id, c := range m.calls {
		if c.key == key && m.owes[k].Owed(id) != nil {
			return true
		}
	}
	return false
}

// finished tells the takeover when all are told.
func (m *mouth) finished(key string) {
	if open, ok := m.open[key]; ok && len(open) == 0 {
		delete(m.open, key)
		m.do(m.machine.Told(m.h.clock(), key))
	}
}
