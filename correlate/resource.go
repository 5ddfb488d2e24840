package correlate

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is the sort of thing that a resource is.
type Kind string

// The physical kinds, then the virtual ones. Bridges, bonds and domains are kinds of their own because the health
// rule or consumers treat them differently; VLAN, tap, macvtap, veth, PF and VF links are nics that differ in facts.
const (
	KindHost       Kind = "host"
	KindZone       Kind = "zone"
	KindCPU        Kind = "cpu"
	KindDIMM       Kind = "dimm"
	KindPSU        Kind = "psu"
	KindFan        Kind = "fan"
	KindSensor     Kind = "sensor"
	KindNIC        Kind = "nic"
	KindBond       Kind = "bond"
	KindBridge     Kind = "bridge"
	KindDisk       Kind = "disk"
	KindVolume     Kind = "volume"
	KindService    Kind = "service"
	KindHypervisor Kind = "hypervisor"

	KindDomain Kind = "domain"
	KindVNIC   Kind = "vnic"
	KindVDisk  Kind = "vdisk"
)

// Kinds lists every kind, physical ones first.
func Kinds() []Kind {
	return []Kind{
		KindHost, KindZone, KindCPU, KindDIMM, KindPSU, KindFan, KindSensor, KindNIC, KindBond, KindBridge,
		KindDisk, KindVolume, KindService, KindHypervisor, KindDomain, KindVNIC, KindVDisk,
	}
}

// Virtual reports whether tenants own resources of this kind.
func (k Kind) Virtual() bool { return k == KindDomain || k == KindVNIC || k == KindVDisk }

// ID names a resource as "kind/name", for instance "nic/eth0", "domain/<uuid>", "vnic/<domain uuid>/<mac>",
// "vdisk/<domain uuid>/<target>", "service/paramedic/nic". Physical IDs are unique on their home host only; domain
// IDs everywhere.
type ID string

// NewID joins a kind and a name.
func NewID(kind Kind, name string) ID { return ID(string(kind) + "/" + name) }

// Kind returns what stands before the first slash.
func (id ID) Kind() Kind {
	kind, _, _ := strings.Cut(string(id), "/")
	return Kind(kind)
}

// Name returns what stands behind the first slash.
func (id ID) Name() string {
	_, name, _ := strings.Cut(string(id), "/")
	return name
}

var errBadID = errors.New(`want "kind/name", for instance "nic/eth0"`)

// ParseID checks s from outside: a known kind, a slash, a name.
func ParseID(s string) (ID, error) {
	id := ID(s)
	if id.Name() == "" {
		return "", fmt.Errorf("resource id %q: %w", s, errBadID)
	}
	for _, k := range Kinds() {
		if k == id.Kind() {
			return id, nil
		}
	}
	return "", fmt.Errorf("resource id %q: unknown kind %q: %w", s, id.Kind(), errBadID)
}

// Resource is a thing with health, as its source states it. The engine adds the health.
type Resource struct {
	ID   ID
	Name string // what people call it: the instance name, the link's name
	// Inactive is true for a domain that is not running because somebody wanted it so. It is neither affected nor at
	// risk, and its needs don't count.
	Inactive bool
	Project  string // the owner of a domain; empty when unknown
	VNF      VNF    // of a domain
	Domain   ID     // the domain of a vnic or vdisk
	Port     *Port  // of a vnic
	Needs    []Need
	// Facts are details for the inventory (speed, driver, address, state …). They never influence health.
	Facts map[string]string
}

// VNF says whose part a domain is, in the words of ETSI NFV; empty when unknown.
type VNF struct {
	ID   string `json:",omitempty"` // of the VNF instance
	VNFC string `json:",omitempty"` // of its component that the domain is
}

// Port is a vnic as its owner's network service knows it.
type Port struct {
	MAC    string
	PortID string // Neutron port UUID, when known
}
