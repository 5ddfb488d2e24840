package correlate

import (
	"slices"
)

// Which alarm is the consequence of which. Two ways lead to a root cause:
//
//   - upwards: a member's alarm belongs under the alarm of the k-of-n group that failed with it, for the group's
//     failure is what hurts;
//   - downwards: a condition that Follows, on a resource whose needs have failed, belongs under the alarm of what failed
//     there (a VLAN loses its carrier with its parent).
//
// An alarm that is correlated under another is not sent. So that this never hides a domain, it happens only when the
// root's affected list covers its own.

// root follows the parents up to the alarm that explains r; r itself when nothing does.
func (r *record) root() *record {
	for r.parent != nil {
		r = r.parent
	}
	return r
}

// explain finds the parents of the dirty records. Those that came last are explained first, so that in a cycle the
// one that came first remains the cause.
func (e *Engine) explain(dirty []*record) {
	for _, r := range dirty {
		if r.frozen && r.stands() && r.parent != nil && r.parent.stands() {
			continue
		}
		r.adopt(nil)
	}
	for _, r := range dirty {
		if r.frozen || !r.stands() {
			continue
		}
		p := e.explains(r)
		if p == nil || p.root() == r {
			continue
		}
		root := p.root()
		if covers(root.next.affected, r.next.affected) {
			r.adopt(p)
		}
	}
}

// explains finds what explains r, whether or not that hides a domain; nil when nothing does.
func (e *Engine) explains(r *record) *record {
	if p := r.next.through; p != nil {
		return p
	}
	if !r.def.Follows || r.group {
		return nil
	}
	e.walk++
	return e.upstream(r.node)
}

// upstream finds what failed a resource's needs: the oldest alarm that fails one of its members, nearest first.
func (e *Engine) upstream(n *node) *record {
	n.closed = e.walk
	for i := range n.groups {
		g := &n.groups[i]
		if g.state != StateFailed {
			continue
		}
		for _, m := range g.members {
			v := m.node
			if v.closed == e.walk || v.state != StateFailed || !v.counts() {
				continue
			}
			var first *record
			for _, r := range v.records {
				if r.failing() == StateFailed && (first == nil || latestFirst(first, r) < 0) {
					first = r
				}
			}
			if first == nil {
				first = e.upstream(v)
			}
			if first != nil {
				return first
			}
		}
	}
	return nil
}

// adopt puts r under p; nil makes it a root.
func (r *record) adopt(p *record) {
	if r.parent == p {
		return
	}
	if r.parent != nil {
		c := r.parent.children
		i := slices.Index(c, r)
		c[i] = c[len(c)-1]
		c[len(c)-1] = nil
		r.parent.children = c[:len(c)-1]
	}
	if r.parent = p; p != nil {
		p.children = append(p.children, r)
	}
}

// members appends the ids of all alarms that r explains.
func (r *record) members(ids []string) []string {
	for _, c := range r.children {
		if c.alarm != nil {
			ids = append(ids, c.alarm.ID)
		}
		ids = c.members(ids)
	}
	return ids
}
