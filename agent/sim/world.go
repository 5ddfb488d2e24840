package sim

import (
	"fmt"
	"math/rand/v2"

	"github.com/paramedic-ha/paramedic/correlate"
)

const home = "cmp-1"

// world is the truth about the host. Only faults change it; sources look at it; the checker asks it who is hit.
type world struct {
	links   []*link // uplinks, bonds, VLANs, bridges; taps belong to their vnics
	domains []*domain
	gen     uint64          // counts the changes
	blind   map[string]bool // sources that can't see
	losing  map[string]bool // sources whose edges get lost, so that only a relist tells them
	unsure  map[correlate.ID]glimpse
}

// glimpse is how a link was when its state could last be read, and which run of the agent was told; nil: none was.
type glimpse struct {
	up, signal bool
	told       *process
}

type link struct {
	id                  correlate.ID
	present, up, signal bool
	// forgotten: it vanished, and no run of the agent that told so left its alarm behind. Nobody can know of it.
	forgotten bool
	ports     []*link // the legs of a bond, the uplinks of a bridge, as they are configured
	parent    *link   // of a VLAN
	bridge    *link   // of a tap
	bond      bool
}

// domainState is what the hypervisor says of a domain.
type domainState string

const (
	running  domainState = "running"
	off      domainState = "off"      // because somebody wanted it so
	crashed  domainState = "crashed"  // its process died
	stopped  domainState = "stopped"  // ended by a signal
	paused   domainState = "io-error" // paused on an I/O error
	panicked domainState = "panicked" // the guest's kernel did, and is preserved
)

type domain struct {
	id            correlate.ID
	name, project string
	transient     bool
	here          bool                 // the hypervisor knows it
	end           correlate.GoneReason // why it is not here
	state         domainState
	mourned       bool // a fault took it away once: unless the agent saw it return, that alarm still speaks of it
	agentLost     bool
	impulse       bool // something that holds for a time by itself happened to it
	vnics         []*vnic
	disks         []*vdisk
}

type vnic struct {
	id      correlate.ID
	mac     string
	plugged bool
	tap     *link
}

type vdisk struct {
	id   correlate.ID
	lost bool // its backing
}

// newWorld builds a host with every kind of path: a bond of two NICs, a single NIC, a VLAN, two uplinks of one bridge,
// and a bridge that leads nowhere.
func newWorld(rng *rand.Rand) *world {
	w := &world{blind: map[string]bool{}, losing: map[string]bool{}, unsure: map[correlate.ID]glimpse{}}
	add := func(id correlate.ID, ports ...*link) *link {
		l := &link{id: id, present: true, up: true, signal: true, ports: ports, bond: id.Kind() == correlate.KindBond}
		w.links = append(w.links, l)
		return l
	}
	var eth []*link
	for i := range 6 {
		eth = append(eth, add(correlate.NewID(correlate.KindNIC, fmt.Sprintf("eth%d", i))))
	}
	bond := add("bond/bond0", eth[0], eth[1])
	vlan := add("nic/eth3.100")
	vlan.parent = eth[3]
	bridges := []*link{
		add("bridge/br0", bond), add("bridge/br1", eth[2]), add("bridge/br2", vlan), add("bridge/br3", eth[4], eth[5]), add("bridge/br4"),
	}
	taps := 0
	for i := range 4 + rng.IntN(8) {
		uuid := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		d := &domain{
			id: correlate.NewID(correlate.KindDomain, uuid), name: fmt.Sprintf("instance-%d", i), project: fmt.Sprintf("p%d", i%3),
			transient: i%4 == 1, here: true, state: running,
		}
		for n := range rng.IntN(3) {
			mac := fmt.Sprintf("52:54:00:00:%02x:%02x", i, n)
			tap := &link{
				id: correlate.NewID(correlate.KindNIC, fmt.Sprintf("vnet%d", taps)), present: true, up: true, signal: true,
				bridge: bridges[rng.IntN(len(bridges))],
			}
			taps++
			d.vnics = append(d.vnics, &vnic{id: correlate.NewID(correlate.KindVNIC, uuid+"/"+mac), mac: mac, plugged: true, tap: tap})
		}
		for n := range rng.IntN(3) {
			d.disks = append(d.disks, &vdisk{id: correlate.NewID(correlate.KindVDisk, fmt.Sprintf("%s/vd%c", uuid, 'a'+n))})
		}
		w.domains = append(w.domains, d)
	}
	return w
}

