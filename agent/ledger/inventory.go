package ledger

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// maxAhead is how far a clock may be wrong for its stamps to be minded.
const maxAhead = 24 * time.Hour

// inventory is what one source states of domains.
type inventory struct {
	domains map[string]Domain       // by UUID; Since and Ports are empty
	vnics   map[correlate.ID]string // vnic → UUID of its domain
	ports   map[string]map[correlate.ID]correlate.Port
}

// Inventory takes a delta of a source. It is not kept.
func (l *Ledger) Inventory(now time.Time, d *correlate.Delta) Orders {
	l.begin(now)
	inv := l.sources[d.Source]
	if inv == nil {
		inv = &inventory{domains: map[string]Domain{}, vnics: map[correlate.ID]string{}, ports: map[string]map[correlate.ID]correlate.Port{}}
		l.sources[d.Source] = inv
	}
	touched := map[string]struct{}{}
	stated := map[correlate.ID]struct{}{}
	for i := range d.Set {
		r := &d.Set[i]
		if d.Full {
			stated[r.ID] = struct{}{}
		}
		inv.state(r, touched)
	}
	for _, g := range d.Gone {
		inv.gone(g.ID, touched)
	}
	if d.Full {
		for uuid := range inv.domains {
			if id := correlate.NewID(correlate.KindDomain, uuid); !has(stated, id) {
				inv.gone(id, touched)
			}
		}
		for id := range inv.vnics {
			if !has(stated, id) {
				inv.gone(id, touched)
			}
		}
	}
	for _, uuid := range slices.Sorted(maps.Keys(touched)) {
		l.stateDomain(uuid)
	}
	return l.finish()
}

func has[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }

func (inv *inventory) state(r *correlate.Resource, touched map[string]struct{}) {
	switch r.ID.Kind() {
	case correlate.KindDomain:
		uuid := r.ID.Name()
		if uuid == "" || len(uuid) > 255 {
			return
		}
		inv.domains[uuid] = Domain{
			Name: cut(r.Name, maxComment), Project: cut(r.Project, maxError), VNF: cut(r.VNF.ID, maxError), VNFC: cut(r.VNF.VNFC, maxError),
			Inactive: r.Inactive,
		}
		touched[uuid] = struct{}{}
	case correlate.KindVNIC:
		inv.gone(r.ID, touched)
		if uuid := r.Domain.Name(); r.Port != nil && uuid != "" {
			inv.vnics[r.ID] = uuid
			if inv.ports[uuid] == nil {
				inv.ports[uuid] = map[correlate.ID]correlate.Port{}
			}
			inv.ports[uuid][r.ID] = *r.Port
			touched[uuid] = struct{}{}
		}
	default: // of no use to others
	}
}

func (inv *inventory) gone(id correlate.ID, touched map[string]struct{}) {
	if _, ok := inv.domains[id.Name()]; ok && id.Kind() == correlate.KindDomain {
		delete(inv.domains, id.Name())
		touched[id.Name()] = struct{}{}
	}
	if uuid, ok := inv.vnics[id]; ok {
		delete(inv.vnics, id)
		if delete(inv.ports[uuid], id); len(inv.ports[uuid]) == 0 {
			delete(inv.ports, uuid)
		}
		touched[uuid] = struct{}{}
	}
}

// stateDomain writes one domain as its sources now have it.
func (l *Ledger) stateDomain(uuid string) {
	var d Domain
	found := false
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		inv := l.sources[name]
		if !found {
			d, found = inv.domains[uuid]
		}
	}
	if !found {
		if _, ok := l.domains[uuid]; ok {
			delete(l.domains, uuid)
			l.remove(gossip.KindDomain, uuid)
			l.homes = nil
		}
		return
	}
	d.Ports = nil
	for _, inv := range l.sources {
		for _, p := range inv.ports[uuid] {
			d.Ports = append(d.Ports, p)
		}
	}
	slices.SortFunc(d.Ports, func(a, b correlate.Port) int {
		if c := strings.Compare(a.MAC, b.MAC); c != 0 {
			return c
		}
		return strings.Compare(a.PortID, b.PortID)
	})
	if old, ok := l.domains[uuid]; ok && old.Inactive == d.Inactive {
		d.Since = old.Since
	} else {
		d.Since = l.since(uuid, d.Inactive)
	}
	l.setDomain(uuid, d)
}

// since is the stamp of a claim that begins now: above that of any host that claims the domain, whose clock may be ahead;
// unless it goes on from a former life.
func (l *Ledger) since(uuid string, inactive bool) time.Time {
	at := l.now.Round(0).UTC()
	if was := l.formerSince(uuid, inactive); was.Before(at) && !was.IsZero() {
		return was
	}
	for _, h := range l.hosts {
		if other, ok := h.domains[uuid]; ok && !other.since.Before(at) && other.since.Sub(l.now) < maxAhead {
			at = other.since.Add(time.Millisecond)
		}
	}
	return at
}

// formerSince is the stamp of a former life's claim, if nobody has claimed the domain since; it is given once.
func (l *Ledger) formerSince(uuid string, inactive bool) time.Time {
	was, ok := l.former.domains[uuid]
	delete(l.former.domains, uuid)
	if !ok || was.inactive != inactive {
		return time.Time{}
	}
	for _, h := range l.hosts {
		if other, ok := h.domains[uuid]; ok && other.since.After(was.since) {
			return time.Time{}
		}
	}
	return was.since
}

func (l *Ledger) setDomain(uuid string, d Domain) {
	l.domains[uuid] = d
	l.homes = nil
	if b, err := l.codec.encodeDomain(d); err == nil { // fails only for a clock beyond the year 9999
		l.put(slot{gossip.KindDomain, uuid}, b)
	}
}
