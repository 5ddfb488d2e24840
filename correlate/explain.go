package correlate

import (
	"slices"
	"strings"
	"time"
)

// Definition is the rule of a condition as the policies have refined it for one resource.
type Definition struct {
	Rule
	SeverityBy int // the index of the policy that set the severity; -1: none did
	HoldDownBy int // and the hold-down
}

func (d *definition) exported() Definition {
	return Definition{Rule: d.Rule, SeverityBy: d.severityBy - 1, HoldDownBy: d.holdDownBy - 1}
}

// Definition is that of a condition of a resource, whether it stands or not.
func (e *Engine) Definition(id ID, c Condition) Definition {
	d := e.define(id, c)
	return d.exported()
}

// SeverityBy says who chose the severity of an alarm.
type SeverityBy string

// The severity is that of the rule, the milder one of the rule because no domain is hit, the word of the source, or a policy's.
const (
	SeverityByRule   SeverityBy = "rule"
	SeverityByNobody SeverityBy = "nobody-hit"
	SeverityBySource SeverityBy = "source"
	SeverityByPolicy SeverityBy = "policy"
)

// chosen says what definition.severity went by.
func (d *definition) chosen(event Severity, affects bool) SeverityBy {
	switch {
	case d.fixed:
		return SeverityByPolicy
	case event != SeverityUnset:
		return SeverityBySource
	case !affects && d.Absorbed != SeverityUnset:
		return SeverityByNobody
	}
	return SeverityByRule
}

// Explanation is why a standing alarm is what it is. Its lists are the caller's; what they point to is immutable.
type Explanation struct {
	Alarm      *Alarm
	Definition Definition
	SeverityBy SeverityBy
	Asked      Severity  // what the source asked for; SeverityUnset: nothing
	Reported   bool      // its source says that the condition holds; else Failed alone does
	Ends       time.Time // it clears by itself then, unless it is reported again; zero: it does not
	// Restored: the alarm is of the last run, and not all sources have spoken in this one. Then Causes are as that run told them, and
	// Paths are not known.
	Restored bool
	Failed   []Group // the k-of-n groups of its resource that have failed with this condition
	Causes   []Cause // what explains it, from the nearest to the root cause; none: it is a root cause
	// Apart is what would explain it, but hits not all of its domains: put under that, the alarm would hide them. Nil: nothing.
	Apart   *Alarm
	Members []Cause // what is correlated under it; by resource and condition
	Paths   []Path  // to each domain that it hits or endangers; by that
}

// Group is how one need is met.
type Group struct {
	Mode             NeedMode
	K                int // how many must work, for KOfN
	Of               int // members that count; see Need
	Failed, Degraded int
}

// Left is how many members work.
func (g Group) Left() int { return g.Of - g.Failed }

// Cause is an alarm that explains another one, or that is explained, and the rule.
type Cause struct {
	Alarm *Alarm
	By    CauseBy
}

// CauseBy is a rule of correlation; see cause.go.
type CauseBy string

// A member belongs under the k-of-n group that failed with it, a condition that follows under what failed the needs of its
// resource; of a restored alarm only the last run knew.
const (
	CauseByGroup   CauseBy = "group"
	CauseByFollows CauseBy = "follows"
	CauseByLastRun CauseBy = "last-run"
)

// Path is the way of a fault to one domain.
type Path struct {
	Domain Affected
	Hops   []Hop // from the resource of the alarm, which is left out, to the domain; none when ByWord
	ByWord bool  // no need leads there: the source has named the domain
}

// Hop is one step: Resource needs the one before it.
type Hop struct {
	Resource ID
	Name     string
	Group    Group // the need
	Level    State // what the fault makes of Resource this way
	State    State // its health, with all that is wrong
}

