package virt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Bounds of what is taken from one domain. libvirt's own limit for a definition is 4 MiB (REMOTE_STRING_MAX).
const (
	maxXML     = 4 << 20
	maxDevices = 512 // of each sort
	maxText    = 255 // of a name, path or other value, in bytes
)

// definition is what the source takes from a domain's XML (https://libvirt.org/formatdomain.html).
type definition struct {
	name     string
	uuid     string
	vcpus    string
	memory   string // KiB
	machine  string
	emulator string
	pinning  string // "0=2-3 1=4", and "emulator=0-1"
	panicDev bool
	watchdog string // model and action
	vnics    []vnic
	vdisks   []vdisk
	owner    owner
	vnf      correlate.VNF
	vnfFrom  string   // which rule said so: uuid, name, expression, metadata
	metadata *element // nil when there is none
	// agent is the state of the guest agent's channel: "connected", "disconnected", or empty when there is none.
	agent string
	// problems are what could not be understood, with the place; the rest holds.
	problems []string
}

type vnic struct {
	mac    string
	kind   string // libvirt's type: bridge, network, ethernet, direct, hostdev, vhostuser, user, vdpa …
	link   string // the host's link: tap or macvtap; of a vhostuser the port of the virtual switch
	bridge string
	parent string // of a macvtap
	pci    string // of a hostdev: 0000:03:10.1
	portID string // OVS interface id, or from Nova's metadata
	model  string
	alias  string
}

type vdisk struct {
	target string
	source string // path, device, pool/volume or protocol:name
	kind   string // file, block, network, volume …
	bus    string
	policy string // error_policy
	alias  string
}

// domainXML mirrors the parts of the definition that are read.
type domainXML struct {
	XMLName  xml.Name  `xml:"domain"`
	Name     string    `xml:"name"`
	UUID     string    `xml:"uuid"`
	VCPU     string    `xml:"vcpu"`
	Memory   memoryXML `xml:"memory"`
	Metadata *element  `xml:"metadata"`
	OSType   struct {
		Machine string `xml:"machine,attr"`
	} `xml:"os>type"`
	Pins []struct {
		VCPU   string `xml:"vcpu,attr"`
		CPUSet string `xml:"cpuset,attr"`
	} `xml:"cputune>vcpupin"`
	EmulatorPin struct {
		CPUSet string `xml:"cpuset,attr"`
	} `xml:"cputune>emulatorpin"`
	Devices struct {
		Emulator   string         `xml:"emulator"`
		Interfaces []interfaceXML `xml:"interface"`
		Disks      []diskXML      `xml:"disk"`
		Channels   []struct {
			Target struct {
				Name  string `xml:"name,attr"`
				State string `xml:"state,attr"`
			} `xml:"target"`
		} `xml:"channel"`
		Panic    []struct{} `xml:"panic"`
		Watchdog *struct {
			Model  string `xml:"model,attr"`
			Action string `xml:"action,attr"`
		} `xml:"watchdog"`
	} `xml:"devices"`
}

type memoryXML struct {
	Unit  string `xml:"unit,attr"`
	Value string `xml:",chardata"`
}

type interfaceXML struct {
	Type string `xml:"type,attr"`
	MAC  struct {
		Address string `xml:"address,attr"`
	} `xml:"mac"`
	Source struct {
		Bridge  string     `xml:"bridge,attr"`
		Dev     string     `xml:"dev,attr"`
		Network string     `xml:"network,attr"`
		Path    string     `xml:"path,attr"` // of a vhostuser's socket
		Address addressXML `xml:"address"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
	VirtualPort struct {
		Parameters struct {
			InterfaceID string `xml:"interfaceid,attr"`
		} `xml:"parameters"`
	} `xml:"virtualport"`
	Model struct {
		Type string `xml:"type,attr"`
	} `xml:"model"`
	Alias aliasXML `xml:"alias"`
}

type addressXML struct {
	Type     string `xml:"type,attr"`
	Domain   string `xml:"domain,attr"`
	Bus      string `xml:"bus,attr"`
	Slot     string `xml:"slot,attr"`
	Function string `xml:"function,attr"`
}

type aliasXML struct {
	Name string `xml:"name,attr"`
}

type diskXML struct {
	Type   string `xml:"type,attr"`
	Device string `xml:"device,attr"`
	Driver struct {
		ErrorPolicy string `xml:"error_policy,attr"`
	} `xml:"driver"`
	Source struct {
		File     string `xml:"file,attr"`
		Dev      string `xml:"dev,attr"`
		Dir      string `xml:"dir,attr"`
		Protocol string `xml:"protocol,attr"`
		Name     string `xml:"name,attr"`
		Pool     string `xml:"pool,attr"`
		Volume   string `xml:"volume,attr"`
		Path     string `xml:"path,attr"`
		Type     string `xml:"type,attr"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
		Bus string `xml:"bus,attr"`
	} `xml:"target"`
	Alias aliasXML `xml:"alias"`
}

var errTooLarge = fmt.Errorf("definition is over %d bytes", maxXML)

