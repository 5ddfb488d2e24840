package correlate

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// spread finds the records for which the changed nodes may matter: their own; those above, which may follow; those
// below, whose affected lists may reach them; and what those explain.
func (e *Engine) spread() []*record {
	dirty := e.dirty[:0]
	add := func(r *record) {
		if r.dirty != e.pass {
			r.dirty = e.pass
			dirty = append(dirty, r)
		}
	}
	visit := func(n *node) {
		if n.closed != e.walk {
			n.closed = e.walk
			e.queue = append(e.queue, n)
			for _, r := range n.records {
				add(r)
			}
		}
	}
	start := func() {
		e.walk++
		e.queue = e.queue[:0]
		for _, n := range e.changed {
			visit(n)
		}
	}
	start()
	for i := 0; i < len(e.queue) && len(dirty) < e.records; i++ {
		for _, ed := range e.queue[i].up {
			visit(ed.holder)
		}
	}
	start()
	for i := 0; i < len(e.queue) && len(dirty) < e.records; i++ {
		for _, g := range e.queue[i].groups {
			for _, m := range g.members {
				visit(m.node)
			}
		}
	}
	for i := 0; i < len(dirty); i++ {
		for _, c := range dirty[i].children {
			add(c)
		}
	}
	e.dirty = dirty
	return dirty
}

// revise judges the dirty records anew and makes a revision of whatever really changed.
func (e *Engine) revise(dirty []*record) Effects {
	for _, r := range dirty {
		if r.group && !r.own {
			r.source = r.node.requirer(r) // the group is what the next run must hear of
		}
		switch {
		case !r.stands():
		case r.frozen:
			r.next.severity = r.def.severity(r.asked, len(r.next.affected) > 0)
		default:
			r.next = e.reach(r)
			r.next.severity = r.def.severity(r.asked, len(r.next.affected) > 0)
		}
	}
	slices.SortFunc(dirty, latestFirst)
	e.explain(dirty)

	tell := dirty[:0]
	for _, r := range dirty {
		switch {
		case r.stands():
			if r.alarm == nil || r.differs() {
				tell = append(tell, r)
			} else if r.outdated() { // nothing to tell, but the next run must know
				a := *r.alarm
				r.sign(&a)
				r.alarm = &a
				e.saved = append(e.saved, r)
			}
		case r.alarm != nil:
			tell = append(tell, r)
		case !r.own:
			e.discard(r)
		}
	}
	if len(tell) == 0 {
		return Effects{}
	}
	slices.SortFunc(tell, e.inOrder)
	return e.write(tell)
}

// write gives the revisions their numbers, then their contents: alarms name each other.
func (e *Engine) write(tell []*record) Effects {
	eff := Effects{Save: make([]*Alarm, len(tell), len(tell)+len(e.saved)), Publish: make([]Change, len(tell))}
	for i, r := range tell {
		e.counter++
		a := new(Alarm)
		c := e.causeOf(r)
		eff.Save[i], eff.Publish[i], r.told = a, Change{Alarm: a, Occurred: c.occurred, Observed: c.observed}, e.pass
		rev := Revision{Term: e.term, Counter: e.counter}
		if r.alarm != nil {
			*a = *r.alarm
			a.Last = Changed
			if !r.stands() {
				a.Last = Cleared
			}
		} else {
			a.Key, a.ID, a.First, a.Last = r.key, alarmID(r.key, rev), rev, Raised
			a.Times = Times{Occurred: r.occurred, Observed: r.observed, Raised: e.now}
			e.alarms[a.ID] = r
		}
		a.Revision = rev
		at := later(e.now, later(a.Times.Changed, a.Times.Raised))
		switch a.Last {
		case Raised:
		case Changed:
			a.Times.Changed = at
		case Cleared:
			a.Times.Cleared = at
			continue
		}
		r.alarm = a
	}
	for i, r := range tell {
		if a := eff.Save[i]; r.stands() {
			e.describe(r, a)
		} else {
			a.Severity, a.State = SeverityCleared, StateOK
			a.ClearReason = r.reason
			if a.ClearReason == "" {
				a.ClearReason = ReasonRecovered
			}
			a.Affected, a.AtRisk = e.presently(a.Affected), nil
			delete(e.alarms, a.ID)
			if r.word != nil {
				r.sayByHand(a)
			}
			if r.dismissed { // it waits for another word of its source
				r.adopt(nil)
				r.alarm = nil
				continue
			}
			e.discard(r)
		}
	}
	return eff
}

