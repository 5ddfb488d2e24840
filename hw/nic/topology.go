package nic

import (
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
)

// uplink reports whether a link leads out of the host when it is the port of a bridge, or is the leg of a bond.
func (t *table) uplink(l *link) bool {
	return l.leg || l.hardware() || l.kind == kindBond || l.kind == kindVLAN || match(t.include, l.name)
}

// used reports whether something stands on the link, so that it matters when it is switched off.
func (t *table) used(index int) bool {
	l := t.links[index]
	if !l.hardware() || l.kind == kindPF || t.masterID(index) != "" || match(t.include, l.name) {
		return true
	}
	for _, o := range t.links {
		if o.parent == index {
			return true
		}
	}
	return false
}

// missed reports whether a link in software was asked for by name or needed by another.
func (t *table) missed(l *link) bool {
	if match(t.include, l.name) {
		return true
	}
	for _, s := range t.stated {
		for _, n := range s.resource.Needs {
			if slices.Contains(n.Of, l.id()) {
				return true
			}
		}
	}
	return false
}

// counted finds the links that matter: hardware, bonds, what a domain may hang on, what is included by name; and
// whatever those stand on.
func (t *table) counted() map[int]bool {
	byPCI, byID, ports := map[string]int{}, map[correlate.ID]int{}, map[correlate.ID][]int{}
	for index, l := range t.links {
		byID[l.id()] = index
		if l.device.pci != "" && l.kind != kindVF {
			byPCI[l.device.pci] = index
		}
		if m := t.masterID(index); m != "" {
			ports[m] = append(ports[m], index)
		}
	}
	counted := map[int]bool{}
	var visit func(int)
	visit = func(index int) {
		l, ok := t.links[index]
		if !ok || counted[index] || l.kind == kindLoopback || match(t.exclude, l.name) {
			return
		}
		counted[index] = true
		visit(l.parent)
		if m, ok := byID[t.masterID(index)]; ok {
			visit(m)
		}
		if pf, ok := byPCI[l.device.physfn]; ok {
			visit(pf)
		}
		if l.hasPorts() {
			for _, p := range ports[l.id()] {
				if port := t.links[p]; t.uplink(&port) {
					visit(p)
				}
			}
		}
	}
	for index, l := range t.links {
		if l.hardware() || l.kind == kindBond || l.guest() || match(t.include, l.name) {
			visit(index)
		}
	}
	return counted
}

// needs says what a counted link needs. counted is nil when only the link itself changed and its needs did not.
func (t *table) needs(index int, counted map[int]bool) []correlate.Need {
	l := t.links[index]
	var needs []correlate.Need
	all := func(id correlate.ID) {
		if id != "" {
			needs = append(needs, correlate.Need{Mode: correlate.AllOf, Of: []correlate.ID{id}})
		}
	}
	switch l.kind {
	case kindBridge, kindBond:
		var of []correlate.ID
		for p := range counted {
			port := t.links[p]
			if t.masterID(p) == l.id() && t.uplink(&port) {
				of = append(of, port.id())
			}
		}
		for id, g := range t.ghosts {
			if g.master == l.id() {
				of = append(of, id)
			}
		}
		slices.Sort(of)
		switch {
		case len(of) == 0:
		case l.kind == kindBridge && len(of) == 1:
			all(of[0])
		default:
			k := min(max(1, l.minLinks), len(of))
			needs = append(needs, correlate.Need{Mode: correlate.KOfN, K: k, Of: of, Condition: correlate.CondCarrier})
		}
	default:
		// A port needs its bridge, unless it is what the bridge needs.
		if !t.uplink(&l) {
			all(t.masterID(index))
		}
	}
	if p, ok := t.links[l.parent]; ok && counted[l.parent] {
		all(p.id())
	}
	if l.device.physfn != "" {
		for p := range counted {
			if pf := t.links[p]; pf.device.pci == l.device.physfn {
				all(pf.id())
			}
		}
	}
	return needs
}
