package correlate

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// naive derives health and affected lists from the views alone, the slow way.
type naive struct {
	views map[ID]View
	state map[ID]State
	doubt map[ID]bool    // what fails it is dismissed
	need  map[ID][]State // by index of the need
}

func derive(e *Engine) *naive {
	n := &naive{views: map[ID]View{}, state: map[ID]State{}, doubt: map[ID]bool{}, need: map[ID][]State{}}
	for _, v := range e.Resources() {
		n.views[v.ID] = v
		n.state[v.ID] = v.Own
		for _, r := range e.nodes[v.ID].records {
			n.doubt[v.ID] = n.doubt[v.ID] || r.dismissed && !r.pending && r.def.worth(r.asked) == StateFailed
		}
		n.need[v.ID] = make([]State, len(v.Needs))
	}
	for again := true; again; {
		again = false
		for id, v := range n.views {
			if !n.live(id) {
				continue
			}
			s := v.Own
			for i, need := range v.Needs {
				n.need[id][i] = n.judge(need)
				s = max(s, n.need[id][i])
			}
			if s != n.state[id] {
				n.state[id], again = s, true
			}
		}
	}
	return n
}

func (n *naive) live(id ID) bool {
	v, ok := n.views[id]
	return ok && !v.Lost && !v.Inactive
}

func (n *naive) counts(id ID) bool {
	v, ok := n.views[id]
	return n.live(id) || ok && v.Lost && v.Own > StateOK
}

func (n *naive) judge(need Need) State {
	var members []ID
	for _, id := range need.Of {
		if n.counts(id) && !slices.Contains(members, id) {
			members = append(members, id)
		}
	}
	bad := map[State]int{}
	for _, id := range members {
		bad[n.state[id]]++
	}
	failed, degraded := bad[StateFailed], bad[StateDegraded]
	if need.Mode == KOfN && failed > 0 {
		for _, id := range members {
			if n.doubt[id] && n.state[id] != StateFailed {
				failed++
			}
		}
	}
	switch need.Mode {
	case AllOf:
		if failed > 0 {
			return StateFailed
		} else if degraded > 0 {
			return StateDegraded
		}
	case KOfN:
		if failed > 0 && len(members)-failed < min(max(1, need.K), len(members)) {
			return StateFailed
		} else if failed > 0 {
			return StateAtRisk
		}
	case SomeOf:
		if failed > 0 && failed == len(members) {
			return StateFailed
		} else if failed+degraded > 0 {
			return StateDegraded
		}
	}
	return StateOK
}

// hits says which domains an alarm on a resource reaches, and how.
func (n *naive) hits(start ID, level State) map[ID]State {
	levels := map[ID]State{}
	if level == StateOK || !n.counts(start) {
		return levels
	}
	levels[start] = level
	for again := true; again; {
		again = false
		for id, v := range n.views {
			if !n.live(id) {
				continue
			}
			for i, need := range v.Needs {
				for _, m := range need.Of {
					l := levels[m]
					switch {
					case need.Mode == KOfN && l < StateFailed:
						l = StateOK
					case need.Mode == KOfN:
						l = n.need[id][i]
					case need.Mode == SomeOf && l >= StateDegraded:
						l = min(l, n.need[id][i])
					}
					if l > levels[id] {
						levels[id], again = l, true
					}
				}
			}
		}
	}
	return levels
}

func (n *naive) lists(start ID, level State) (affected, atRisk []string) {
	levels := n.hits(start, level)
	for id, l := range levels {
		v := n.views[id]
		if id.Kind() != KindDomain {
			continue
		}
		ports := map[Port]bool{}
		if !v.Lost {
			for _, need := range v.Needs {
				for _, m := range need.Of {
					if p := n.views[m].Port; p != nil && levels[m] > StateOK && (levels[m] >= StateDegraded || l == StateAtRisk) {
						ports[*p] = true
					}
				}
			}
		}
		if l == StateAtRisk {
			atRisk = append(atRisk, hitText(id, v.Name, l, ports))
		} else {
			affected = append(affected, hitText(id, v.Name, n.state[id], ports))
		}
	}
	slices.Sort(affected)
	slices.Sort(atRisk)
	return affected, atRisk
}

// holders lists the physical resources that need one.
func (n *naive) holders(id ID) []ID {
	var ids []ID
	for holder, v := range n.views {
		if !v.Lost && !holder.Kind().Virtual() && slices.ContainsFunc(v.Needs, func(need Need) bool { return slices.Contains(need.Of, id) }) {
			ids = append(ids, holder)
		}
	}
	slices.Sort(ids)
	return ids
}

func hitText(id ID, name string, s State, ports map[Port]bool) string {
	var list []string
	for p := range ports {
		list = append(list, p.MAC+" "+p.PortID)
	}
	slices.Sort(list)
	return fmt.Sprintf("%s %q %s %s", id, name, s, strings.Join(list, ","))
}

func hitTexts(hits []Affected) []string {
	var list []string
	for _, h := range hits {
		ports := map[Port]bool{}
		for _, p := range h.Ports {
			ports[p] = true
		}
		list = append(list, hitText(h.Resource, h.Name, h.State, ports))
	}
	slices.Sort(list)
	return list
}

func checkAgainstNaive(t *rapid.T, e *Engine) {
	n := derive(e)
	for id, v := range n.views {
		if v.Derived != n.state[id] {
			t.Fatalf("%s is %s, and counted up anew %s", id, v.Derived, n.state[id])
		}
		for i, need := range v.Needs {
			c := need.Condition
			if c == "" {
				c = CondGroup
			}
			if n.live(id) && need.Mode == KOfN && n.need[id][i] == StateFailed && !slices.Contains(v.Conditions, c) {
				t.Fatalf("%s: its group %v failed and there is no %s alarm", id, need.Of, c)
			}
		}
	}
	stand := map[string]*Alarm{}
	for _, a := range e.Alarms() {
		stand[a.ID] = a
	}
	for _, a := range e.Alarms() {
		affected, atRisk := n.lists(a.Key.Resource, a.State)
		if got := hitTexts(a.Affected); !slices.Equal(got, affected) {
			t.Fatalf("%s hits\n%q, and counted up anew\n%q", a.Key, got, affected)
		}
		if got := hitTexts(a.AtRisk); !slices.Equal(got, atRisk) {
			t.Fatalf("%s endangers\n%q, and counted up anew\n%q", a.Key, got, atRisk)
		}
		if want := n.holders(a.Key.Resource); !slices.Equal(a.NeededBy, want) {
			t.Fatalf("%s is needed by %v, and counted up anew by %v", a.Key, a.NeededBy, want)
		}
		if a.RootCause != (a.Under == "") {
			t.Fatalf("%s: root cause %v, under %q", a.Key, a.RootCause, a.Under)
		}
		if a.Under == "" {
			continue
		}
		root := stand[a.Under]
		if root == nil || !root.RootCause {
			t.Fatalf("%s is under %q, which is no standing root cause", a.Key, a.Under)
		}
		if !covers(root.Affected, a.Affected) {
			t.Fatalf("%s is not sent, and its root cause %s does not name all that it hits", a.Key, root.Key)
		}
		if !slices.Contains(e.Correlated(root.ID), a.ID) {
			t.Fatalf("%s is under %s, which does not list it", a.Key, root.Key)
		}
	}
}
