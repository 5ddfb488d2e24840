package correlate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is what an Engine is made of.
type Config struct {
	Home string // the host (or zone) that answers for the alarms
	// Term is even, above all earlier terms of Home, and durable before New.
	Term     uint64
	Policies []Policy
	// Rules are those of conditions that RuleOf does not define: what other monitors report.
	Rules []Rule
	// Sources are those that will state a full truth (Delta.Full) in this run. Until each has done so once, what is
	// derived for restored alarms (affected, severity, what explains them) stays as the last run told it: half a
	// topology hides nobody, and a restart without change makes no revision. Name no source that is switched off; hand
	// in an empty full delta for one that was on when the alarms were raised, so that they clear.
	Sources []string
}

// Engine holds the topology, the open conditions and the standing alarms of one home, and decides what must be told.
// It is not safe for concurrent use. What it returns is immutable.
//
// Times are the caller's. Conditions wait and hold by them. When now is before that of the last call, what runs keeps
// the time that it had left at that call, so that a clock that is set back makes nothing wait for ever; and the times
// of an alarm never run against raised ≤ changed ≤ cleared.
type Engine struct {
	home     string
	term     uint64
	counter  uint64
	rules    map[Condition]Rule
	foreign  map[Condition]Rule // Config.Rules
	policies []Policy

	nodes    map[ID]*node
	alarms   map[string]*record // standing ones by id
	records  int
	timers   timers
	awaiting map[string]struct{} // sources that have not stated their full truth yet
	renewed  map[string]struct{} // those that were configured anew since

	started bool
	now     time.Time
	cause   cause
	latest  cause // the latest event of this pass that changed anything

	// pass numbers the calls, walk the traversals within them; marks in nodes and records compare with these.
	pass, walk uint64

	// What a pass collects, kept for its memory.
	seeds, loosened        []*node
	touched, work, changed []*node
	queue, domains         []*node
	dirty                  []*record
	affected, atRisk       []Affected
	ports                  []Port
	saved                  []*record // to be saved though they may have no new revision
	released               []*Alarm  // dismissed no more; to be saved
}

// ErrNoAlarm is returned for an id under which nothing stands.
var ErrNoAlarm = errors.New("no such alarm stands")

// New makes an engine. The restored alarms are those that stood, or were dismissed, when the last run ended; they keep their
// revisions.
func New(cfg Config, restored []*Alarm) *Engine {
	return newEngine(cfg, byCondition(table), restored)
}

func byCondition(rules []Rule) map[Condition]Rule {
	m := make(map[Condition]Rule, len(rules))
	for _, r := range rules {
		m[r.Condition] = r
	}
	return m
}

func newEngine(cfg Config, rules map[Condition]Rule, restored []*Alarm) *Engine {
	e := &Engine{
		home: cfg.Home, term: cfg.Term, rules: rules, foreign: byCondition(cfg.Rules), policies: slices.Clone(cfg.Policies),
		nodes: make(map[ID]*node), alarms: make(map[string]*record),
		awaiting: make(map[string]struct{}), renewed: make(map[string]struct{}),
	}
	for _, s := range cfg.Sources {
		e.awaiting[s] = struct{}{}
	}
	restored = slices.Clone(restored)
	slices.SortFunc(restored, func(a, b *Alarm) int { return a.Revision.Compare(b.Revision) })
	for _, a := range restored {
		if a.Standing() || a.Dismissed() {
			e.restore(a)
		}
	}
	for _, r := range e.sorted() {
		if up := e.alarms[r.alarm.Under]; up != nil && up.root() != r {
			r.adopt(up)
		}
	}
	return e
}

