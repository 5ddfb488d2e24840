package nic

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// resource is a counted link as the topology and the inventory have it.
func (t *table) resource(index int, needs []correlate.Need) correlate.Resource {
	l := t.links[index]
	f := map[string]string{
		"kind": string(l.kind), "ifindex": strconv.Itoa(index), "admin": "down", "carrier": "no",
		"operstate": l.operstate.String(), "mtu": strconv.Itoa(l.facts.mtu),
	}
	if l.up() {
		f["admin"] = "up"
	}
	if l.flags&unix.IFF_LOWER_UP != 0 {
		f["carrier"] = "yes"
	}
	set := func(key, value string) {
		if value != "" {
			f[key] = value
		}
	}
	set("mac", l.facts.mac)
	set("master", string(t.masterID(index)))
	if p, ok := t.links[l.parent]; ok {
		set("parent", string(p.id()))
	}
	if l.kind == kindVLAN {
		set("vlan", strconv.Itoa(l.facts.vlan))
	}
	if l.kind == kindBond {
		set("bond_mode", l.facts.bondMode)
		if a, ok := t.links[l.facts.active]; ok {
			set("bond_active", a.name)
		}
	}
	if l.leg {
		set("bond_state", l.facts.bondState)
		set("mii", strings.ToLower(l.mii.String()))
	}
	set("driver", l.device.driver)
	set("pci", l.device.pci)
	if l.device.physfn != "" {
		set("pf_pci", l.device.physfn)
	}
	if l.kind == kindPF {
		set("vfs", strconv.Itoa(l.device.numVFs))
	}
	t.details[index].addTo(f)
	t.rates[index].addTo(f)
	return correlate.Resource{ID: l.id(), Name: l.name, Needs: needs, Facts: f}
}

// functions states the virtual functions that have no link here, because a domain has them: nic/<pci address>.
func (t *table) functions(counted map[int]bool, next map[correlate.ID]statement, d *correlate.Delta, now time.Time) {
	linked := map[string]bool{}
	for index := range counted {
		linked[t.links[index].device.pci] = true
	}
	for index := range counted {
		pf := t.links[index]
		if pf.kind != kindPF {
			continue
		}
		functions, err := pf.device.functions()
		if err != nil { // they stay as they were; the next list tries again
			for id, s := range t.stated {
				if f := s.resource.Facts; f["vf"] == "" || f["pf_pci"] != pf.device.pci || linked[f["pci"]] {
					continue
				}
				next[id] = s
				if d.Full {
					d.Set = append(d.Set, s.resource)
					d.Events = append(d.Events, correlate.Event{
						Resource: id, Condition: correlate.CondDisabled, Text: err.Error(), Occurred: now, Observed: now,
					})
				}
			}
			continue
		}
		disabled := strings.Split(pf.vfs, ",")
		for _, vf := range functions {
			if linked[vf.pci] {
				continue
			}
			id := correlate.NewID(correlate.KindNIC, vf.pci)
			number := strconv.Itoa(vf.number)
			facts := map[string]string{
				"kind": string(kindVF), "pci": vf.pci, "pf_pci": pf.device.pci, "pf": pf.name, "vf": number,
			}
			if vf.driver != "" {
				facts["driver"] = vf.driver
			}
			j := judgement{correlate.CondDisabled, correlate.StatusOK, "virtual function " + number + " of " + shown(pf.name) + ": enabled"}
			if slices.Contains(disabled, number) {
				j.status = correlate.StatusFailed
				j.text = "virtual function " + number + " of " + shown(pf.name) + ": its link state is set to disable"
			}
			s := statement{correlate.Resource{
				ID: id, Name: vf.pci, Facts: facts,
				Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{pf.id()}}},
			}, []judgement{j}}
			next[id] = s
			was, ok := t.stated[id]
			if d.Full || !ok || !reflect.DeepEqual(was.resource, s.resource) {
				d.Set = append(d.Set, s.resource)
			}
			if d.Full || !slices.Equal(was.judged, s.judged) {
				d.Events = append(d.Events, correlate.Event{
					Resource: id, Condition: j.condition, Status: j.status, Text: j.text, Occurred: now, Observed: now,
				})
			}
		}
	}
}

// evidence is what an administrator sees beside an event.
func (l *link) evidence() map[string]string {
	e := map[string]string{
		"ifindex": strconv.Itoa(l.index), "flags": "0x" + strconv.FormatUint(uint64(l.flags), 16),
		"operstate": l.operstate.String(),
	}
	if l.leg {
		e["mii"] = strings.ToLower(l.mii.String())
	}
	return e
}
