package correlate

import (
	"slices"
	"strings"
)

// node is a resource in the graph of needs. One exists for whatever is stated, needed or has a condition.
type node struct {
	id       ID
	isDomain bool

	res     Resource // as last stated; kept while lost, so that its alarms still name it
	source  string   // who stated it last
	present bool     // the topology holds it
	lost    bool     // it was there and a fault took it

	extra   []requirement // by other sources, sorted by them
	groups  []group       // what it needs; none unless present
	up      []edge        // who needs it
	holders []ID          // the physical ones among them, when they are counted
	counted bool
	records []*record // its conditions, oldest first
	unknown []Condition

	own     State // worst of its own open conditions
	doubted bool  // a condition that fails it is dismissed
	state   State // own, or what its needs make of it

	// Scratch of one pass, valid when its mark is the pass's number.
	touched, closed, reached, queued, stated uint64
	before                                   State // state at the start of the pass; valid with touched
	level                                    State // what the walked fault does to it; valid with reached
}

// requirement is what one source adds to the needs of a node.
type requirement struct {
	source string
	needs  []Need
}

// group is a Need with its members resolved.
type group struct {
	source  string // who requires it; empty: who states its holder
	mode    NeedMode
	k       int
	cond    Condition
	members []member
	state   State // what this need makes of its holder
	before  State // the same at the start of the pass; valid with the holder's touched
}

// member points to a needed node and to the edge back, so that an edge goes without a search.
type member struct {
	node *node
	back int // index in node.up
}

// edge is the way from a needed node to its holder: holder.groups[group].members[index].
type edge struct {
	holder       *node
	group, index int
}

// counts reports whether a node has a say in the groups that need it.
func (n *node) counts() bool {
	return n.present && !n.res.Inactive || n.lost && n.own > StateOK
}

// live reports whether a node's needs count.
func (n *node) live() bool { return n.present && !n.res.Inactive }

func (e *Engine) node(id ID) *node {
	n := e.nodes[id]
	if n == nil {
		n = &node{id: id, isDomain: id.Kind() == KindDomain}
		e.nodes[id] = n
	}
	return n
}

// drop forgets a node that nothing refers to.
func (e *Engine) drop(n *node) {
	if !n.present && len(n.records) == 0 && len(n.up) == 0 && len(n.extra) == 0 {
		delete(e.nodes, n.id)
	}
}

// needs are those that its own source states, then those that others require of it.
func (n *node) needs() []Need {
	if len(n.extra) == 0 {
		return n.res.Needs
	}
	all := slices.Clone(n.res.Needs)
	for _, x := range n.extra {
		all = append(all, x.needs...)
	}
	return all
}

// requires reports whether the source of a record requires of n the group that the record is of.
func (n *node) requires(r *record) bool {
	return slices.ContainsFunc(n.extra, func(x requirement) bool {
		return x.source == r.source && slices.ContainsFunc(x.needs, func(need Need) bool {
			return need.Mode == KOfN && (need.Condition == r.key.Condition || need.Condition == "" && r.key.Condition == CondGroup)
		})
	})
}

// require takes what a source requires of a resource.
func (e *Engine) require(source string, r Requirement) {
	if r.ID == "" {
		return
	}
	n := e.node(r.ID)
	at, found := slices.BinarySearchFunc(n.extra, source, func(x requirement, source string) int { return strings.Compare(x.source, source) })
	switch {
	case found && sameNeeds(n.extra[at].needs, r.Needs):
		return
	case found && len(r.Needs) > 0:
		n.extra[at].needs = r.Needs
	case found:
		n.extra = slices.Delete(n.extra, at, at+1)
	case len(r.Needs) > 0:
		n.extra = slices.Insert(n.extra, at, requirement{source, r.Needs})
	}
	e.seed(n) // one that is of no use goes with the pass
	if !n.present {
		return
	}
	before := len(e.loosened)
	e.detach(n)
	e.attach(n)
	let := slices.DeleteFunc(e.loosened[before:], func(m *node) bool { // it is needed as before
		return slices.ContainsFunc(m.up, func(ed edge) bool { return ed.holder == n })
	})
	e.loosened = e.loosened[:before+len(let)]
}

// release takes back what a full statement does not require any more.
func (e *Engine) release(d *Delta) {
	for _, n := range e.nodes {
		required := slices.ContainsFunc(n.extra, func(x requirement) bool { return x.source == d.Source })
		if required && !slices.ContainsFunc(d.Require, func(r Requirement) bool { return r.ID == n.id }) {
			e.require(d.Source, Requirement{ID: n.id})
		}
	}
}

