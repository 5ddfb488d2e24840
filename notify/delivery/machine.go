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
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Config bounds a Machine.
type Config struct {
	InFlight   int           // requests at once
	MaxAge     time.Duration // a revision owed for longer is parked when its next attempt fails
	FirstRetry time.Duration // upper bound of the first backoff; it doubles with each failure
	MaxRetry   time.Duration // upper bound of the backoff
	MaxQuiet   time.Duration // upper bound of what Retry-After may ask for
	Spacing    time.Duration // between the starts of two requests; zero: none
	// Capacity is how many undelivered pairs are kept. When full, a sixteenth goes at once, in this order: clears of
	// alarms that the consumer was never told of, parked ones, other clears, then the oldest. In-flight ones stay.
	Capacity int
}

// DefaultConfig is what the product uses, but for MaxAge, which is configured.
func DefaultConfig() Config {
	return Config{
		InFlight: 8, MaxAge: 24 * time.Hour, FirstRetry: 200 * time.Millisecond, MaxRetry: time.Minute,
		MaxQuiet: 5 * time.Minute, Capacity: 4096,
	}
}

// Record is what is kept of a pair across restarts.
type Record struct {
	AlarmID    string
	Owed       correlate.Revision // to be delivered; zero when nothing is owed
	Told       correlate.Revision // the newest one delivered; zero when none was
	Parked     bool               // waits for an operator, or for a newer revision
	Attempts   int                // at the owed revision, or since the last success
	Superseded int                // older revisions that the owed one replaced unsent
	Created    time.Time          // when the owed revision was first owed
	Next       time.Time          // the next attempt is not before
	LastError  string
}

// Start is a request to make now.
type Start struct {
	Alarm      *correlate.Alarm
	Found      time.Time // Doctor's T02
	Outbox     time.Time // Doctor's T06: committed, or the hold was over
	Attempt    int       // 1 for the first
	Superseded int
}

// Effects is what the caller must do: persist, forget, start, and call Tick again at Wake (zero: never).
type Effects struct {
	Save    []Record
	Remove  []string // alarm ids
	Start   []Start
	Wake    time.Time
	Parked  int  // pairs parked by this call
	Evicted int  // pairs dropped for want of room by this call
	Paused  bool // the consumer asked to stop, by this call
}

type entry struct {
	Record
	alarm *correlate.Alarm // the owed revision; nil when nothing is owed
	found time.Time

	outbox time.Time // T06; zero while held
	hold   uint64    // which of Machine.held this pair waits in; 0 before Hold and after it
	limit  time.Time // when the hold ends in any case
	at     time.Time // earliest start
	order  uint64
	index  int // in the heap; -1 when not there

	backoff   bool // Next comes from our backoff, not from the consumer's word
	flying    bool
	sent      correlate.Revision
	sentClear bool
}

// hold is a pair that waits for a commit. It is over when the pair's own hold is another.
type hold struct {
	entry   *entry
	id, seq uint64
}

func (h hold) over() bool { return h.entry.hold != h.id }

// Machine is the state of one subscription's deliveries.
type Machine struct {
	cfg  Config
	rand func() float64

	pairs    map[string]*entry
	waiting  queue
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
}

// New makes an empty machine. rand returns numbers in [0,1).
func New(cfg Config, rand func() float64) *Machine {
	return &Machine{cfg: cfg, rand: rand, pairs: map[string]*entry{}}
}

// Restore takes back a pair of an earlier run. alarm is the owed revision, or nil when nothing is owed. What a record
// owes but alarm can't supply is no longer owed.
func (m *Machine) Restore(r Record, alarm *correlate.Alarm, found time.Time) {
	e := &entry{Record: r, index: -1}
	m.pairs[r.AlarmID] = e
	if alarm == nil || r.Owed == (correlate.Revision{}) {
		e.Owed, e.Parked = correlate.Revision{}, false
		return
	}
	e.Owed, e.alarm, e.found, e.outbox, e.at = alarm.Revision, alarm, found, r.Next, r.Next
	if e.outbox.IsZero() {
		e.outbox = r.Created
	}
	m.owed++
	if e.Parked {
		m.parked++
		return
	}
	m.push(e)
}

// Pair returns what is kept of an alarm. owed says that a revision waits, is in flight or is parked.
func (m *Machine) Pair(alarmID string) (r Record, owed, ok bool) {
	e, ok := m.pairs[alarmID]
	if !ok {
		return Record{}, false, false
	}
	return e.Record, e.alarm != nil, true
}

// Records copies every pair, in no order. inFlight tells which have a request under way.
func (m *Machine) Records() (records []Record, inFlight map[string]bool) {
	records = make([]Record, 0, len(m.pairs))
	inFlight = map[string]bool{}
	for id, e := range m.pairs {
		records = append(records, e.Record)
		if e.flying {
			inFlight[id] = true
		}
	}
	return records, inFlight
}

// Owed returns the revision that waits for an alarm, nil when none does.
func (m *Machine) Owed(alarmID string) *correlate.Alarm {
	if e, ok := m.pairs[alarmID]; ok {
		return e.alarm
	}
	return nil
}

