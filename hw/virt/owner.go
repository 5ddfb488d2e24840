package virt

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"path"
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

// MetadataPath names an element in a domain's <metadata> whose text is the project; empty is none.
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

type glob struct{ pattern, project string }

// ownership is Owners, checked and in order.
type ownership struct {
	uuids map[string]string
	globs []glob
	path  MetadataPath
}

func newOwnership(o Owners) (*ownership, error) {
	res := &ownership{uuids: map[string]string{}, path: o.Metadata}
	for id, project := range o.UUIDs {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return nil, fmt.Errorf("hw.virt.owners.uuids: %q is no domain uuid: %w", id, err)
		}
		res.uuids[parsed.String()] = project
	}
	for pattern, project := range o.Names {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("hw.virt.owners.names: %q is no name glob: %w", pattern, err)
		}
		res.globs = append(res.globs, glob{pattern, project})
	}
	slices.SortFunc(res.globs, func(a, b glob) int {
		return cmp.Or(cmp.Compare(len(b.pattern), len(a.pattern)), cmp.Compare(a.pattern, b.pattern))
	})
	if o.Metadata.Namespace != "" && o.Metadata.Element == "" {
		return nil, fmt.Errorf("hw.virt.owners.metadata: namespace %q without an element: name the element that holds the project", o.Metadata.Namespace)
	}
	return res, nil
}

// apply fills in the project of a domain that Nova's metadata says nothing of.
func (o *ownership) apply(id, name string, d *definition) {
	if d.owner.project != "" {
		return
	}
	if project, ok := o.uuids[id]; ok {
		d.owner.project, d.owner.from = project, "uuid"
		return
	}
	for _, g := range o.globs {
		if ok, err := path.Match(g.pattern, name); err == nil && ok {
			d.owner.project, d.owner.from = g.project, "name"
			return
		}
	}
	if o.path.Element == "" {
		return
	}
	if e := d.metadata.find(o.path.Namespace, o.path.Element); e != nil {
		if project := e.content(); project != "" && !strings.ContainsAny(project, " \t\n") {
			d.owner.project, d.owner.from = project, "metadata"
		} else {
			d.problem("metadata element %s holds no project", clip(o.path.Element))
		}
	}
}
