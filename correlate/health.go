package correlate

// The health rule: the state of a resource is the worst of its own open conditions and of what its needs make of it.
// States are the least solution of that, counted up from the own conditions: a cycle (a veth pair, patch ports) in
// which each only fails because the other does is well.
//
// The functions are monotone for a given topology, so it is enough to put back to their own state those nodes that a
// change could have made better, and to raise what then must be raised. Nodes that stand at their own state can't
// become better, so the region ends there.

// eval is what the needs and own conditions of n make of it, with the present states of its members.
func (n *node) eval() State {
	s := n.own
	live := n.live()
	for i := range n.groups {
		g := &n.groups[i]
		g.state = StateOK
		if live {
			g.state = g.eval()
		}
		s = max(s, g.state)
	}
	return s
}

func (g *group) eval() State {
	counted, failed, degraded, doubted := 0, 0, 0, 0
	for _, m := range g.members {
		if !m.node.counts() {
			continue
		}
		counted++
		switch m.node.state {
		case StateFailed:
			failed++
		case StateDegraded:
			degraded++
		case StateOK, StateAtRisk, StateUnknown:
		}
		if m.node.doubted && m.node.state != StateFailed {
			doubted++
		}
	}
	if g.mode == KOfN && failed > 0 { // on the last leg nobody relies on one that only an administrator calls well
		failed += doubted
	}
	return g.mode.combine(g.k, counted, failed, degraded)
}

// combine is the table of the health rule. A group that has fewer members than it wants of them needs all of them.
func (m NeedMode) combine(k, counted, failed, degraded int) State {
	switch m {
	case AllOf:
		if failed > 0 {
			return StateFailed
		}
		if degraded > 0 {
			return StateDegraded
		}
	case KOfN:
		if failed > 0 {
			if failed > counted-min(k, counted) {
				return StateFailed
			}
			return StateAtRisk
		}
	case SomeOf:
		if counted > 0 && failed == counted {
			return StateFailed
		}
		if failed+degraded > 0 {
			return StateDegraded
		}
	}
	return StateOK
}

// seed notes that a node's own state, needs or presence may have changed in this call.
func (e *Engine) seed(n *node) {
	if e.touch(n) {
		e.seeds = append(e.seeds, n)
	}
}

// touch keeps what n was at the start of the pass, and reports whether this was the first touch.
func (e *Engine) touch(n *node) bool {
	if n.touched == e.pass {
		return false
	}
	n.touched, n.before = e.pass, n.state
	for i := range n.groups {
		n.groups[i].before = n.groups[i].state
	}
	return true
}

// moved reports whether anything derived of n differs from the start of the pass.
func (n *node) moved() bool {
	if n.state != n.before {
		return true
	}
	for i := range n.groups {
		if n.groups[i].state != n.groups[i].before {
			return true
		}
	}
	return false
}

// propagate derives health anew after the seeds changed. It leaves in e.touched all nodes that were looked at, with
// the state before in node.before, and raises or ends the groups' own conditions.
func (e *Engine) propagate() {
	region := append(e.touched[:0], e.seeds...)
	for i := 0; i < len(region); i++ {
		for _, ed := range region[i].up {
			if h := ed.holder; h.state > h.own && e.touch(h) {
				region = append(region, h)
			}
		}
	}
	work := e.work[:0]
	push := func(n *node) {
		if n.queued != e.pass {
			n.queued = e.pass
			work = append(work, n)
		}
	}
	for _, n := range region {
		n.state = n.own
		push(n)
	}
	for _, n := range region {
		for _, ed := range n.up {
			push(ed.holder)
		}
	}
	for i := 0; i < len(work); i++ {
		n := work[i]
		n.queued = 0
		if e.touch(n) {
			region = append(region, n)
		}
		if s := n.eval(); s > n.state {
			n.state = s
			for _, ed := range n.up {
				push(ed.holder)
			}
		}
	}
	e.touched, e.work = region, work[:0]

	for _, n := range region {
		if n.moved() {
			e.mark(n)
		}
		e.holdGroups(n)
	}
}

// holdGroups makes the own conditions of n's k-of-n groups agree with the state of those groups.
func (e *Engine) holdGroups(n *node) {
	for i := range n.groups {
		g := &n.groups[i]
		if g.mode != KOfN {
			continue
		}
		r := n.record(g.cond)
		if r == nil && g.state != StateFailed {
			continue
		}
		failed, partial := false, false
		for j := range n.groups { // another group may hold the same condition
			if o := &n.groups[j]; o.mode == KOfN && o.cond == g.cond {
				failed = failed || o.state == StateFailed
				partial = partial || e.partial(o)
			}
		}
		if partial { // as it was told, until all have spoken
			failed = r != nil && r.frozen
		}
		if r == nil && !failed || r != nil && r.group == failed {
			continue
		}
		if r == nil {
			r = e.newRecord(n, g.cond)
		}
		r.group = failed
		if r.pending { // the group proves what its own report would have had to prove by lasting
			e.mature(r)
			n.refresh()
		}
		if failed && r.alarm == nil && !r.own {
			r.source, r.occurred, r.observed = n.requirer(r), e.cause.occurred, e.cause.observed
			if r.observed.IsZero() {
				r.occurred, r.observed = e.now, e.now
			}
		}
		e.mark(n)
	}
}

// requirer is the source that states the failed group of a record.
func (n *node) requirer(r *record) string {
	for i := range n.groups {
		if g := &n.groups[i]; g.mode == KOfN && g.cond == r.key.Condition && g.state == StateFailed && g.source != "" {
			return g.source
		}
	}
	return n.source
}

// partial reports whether a group can't be judged yet, because a source that has not spoken since the start may still
// state something that it hangs on.
func (e *Engine) partial(g *group) bool {
	if len(e.awaiting) == 0 {
		return false
	}
	e.walk++
	return e.incomplete(g)
}

func (e *Engine) incomplete(g *group) bool {
	for _, m := range g.members {
		n := m.node
		if !n.present && !n.lost {
			return true
		}
		if n.closed == e.walk {
			continue
		}
		n.closed = e.walk
		for i := range n.groups {
			if e.incomplete(&n.groups[i]) {
				return true
			}
		}
	}
	return false
}