// Counts returns how many pairs are owed (parked ones included), parked, and in flight.
func (m *Machine) Counts() (owed, parked, inFlight int) { return m.owed, m.parked, m.inFlight }

// FailingSince is when the first attempt failed since the last success; zero when all is well.
func (m *Machine) FailingSince() time.Time { return m.failing }

// Worked is the caller's word that the consumer answered a request which is not a delivery (a test).
func (m *Machine) Worked(now time.Time) { m.succeeded(now) }

// Enqueue owes a revision. One that is not newer than what is owed or told changes nothing. A newer revision of a
// parked alarm un-parks it. It starts at the first Tick after its commit, or after the limit given to Hold.
func (m *Machine) Enqueue(a *correlate.Alarm, found, now time.Time) Effects {
	var eff Effects
	e := m.pairs[a.ID]
	if e != nil && (a.Revision.Compare(e.Told) <= 0 || a.Revision.Compare(e.Owed) <= 0) {
		return eff
	}
	if (e == nil || e.alarm == nil) && m.cfg.Capacity > 0 && m.owed >= m.cfg.Capacity {
		m.evict(&eff)
	}
	if e == nil {
		e = &entry{Record: Record{AlarmID: a.ID}, index: -1}
		m.pairs[a.ID] = e
	}
	if e.alarm == nil {
		m.owed++
		e.Superseded = 0
	} else if !e.flying || e.Owed.Compare(e.sent) > 0 {
		e.Superseded++
	} else {
		e.Superseded = 0 // the older one is on the wire: it isn't replaced, it is followed
	}
	if e.Parked {
		m.unpark(e)
	}
	e.alarm, e.Owed, e.found, e.Created = a, a.Revision, found, now
	e.outbox, e.hold = time.Time{}, 0
	m.drop(e)
	m.fresh = append(m.fresh, e)
	eff.Save = append(eff.Save, e.Record)
	return eff
}

// Hold keeps everything enqueued since the last Hold back until commit seq is reported or limit has passed.
func (m *Machine) Hold(seq uint64, limit time.Time) {
	for _, e := range m.fresh {
		if e.alarm == nil || !e.outbox.IsZero() || e.hold != 0 {
			continue
		}
		m.holds++
		e.hold, e.limit = m.holds, limit
		m.held = append(m.held, hold{e, m.holds, seq})
		if !e.flying {
			m.push(e)
		}
	}
	clear(m.fresh)
	m.fresh = m.fresh[:0]
	if len(m.held) > 2*m.owed+64 { // the commits don't come: forget holds that are over
		m.held = slices.DeleteFunc(m.held, hold.over)
	}
}

// Committed reports that everything up to commit seq is durable.
func (m *Machine) Committed(seq uint64, now time.Time) {
	n := 0
	for ; n < len(m.held) && m.held[n].seq <= seq; n++ {
		e := m.held[n].entry
		if m.held[n].over() { // its limit passed, or a newer revision came
			continue
		}
		m.release(e, now)
		if e.index >= 0 {
			e.at = e.due()
			heap.Fix(&m.waiting, e.index)
		}
	}
	m.held = slices.Delete(m.held, 0, n)
}

func (m *Machine) release(e *entry, now time.Time) {
	e.hold = 0
	if e.outbox.IsZero() {
		e.outbox = now
	}
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
		m.release(e, now)
		e.flying, e.sent, e.sentClear = true, e.Owed, !e.alarm.Standing()
		m.inFlight++
		if m.cfg.Spacing > 0 {
			m.nextStart = now.Add(m.cfg.Spacing)
		}
		eff.Start = append(eff.Start, Start{Alarm: e.alarm, Found: e.found, Outbox: e.outbox, Attempt: e.Attempts + 1, Superseded: e.Superseded})
	}
	return eff
}