// restore takes up an alarm of the last run.
func (e *Engine) restore(a *Alarm) {
	n := e.node(a.Key.Resource)
	r := n.record(a.Key.Condition)
	if r == nil {
		r = e.newRecord(n, a.Key.Condition)
	} else {
		if r.alarm != nil {
			delete(e.alarms, r.alarm.ID) // an older one of the same key: the newer stands
		}
		r.believe(e)
	}
	if a.Revision.Term == e.term {
		e.counter = max(e.counter, a.Revision.Counter)
	}
	if a.Dismissed() {
		e.restoreDismissed(r, a)
		return
	}
	r.key, r.alarm, r.own, r.frozen = a.Key, a, true, len(e.awaiting) > 0
	r.source, r.text, r.evidence = a.Source, a.Text, a.Evidence
	r.occurred, r.observed = a.Times.Occurred, a.Times.Observed
	if a.Severity != r.def.severity(SeverityUnset, len(a.Affected) > 0) || r.def.Graded && a.State != r.failing() {
		r.asked = a.Severity
	}
	if a.Key.Condition == CondHostRestarted {
		r.hit = a.Affected // no source states again what a former kernel ran
	}
	r.next = outcome{severity: a.Severity, state: a.State, affected: a.Affected, atRisk: a.AtRisk}
	e.alarms[a.ID] = r
	if a.Lost {
		n.lost = true
		n.res.ID = n.id
		for _, hit := range slices.Concat(a.Affected, a.AtRisk) { // what is needed of the resource itself, to say the same again
			if hit.Resource == n.id {
				n.res.Name, n.res.Project, n.res.VNF = hit.Name, hit.Project, hit.VNF
			}
			for i := range hit.Ports {
				if n.id.Kind() == KindVNIC && strings.HasSuffix(string(n.id), "/"+hit.Ports[i].MAC) {
					n.res.Port = &hit.Ports[i]
				}
			}
		}
	}
	n.refresh()
	n.state = n.own
}

// Step takes one event.
func (e *Engine) Step(now time.Time, ev Event) Effects {
	e.begin(now)
	e.observe(&ev)
	return e.finish()
}

// Topology takes what one source says at once.
func (e *Engine) Topology(now time.Time, d Delta) Effects {
	e.begin(now)
	if d.Renewed {
		e.renewed[d.Source] = struct{}{}
	}
	for _, r := range d.Set {
		e.set(d.Source, r)
		if n := e.nodes[r.ID]; n != nil {
			n.stated = e.pass
		}
	}
	for _, r := range d.Require {
		e.require(d.Source, r)
	}
	if d.Full {
		e.release(&d)
	}
	e.remove(&d)
	for i := range d.Events {
		e.observe(&d.Events[i])
	}
	if d.Full {
		if d.Renewed {
			e.silence(d.Source)
		}
		e.complete(d.Source)
		delete(e.renewed, d.Source)
	}
	return e.finish()
}

// Tick ends the hold-downs and holds that are due by now.
func (e *Engine) Tick(now time.Time) Effects {
	e.begin(now)
	e.expire()
	return e.finish()
}

// Ack notes that an operator knows of a standing alarm. It clears one that is latched, one whose rule says so, and one
// whose resource a fault took away. The error is ErrNoAlarm when nothing stands under that id.
func (e *Engine) Ack(now time.Time, id, by, comment string) (Effects, error) {
	r := e.alarms[id]
	if r == nil {
		return Effects{}, fmt.Errorf("acknowledge alarm %q: %w", id, ErrNoAlarm)
	}
	e.begin(now)
	a := *r.alarm
	a.Ack = &Acknowledgement{By: by, Comment: comment, At: now}
	r.alarm = &a
	if r.own && (r.def.Mode == Latched || r.def.AckClears || r.node.lost) {
		r.end(e, ReasonAcknowledged)
	}
	e.saved = append(e.saved, r)
	return e.finish(), nil
}

// SetPolicies replaces the policies and applies them to what stands and waits.
func (e *Engine) SetPolicies(now time.Time, policies []Policy) Effects {
	e.policies = slices.Clone(policies)
	return e.redefine(now)
}

// SetRules replaces Config.Rules and applies them to what stands and waits.
func (e *Engine) SetRules(now time.Time, rules []Rule) Effects {
	e.foreign = byCondition(rules)
	return e.redefine(now)
}