// describe fills in what the record says now.
func (e *Engine) describe(r *record, a *Alarm) {
	d, o := &r.def, &r.next
	a.Severity, a.State, a.Affected, a.AtRisk = o.severity, o.state, o.affected, o.atRisk
	a.EventType, a.ProbableCause, a.AbstractCause = d.EventType, d.ProbableCause, d.AbstractCause
	a.Confidence = ConfidenceConfirmed
	a.Evidence = r.evidence
	r.sign(a)
	if a.Text = r.text; a.Text == "" {
		a.Text = d.Text
	}
	if root := r.root(); root != r {
		a.Under, a.RootCause = root.alarm.ID, false
		a.Correlated = []string{a.Under}
		return
	}
	a.Under, a.RootCause = "", true
	a.Correlated = r.members(nil)
	slices.Sort(a.Correlated)
}

// sign notes what only the next run must know.
func (r *record) sign(a *Alarm) {
	a.Source, a.Lost = r.source, r.node.lost
	if !r.frozen {
		a.NeededBy = r.node.neededBy()
	}
}

// outdated reports whether that has changed.
func (r *record) outdated() bool {
	a := r.alarm
	return a.Lost != r.node.lost || a.Source != r.source || !r.frozen && !slices.Equal(a.NeededBy, r.node.neededBy())
}

// differs reports whether a standing record has something new to say. Text and evidence alone are nothing new, and
// neither is another member under a root cause.
func (r *record) differs() bool {
	a, o := r.alarm, &r.next
	if a.Severity != o.severity || a.State != o.state {
		return true
	}
	switch root := r.root(); {
	case root == r:
		if a.Under != "" {
			return true
		}
	case root.alarm == nil || a.Under != root.alarm.ID:
		return true
	}
	return !same(a.Affected, o.affected) || !same(a.AtRisk, o.atRisk)
}

// same compares lists by identity: reach hands back the alarm's own list when nothing in it has changed.
func same(a, b []Affected) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// discard forgets a record that neither stands nor waits.
func (e *Engine) discard(r *record) {
	r.adopt(nil)
	r.alarm = nil
	n := r.node
	if i := slices.Index(n.records, r); i >= 0 {
		n.records = slices.Delete(n.records, i, i+1)
		e.records--
	}
	e.drop(n)
}

// latestFirst puts what is new before what stands, and of two that stand the younger before the older.
func latestFirst(a, b *record) int {
	switch {
	case a.alarm == nil && b.alarm != nil:
		return -1
	case a.alarm != nil && b.alarm == nil:
		return 1
	case a.alarm != nil:
		if c := b.alarm.First.Compare(a.alarm.First); c != 0 {
			return c
		}
	}
	return compareKeys(b.key, a.key)
}

// inOrder is the order of the revisions of one pass: raised, changed, cleared, so that what takes an alarm's place is
// told before it clears; root causes before what they explain.
func (e *Engine) inOrder(a, b *record) int {
	if c := a.phase() - b.phase(); c != 0 {
		return c
	}
	if (a.parent == nil) != (b.parent == nil) {
		if a.parent == nil {
			return -1
		}
		return 1
	}
	return compareKeys(a.key, b.key)
}

func (r *record) phase() int {
	switch {
	case !r.stands():
		return 2
	case r.alarm != nil:
		return 1
	}
	return 0
}

// alarmID names one occurrence of a condition. Peers derive the same one.
func alarmID(k Key, raised Revision) string {
	sum := sha256.Sum256([]byte(k.Home + "\x00" + string(k.Resource) + "\x00" + string(k.Condition) + "\x00" + raised.String()))
	return hex.EncodeToString(sum[:16])
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
