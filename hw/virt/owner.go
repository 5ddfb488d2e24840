package virt

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Owners maps a domain to its project when Nova's metadata doesn't say. The first that matches wins, in this order.
type Owners struct {
	UUIDs    map[string]string // domain UUID → project
	Names    map[string]string // glob (path.Match) on the domain's name → project; the longest glob first
	Metadata MetadataPath
}

// VNFs maps a domain to the VNF instance that it is part of. The first that matches wins, in this order. Names are the
// domain's, or that which Nova's metadata says its owner gave it.
type VNFs struct {
	UUIDs      map[string]string // domain UUID → VNF instance
	Names      map[string]string // glob (path.Match) on a name → VNF instance; the longest glob first
	Expression string            // on a name, whose first group is the VNF instance
	Metadata   MetadataPath
	VNFC       MetadataPath // the VNF component that the domain is
}

// MetadataPath names an element in a domain's <metadata> whose text is what is sought; empty is none.
type MetadataPath struct{ Namespace, Element string }

// owner is who a domain belongs to.
type owner struct {
	instance string // the name its owner gave it
	project  string
	user     string
	flavor   string
	from     string // which rule said so: nova-1.1, nova-1.0, uuid, name, metadata
}

// Nova's metadata namespaces, newest first (nova/virt/libvirt/config.py, NOVA_NS).
var novaNamespaces = [...]struct{ uri, from string }{
	{"http://openstack.org/xmlns/libvirt/nova/1.1", "nova-1.1"},
	{"http://openstack.org/xmlns/libvirt/nova/1.0", "nova-1.0"},
}

// Bounds of a domain's metadata: anybody who may define domains writes there what he likes.
const (
	maxElements = 4096
	maxDepth    = 32
)

// element is one XML element with what is in it.
type element struct {
	name     xml.Name
	attrs    []xml.Attr
	text     string
	children []*element
	cut      bool // over the bounds: the rest was ignored
}

// UnmarshalXML implements xml.Unmarshaler; it keeps namespaces resolved, which ",innerxml" does not.
func (e *element) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	left := maxElements
	e.name, e.attrs = start.Name, start.Attr
	return e.fill(d, &left, maxDepth, &e.cut)
}

func (e *element) fill(d *xml.Decoder, left *int, depth int, cut *bool) error {
	for {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if *left == 0 || depth == 0 {
				*cut = true
				if err := d.Skip(); err != nil {
					return err
				}
				continue
			}
			*left--
			child := &element{name: t.Name, attrs: t.Attr}
			if err := child.fill(d, left, depth-1, cut); err != nil {
				return err
			}
			e.children = append(e.children, child)
		case xml.EndElement:
			return nil
		case xml.CharData:
			if room := maxText - len(e.text); room > 0 {
				e.text += string(t[:min(len(t), room)])
			}
		}
	}
}

// find returns the first element below e, at any depth, with this name; nil when there is none.
func (e *element) find(space, local string) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name.Space == space && c.name.Local == local {
			return c
		}
		if found := c.find(space, local); found != nil {
			return found
		}
	}
	return nil
}

func (e *element) attr(local string) string {
	if e == nil {
		return ""
	}
	for _, a := range e.attrs {
		if a.Name.Local == local {
			return clip(a.Value)
		}
	}
	return ""
}

func (e *element) content() string {
	if e == nil {
		return ""
	}
	return clip(e.text)
}

// takeNova reads Nova's metadata: owner, names, and which Neutron port each interface is.
func (d *definition) takeNova() {
	for _, ns := range novaNamespaces {
		instance := d.metadata.find(ns.uri, "instance")
		if instance == nil {
			continue
		}
		d.owner = owner{
			instance: instance.find(ns.uri, "name").content(),
			project:  instance.find(ns.uri, "project").attr("uuid"),
			user:     instance.find(ns.uri, "user").attr("uuid"),
			flavor:   instance.find(ns.uri, "flavor").attr("name"),
			from:     ns.from,
		}
		if d.owner.project == "" {
			d.owner.from = ""
			d.problem("nova's metadata (%s) names no project: nobody can be told of this domain's faults as its owner", ns.from)
		}
		var ports []string
		if list := instance.find(ns.uri, "ports"); list != nil {
			for _, p := range list.children {
				if id := p.attr("uuid"); id != "" && p.name.Local == "port" && len(ports) < maxDevices {
					ports = append(ports, id)
				}
			}
		}
		d.matchPorts(ports)
		return
	}
}

// matchPorts finds which port an interface is. The metadata holds no MAC address; but the port is the interface id of
// an OVS port, and Nova names a link by the first eleven characters of its port's id (nova/network/model.py,
// NIC_NAME_LEN 14, "tap" + id). One interface and one port that are left belong together.
func (d *definition) matchPorts(ports []string) {
	used := map[string]bool{}
	var open []*vnic
	for i := range d.vnics {
		n := &d.vnics[i]
		if n.portID == "" {
			for _, id := range ports {
				if len(id) >= 11 && len(n.link) == 14 && n.link[3:] == id[:11] {
					n.portID = id
				}
			}
		}
		if n.portID == "" {
			open = append(open, n)
		}
		used[n.portID] = true
	}
	ports = slices.DeleteFunc(ports, func(id string) bool { return used[id] })
	if len(open) == 1 && len(ports) == 1 {
		open[0].portID = ports[0]
	}
}