// physical reports whether a link is hardware, which can vanish.
func (l *link) physical() bool { return !l.bond && l.bridge == nil && l.parent == nil && !l.isBridge() }

func (l *link) isBridge() bool { return l.id.Kind() == correlate.KindBridge }

// carrier is what the kernel says of an enabled link.
func (l *link) carrier() bool {
	switch {
	case l.parent != nil:
		return l.parent.present && l.parent.up && l.parent.carrier()
	case l.bond:
		for _, p := range l.ports {
			if p.present && p.up && p.carrier() {
				return true
			}
		}
		return false
	}
	return l.signal
}

// works reports whether traffic passes: the health rule, told once more as an operator would.
func (l *link) works() bool {
	if !l.present || !l.up || !l.carrier() {
		return false
	}
	counted, well := 0, 0
	for _, p := range l.ports {
		if p.forgotten {
			continue
		}
		counted++
		if p.works() {
			well++
		}
	}
	return counted == 0 || well > 0
}

// processed reports whether the domain has a process, and so its taps.
func (d *domain) processed() bool {
	return d.here && (d.state == running || d.state == paused || d.state == panicked)
}

func (d *domain) active() bool { return d.here && d.state != off }

// lost reports whether a fault took the domain away.
func (d *domain) lost() bool { return !d.here && d.end == correlate.GoneByFault }

// hit is how a domain fares, from the world alone. surely counts only what is a fault from the first moment on; else
// also what an impulse or the end of a hold-down may have made one.
func (d *domain) hit(surely bool) correlate.State {
	if !d.active() {
		if !d.here && d.mourned && !surely {
			return correlate.StateFailed
		}
		return correlate.StateOK
	}
	switch d.state {
	case crashed, stopped, paused:
		return correlate.StateFailed
	case panicked:
		if !surely {
			return correlate.StateFailed
		}
	case running, off:
	}
	if d.impulse && !surely {
		return correlate.StateFailed
	}
	for _, v := range d.disks {
		if v.lost {
			return correlate.StateFailed
		}
	}
	plugged, cut := 0, 0
	for _, v := range d.vnics {
		if !v.plugged {
			continue
		}
		plugged++
		switch tapped := v.tap.present && v.tap.up; {
		case !d.processed():
		case tapped && !v.tap.bridge.works(), !tapped && !surely: // a tap's own loss is held down
			cut++
		}
	}
	switch {
	case plugged > 0 && cut == plugged:
		return correlate.StateFailed
	case cut > 0, d.agentLost && !surely && d.state == running:
		return correlate.StateDegraded
	}
	return correlate.StateOK
}

// become changes a domain's state, and with it its taps.
func (d *domain) become(s domainState) {
	had := d.processed()
	d.here, d.state = true, s
	if s != running {
		d.agentLost = false
	}
	d.taps(had)
}

// leave takes a domain away.
func (d *domain) leave(why correlate.GoneReason) {
	had := d.processed()
	d.here, d.end, d.agentLost = false, why, false
	d.mourned = d.mourned || why == correlate.GoneByFault
	d.taps(had)
}

func (d *domain) taps(had bool) {
	if has := d.processed(); has != had {
		for _, v := range d.vnics {
			v.tap.present, v.tap.up = has && v.plugged, has
		}
	}
}

// heal makes all well: what is broken works, what is gone is back, what is off is on.
func (w *world) heal() {
	w.gen++
	for _, l := range w.links {
		l.present, l.up, l.signal = true, true, true
	}
	for _, d := range w.domains {
		if d.lost() && d.transient {
			continue // nobody starts it again; an operator acknowledges its alarm
		}
		d.impulse = d.state == panicked // which holds on for its time
		d.become(running)
		d.agentLost = false
		for _, v := range d.vnics {
			v.plugged, v.tap.present, v.tap.up = true, true, true
		}
		for _, v := range d.disks {
			v.lost = false
		}
	}
}