// Result reports what came of a Start. The caller ticks afterwards.
func (m *Machine) Result(alarmID string, o Outcome, now time.Time) Effects {
	var eff Effects
	e := m.pairs[alarmID]
	if e == nil || !e.flying {
		return eff
	}
	e.flying = false
	m.inFlight--
	newer := e.Owed.Compare(e.sent) > 0
	e.LastError = o.Err

	switch o.Verdict {
	case Settled:
		m.succeeded(now)
		e.Told, e.Attempts, e.Next, e.backoff, e.LastError = e.sent, 0, time.Time{}, false, ""
		if newer {
			m.push(e)
			break
		}
		m.settle(e)
		if e.sentClear {
			delete(m.pairs, alarmID)
			eff.Remove = append(eff.Remove, alarmID)
			return eff
		}
	case Retry:
		m.failed(now)
		e.Attempts++
		if !newer && now.Sub(e.Created) >= m.cfg.MaxAge {
			m.park(e, &eff)
			break
		}
		wait := time.Duration(m.rand() * float64(m.bound(e.Attempts)))
		e.backoff = o.RetryAfter <= 0
		if !e.backoff {
			wait = min(o.RetryAfter, m.cfg.MaxQuiet)
			m.quiet = later(m.quiet, now.Add(wait))
		}
		e.Next = now.Add(wait)
		m.push(e)
	case Park:
		m.failed(now)
		e.Attempts++
		if newer {
			e.Attempts, e.Next = 0, time.Time{}
			m.push(e)
			break
		}
		m.park(e, &eff)
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

// bound is the backoff's upper bound after n failures: doubling from FirstRetry to MaxRetry. The wait itself is drawn
// evenly from zero to it ("full jitter"), so that many agents that lost one consumer don't return in step.
func (m *Machine) bound(n int) time.Duration {
	b := m.cfg.FirstRetry
	for ; n > 1 && b < m.cfg.MaxRetry; n-- {
		b *= 2
	}
	return min(b, m.cfg.MaxRetry)
}

// succeeded ends the failing time. What waits in our own backoff is due at once: the consumer is back.
func (m *Machine) succeeded(now time.Time) {
	if m.failing.IsZero() {
		return
	}
	m.failing = time.Time{}
	for _, e := range m.waiting {
		if e.backoff {
			e.backoff = false
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

// Unpark tries a pair again at once, at an operator's word. It returns false when nothing is owed for the alarm.
func (m *Machine) Unpark(alarmID string, now time.Time) (Effects, bool) {
	e := m.pairs[alarmID]
	if e == nil || e.alarm == nil {
		return Effects{}, false
	}
	if e.flying {
		return Effects{}, true
	}
	if e.Parked {
		m.unpark(e)
	}
	m.drop(e)
	m.release(e, now)
	e.Created, e.Next, e.at, e.backoff = now, now, now, false
	m.push(e)
	return Effects{Save: []Record{e.Record}}, true
}

// Pause starts nothing until Resume.
func (m *Machine) Pause() { m.paused = true }

// Paused reports whether the machine is.
func (m *Machine) Paused() bool { return m.paused }

// Resume ends a pause. Everything owed, parked pairs included, gets its full time again.
func (m *Machine) Resume(now time.Time) Effects {
	var eff Effects
	m.paused, m.quiet, m.failing = false, time.Time{}, time.Time{}
	for id, e := range m.pairs {
		if e.alarm != nil && !e.flying && !e.outbox.IsZero() {
			u, _ := m.Unpark(id, now)
			eff.Save = append(eff.Save, u.Save...)
		}
	}
	return eff
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
	if e.flying {
		m.inFlight--
	}
	if e.alarm != nil {
		m.settle(e)
	}
	delete(m.pairs, alarmID)
}

// Told notes that the consumer knows a revision by another way (the snapshot of a Subscribe).
func (m *Machine) Told(alarmID string, r correlate.Revision) Record {
	e := m.pairs[alarmID]
	if e == nil {
		e = &entry{Record: Record{AlarmID: alarmID}, index: -1}
		m.pairs[alarmID] = e
	}
	if r.Compare(e.Told) > 0 {
		e.Told = r
	}
	return e.Record
}

func (m *Machine) park(e *entry, eff *Effects) {
	e.Parked, e.Next = true, time.Time{}
	m.parked++
	eff.Parked++
}

func (m *Machine) unpark(e *entry) {
	e.Parked, e.Attempts, e.Next = false, 0, time.Time{}
	m.parked--
}

// settle ends what is owed of a pair.
func (m *Machine) settle(e *entry) {
	e.alarm, e.Owed, e.Superseded, e.hold = nil, correlate.Revision{}, 0, 0
	m.owed--
}

// evict makes room; see Config.Capacity.
func (m *Machine) evict(eff *Effects) {
	var all []*entry
	for _, e := range m.pairs {
		if e.alarm != nil && !e.flying {
			all = append(all, e)
		}
	}
	rank := func(e *entry) int {
		switch {
		case !e.alarm.Standing() && e.Told == (correlate.Revision{}):
			return 0
		case e.Parked:
			return 1
		case !e.alarm.Standing():
			return 2
		}
		return 3
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return a.Owed.Compare(b.Owed)
	})
	for _, e := range all[:min(len(all), max(1, m.cfg.Capacity/16))] {
		eff.Evicted++
		if e.Told != (correlate.Revision{}) && e.alarm.Standing() { // it is still owed the clear
			m.drop(e)
			if e.Parked {
				m.unpark(e)
			}
			m.settle(e)
			eff.Save = append(eff.Save, e.Record)
			continue
		}
		eff.Remove = append(eff.Remove, e.AlarmID)
		m.Forget(e.AlarmID)
	}
}

func (m *Machine) push(e *entry) {
	e.at = e.due()
	if e.index >= 0 {
		heap.Fix(&m.waiting, e.index)
		return
	}
	m.order++
	e.order = m.order
	heap.Push(&m.waiting, e)
}

// due is the earliest start.
func (e *entry) due() time.Time {
	if e.outbox.IsZero() {
		return later(e.limit, e.Next)
	}
	return later(e.outbox, e.Next)
}

// drop takes a pair out of the waiting ones.
func (m *Machine) drop(e *entry) {
	if e.index >= 0 {
		heap.Remove(&m.waiting, e.index)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// queue is a heap of pairs by earliest start.
type queue []*entry

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].order < q[j].order
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
