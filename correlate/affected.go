package correlate

import (
	"slices"
	"strings"
)

// reach walks from a record's resource upwards along the needs that its failure really fails, degrades or endangers,
// and finds the active domains there. A k-of-n group is crossed as failed only when it has failed.
//
// The result's lists are the last alarm's own when they are equal to it, and else new.
func (e *Engine) reach(r *record) outcome {
	out := outcome{state: r.failing()}
	domains := e.climb(r, &out)
	slices.SortFunc(domains, func(a, b *node) int { return strings.Compare(string(a.id), string(b.id)) })

	affected, atRisk, ports := e.affected[:0], e.atRisk[:0], e.ports[:0]
	for _, d := range domains {
		at := len(ports)
		for i := range d.groups {
			for _, m := range d.groups[i].members {
				if v := m.node; v.reached == e.walk && v.res.Port != nil && (v.level >= StateDegraded || d.level == StateAtRisk) {
					ports = append(ports, *v.res.Port)
				}
			}
		}
		hit := Affected{Resource: d.id, Name: d.res.Name, Project: d.res.Project, VNF: d.res.VNF, State: d.state, Ports: ports[at:len(ports):len(ports)]}
		slices.SortFunc(hit.Ports, comparePorts)
		if d.level == StateAtRisk {
			hit.State = StateAtRisk
			atRisk = append(atRisk, hit)
		} else {
			affected = append(affected, hit)
		}
	}
	affected = withHit(affected, r)
	e.affected, e.atRisk, e.ports = affected, atRisk, ports

	var last, lastRisk []Affected
	if r.alarm != nil {
		last, lastRisk = r.alarm.Affected, r.alarm.AtRisk
	}
	out.affected, out.atRisk = keep(affected, last), keep(atRisk, lastRisk)
	return out
}

// withHit adds what the event itself has named.
func withHit(affected []Affected, r *record) []Affected {
	if len(r.hit) == 0 || r.failing() == StateOK {
		return affected
	}
	found := len(affected)
	for _, hit := range r.hit {
		if _, known := slices.BinarySearchFunc(affected[:found], hit.Resource, func(a Affected, id ID) int {
			return strings.Compare(string(a.Resource), string(id))
		}); !known {
			affected = append(affected, hit)
		}
	}
	slices.SortFunc(affected, func(a, b Affected) int { return strings.Compare(string(a.Resource), string(b.Resource)) })
	return affected
}

// climb sets the level of every node that r's failure touches, and returns the active domains among them. They are
// the engine's to reuse.
func (e *Engine) climb(r *record, out *outcome) []*node {
	e.walk++
	domains, queue := e.domains[:0], e.queue[:0]
	visit := func(n *node, level State) {
		if n.reached == e.walk {
			if level > n.level {
				n.level = level
				queue = append(queue, n)
			}
			return
		}
		n.reached, n.level = e.walk, level
		queue = append(queue, n)
		if n.isDomain {
			domains = append(domains, n)
		}
	}
	if out.state > StateOK && r.node.counts() {
		visit(r.node, out.state)
	}
	for i := 0; i < len(queue); i++ {
		n := queue[i]
		for _, ed := range n.up {
			h := ed.holder
			if !h.live() {
				continue
			}
			g := &h.groups[ed.group]
			level := g.pass(n.level)
			if level == StateOK {
				continue
			}
			if g.mode == KOfN && level == StateFailed {
				if held := h.record(g.cond); held != nil && held.group && held != r &&
					(out.through == nil || compareKeys(held.key, out.through.key) < 0) {
					out.through = held
				}
			}
			visit(h, level)
		}
	}
	e.domains, e.queue = domains, queue
	return domains
}

// pass is what becomes of the holder, because of a member that a fault has brought to level.
func (g *group) pass(level State) State {
	switch g.mode {
	case AllOf:
		return level
	case SomeOf:
		if level > StateAtRisk {
			return min(level, g.state)
		}
		return level
	case KOfN:
		if level == StateFailed {
			return g.state
		}
	}
	return StateOK
}

func comparePorts(a, b Port) int {
	if c := strings.Compare(a.MAC, b.MAC); c != 0 {
		return c
	}
	return strings.Compare(a.PortID, b.PortID)
}

// SameAffected reports whether two entries say the same.
func SameAffected(a, b Affected) bool {
	return a.Resource == b.Resource && a.Name == b.Name && a.Project == b.Project && a.VNF == b.VNF && a.State == b.State && slices.Equal(a.Ports, b.Ports)
}

// keep returns last when found says the same, and else a copy of found that shares nothing with the engine's buffers.
func keep(found, last []Affected) []Affected {
	if slices.EqualFunc(found, last, SameAffected) {
		return last
	}
	if len(found) == 0 {
		return nil
	}
	total := 0
	for i := range found {
		total += len(found[i].Ports)
	}
	ports := make([]Port, 0, total)
	out := slices.Clone(found)
	for i := range out {
		at := len(ports)
		ports = append(ports, out[i].Ports...)
		out[i].Ports = ports[at:len(ports):len(ports)]
		if len(out[i].Ports) == 0 {
			out[i].Ports = nil
		}
	}
	return out
}

// presently is the affected list of an alarm that ends, with what its domains are by now.
func (e *Engine) presently(last []Affected) []Affected {
	if len(last) == 0 {
		return nil
	}
	out := slices.Clone(last)
	for i := range out {
		switch n := e.nodes[out[i].Resource]; {
		case n != nil && (n.present || n.lost):
			out[i].State = n.state
		case len(e.awaiting) == 0:
			out[i].State = StateOK // and before all have spoken, as it was told
		}
	}
	return out
}

// covers reports whether every domain of part is in whole. Both are sorted by resource.
func covers(whole, part []Affected) bool {
	i := 0
	for _, p := range part {
		for i < len(whole) && whole[i].Resource < p.Resource {
			i++
		}
		if i == len(whole) || whole[i].Resource != p.Resource {
			return false
		}
	}
	return true
}
