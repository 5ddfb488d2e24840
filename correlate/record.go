package correlate

import (
	"container/heap"
	"slices"
	"strings"
	"time"
)

// record is one condition of one resource from its first failure to its end. Its alarm is the last revision that was
// told; it has none while a hold-down runs.
type record struct {
	key  Key
	node *node
	def  definition

	own     bool // its source says failed (or an impulse or latch holds)
	pending bool // own, but the hold-down still runs
	// dismissed: own, but an administrator has cleared it. It counts for nothing until its source changes its word.
	dismissed bool
	kept      *Alarm     // what was dismissed; it stays saved while that lasts
	word      *HandClear // in the pass in which it is cleared by hand
	group     bool       // a failed k-of-n group of the resource holds it
	// frozen: restored, and not all sources have spoken since. What is derived stays as the last run told it.
	frozen bool
	// promised: restored, and of a group that its source requires of what another source has yet to state.
	promised bool
	asked    Severity // of the event

	source             string // who said so first, and must restate it
	text               string
	evidence           map[string]string
	hit                []Affected // by the event's own word; sorted
	occurred, observed time.Time
	reason             string // why own ended
	event              cause  // the event that changed it in pass heard

	since time.Time // when the hold-down began
	due   time.Time // end of the hold-down or of the impulse
	slot  int       // in Engine.timers; -1 when no timer runs

	alarm    *Alarm
	parent   *record // whose consequence it is
	children []*record

	mentioned, heard, dirty, told uint64 // the pass in which that was so
	next                          outcome
}

// outcome is what a pass finds for a record; it becomes a revision if it differs from the last one.
type outcome struct {
	severity         Severity
	state            State
	affected, atRisk []Affected
	through          *record // the failed group that the walk upwards crossed
}

// failing reports whether a source has said that something is wrong with n.
func (n *node) failing() bool {
	return slices.ContainsFunc(n.records, func(r *record) bool { return r.own })
}

func (n *node) record(c Condition) *record {
	for _, r := range n.records {
		if r.key.Condition == c {
			return r
		}
	}
	return nil
}

func (e *Engine) newRecord(n *node, c Condition) *record {
	r := &record{
		key: Key{Home: e.home, Resource: n.id, Condition: c}, node: n, def: e.define(n.id, c), slot: -1,
	}
	n.records = append(n.records, r)
	e.records++
	return r
}

// stands reports whether the record is, or must become, an alarm.
func (r *record) stands() bool { return r.own && !r.pending && !r.dismissed || r.group }

// failing is what the condition does to its resource.
func (r *record) failing() State {
	switch {
	case r.group:
		return StateFailed
	case r.own && !r.pending && !r.dismissed:
		return r.def.worth(r.asked)
	}
	return StateOK
}

// end takes the source's word back; a group may still hold the record.
func (r *record) end(e *Engine, reason string) {
	r.believe(e)
	r.own, r.pending, r.reason = false, false, reason
	e.unschedule(r)
	e.seed(r.node)
}

// observe takes one event.
func (e *Engine) observe(ev *Event) {
	if ev.Resource == "" || ev.Condition == "" {
		return
	}
	n := e.nodes[ev.Resource]
	var r *record
	if n != nil {
		r = n.record(ev.Condition)
	}
	if r != nil {
		r.mentioned, r.promised = e.pass, false
	}
	switch ev.Status {
	case StatusUnknown:
		if n != nil && n.present {
			n.setUnknown(ev.Condition, true)
		}
	case StatusOK:
		if n == nil {
			return
		}
		n.setUnknown(ev.Condition, false)
		if r != nil && r.own && r.def.Mode == Level {
			reason := ev.Reason
			if reason == "" {
				reason = ReasonRecovered
			}
			r.end(e, reason)
			e.hear(r, ev)
		}
	case StatusFailed:
		if r == nil {
			n = e.node(ev.Resource)
			r = e.newRecord(n, ev.Condition)
			r.mentioned, r.promised = e.pass, false
		}
		n.setUnknown(ev.Condition, false)
		e.fail(r, ev)
	}
}