// attach resolves the needs of n. A member named twice counts once.
func (e *Engine) attach(n *node) {
	e.resolve(n, "", n.res.Needs)
	for _, x := range n.extra {
		e.resolve(n, x.source, x.needs)
	}
}

func (e *Engine) resolve(n *node, source string, needs []Need) {
	n.groups = slices.Grow(n.groups, len(needs))
	for _, need := range needs {
		g := group{source: source, mode: need.Mode, k: max(1, need.K), cond: need.Condition, members: make([]member, 0, len(need.Of))}
		if g.cond == "" {
			g.cond = CondGroup
		}
		for _, id := range need.Of {
			m := e.node(id)
			if slices.ContainsFunc(g.members, func(o member) bool { return o.node == m }) {
				continue
			}
			g.members = append(g.members, member{m, len(m.up)})
			m.up, m.counted = append(m.up, edge{n, len(n.groups), len(g.members) - 1}), false
		}
		n.groups = append(n.groups, g)
	}
}

// detach removes the needs of n, and with them whatever its groups hold up.
func (e *Engine) detach(n *node) {
	for gi := range n.groups {
		g := &n.groups[gi]
		for _, m := range g.members {
			last := len(m.node.up) - 1
			if m.back != last {
				moved := m.node.up[last]
				m.node.up[m.back] = moved
				moved.holder.groups[moved.group].members[moved.index].back = m.back
			}
			m.node.up[last] = edge{}
			m.node.up, m.node.counted = m.node.up[:last], false
			e.loosened = append(e.loosened, m.node)
		}
		if g.mode == KOfN {
			if r := n.record(g.cond); r != nil && r.group {
				r.group = false
			}
		}
	}
	n.groups = nil
}

func sameNeeds(a, b []Need) bool {
	return slices.EqualFunc(a, b, func(x, y Need) bool {
		return x.Mode == y.Mode && x.K == y.K && x.Condition == y.Condition && slices.Equal(x.Of, y.Of)
	})
}

func samePort(a, b *Port) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// set takes a resource as its source states it.
func (e *Engine) set(source string, r Resource) {
	if r.ID == "" {
		return
	}
	n := e.node(r.ID)
	n.source = source
	old, was, known := n.res, n.present, n.present || n.lost
	if was && old.Inactive == r.Inactive && old.Name == r.Name && old.Project == r.Project && old.VNF == r.VNF && old.Domain == r.Domain &&
		samePort(old.Port, r.Port) && sameNeeds(old.Needs, r.Needs) {
		n.res = r // facts never influence health
		return
	}
	e.seed(n)
	n.present, n.lost = true, false
	if !was || !sameNeeds(old.Needs, r.Needs) {
		e.detach(n)
		n.res = r
		e.attach(n)
	} else {
		n.res = r
	}
	if known && r.Inactive && !old.Inactive {
		for _, rec := range n.records {
			if rec.own && rec.def.Mode == Level {
				rec.end(e, ReasonGone) // unless an event of the same delta says that it still fails
			}
		}
		e.loosen(n)
	}
	if known && !was {
		if rec := n.record(CondGone); rec != nil && rec.own {
			rec.end(e, ReasonRecovered)
		}
	}
}

// loosen notes what a resource that has become inactive, or its vnics and vdisks, needed.
func (e *Engine) loosen(n *node) {
	for _, g := range n.groups {
		for _, m := range g.members {
			e.loosened = append(e.loosened, m.node)
			if m.node.res.Domain == n.id {
				for _, mg := range m.node.groups {
					for _, mm := range mg.members {
						e.loosened = append(e.loosened, mm.node)
					}
				}
			}
		}
	}
}

// unset takes a resource out of the topology.
func (e *Engine) unset(n *node) {
	e.seed(n)
	n.present = false
	e.detach(n)
	n.unknown = nil
}

// needed reports whether something active needs n.
func (e *Engine) needed(n *node) bool {
	for _, ed := range n.up {
		h := ed.holder
		if !h.live() {
			continue
		}
		if h.res.Domain != "" {
			if d := e.nodes[h.res.Domain]; d != nil && (d.res.Inactive || !d.present) {
				continue
			}
		}
		return true
	}
	return false
}

// neededBy lists the physical resources that need n, sorted; immutable. Who states virtual ones names what they need
// whether it is there or not.
func (n *node) neededBy() []ID {
	if !n.counted {
		var ids []ID
		for _, ed := range n.up {
			if id := ed.holder.id; !id.Kind().Virtual() {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		n.holders, n.counted = slices.Compact(ids), true
	}
	return n.holders
}