// Explain says why an alarm that stands is what it is. The topology is that of now.
func (e *Engine) Explain(id string) (Explanation, bool) {
	r := e.alarms[id]
	if r == nil {
		return Explanation{}, false
	}
	x := Explanation{
		Alarm: r.alarm, Definition: r.def.exported(), SeverityBy: r.def.chosen(r.asked, len(r.alarm.Affected) > 0),
		Asked: r.asked, Reported: r.own, Restored: r.frozen,
	}
	if r.own && r.slot >= 0 {
		x.Ends = r.due
	}
	for i := range r.node.groups {
		if g := &r.node.groups[i]; g.mode == KOfN && g.cond == r.key.Condition && g.state == StateFailed {
			x.Failed = append(x.Failed, g.count())
		}
	}
	for c := r; c.parent != nil; c = c.parent {
		x.Causes = append(x.Causes, Cause{c.parent.alarm, c.causeBy()})
	}
	if r.parent == nil && !r.frozen {
		if p := e.explains(r); p != nil && p.root() != r && p.root().alarm != nil {
			x.Apart = p.root().alarm
		}
	}
	x.Members = r.explained(nil)
	slices.SortFunc(x.Members, func(a, b Cause) int { return compareKeys(a.Alarm.Key, b.Alarm.Key) })
	if !r.frozen {
		x.Paths = e.paths(r)
	}
	return x, true
}

// causeBy is the rule by which r is under its parent.
func (r *record) causeBy() CauseBy {
	switch {
	case r.frozen:
		return CauseByLastRun
	case r.next.through == r.parent:
		return CauseByGroup
	}
	return CauseByFollows
}

func (r *record) explained(all []Cause) []Cause {
	for _, c := range r.children {
		if c.alarm != nil {
			all = append(all, Cause{c.alarm, c.causeBy()})
		}
		all = c.explained(all)
	}
	return all
}

// count is how a group is met now.
func (g *group) count() Group {
	out := Group{Mode: g.mode, K: g.k}
	for _, m := range g.members {
		if !m.node.counts() {
			continue
		}
		out.Of++
		switch m.node.state {
		case StateFailed:
			out.Failed++
		case StateDegraded:
			out.Degraded++
		case StateOK, StateAtRisk, StateUnknown:
		}
	}
	return out
}

// step is how a walk came to a node.
type step struct {
	from  *node
	group *group
}

// paths are the shortest ways to the domains of a record's alarm along the needs that its failure is passed on by.
func (e *Engine) paths(r *record) []Path {
	out := outcome{state: r.failing()}
	e.climb(r, &out)
	came := map[*node]step{}
	// What made a node as bad as the fault has made it leads to it; in a cycle that may be missing, and then any passing need does.
	walk := func(leads func(level State, h *node) bool) {
		queue := []*node{r.node}
		seen := map[*node]bool{r.node: true}
		for i := 0; i < len(queue); i++ {
			n := queue[i]
			edges := slices.SortedFunc(slices.Values(n.up), func(a, b edge) int {
				if c := strings.Compare(string(a.holder.id), string(b.holder.id)); c != 0 {
					return c
				}
				return a.group - b.group
			})
			for _, ed := range edges {
				h := ed.holder
				if h.reached != e.walk || seen[h] || !h.live() {
					continue
				}
				if g := &h.groups[ed.group]; leads(g.pass(n.level), h) {
					seen[h] = true
					if _, known := came[h]; !known {
						came[h] = step{n, g}
					}
					queue = append(queue, h)
				}
			}
		}
	}
	if r.node.reached == e.walk {
		walk(func(level State, h *node) bool { return level == h.level })
		walk(func(level State, _ *node) bool { return level > StateOK })
	}
	var all []Path
	for _, list := range [][]Affected{r.alarm.Affected, r.alarm.AtRisk} {
		for _, hit := range list {
			p := Path{Domain: hit}
			n := e.nodes[hit.Resource]
			if n == nil || n != r.node && came[n].from == nil {
				p.ByWord = true
				all = append(all, p)
				continue
			}
			for guard := len(came); n != r.node && guard >= 0; guard-- {
				s := came[n]
				p.Hops = append(p.Hops, Hop{Resource: n.id, Name: n.res.Name, Group: s.group.count(), Level: n.level, State: n.state})
				n = s.from
			}
			slices.Reverse(p.Hops)
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Path) int { return strings.Compare(string(a.Domain.Resource), string(b.Domain.Resource)) })
	return all
}
