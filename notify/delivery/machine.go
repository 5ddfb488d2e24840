// Package delivery decides, for one subscription, what is sent when: order per alarm, superseding, retry, parking.
//
// It is pure: no clock, goroutine, I/O or randomness of its own. The caller carries out the Effects and reports what
// came of it. A Machine is not safe for concurrent use.
//
// A pair is what the machine holds of one alarm: the newest revision owed to the subscription, the newest one that it
// was told, or both. At most one request is in flight per alarm and Config.InFlight in total. A newer revision
// replaces an older one that is still waiting, and counts it. A pair ends when its clear has been delivered.
package delivery

import (
	"container/heap"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

type entry struct {
	Record
	owed correlate.Change // its alarm is nil when nothing is owed

	late   bool      // see EnqueueLate
	commit Commit    // of the owed revision; zero: it did not wait for one
	outbox time.Time // T06; zero while held
	hold   uint64    // which of Machine.held this pair waits in; 0 before Hold and after it
	limit  time.Time // when the hold ends in any case
	at     time.Time // earliest start
	order  uint64
	index  int // in its heap; -1 when in none

	sent    *correlate.Alarm // in flight; nil: nothing is
	said    *correlate.Alarm // told last, as far as it is at hand
	resting bool             // it is in Machine.resting, not in waiting
	repeats bool             // in flight is what was said already
	tries   int              // at that, failed
	over    bool             // its clear was told elsewhere while it flew: it ends with the Result, and is not shown until then
	heard   bool             // a request about it may have come to the consumer
	before  []Part           // Parts before the request in flight was opened
	opened  bool
	hurries int       // how often a success has cut its waiting short, since it was owed
	hurried time.Time // the last time
}

// Machine is the state of one subscription's deliveries.
type Machine struct {
	cfg  Config
	rand func() float64

	pairs    map[string]*entry
	waiting  queue
	resting  queue    // told, and to be told again
	fresh    []*entry // enqueued since the last Hold
	held     []hold   // by seq
	holds    uint64
	order    uint64
	owed     int
	parked   int
	inFlight int

	paused    bool
	quiet     time.Time // nothing starts before: Retry-After
	nextStart time.Time
	failing   time.Time // first failure since the last success
	worked    time.Time // the last success
	probe     time.Time // of the last retry of an outage
	parkedAt  time.Time // when the first of those that are parked was
	again     int       // parked ones that are tried again with the next success
	short     bool      // something that stands was dropped for want of room
	missed    time.Time // T02 of the oldest of it that was not late; zero: all was
	stuck     bool      // nothing could be dropped, and nothing has changed since
}

// New makes an empty machine. rand returns numbers in [0,1).
func New(cfg Config, rand func() float64) *Machine {
	return &Machine{cfg: cfg, rand: rand, pairs: map[string]*entry{}}
}

// Restore takes back a pair of an earlier run. What a record owes but newest, which may be empty, can't supply is no
// longer owed; when newest is newer, it takes the place of what was owed.
//
// The wall clock may have gone back since. So nothing is taken to be of the future, and what waits longer than it can
// have been meant to doesn't.
func (m *Machine) Restore(r Record, newest correlate.Change, now time.Time) {
	m.Forget(r.AlarmID)
	e := &entry{Record: r, index: -1}
	if r.Parts != nil {
		e.Parts = merge([]Part{}, r.Parts)
	}
	m.pairs[r.AlarmID] = e
	if newest.Alarm != nil && newest.Alarm.Revision.Compare(r.Owed) < 0 { // that which was owed is lost
		r.Owed = newest.Alarm.Revision
		e.Owed = r.Owed
	}
	if newest.Alarm == nil || r.Owed == (correlate.Revision{}) || r.Owed.Compare(r.Told) <= 0 {
		e.Owed, e.Parked, e.Again = correlate.Revision{}, false, false
		if e.Parts == nil {
			m.doubt(e, newest.Alarm)
		}
		if newest.Alarm != nil && r.Told != (correlate.Revision{}) {
			e.said = newest.Alarm
			m.rest(e, now)
		}
		return
	}
	m.owed++
	e.owed, e.heard = newest, true
	m.doubt(e, newest.Alarm) // the run may have ended while it was told
	if newest.Alarm.Revision.Compare(r.Owed) > 0 {
		e.Owed, e.Created = newest.Alarm.Revision, now
		e.Superseded++
		e.Parked, e.Again, e.Attempts, e.Next, e.Backoff = false, false, 0, time.Time{}, false
	}
	if e.Created.IsZero() || e.Created.After(now) {
		e.Created = now
	}
	longest := m.cfg.MaxQuiet
	if e.Backoff {
		longest = m.cfg.MaxRetry
	}
	if limit := now.Add(longest); e.Next.After(limit) {
		e.Next = limit
	}
	e.outbox = e.Created
	if e.Parked {
		m.countParked(now)
		if e.Again {
			m.again++
		}
		return
	}
	if e.Attempts > 0 {
		m.failed(now) // a success ends the waiting of what failed before, in whichever run
	}
	m.push(e)
}

// Pair returns what is kept of an alarm. owed says that a revision waits, is in flight or is parked.
func (m *Machine) Pair(alarmID string) (r Record, owed, ok bool) {
	e, ok := m.pairs[alarmID]
	if !ok || e.over {
		return Record{}, false, false
	}
	return e.Record, e.owed.Alarm != nil, true
}

// Records copies every pair, in no order. inFlight tells which have a request under way.
func (m *Machine) Records() (records []Record, inFlight map[string]bool) {
	records = make([]Record, 0, len(m.pairs))
	inFlight = map[string]bool{}
	for id, e := range m.pairs {
		if !e.over {
			records = append(records, e.Record)
		}
		if e.sent != nil {
			inFlight[id] = true
		}
	}
	return records, inFlight
}

// Owed returns the revision that waits for an alarm, nil when none does.
func (m *Machine) Owed(alarmID string) *correlate.Alarm {
	if e, ok := m.pairs[alarmID]; ok {
		return e.owed.Alarm
	}
	return nil
}

// Counts returns how many pairs are owed (parked ones included), parked, and in flight.
func (m *Machine) Counts() (owed, parked, inFlight int) { return m.owed, m.parked, m.inFlight }

// OldestOwed is since when the oldest revision that is neither told nor parked has been owed; zero when there is none.
func (m *Machine) OldestOwed() (oldest time.Time) {
	for _, e := range m.pairs {
		if e.owed.Alarm != nil && !e.Parked && (oldest.IsZero() || e.Created.Before(oldest)) {
			oldest = e.Created
		}
	}
	return oldest
}

// ParkedSince is since when something has been parked, as far as this run knows; zero when nothing is.
func (m *Machine) ParkedSince() time.Time {
	if m.parked == 0 {
		return time.Time{}
	}
	return m.parkedAt
}

// FailingSince is when the first attempt failed since the last success; zero when all is well.
func (m *Machine) FailingSince() time.Time { return m.failing }

// Space sets the least time between the starts of two requests; zero: none.
func (m *Machine) Space(d time.Duration) { m.cfg.Spacing = d }

// Worked is the caller's word that the consumer answered a request which is not a delivery (a test).
func (m *Machine) Worked(now time.Time) Effects {
	var eff Effects
	m.succeeded(&eff, now)
	return eff
}

// Aside reports what came of a request that is no delivery and is not tried again (a heartbeat): of the consumer it says as much.
func (m *Machine) Aside(o Outcome, now time.Time) (eff Effects) {
	if o.Verdict == Settled {
		m.succeeded(&eff, now)
		return eff
	}
	m.failed(now)
	switch o.Verdict {
	case Retry:
		m.hush(o, now)
	case Pause:
		eff.Paused = !m.paused
		m.paused = true
	case Settled, Park:
	}
	return eff
}

// Quiet reports whether the consumer has asked not to be sent anything yet.
func (m *Machine) Quiet(now time.Time) bool { return m.quiet.After(now) }

// Enqueue owes a revision. One that is not newer than what is owed or told changes nothing, nor does one that shows the
// consumer what it was shown, nor one for which there is no room. A newer revision of a parked alarm un-parks it. It starts at
// the first Tick after its commit, or after the limit given to Hold.
func (m *Machine) Enqueue(c correlate.Change, now time.Time) Effects { return m.enqueue(c, false, now) }

// EnqueueLate owes what is news to the consumer by its own doing, or an operator's: it has just begun to want it. How long ago it was
// decided tells nothing of how fast the consumer is told.
func (m *Machine) EnqueueLate(c correlate.Change, now time.Time) Effects {
	return m.enqueue(c, true, now)
}

func (m *Machine) enqueue(c correlate.Change, late bool, now time.Time) Effects {
	var eff Effects
	a := c.Alarm
	e := m.pairs[a.ID]
	if e != nil && (a.Revision.Compare(e.Told) <= 0 || a.Revision.Compare(e.Owed) <= 0) {
		return eff
	}
	if e != nil && e.owed.Alarm == nil && m.same(e, a) {
		return eff
	}
	if (e == nil || e.owed.Alarm == nil) && m.cfg.Capacity > 0 && m.owed >= m.cfg.Capacity {
		over := !a.Standing() && (e == nil || e.knows())
		if m.evict(&eff, now); m.owed >= m.cfg.Capacity && !over {
			eff.Evicted++
			if a.Standing() {
				m.dropped(c, late)
			}
			return eff
		}
	}
	if e == nil {
		e = &entry{Record: Record{AlarmID: a.ID}, index: -1}
		m.pairs[a.ID] = e
	}
	if e.owed.Alarm == nil {
		m.owed++
		e.Superseded = 0
	} else if e.sent == nil || e.Owed.Compare(e.sent.Revision) > 0 {
		e.Superseded++
	} else {
		e.Superseded = 0 // the older one is on the wire: it isn't replaced, it is followed
	}
	if e.Parked {
		m.unpark(e)
	}
	e.owed, e.Owed, e.Created, e.over = c, a.Revision, now, false
	e.late, e.commit, e.outbox, e.hold, e.hurries = late, Commit{}, time.Time{}, 0, 0
	m.drop(e)
	m.fresh = append(m.fresh, e)
	eff.Save = append(eff.Save, e.Record)
	return eff
}

// Tick starts what is due.
func (m *Machine) Tick(now time.Time) Effects {
	var eff Effects
	for !m.paused && m.inFlight < m.cfg.InFlight && len(m.waiting) > 0 {
		e := m.waiting[0]
		if due := later(later(e.at, m.quiet), m.nextStart); due.After(now) {
			eff.Wake = due
			break
		}
		heap.Pop(&m.waiting)
		early := e.hold != 0
		m.release(e, now)
		m.begin(e, e.owed.Alarm, now)
		s := Start{
			Change: e.owed, Owed: e.Created, Commit: e.commit, Outbox: e.outbox, Late: e.late,
			Attempt: e.Attempts + 1, Superseded: e.Superseded, Early: early,
		}
		if s.Asks, s.Split = m.asks(e, e.sent); s.Split {
			e.before, e.opened = e.Parts, true
			e.open(s.Asks)
		}
		eff.Start = append(eff.Start, s)
	}
	m.repeatDue(&eff, now)
	if m.short && m.owed <= m.cfg.Capacity/2 {
		eff.Room, eff.Missed = true, m.missed
		m.short, m.missed = false, time.Time{}
	}
	return eff
}

// begin puts a revision on the wire.
func (m *Machine) begin(e *entry, a *correlate.Alarm, now time.Time) {
	e.sent = a
	m.inFlight++
	if m.cfg.Spacing > 0 {
		m.nextStart = now.Add(m.cfg.Spacing)
	}
}

// Result reports what came of a Start. The caller ticks afterwards.
func (m *Machine) Result(alarmID string, o Outcome, now time.Time) Effects {
	var eff Effects
	e := m.pairs[alarmID]
	if e == nil || e.sent == nil {
		return eff
	}
	sent := e.sent
	e.sent = nil
	m.inFlight--
	m.stuck = false
	if e.repeats {
		return m.repeated(e, o, now)
	}
	if e.owed.Alarm == nil { // Settle ended what it was about
		return m.late(e, o, now)
	}
	newer := e.Owed.Compare(sent.Revision) > 0
	if o.Unheard && e.opened {
		e.Parts = e.before
	}
	e.before, e.opened = nil, false
	m.done(e, o.Done)
	e.LastError, e.By, e.heard = o.Err, o.By, e.heard || !o.Unheard

	switch o.Verdict {
	case Settled:
		if !o.Unasked {
			m.succeeded(&eff, now)
		}
		e.Attempts, e.Next, e.Backoff, e.LastError, e.By = 0, time.Time{}, false, "", ""
		if asks, _ := m.asks(e, e.owed.Alarm); !newer && len(asks) > 0 { // see done
			m.push(e)
			break
		}
		if sent.Revision.Compare(e.Told) > 0 {
			e.Told, e.View = sent.Revision, o.View
		}
		if newer && !m.same(e, e.owed.Alarm) {
			m.push(e)
			break
		}
		e.said, e.tries = e.owed.Alarm, 0
		m.settle(e)
		if !sent.Standing() {
			delete(m.pairs, alarmID)
			eff.Remove = append(eff.Remove, alarmID)
			return eff
		}
		m.rest(e, now.Add(m.repeat()))
	case Retry:
		m.failed(now)
		e.Attempts++
		if !newer && now.Sub(e.Created) >= m.cfg.MaxAge {
			m.park(e, now, &eff)
			break
		}
		if e.Backoff = o.RetryAfter <= 0; e.Backoff {
			e.Next = m.turn(now.Add(m.backoff(e.Attempts)), now)
		} else {
			e.Next = m.hush(o, now)
		}
		m.push(e)
	case Park:
		m.failed(now)
		e.Attempts++
		if newer {
			e.Attempts, e.Next = 0, time.Time{}
			m.push(e)
			break
		}
		m.park(e, now, &eff)
	case Pause:
		m.failed(now)
		e.Attempts++
		eff.Paused = !m.paused
		m.paused = true
		m.push(e)
	}
	eff.Save = append(eff.Save, e.Record)
	return eff
}

// hush keeps the whole subscription silent for as long as its consumer asked for, at most MaxQuiet, and says until when that is.
func (m *Machine) hush(o Outcome, now time.Time) time.Time {
	until := now.Add(min(o.RetryAfter, m.cfg.MaxQuiet))
	m.quiet = later(m.quiet, until)
	return until
}

// turn is when a retry may start that would at a time. In an outage they follow each other, however many wait: one is enough to find out that
// it is over.
func (m *Machine) turn(at, now time.Time) time.Time {
	if now.Sub(m.failing) < outage {
		return at
	}
	m.probe = later(m.probe, now).Add(probeEvery)
	return later(at, m.probe)
}

// backoff is how long to wait after n failures.
func (m *Machine) backoff(n int) time.Duration { return m.cfg.Backoff(n, m.rand()) }

// Backoff is how long to wait after n failures: random, in [0,1), of a bound that doubles from FirstRetry to MaxRetry ("full
// jitter"), so that many agents that lost one consumer don't return in step.
func (c Config) Backoff(n int, random float64) time.Duration {
	b := c.FirstRetry
	for ; n > 1 && b < c.MaxRetry; n-- {
		b *= 2
	}
	return time.Duration(random * float64(min(b, c.MaxRetry)))
}

// succeeded ends the failing time, and the waiting.
func (m *Machine) succeeded(eff *Effects, now time.Time) {
	m.worked, m.probe = now, time.Time{}
	if !m.failing.IsZero() {
		m.failing = time.Time{}
		m.Hurry(now)
	}
	m.revive(eff, now)
}

// Hurry makes due at once what waits in our own backoff: the consumer is back, or seems to be. What fails all the same is not
// sent with each success of others: it is hurried ever more seldom.
func (m *Machine) Hurry(now time.Time) {
	for _, e := range m.waiting {
		if e.Backoff && (e.hurries == 0 || now.Sub(e.hurried) >= m.cfg.Backoff(e.hurries, 1)) {
			e.hurries++
			e.hurried = now
			e.Backoff = false
			if e.Next.After(now) {
				e.Next = now
				e.at = e.due()
			}
		}
	}
	heap.Init(&m.waiting)
}

func (m *Machine) failed(now time.Time) {
	if m.failing.IsZero() {
		m.failing = now
	}
}

// Forget ends a pair, in flight or not, without delivering.
func (m *Machine) Forget(alarmID string) {
	e := m.pairs[alarmID]
	if e == nil {
		return
	}
	m.drop(e)
	if e.Parked {
		m.unpark(e)
	}
	if e.sent != nil {
		m.inFlight--
	}
	if e.owed.Alarm != nil {
		m.settle(e)
	}
	delete(m.pairs, alarmID)
}

// Told notes that the consumer knows a revision by another way (the snapshot of a Subscribe). atHand is the newest one that the
// caller has, which it may be; nil: none.
func (m *Machine) Told(alarmID string, r correlate.Revision, atHand *correlate.Alarm) Record {
	e := m.pairs[alarmID]
	if e == nil {
		e = &entry{Record: Record{AlarmID: alarmID}, index: -1}
		m.pairs[alarmID] = e
	}
	if e.over = false; r.Compare(e.Told) > 0 {
		e.Told, e.View, e.Parts = r, 0, doubtful(e.Parts)
		m.doubt(e, atHand)
		e.said = atHand
		m.rest(e, time.Time{})
	}
	return e.Record
}

// Shown notes what the consumer was shown of the revision that it was told; after Told.
func (m *Machine) Shown(alarmID string, view uint64) Record {
	e := m.pairs[alarmID]
	e.View = view
	return e.Record
}

// same reports whether a revision shows its consumer what it was shown already. A clear is always news.
func (m *Machine) same(e *entry, a *correlate.Alarm) bool {
	if asks, split := m.asks(e, a); split {
		return a.Standing() && len(asks) == 0
	}
	return e.View != 0 && a.Standing() && m.cfg.View != nil && m.cfg.View(a) == e.View
}

// settle ends what is owed of a pair.
func (m *Machine) settle(e *entry) {
	e.owed, e.Owed, e.Superseded, e.hold = correlate.Change{}, correlate.Revision{}, 0, 0
	m.owed--
	m.stuck = false
}
