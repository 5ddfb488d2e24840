package virt

import (
	"maps"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
)

// domain is what is known of one domain.
type domain struct {
	id   string // its UUID
	name string // libvirt's
	def  *definition
	// unreadable is why the newest definition could not be read; def is then the last good one, or nil.
	unreadable string

	now        meaning // of the newest state that has a verdict, or that came first
	ran        bool    // it runs or ran here since it was last stopped in an orderly way
	processed  bool    // it has a process now: its links exist
	incoming   bool    // it arrives by migration and hasn't run here yet
	panicked   bool    // the guest's kernel said so since it last ran
	signalled  bool    // its process got a signal from the host
	persistent bool
	agentSeen  bool // the guest agent was there since the domain last started

	standing map[correlate.Condition]correlate.Event // what was said to be failed, as it was said
	stated   []correlate.Resource
}

func newDomain(ref libvirt.Domain) *domain {
	return &domain{
		id: uuid.UUID(ref.UUID).String(), name: clip(ref.Name), persistent: true,
		standing: map[correlate.Condition]correlate.Event{},
	}
}

func (d *domain) resource() correlate.ID { return correlate.NewID(correlate.KindDomain, d.id) }

// shown is the name that people know it by.
func (d *domain) shown() string {
	if d.def != nil && d.def.owner.instance != "" {
		return d.def.owner.instance
	}
	return d.name
}

// inactive: not running, because somebody wanted it so or because it never ran here.
func (d *domain) inactive() bool {
	return d.now.class == classOrderly || d.now.class == classHeld && !d.ran
}

// resources states the domain, its vnics and its vdisks.
func (d *domain) resources(host correlate.ID) []correlate.Resource {
	self := correlate.Resource{
		ID: d.resource(), Name: d.shown(), Inactive: d.inactive(),
		Facts: facts("name", d.name, "state", d.now.name),
	}
	if !d.persistent {
		self.Facts["transient"] = "yes"
	}
	if host != "" {
		self.Needs = append(self.Needs, correlate.Need{Mode: correlate.AllOf, Of: []correlate.ID{host}})
	}
	def := d.def
	if def == nil {
		return []correlate.Resource{self}
	}
	self.Project, self.VNF = def.owner.project, def.vnf
	maps.Copy(self.Facts, facts("instance", def.owner.instance, "user", def.owner.user, "flavor", def.owner.flavor,
		"owner_from", def.owner.from, "vnf_from", def.vnfFrom, "vcpus", def.vcpus, "memory_kib", def.memory, "machine", def.machine,
		"emulator", def.emulator, "pinning", def.pinning, "watchdog", def.watchdog))
	if def.panicDev {
		self.Facts["panic_device"] = "yes"
	}
	res := make([]correlate.Resource, 1, 1+len(def.vnics)+len(def.vdisks))
	var vnics, vdisks []correlate.ID
	for i := range def.vnics {
		r := def.vnics[i].resource(d)
		res, vnics = append(res, r), append(vnics, r.ID)
	}
	for i := range def.vdisks {
		r := def.vdisks[i].resource(d)
		res, vdisks = append(res, r), append(vdisks, r.ID)
	}
	if len(vnics) > 0 {
		self.Needs = append(self.Needs, correlate.Need{Mode: correlate.SomeOf, Of: vnics})
	}
	if len(vdisks) > 0 {
		self.Needs = append(self.Needs, correlate.Need{Mode: correlate.AllOf, Of: vdisks})
	}
	res[0] = self
	return res
}

func (n *vnic) resource(d *domain) correlate.Resource {
	r := correlate.Resource{
		ID: correlate.NewID(correlate.KindVNIC, d.id+"/"+n.mac), Name: n.mac, Domain: d.resource(), Project: d.def.owner.project,
		Port: &correlate.Port{MAC: n.mac, PortID: n.portID},
		Facts: facts("kind", n.kind, "link", n.link, "bridge", n.bridge, "parent", n.parent, "pci", n.pci,
			"model", n.model, "alias", n.alias),
	}
	// The link of a domain without a process is gone on purpose, and its loss explains nothing.
	if on := n.on(); on != "" && d.processed {
		r.Needs = []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{on}}}
	}
	return r
}

// on is the host's link that the vnic hangs on. A function that was given to the domain has no link of its own here;
// the links' source states it by its PCI address. The port of a vhostuser is stated by the source of the virtual switch, if
// there is one for that switch.
func (n *vnic) on() correlate.ID {
	switch {
	case n.pci != "":
		return correlate.NewID(correlate.KindNIC, n.pci)
	case n.kind == "user":
		return ""
	case n.link != "":
		return correlate.NewID(correlate.KindNIC, n.link)
	case n.bridge != "":
		return correlate.NewID(correlate.KindBridge, n.bridge)
	}
	return ""
}

func (v *vdisk) resource(d *domain) correlate.Resource {
	return correlate.Resource{
		ID: correlate.NewID(correlate.KindVDisk, d.id+"/"+v.target), Name: v.target, Domain: d.resource(), Project: d.def.owner.project,
		Facts: facts("kind", v.kind, "source", v.source, "bus", v.bus, "error_policy", v.policy, "alias", v.alias),
	}
}

// facts makes a map of the pairs whose value is not empty.
func facts(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}

// devices lists the vnics and vdisks that were last stated, to tell when the list changes.
func devices(res []correlate.Resource) string {
	var b strings.Builder
	for i := range res {
		if k := res[i].ID.Kind(); k == correlate.KindVNIC || k == correlate.KindVDisk {
			b.WriteString(string(res[i].ID))
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func sameResource(a, b *correlate.Resource) bool {
	if a.ID != b.ID || a.Name != b.Name || a.Inactive != b.Inactive || a.Project != b.Project || a.VNF != b.VNF || a.Domain != b.Domain ||
		(a.Port == nil) != (b.Port == nil) || a.Port != nil && *a.Port != *b.Port || !maps.Equal(a.Facts, b.Facts) {
		return false
	}
	return slices.EqualFunc(a.Needs, b.Needs, func(x, y correlate.Need) bool {
		return x.Mode == y.Mode && x.K == y.K && x.Condition == y.Condition && slices.Equal(x.Of, y.Of)
	})
}