type glob struct{ pattern, value string }

// mapping finds what a domain's UUID or name stands for.
type mapping struct {
	uuids map[string]string
	globs []glob // in order
}

// newMapping checks a mapping; key is where the configuration has it.
func newMapping(key string, uuids, names map[string]string) (mapping, error) {
	m := mapping{uuids: map[string]string{}}
	for id, value := range uuids {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return m, fmt.Errorf("%s.uuids: %q is no domain uuid: %w", key, id, err)
		}
		m.uuids[parsed.String()] = value
	}
	for pattern, value := range names {
		if _, err := path.Match(pattern, ""); err != nil {
			return m, fmt.Errorf("%s.names: %q is no name glob: %w", key, pattern, err)
		}
		m.globs = append(m.globs, glob{pattern, value})
	}
	slices.SortFunc(m.globs, func(a, b glob) int {
		return cmp.Or(cmp.Compare(len(b.pattern), len(a.pattern)), cmp.Compare(a.pattern, b.pattern))
	})
	return m, nil
}

// find returns the value and which rule said so; both are empty when none does.
func (m *mapping) find(id string, names ...string) (value, from string) {
	if value, ok := m.uuids[id]; ok {
		return value, "uuid"
	}
	for _, g := range m.globs {
		for _, name := range names {
			if ok, err := path.Match(g.pattern, name); err == nil && ok && name != "" {
				return g.value, "name"
			}
		}
	}
	return "", ""
}

func (p MetadataPath) check(key, what string) error {
	if p.Namespace != "" && p.Element == "" {
		return fmt.Errorf("%s: namespace %q without an element: name the element that holds the %s", key, p.Namespace, what)
	}
	return nil
}

// read is the text of the element that p names, without the space around it; what it is to be must be one word.
func (p MetadataPath) read(d *definition, what string) string {
	if p.Element == "" {
		return ""
	}
	e := d.metadata.find(p.Namespace, p.Element)
	if e == nil {
		return ""
	}
	value := e.content()
	if value == "" || strings.ContainsAny(value, " \t\n") {
		d.problem("metadata element %s holds no %s", clip(p.Element), what)
		return ""
	}
	return value
}

// ownership is Owners and VNFs, checked.
type ownership struct {
	owners     mapping
	path       MetadataPath
	vnfs       mapping
	expression *regexp.Regexp // nil: none
	vnfPath    MetadataPath
	vnfcPath   MetadataPath
}

func newOwnership(o Owners, v VNFs) (*ownership, error) {
	res := &ownership{path: o.Metadata, vnfPath: v.Metadata, vnfcPath: v.VNFC}
	var err error
	if res.owners, err = newMapping("hw.virt.owners", o.UUIDs, o.Names); err != nil {
		return nil, err
	}
	if res.vnfs, err = newMapping("hw.virt.vnfs", v.UUIDs, v.Names); err != nil {
		return nil, err
	}
	if v.Expression != "" {
		if res.expression, err = regexp.Compile(v.Expression); err != nil {
			return nil, fmt.Errorf("hw.virt.vnfs.expression: %w", err)
		}
		if res.expression.NumSubexp() == 0 {
			return nil, fmt.Errorf("hw.virt.vnfs.expression: %q has no group: put what is the VNF instance in parentheses", v.Expression)
		}
	}
	return res, errors.Join(
		o.Metadata.check("hw.virt.owners.metadata", "project"), v.Metadata.check("hw.virt.vnfs.metadata", "VNF instance"),
		v.VNFC.check("hw.virt.vnfs.vnfc", "VNF component"),
	)
}

// apply fills in the project of a domain that Nova's metadata says nothing of, and its VNF.
func (o *ownership) apply(id, name string, d *definition) {
	if d.owner.project == "" {
		if d.owner.project, d.owner.from = o.owners.find(id, name); d.owner.project == "" {
			if d.owner.project = o.path.read(d, "project"); d.owner.project != "" {
				d.owner.from = "metadata"
			}
		}
	}
	o.applyVNF(id, name, d)
}

func (o *ownership) applyVNF(id, name string, d *definition) {
	names := []string{name, d.owner.instance}
	if d.vnf.ID, d.vnfFrom = o.vnfs.find(id, names...); d.vnf.ID == "" && o.expression != nil {
		for _, n := range names {
			if found := o.expression.FindStringSubmatch(n); len(found) > 1 && found[1] != "" && n != "" {
				d.vnf.ID, d.vnfFrom = found[1], "expression"
				break
			}
		}
	}
	if d.vnf.ID == "" {
		if d.vnf.ID = o.vnfPath.read(d, "VNF instance"); d.vnf.ID != "" {
			d.vnfFrom = "metadata"
		}
	}
	if d.vnf.ID != "" {
		d.vnf.VNFC = o.vnfcPath.read(d, "VNF component")
	}
}
