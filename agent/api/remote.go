package api

import (
	"cmp"
	"maps"
	"slices"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
)

// telling puts together what is known of another host.
type telling struct {
	host  string
	views map[correlate.ID]*correlate.View
}

// source names who states what another host tells.
const source = ledger.Source

func (t *telling) view(id correlate.ID, name string) *correlate.View {
	v := t.views[id]
	if v == nil {
		v = &correlate.View{Resource: correlate.Resource{ID: id, Name: name}, Source: source}
		t.views[id] = v
	}
	return v
}

func (t *telling) self(h ledger.HostView) {
	v := t.view(correlate.NewID(correlate.KindHost, h.Name), h.Name)
	v.Facts = make(map[string]string, len(h.Facts)+len(h.Labels)+2)
	maps.Copy(v.Facts, h.Facts)
	for name, value := range h.Labels {
		v.Facts[labelFact+name] = value
	}
	v.Facts["zone"], v.Facts["version"] = h.Zone, h.Version
}

func (t *telling) domain(d ledger.DomainView) {
	v := t.view(correlate.NewID(correlate.KindDomain, d.UUID), d.Name)
	v.Project, v.VNF, v.Inactive, v.Derived = d.Project, correlate.VNF{ID: d.VNF, VNFC: d.VNFC}, d.Inactive, d.State
	var vnics []correlate.ID
	for _, port := range d.Ports {
		id := correlate.NewID(correlate.KindVNIC, d.UUID+"/"+port.MAC)
		vnic := t.view(id, port.MAC)
		vnic.Domain, vnic.Port = v.ID, &port
		vnics = append(vnics, id)
	}
	if len(vnics) > 0 {
		v.Needs = append(v.Needs, correlate.Need{Mode: correlate.SomeOf, Of: vnics})
	}
	v.Needs = append(v.Needs, correlate.Need{Mode: correlate.AllOf, Of: []correlate.ID{correlate.NewID(correlate.KindHost, t.host)}})
}

// alarm notes that a condition stands, and which ports it has taken.
func (t *telling) alarm(a *correlate.Alarm) {
	v := t.view(a.Key.Resource, a.Key.Resource.Name())
	v.Conditions = append(v.Conditions, a.Key.Condition)
	state := correlate.RuleOf(a.Key.Condition).State
	if a.Key.Condition.Foreign() { // its home has the rule
		state = a.State
	}
	v.Own = max(v.Own, state)
	v.Lost = v.Lost || a.Key.Condition == correlate.CondGone
	for _, d := range a.Affected {
		for _, port := range d.Ports {
			if vnic := t.views[correlate.NewID(correlate.KindVNIC, d.Resource.Name()+"/"+port.MAC)]; vnic != nil {
				vnic.Derived = correlate.StateFailed
			}
		}
	}
}

// finish is all of it, with what follows from it.
func (t *telling) finish() []*correlate.View {
	all := slices.Collect(maps.Values(t.views))
	slices.SortFunc(all, func(a, b *correlate.View) int { return cmp.Compare(a.ID, b.ID) })
	for _, v := range all {
		slices.Sort(v.Conditions)
		v.Derived = max(v.Derived, v.Own)
		for _, need := range v.Needs {
			for _, id := range need.Of {
				if needed := t.views[id]; needed != nil {
					needed.Dependents = append(needed.Dependents, v.ID)
				}
			}
		}
	}
	return all
}
