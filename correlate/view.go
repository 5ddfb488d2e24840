package correlate

import (
	"slices"
	"strings"
)

// View is a resource as the engine sees it; its Needs are with those that other sources require of it. A walk over the
// topology follows Needs and Dependents.
type View struct {
	Resource
	Source     string // who states it
	Own        State  // worst of its own open conditions
	Derived    State  // own, or what its needs make of it: its health
	Unknown    bool   // the last read of one of its conditions failed; the states are the last known ones
	Lost       bool   // a fault took it out of the topology; an alarm still speaks of it
	Conditions []Condition
	Dependents []ID // who needs it
}

// Alarms lists what stands, sorted by resource and condition.
func (e *Engine) Alarms() []*Alarm {
	records := e.sorted()
	alarms := make([]*Alarm, len(records))
	for i, r := range records {
		alarms[i] = r.alarm
	}
	return alarms
}

// Alarm returns a standing alarm by its id.
func (e *Engine) Alarm(id string) (*Alarm, bool) {
	if r := e.alarms[id]; r != nil {
		return r.alarm, true
	}
	return nil, false
}

// Correlated lists the ids that a standing alarm is correlated with at present. Alarm.Correlated is that of its last
// revision: that another member joins a root cause is nothing that its consumers must hear.
func (e *Engine) Correlated(id string) []string {
	r := e.alarms[id]
	if r == nil {
		return nil
	}
	if root := r.root(); root != r {
		return []string{root.alarm.ID}
	}
	ids := r.members(nil)
	slices.Sort(ids)
	return ids
}

// Resources lists the topology and the lost resources that an alarm still speaks of, sorted by id.
func (e *Engine) Resources() []View {
	views := make([]View, 0, len(e.nodes))
	for _, n := range e.nodes {
		if n.known() {
			views = append(views, n.view())
		}
	}
	slices.SortFunc(views, func(a, b View) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return views
}

// Len is how many resources there are.
func (e *Engine) Len() int {
	n := 0
	for _, node := range e.nodes {
		if node.known() {
			n++
		}
	}
	return n
}

// Resource returns one of them.
func (e *Engine) Resource(id ID) (View, bool) {
	if n := e.nodes[id]; n != nil && n.known() {
		return n.view(), true
	}
	return View{}, false
}

func (n *node) known() bool { return n.present || n.lost && len(n.records) > 0 }

func (n *node) view() View {
	v := View{
		Resource: n.res, Source: n.source, Own: n.own, Derived: n.state, Unknown: len(n.unknown) > 0, Lost: n.lost,
	}
	v.ID, v.Needs = n.id, nil
	if n.present {
		v.Needs = n.needs()
	}
	for _, r := range n.records {
		if r.stands() {
			v.Conditions = append(v.Conditions, r.key.Condition)
		}
	}
	slices.Sort(v.Conditions)
	for _, ed := range n.up {
		v.Dependents = append(v.Dependents, ed.holder.id)
	}
	slices.Sort(v.Dependents)
	v.Dependents = slices.Compact(v.Dependents)
	return v
}

// Running are the domains that run, as an alarm about all of them would list them; sorted by id.
func (e *Engine) Running() []Affected {
	var all []Affected
	for _, n := range e.nodes {
		if !n.isDomain || !n.live() {
			continue
		}
		one := Affected{Resource: n.id, Name: n.res.Name, Project: n.res.Project, VNF: n.res.VNF}
		for i := range n.groups {
			for _, m := range n.groups[i].members {
				if m.node.res.Port != nil {
					one.Ports = append(one.Ports, *m.node.res.Port)
				}
			}
		}
		slices.SortFunc(one.Ports, comparePorts)
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Affected) int { return strings.Compare(string(a.Resource), string(b.Resource)) })
	return all
}

// RunningVDisks are the vdisks of the domains that run, sorted by id; their facts must not be changed.
func (e *Engine) RunningVDisks() []Resource {
	var all []Resource
	for _, n := range e.nodes {
		if n.id.Kind() != KindVDisk || !n.present {
			continue
		}
		if d := e.nodes[n.res.Domain]; d != nil && d.live() {
			all = append(all, n.res)
		}
	}
	slices.SortFunc(all, func(a, b Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all
}

// Stands reports whether there is an alarm for a condition of a resource.
func (e *Engine) Stands(id ID, c Condition) bool {
	_, stands := e.AlarmOf(id, c)
	return stands
}

// AlarmOf returns the standing alarm for a condition of a resource.
func (e *Engine) AlarmOf(id ID, c Condition) (*Alarm, bool) {
	if n := e.nodes[id]; n != nil {
		if r := n.record(c); r != nil && r.alarm != nil && r.alarm.Standing() {
			return r.alarm, true
		}
	}
	return nil, false
}
