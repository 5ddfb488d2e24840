package sim

import (
	"fmt"
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// checker holds what must always be true.
type checker struct {
	s       *simulation
	highest correlate.Revision // published so far
	// residue: alarms of which a subscription was sent something that a crash kept from ever being committed. What it
	// believes of them may be wrong until the next revision; docs/delivery.md says so.
	residue map[place]bool
}

func newChecker(s *simulation) *checker { return &checker{s: s, residue: map[place]bool{}} }

// standing is what stands of what a delta says is unknown.
type standing map[key]bool

func (c *checker) beforeDelta(p *process, d *correlate.Delta) standing {
	var before standing
	for i := range d.Events {
		if e := &d.Events[i]; e.Status == correlate.StatusUnknown {
			if before == nil {
				before = standing{}
			}
			before[key{e.Resource, e.Condition}] = holds(p.engine, e.Resource, e.Condition)
		}
	}
	return before
}

func holds(e *correlate.Engine, id correlate.ID, c correlate.Condition) bool {
	return slices.ContainsFunc(e.Alarms(), func(a *correlate.Alarm) bool { return a.Key.Resource == id && a.Key.Condition == c })
}

// afterDelta: Unknown neither raises nor clears. A k-of-n group's own alarm may move for another reason.
func (c *checker) afterDelta(p *process, d *correlate.Delta, before standing, eff *correlate.Effects) {
	for k, was := range before {
		if k.resource.Kind() == correlate.KindNIC && holds(p.engine, k.resource, k.condition) != was {
			c.s.fail("%s %s is unknown, and yet its alarm changed: it stood: %v", k.resource, k.condition, was)
		}
	}
	if len(d.Events) > 0 && len(before) == len(d.Events) && len(d.Set)+len(d.Gone) == 0 && !d.Full && len(eff.Publish) > 0 {
		c.s.fail("a delta that knows nothing published %s", eff.Publish[0].Alarm.Key.Resource)
	}
}

// published: revisions only grow, over all runs, and each is saved.
func (c *checker) published(p *process, changes []correlate.Change) {
	for _, ch := range changes {
		a := ch.Alarm
		if a.Revision.Compare(c.highest) <= 0 {
			c.s.fail("revision %s of %s comes after %s", a.Revision, a.Key.Resource, c.highest)
		}
		c.highest = a.Revision
		if _, stands := p.engine.Alarm(a.ID); stands != a.Standing() {
			c.s.fail("%s %s is %s, and the engine says that it stands: %v", a.Key.Resource, a.Key.Condition, a.Last, stands)
		}
		if t := a.Times; t.Raised.IsZero() || !t.Changed.IsZero() && t.Changed.Before(t.Raised) || !t.Cleared.IsZero() && t.Cleared.Before(t.Raised) {
			c.s.fail("the times of %s %s run backwards: %+v", a.Key.Resource, a.Key.Condition, t)
		}
	}
}

// started: one request per alarm and eight per subscription at once; what was told is not told again; order is kept.
func (c *checker) started(sub *subscriber, a *correlate.Alarm) {
	name := sub.c.sub.Name
	if sub.flying[a.ID] {
		c.s.fail("two requests to %s at once about %s %s", name, a.Key.Resource, a.Key.Condition)
	}
	sub.flying[a.ID] = true
	if n := len(sub.flying); n > sub.c.limits.InFlight {
		c.s.fail("%d requests to %s at once", n, name)
	}
	if a.Revision.Compare(sub.sent[a.ID]) < 0 {
		c.s.fail("%s is sent revision %s of %s after %s", name, a.Revision, a.Key.Resource, sub.sent[a.ID])
	}
	sub.sent[a.ID] = a.Revision
	if a.Revision == sub.told[a.ID] {
		c.s.fail("%s is sent revision %s of %s again, which it has acknowledged", name, a.Revision, a.Key.Resource)
	}
}

// machine: queues are bounded, and the counts are true.
func (c *checker) machine(sub *subscriber) {
	owed, parked, flying := sub.machine.Counts()
	if owed > sub.c.limits.Capacity || parked > owed || flying != len(sub.flying) {
		c.s.fail("%s: %d owed, %d parked, %d in flight by the machine's count, %d really", sub.c.sub.Name, owed, parked, flying, len(sub.flying))
	}
}

// content: one notification id, one content.
func (c *checker) content(to *consumer, n notification) {
	is := content{n.alarm, n.revision, n.digest}
	if was, ok := to.taken[n.id]; ok && was != is {
		c.s.fail("%s got notification %s with two contents: %s and %s", to.sub.Name, n.id, was.revision, is.revision)
	}
	to.taken[n.id] = is
}

// taken: what a consumer takes in never goes back.
func (c *checker) taken(to *consumer, n notification, was correlate.Revision) {
	if n.revision.Compare(was) < 0 {
		c.s.fail("%s went back from %s to %s", to.sub.Name, was, n.revision)
	}
}

// crashed notes what was sent before it was durable, and now never will be.
func (c *checker) crashed(p *process, lost map[place][]byte) {
	for _, sub := range p.subs {
		for alarm, sent := range sub.sent {
			if _, ok := lost[place{"", alarm}]; !ok {
				continue
			}
			var left correlate.Alarm
			if b := c.s.disk.alarms[alarm]; b != nil {
				c.s.disk.decode(b, &left)
			}
			if sent.Compare(left.Revision) > 0 {
				c.residue[place{sub.c.sub.ID, alarm}] = true
				c.s.report.Residue++
			}
		}
	}
}

// stated keeps track of what can be known: a link that the first full truth of a run does not hold, and that left no gone
// alarm behind, has been forgotten.
func (c *checker) stated(src *source, d *correlate.Delta) {
	if src.name != "nic" {
		return
	}
	for _, l := range c.s.world.links {
		switch {
		case slices.ContainsFunc(d.Set, func(r correlate.Resource) bool { return r.ID == l.id }):
			l.forgotten = false
		case d.Full && !src.full:
			l.forgotten = !holds(src.p.engine, l.id, correlate.CondGone)
		}
	}
}

// step compares the engine with the world, when both sources have told all that there is.
func (c *checker) step() {
	p, w := c.s.process, c.s.world
	for _, src := range p.sources {
		if !src.told() {
			return
		}
	}
	for _, l := range w.links { // what can't be read must stand as it was last read
		if last, ok := w.unsure[l.id]; ok && (last.told != p || !l.present || l.up != last.up || l.signal != last.signal) {
			return
		}
	}
	c.s.report.Compared++
	told := map[correlate.ID]correlate.State{} // what the alarms that are sent say of each domain
	for _, a := range p.engine.Alarms() {
		for _, hit := range a.Affected {
			if a.Under == "" {
				told[hit.Resource] = max(told[hit.Resource], hit.State)
			}
		}
	}
	for _, d := range w.domains {
		least, most := d.hit(true), d.hit(false)
		is := correlate.StateOK
		if v, ok := p.engine.Resource(d.id); ok && d.active() && v.Derived >= correlate.StateDegraded {
			is = v.Derived
		}
		if d.active() && (is < least || is > most) {
			c.s.fail("%s is %s by the engine, and between %s and %s in the world\n%s", d.name, is, least, most, describe(p.engine))
		}
		if t := told[d.id]; t < least || t > most {
			c.s.fail("%s is %s by the alarms that are sent, and between %s and %s in the world\n%s", d.name, t, least, most, describe(p.engine))
		}
	}
}

// settled checks what must hold when all has calmed down: everybody knows the newest of what concerns them.
func (c *checker) settled(parked bool) {
	p := c.s.process
	for _, d := range c.s.world.domains {
		d.impulse = false // over by now
	}
	compared := c.s.report.Compared
	if c.step(); c.s.report.Compared == compared {
		c.s.fail("the sources have not told all, although nothing is wrong with them")
	}
	alarms := map[string]*correlate.Alarm{}
	for _, a := range p.engine.Alarms() {
		alarms[a.ID] = a
	}
	for _, sub := range p.subs {
		to := sub.c
		owed, parkedPairs, flying := sub.machine.Counts()
		if flying > 0 || owed > parkedPairs || parkedPairs > 0 && !parked {
			c.s.fail("%s is still owed %d deliveries, %d of them parked, %d in flight", to.sub.Name, owed, parkedPairs, flying)
		}
		excused := func(id string) bool {
			r, owed, _ := sub.machine.Pair(id)
			return owed && r.Parked && parked || c.residue[place{to.sub.ID, id}]
		}
		for id, a := range alarms {
			h, knows := to.holds[id]
			knows = knows && h.standing
			if a.Under == "" && (knows || matches(to.sub, a)) && (!knows || h.revision != a.Revision) && !excused(id) {
				c.s.fail("%s holds %s (standing: %v) of %s %s, which is at %s", to.sub.Name, h.revision, knows, a.Key.Resource, a.Key.Condition, a.Revision)
			}
		}
		for id, h := range to.holds {
			if h.standing && alarms[id] == nil && !excused(id) {
				c.s.fail("%s holds %s of alarm %s, which no longer stands", to.sub.Name, h.revision, id)
			}
		}
	}
	if n := len(c.s.disk.alarms); n > len(alarms)+c.kept() {
		c.s.fail("the outbox holds %d alarms, %d stand and %d are owed to somebody", n, len(alarms), c.kept())
	}
}

// kept counts the cleared alarms that somebody is owed.
func (c *checker) kept() (n int) {
	for _, a := range c.s.process.known {
		if !a.Standing() {
			n++
		}
	}
	return n
}

// nothingStands: all is healed, and all that could be acknowledged was.
func (c *checker) nothingStands() {
	if all := c.s.process.engine.Alarms(); len(all) > 0 {
		c.s.fail("all is well, and yet:\n%s", describe(c.s.process.engine))
	}
	for _, v := range c.s.process.engine.Resources() {
		if v.Derived != correlate.StateOK || v.Lost {
			c.s.fail("all is well, and yet %s is %s (lost: %v)", v.ID, v.Derived, v.Lost)
		}
	}
}

func describe(e *correlate.Engine) (out string) {
	for _, a := range e.Alarms() {
		out += fmt.Sprintf("  %s %s %s %s, own %s, lost %v, under %q, affected:", a.Revision, a.Key.Resource, a.Key.Condition, a.Severity, a.State, a.Lost, a.Under)
		for _, h := range a.Affected {
			out += fmt.Sprintf(" %s %s", h.Name, h.State)
		}
		out += "\n"
	}
	return out
}

// matches is the contract's filter, told once more: projects and states judge the affected, the rest the alarm.
func matches(s notify.Subscription, a *correlate.Alarm) bool {
	f := s.Filter
	switch {
	case len(f.ResourceTypes) > 0 && !slices.Contains(f.ResourceTypes, a.Key.Resource.Kind()),
		a.Severity != correlate.SeverityIndeterminate && a.Severity < f.MinSeverity:
		return false
	}
	return len(f.Projects)+len(f.States) == 0 || len(listed(f, a)) > 0
}

// listed is what a consumer sees of the affected list.
func listed(f notify.Filter, a *correlate.Alarm) (out []correlate.Affected) {
	all := slices.Clone(a.Affected)
	if slices.Contains(f.States, correlate.StateAtRisk) {
		all = append(all, a.AtRisk...)
	}
	for _, d := range all {
		if (len(f.States) == 0 || slices.Contains(f.States, d.State)) && (len(f.Projects) == 0 || slices.Contains(f.Projects, d.Project)) {
			out = append(out, d)
		}
	}
	return out
}