// fail takes the source's word that the condition holds. Saying it again changes nothing.
func (e *Engine) fail(r *record, ev *Event) {
	r.text, r.evidence = ev.Text, ev.Evidence
	if ev.Hit != nil {
		r.hit = slices.SortedFunc(slices.Values(ev.Hit), func(a, b Affected) int { return strings.Compare(string(a.Resource), string(b.Resource)) })
		e.seed(r.node)
	}
	if r.asked != ev.Severity {
		r.asked = ev.Severity
		e.hear(r, ev)
		if r.believe(e) {
			r.occurred, r.observed = r.event.occurred, r.event.observed
			e.causedBy(r)
		}
		e.seed(r.node)
	}
	if !r.own {
		r.own, r.reason, r.source = true, "", ev.Source
		e.hear(r, ev)
		if r.alarm == nil {
			r.occurred, r.observed = r.event.occurred, r.event.observed
			if r.def.HoldDown > 0 {
				r.pending, r.since = true, e.now
				e.schedule(r, e.now.Add(r.def.HoldDown))
			}
		}
		if !r.pending {
			e.causedBy(r)
		}
		e.seed(r.node)
	}
	if !r.pending {
		e.hold(r)
	}
}

// hold lets a condition end by itself, if it is one that does.
func (e *Engine) hold(r *record) {
	if r.def.Hold > 0 {
		e.schedule(r, e.now.Add(r.def.Hold))
		return
	}
	e.unschedule(r)
}

// cause is when something happened and was seen. Engine.cause is that of the latest of the faults of a pass: what a
// group that fails with it inherits.
type cause struct{ occurred, observed time.Time }

// hear notes the event that changes a record.
func (e *Engine) hear(r *record, ev *Event) {
	c := cause{ev.Occurred, ev.Observed}
	if c.observed.IsZero() {
		c.observed = e.now
	}
	if c.occurred.IsZero() {
		c.occurred = c.observed
	}
	r.event, r.heard = c, e.pass
	if c.observed.After(e.latest.observed) {
		e.latest = c
	}
}

// causeOf is what Change says of the revision that a record is about to make.
func (e *Engine) causeOf(r *record) cause {
	switch {
	case r.alarm == nil:
		return cause{r.occurred, r.observed}
	case r.heard == e.pass:
		return r.event
	}
	return e.latest
}

func (e *Engine) causedBy(r *record) {
	if r.observed.After(e.cause.observed) {
		e.cause = cause{r.occurred, r.observed}
	}
}

func (n *node) setUnknown(c Condition, unknown bool) {
	for i, u := range n.unknown {
		if u == c {
			if !unknown {
				n.unknown = append(n.unknown[:i:i], n.unknown[i+1:]...)
			}
			return
		}
	}
	if unknown {
		n.unknown = append(n.unknown, c)
	}
}

// expire ends the hold-downs and holds whose time has come.
func (e *Engine) expire() {
	for len(e.timers) > 0 && !e.timers[0].due.After(e.now) {
		r := e.timers[0]
		e.unschedule(r)
		if !r.pending {
			r.end(e, ReasonHeld)
			continue
		}
		e.mature(r)
		e.causedBy(r)
		e.seed(r.node)
	}
}

// mature ends a hold-down: the condition is believed.
func (e *Engine) mature(r *record) {
	r.pending = false
	e.hold(r)
}

// timers is a heap by due time, equal ones by key so that their order is not chance.
type timers []*record

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	if c := t[i].due.Compare(t[j].due); c != 0 {
		return c < 0
	}
	return compareKeys(t[i].key, t[j].key) < 0
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i]; t[i].slot, t[j].slot = i, j }
func (t *timers) Push(x any) {
	r := x.(*record) //nolint:forcetypeassert // container/heap hands back what schedule pushed
	r.slot = len(*t)
	*t = append(*t, r)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	r := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	r.slot = -1
	return r
}

func (e *Engine) schedule(r *record, due time.Time) {
	r.due = due
	if r.slot >= 0 {
		heap.Fix(&e.timers, r.slot)
		return
	}
	heap.Push(&e.timers, r)
}

func (e *Engine) unschedule(r *record) {
	if r.slot >= 0 {
		heap.Remove(&e.timers, r.slot)
	}
}