func (e *Engine) redefine(now time.Time) Effects {
	e.begin(now)
	for _, n := range e.nodes {
		for _, r := range n.records {
			was := r.def
			r.def = e.define(n.id, r.key.Condition)
			switch {
			case r.pending && r.def.HoldDown != was.HoldDown:
				e.schedule(r, r.since.Add(r.def.HoldDown))
			case r.own && !r.pending && r.def.Hold != was.Hold:
				e.hold(r)
			}
			e.seed(n)
		}
	}
	return e.finish()
}

// begin starts a pass at the caller's time.
func (e *Engine) begin(now time.Time) {
	e.pass++
	e.seeds, e.loosened, e.changed, e.saved = e.seeds[:0], e.loosened[:0], e.changed[:0], e.saved[:0]
	e.cause, e.latest = cause{}, cause{}
	if e.started && now.Before(e.now) {
		back := e.now.Sub(now)
		for _, r := range e.timers { // all by the same amount: the heap's order stays
			r.due, r.since = r.due.Add(-back), r.since.Add(-back)
		}
	}
	e.now = now
	if !e.started {
		e.started = true
		for _, r := range e.sorted() { // how long a restored condition was held is not known: hold it in full
			e.hold(r)
		}
		for _, n := range e.nodes {
			for _, r := range n.records {
				if r.dismissed {
					e.hold(r)
				}
			}
		}
	}
}

// remove takes out what the delta says is gone, or what a full one does not state.
func (e *Engine) remove(d *Delta) {
	if len(d.Gone) == 0 && !d.Full {
		return
	}
	var vanished []Gone
	for _, g := range d.Gone {
		n := e.nodes[g.ID]
		if n == nil {
			continue
		}
		was := n.present || !n.lost && n.failing() // present, or known to have been: an alarm of the last run speaks of it
		if n.present {
			e.unset(n)
		}
		switch g.Reason {
		case GoneVanished:
			if was {
				vanished = append(vanished, g)
			}
		case GoneOrderly:
			e.forget(n, ReasonGone)
		case GoneMigrated:
			e.forget(n, ReasonMigrated)
		case GoneByFault:
			n.lost = true
			e.seed(n)
			e.loosened = append(e.loosened, n)
		}
	}
	if d.Full {
		at := len(vanished)
		for _, n := range e.nodes {
			if n.present && n.source == d.Source && n.stated != e.pass {
				vanished = append(vanished, Gone{ID: n.id})
			}
		}
		slices.SortFunc(vanished[at:], func(a, b Gone) int { return strings.Compare(string(a.ID), string(b.ID)) })
		for _, g := range vanished[at:] {
			e.unset(e.nodes[g.ID])
		}
		if _, ok := e.renewed[d.Source]; ok {
			vanished = vanished[:at] // it only looks elsewhere
		}
	}
	for _, g := range vanished { // only now is it known what still needs them
		n := e.nodes[g.ID]
		if n.id.Kind().Virtual() && !e.needed(n) {
			e.forget(n, ReasonGone)
			continue
		}
		n.lost = true
		var told *outcome
		for _, r := range n.records {
			if r.own {
				r.end(e, ReasonGone) // that it is gone says more
			}
			if r.frozen && r.def.State == StateFailed {
				told = &r.next
			}
		}
		e.observe(&Event{
			Source: d.Source, Resource: g.ID, Condition: CondGone, Status: StatusFailed,
			Text: g.Text, Occurred: g.Occurred, Observed: g.Observed,
		})
		if r := n.record(CondGone); told != nil && r.alarm == nil { // until all have spoken it says what it takes the place of
			r.frozen, r.next = true, *told
		}
	}
}

// forget ends all that is said of a resource.
func (e *Engine) forget(n *node, reason string) {
	n.lost = false
	e.seed(n)
	for _, r := range n.records {
		if r.own {
			r.end(e, reason)
		}
	}
}