// parseDefinition reads a domain's XML. An error means that nothing could be taken from it.
func parseDefinition(text string) (*definition, error) {
	if len(text) > maxXML {
		return nil, errTooLarge
	}
	var x domainXML
	dec := xml.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&x); err != nil {
		var syntax *xml.SyntaxError
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		} else if errors.As(err, &syntax) {
			err = fmt.Errorf("line %d: %s", syntax.Line, syntax.Msg)
		}
		return nil, fmt.Errorf("parsing the domain's definition: %w", err)
	}
	d := &definition{
		name: clip(x.Name), uuid: strings.TrimSpace(x.UUID), vcpus: clip(x.VCPU), memory: clip(x.Memory.Value),
		machine: clip(x.OSType.Machine), emulator: clip(x.Devices.Emulator), panicDev: len(x.Devices.Panic) > 0,
	}
	if x.Memory.Unit != "" && x.Memory.Unit != "KiB" {
		d.memory = clip(x.Memory.Value + " " + x.Memory.Unit)
	}
	if w := x.Devices.Watchdog; w != nil {
		d.watchdog = clip(w.Model + " " + w.Action)
	}
	d.pinning = pinning(&x)
	for _, c := range x.Devices.Channels {
		if c.Target.Name == "org.qemu.guest_agent.0" {
			d.agent = clip(c.Target.State)
		}
	}
	d.takeInterfaces(x.Devices.Interfaces)
	d.takeDisks(x.Devices.Disks)
	d.metadata = x.Metadata
	if x.Metadata != nil && x.Metadata.cut {
		d.problem("metadata has over %d elements or is nested over %d deep: the rest is ignored", maxElements, maxDepth)
	}
	d.takeNova()
	return d, nil
}

func (d *definition) problem(format string, args ...any) {
	if len(d.problems) < 8 {
		d.problems = append(d.problems, fmt.Sprintf(format, args...))
	}
}

func (d *definition) takeInterfaces(list []interfaceXML) {
	seen := map[string]bool{}
	for i, x := range list {
		if i == maxDevices {
			d.problem("%d interfaces: only the first %d are watched", len(list), maxDevices)
			return
		}
		mac, err := net.ParseMAC(strings.TrimSpace(x.MAC.Address))
		if err != nil {
			d.problem("interface %d has no usable mac address %q", i+1, clip(x.MAC.Address))
			continue
		}
		n := vnic{
			mac: mac.String(), kind: clip(x.Type), link: clip(x.Target.Dev), bridge: clip(x.Source.Bridge),
			portID: clip(x.VirtualPort.Parameters.InterfaceID), model: clip(x.Model.Type), alias: clip(x.Alias.Name),
		}
		if seen[n.mac] {
			d.problem("interface %d has the mac address %s of another one: it is not watched", i+1, n.mac)
			continue
		}
		seen[n.mac] = true
		switch n.kind {
		case "direct":
			n.parent = clip(x.Source.Dev)
		case "hostdev":
			n.pci = x.Source.Address.pci()
			n.link = ""
		case "vhostuser":
			if n.link == "" && x.Source.Path != "" { // the socket is called as the port is, mostly
				n.link = clip(path.Base(x.Source.Path))
			}
		}
		d.vnics = append(d.vnics, n)
	}
}

func (d *definition) takeDisks(list []diskXML) {
	seen := map[string]bool{}
	for i, x := range list {
		if i == maxDevices {
			d.problem("%d disks: only the first %d are watched", len(list), maxDevices)
			return
		}
		// Removable media are no need of the domain.
		if x.Device == "cdrom" || x.Device == "floppy" {
			continue
		}
		target := clip(x.Target.Dev)
		if target == "" || seen[target] {
			d.problem("disk %d has no target of its own (%q): it is not watched", i+1, target)
			continue
		}
		seen[target] = true
		d.vdisks = append(d.vdisks, vdisk{
			target: target, source: x.source(), kind: clip(x.Type), bus: clip(x.Target.Bus),
			policy: clip(x.Driver.ErrorPolicy), alias: clip(x.Alias.Name),
		})
	}
}

func (x *diskXML) source() string {
	s := &x.Source
	for _, v := range []string{s.File, s.Dev, s.Dir} {
		if v != "" {
			return clip(v)
		}
	}
	switch {
	case s.Protocol != "":
		return clip(s.Protocol + ":" + s.Name)
	case s.Pool != "":
		return clip(s.Pool + "/" + s.Volume)
	case s.Path != "": // vhostuser, vhostvdpa
		return clip(s.Path)
	}
	return ""
}

// pci is the address as the kernel writes it, 0000:03:10.1; empty when it is none.
func (a addressXML) pci() string {
	var domain, bus, slot, function uint32
	for _, f := range []struct {
		text string
		to   *uint32
		most uint32
	}{{a.Domain, &domain, 0xffff}, {a.Bus, &bus, 0xff}, {a.Slot, &slot, 0x1f}, {a.Function, &function, 7}} {
		if _, err := fmt.Sscanf(f.text, "0x%x", f.to); err != nil || *f.to > f.most {
			return ""
		}
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", domain, bus, slot, function)
}

func pinning(x *domainXML) string {
	var b strings.Builder
	for i, p := range x.Pins {
		if i == maxDevices {
			break
		}
		fmt.Fprintf(&b, "%s=%s ", clip(p.VCPU), clip(p.CPUSet))
	}
	if set := x.EmulatorPin.CPUSet; set != "" {
		fmt.Fprintf(&b, "emulator=%s", clip(set))
	}
	return strings.TrimSpace(b.String())
}

// clip trims and bounds a value, and takes out what no terminal or log should see: tenants choose names.
func clip(s string) string {
	s = strings.TrimSpace(s)
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
