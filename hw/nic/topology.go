package nic

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// uplink reports whether a link leads out of the host when it is the port of a bridge, or is the leg of a bond.
func (t *table) uplink(l *link) bool {
	return l.leg || l.hardware() || l.kind == kindBond || l.kind == kindVLAN || match(t.include, l.name)
}

// used reports whether something stands on the link, so that it matters when it is switched off. Open vSwitch's datapath in
// user space shows only in that it made the link promiscuous.
func (t *table) used(index int) bool {
	l := t.links[index]
	if !l.hardware() || l.kind == kindPF || l.master != 0 || t.masterID(index) != "" || match(t.include, l.name) || l.flags&unix.IFF_PROMISC != 0 {
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

// shape is which links count and how they hang together: counted once for a delta, whatever the number of links.
type shape struct {
	counted   map[int]bool
	ports     map[correlate.ID][]int          // by bridge or bond, those that the kernel says and those held for it
	missing   map[correlate.ID][]correlate.ID // by bridge or bond, what vanished from it
	functions map[string]int                  // links by PCI address, virtual functions left out
}

// shaped finds the links that matter: hardware, bonds, what a domain may hang on, what is included by name; and
// whatever those stand on.
func (t *table) shaped() shape {
	s := shape{map[int]bool{}, map[correlate.ID][]int{}, map[correlate.ID][]correlate.ID{}, map[string]int{}}
	byID := map[correlate.ID]int{}
	for index, l := range t.links {
		byID[l.id()] = index
		if l.device.pci != "" && l.kind != kindVF {
			s.functions[l.device.pci] = index
		}
		if m := t.masterID(index); m != "" {
			s.ports[m] = append(s.ports[m], index)
		}
	}
	for id, g := range t.ghosts {
		s.missing[g.master] = append(s.missing[g.master], id)
	}
	var visit func(int)
	visit = func(index int) {
		l, ok := t.links[index]
		if !ok || s.counted[index] || l.kind == kindLoopback || match(t.exclude, l.name) {
			return
		}
		s.counted[index] = true
		visit(l.parent)
		if m, ok := byID[t.masterID(index)]; ok {
			visit(m)
		}
		if pf, ok := s.functions[l.device.physfn]; ok {
			visit(pf)
		}
		if l.hasPorts() {
			for _, p := range s.ports[l.id()] {
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
	return s
}

// needs says what a counted link needs.
func (t *table) needs(index int, s *shape) []correlate.Need {
	l := t.links[index]
	var needs []correlate.Need
	all := func(id correlate.ID) {
		if id != "" {
			needs = append(needs, correlate.Need{Mode: correlate.AllOf, Of: []correlate.ID{id}})
		}
	}
	switch l.kind {
	case kindBridge, kindBond:
		of := slices.Clone(s.missing[l.id()])
		for _, p := range s.ports[l.id()] {
			if port := t.links[p]; s.counted[p] && t.uplink(&port) {
				of = append(of, port.id())
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
	if p, ok := t.links[l.parent]; ok && s.counted[l.parent] {
		all(p.id())
	}
	if p, ok := s.functions[l.device.physfn]; ok && s.counted[p] {
		pf := t.links[p]
		all(pf.id())
	}
	return needs
}