// complete ends what a source's full truth does not mention any more, and the wait for that source.
func (e *Engine) complete(source string) {
	for _, n := range e.nodes {
		for _, r := range n.records {
			if !r.own || r.source != source || r.mentioned == e.pass {
				continue
			}
			if r.promised = len(e.awaiting) > 1 && !n.present && !n.lost && n.requires(r); !r.promised {
				r.unsaid(e)
			}
		}
	}
	if _, ok := e.awaiting[source]; !ok {
		return
	}
	delete(e.awaiting, source)
	if len(e.awaiting) > 0 {
		return
	}
	for _, n := range e.nodes { // now that all have spoken, judge everything
		for _, r := range n.records {
			r.frozen = false
			if r.promised {
				r.promised = false
				r.unsaid(e)
			}
		}
		e.seed(n)
	}
}

// silence ends all that a source that was switched off has reported.
func (e *Engine) silence(source string) {
	for _, n := range e.nodes {
		for _, r := range n.records {
			if r.own && r.source == source {
				r.end(e, ReasonGone)
				n.lost = n.lost && r.key.Condition != CondGone
			}
		}
	}
}

// unsaid ends what the full truth of its source does not mention.
func (r *record) unsaid(e *Engine) {
	n := r.node
	switch {
	case n.live() && r.def.Mode == Level:
		r.end(e, ReasonRecovered)
	case n.present && r.def.Mode == Level, !n.present && !n.lost && r.key.Condition != CondGone:
		r.end(e, ReasonGone)
	}
}

// finish derives what follows from the pass and turns it into effects.
func (e *Engine) finish() Effects {
	for _, n := range e.loosened {
		if n.lost && !e.needed(n) && !n.isDomain {
			for _, r := range n.records {
				if r.own && r.key.Condition != CondGone {
					r.end(e, ReasonGone)
				}
			}
		}
	}
	var eff Effects
	if len(e.seeds) > 0 {
		slices.SortFunc(e.seeds, func(a, b *node) int { return strings.Compare(string(a.id), string(b.id)) })
		for _, n := range e.seeds {
			n.refresh()
		}
		e.changed = append(append(e.changed, e.seeds...), e.loosened...)
		e.propagate()
		eff = e.revise(e.spread())
		for _, n := range e.seeds {
			e.drop(n)
		}
	}
	for _, n := range e.loosened {
		e.drop(n)
	}
	for _, r := range e.saved {
		if r.alarm != nil && r.told != e.pass {
			eff.Save = append(eff.Save, r.alarm)
		}
	}
	slices.SortFunc(e.released, func(a, b *Alarm) int { return a.Revision.Compare(b.Revision) })
	eff.Save, e.released = append(eff.Save, e.released...), nil
	if len(e.timers) > 0 {
		eff.Wake = e.timers[0].due
	}
	return eff
}

// refresh derives a node's own state from its conditions.
func (n *node) refresh() {
	n.own, n.doubted = StateOK, false
	for _, r := range n.records {
		switch {
		case !r.own || r.pending:
		case r.dismissed:
			n.doubted = n.doubted || r.def.worth(r.asked) == StateFailed
		default:
			n.own = max(n.own, r.def.worth(r.asked))
		}
	}
}

// mark notes that records that have to do with n may have to say something new.
func (e *Engine) mark(n *node) { e.changed = append(e.changed, n) }

// sorted lists the standing records by key.
func (e *Engine) sorted() []*record {
	all := make([]*record, 0, len(e.alarms))
	for _, r := range e.alarms {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *record) int { return compareKeys(a.key, b.key) })
	return all
}

func compareKeys(a, b Key) int {
	if c := strings.Compare(string(a.Resource), string(b.Resource)); c != 0 {
		return c
	}
	if c := strings.Compare(string(a.Condition), string(b.Condition)); c != 0 {
		return c
	}
	return strings.Compare(a.Home, b.Home)
}
