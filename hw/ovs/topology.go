package ovs

import (
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// What stands in Facts["kind"] of the links that only Open vSwitch shows.
const (
	kindDPDK   = "dpdk"
	kindVhost  = "vhost-user"
	kindTunnel = "tunnel"
)

// tunnels are the types of interfaces that lead to another host over this one's own network.
var tunnels = []string{"vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan", "stt", "lisp", "gtpu", "bareudp", "srv6"}

// state is what the database and the daemons say, as the topology has it.
func (t *table) state() *statement {
	s := &statement{
		resources: map[correlate.ID]correlate.Resource{}, requires: map[correlate.ID][]correlate.Need{},
		judged: map[condition]judgement{}, plugged: map[correlate.ID]correlate.ID{},
	}
	if !t.seen {
		return s
	}
	t.services(s)
	g := t.graph()
	for i := range g.ports {
		t.port(s, g, &g.ports[i])
	}
	for id, b := range g.bonds {
		slices.Sort(b.members)
		s.set(correlate.Resource{
			ID: id, Name: id.Name(), Facts: map[string]string{"kind": "openvswitch", "bond_mode": b.mode, "bridge": b.bridge.Name()},
			Needs: []correlate.Need{{Mode: correlate.KOfN, K: 1, Of: b.members, Condition: correlate.CondCarrier}},
		})
	}
	for id, b := range g.bridges {
		// In the kernel it goes on forwarding what it knows without the daemon, and learns nothing new.
		needs := correlate.Need{Mode: correlate.AllOf, Of: []correlate.ID{vswitchd}}
		if b.datapath == "system" {
			s.set(correlate.Resource{ID: datapath, Name: "Open vSwitch in the kernel"})
			needs = correlate.Need{Mode: correlate.SomeOf, Of: []correlate.ID{datapath, vswitchd}}
		}
		s.set(correlate.Resource{
			ID: id, Name: id.Name(), Facts: map[string]string{"kind": "openvswitch", "datapath": b.datapath},
			Needs: append([]correlate.Need{needs, {Mode: correlate.AllOf, Of: []correlate.ID{ovsdb}}}, t.uplinks(g, id)...),
		})
	}
	// A bridge that vanished with its ports goes on being missed by what was plugged into it, which may still be there.
	if t.stated != nil {
		for id, bridge := range t.stated.plugged {
			if g.bridges[bridge] == nil && s.requires[id] == nil {
				s.plug(id, bridge)
			}
		}
	}
	return s
}

func (s *statement) set(r correlate.Resource) {
	maps.DeleteFunc(r.Facts, func(_, v string) bool { return v == "" })
	s.resources[r.ID] = r
}

// plug says that a link that another source states, and that may outlive the bridge, hangs on it.
func (s *statement) plug(id, bridge correlate.ID) {
	s.plugged[id] = bridge
	s.requires[id] = []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{bridge}}}
}

func (s *statement) judge(id correlate.ID, c correlate.Condition, j judgement) {
	s.judged[condition{id, c}] = j
}

// services states the two daemons.
func (t *table) services(s *statement) {
	server := judgement{text: "ovsdb-server: " + t.server.text}
	switch t.server.life {
	case alive:
		server = judgement{status: correlate.StatusOK, text: "ovsdb-server answers"}
	case dead, hung:
		server.status = correlate.StatusFailed
	case unseen, denied, odd, absent:
	}
	var version string
	for _, r := range t.db["Open_vSwitch"] {
		version = printable(r.text("ovs_version"))
	}
	s.set(correlate.Resource{ID: ovsdb, Name: "ovsdb-server"})
	s.judge(ovsdb, correlate.CondSwitchDatabase, server)

	failed := judgement{text: "ovs-vswitchd: " + t.daemon.text}
	silent := failed
	switch t.daemonLife() {
	case alive:
		failed = judgement{status: correlate.StatusOK, text: "ovs-vswitchd runs"}
		silent = judgement{status: correlate.StatusOK, text: "ovs-vswitchd answers"}
	case dead: // silent it is as well, but no more than that
		failed.status = correlate.StatusFailed
		silent = judgement{status: correlate.StatusOK, text: failed.text}
	case hung:
		failed = judgement{status: correlate.StatusOK, text: "ovs-vswitchd runs"}
		silent.status = correlate.StatusFailed
	case denied, unseen, odd, absent:
	}
	s.set(correlate.Resource{ID: vswitchd, Name: "ovs-vswitchd", Facts: map[string]string{"version": version, "process": t.daemon.process}})
	s.judge(vswitchd, correlate.CondSwitch, failed)
	s.judge(vswitchd, correlate.CondSwitchHung, silent)
}

// graph is how the database's bridges and ports hang together.
type graph struct {
	bridges map[correlate.ID]*bridge
	bonds   map[correlate.ID]*bond
	ports   []port
	owner   map[string]correlate.ID // of an interface: its bridge
}

type bridge struct {
	datapath string         // "system": in the kernel; "netdev": in ovs-vswitchd
	ups      []correlate.ID // its uplinks
	over     []correlate.ID // what its tunnels run over
	patched  []correlate.ID // bridges
	hops     int            // over how many patches it leads out of the host; far: over none
}

type bond struct {
	mode    string
	bridge  correlate.ID
	members []correlate.ID
}

// port is an interface of a bridge.
type port struct {
	row
	name   string
	kind   string // the type of the interface; empty: a link of the kernel
	id     correlate.ID
	bridge correlate.ID
	leg    bool // of a bond
	uplink bool
	lacp   bool // it should have a partner
}

// graph takes the bridges of the database apart. Bonds are ports with several interfaces.
func (t *table) graph() *graph {
	g := &graph{bridges: map[correlate.ID]*bridge{}, bonds: map[correlate.ID]*bond{}, owner: map[string]correlate.ID{}}
	for _, row := range t.db["Bridge"] {
		if !fit(row.text("name")) {
			continue
		}
		id := correlate.NewID(correlate.KindBridge, row.text("name"))
		b := &bridge{datapath: row.text("datapath_type")}
		if b.datapath == "" {
			b.datapath = "system"
		}
		g.bridges[id] = b
		for _, portID := range row["ports"].atoms {
			t.addPort(g, id, b, t.db["Port"][portID])
		}
	}
	for i := range g.ports { // now that the bridge of each is known
		p := &g.ports[i]
		b := g.bridges[p.bridge]
		add := func(to *[]correlate.ID, id correlate.ID) {
			if id != "" && id != p.bridge && !slices.Contains(*to, id) {
				*to = append(*to, id)
			}
		}
		switch {
		case p.kind == "patch":
			if peer, ok := g.owner[p.row["options"].pairs["peer"]]; ok {
				t.peers[p.name] = peer
			}
			add(&b.patched, t.peers[p.name])
		case slices.Contains(tunnels, p.kind):
			add(&b.over, t.underlay(g, p))
		}
	}
	g.measure()
	return g
}

// far is the distance of a bridge that leads nowhere.
const far = math.MaxInt

// measure counts over how many patches each bridge leads out, so that no two need each other.
func (g *graph) measure() {
	var queue []correlate.ID
	for id, b := range g.bridges {
		b.hops = far
		if len(b.ups)+len(b.over) > 0 {
			b.hops = 0
			queue = append(queue, id)
		}
	}
	for i := 0; i < len(queue); i++ {
		b := g.bridges[queue[i]]
		for _, id := range b.patched {
			if peer := g.bridges[id]; peer != nil && peer.hops == far {
				peer.hops = b.hops + 1
				queue = append(queue, id)
			}
		}
	}
}

func (t *table) addPort(g *graph, bridgeID correlate.ID, b *bridge, row row) {
	interfaces := row["interfaces"].atoms
	up := correlate.ID("") // the port as an uplink, when it is not its only interface
	if len(interfaces) > 1 && fit(row.text("name")) {
		up = t.bondID(bridgeID, row.text("name"))
		g.bonds[up] = &bond{mode: row.text("bond_mode"), bridge: bridgeID}
		b.ups = append(b.ups, up)
	}
	lacp := row.text("lacp") == "active" || row.text("lacp") == "passive"
	for _, interfaceID := range interfaces {
		r := t.db["Interface"][interfaceID]
		p := port{row: r, name: r.text("name"), kind: r.text("type"), bridge: bridgeID, leg: up != "", lacp: lacp}
		if !fit(p.name) {
			continue
		}
		p.id, p.uplink = t.identify(&p)
		g.owner[p.name] = bridgeID
		g.ports = append(g.ports, p)
		switch {
		case p.leg:
			g.bonds[up].members = append(g.bonds[up].members, p.id)
		case p.uplink:
			b.ups = append(b.ups, p.id)
		}
	}
}

// identify names the link of an interface, and says whether it leads out of the host.
func (t *table) identify(p *port) (id correlate.ID, uplink bool) {
	own := correlate.NewID(correlate.KindNIC, p.name)
	switch p.kind {
	case kindDPDK:
		return own, true
	case "", "system", "afxdp", "afxdp-nonpmd": // links of the kernel
	default:
		return own, p.leg
	}
	ids := p.row["external_ids"].pairs
	switch driver := t.drivers[p.name]; {
	case p.leg, t.included(p.name):
		return t.linkID(p.name), true
	case driver == "tun", driver == "veth", driver == "openvswitch", ids["iface-id"] != "", ids["attached-mac"] != "":
		return own, false
	default: // one that was pulled out before its driver was seen as well
		return t.linkID(p.name), true
	}
}

func (t *table) included(name string) bool {
	return slices.ContainsFunc(t.include, func(g string) bool {
		ok, err := path.Match(g, name) // New has checked the globs
		return ok && err == nil
	})
}

// linkID names a link of the kernel as the links' source does.
func (t *table) linkID(name string) correlate.ID {
	switch {
	case t.classHas(name, "bonding"):
		return correlate.NewID(correlate.KindBond, name)
	case t.classHas(name, "bridge"):
		return correlate.NewID(correlate.KindBridge, name)
	}
	return correlate.NewID(correlate.KindNIC, name)
}

func (t *table) classHas(name, dir string) bool {
	if strings.ContainsRune(name, '/') || name == ".." {
		return false
	}
	_, err := os.Stat(t.root.SysPath("class", "net", name, dir))
	return err == nil
}

// bondID names a bond of the switch. The kernel may have one of the same name.
func (t *table) bondID(bridge correlate.ID, name string) correlate.ID {
	if t.classHas(name, "bonding") {
		name = bridge.Name() + "/" + name
	}
	return correlate.NewID(correlate.KindBond, name)
}

// underlay is what a tunnel runs over, as ovs-vswitchd finds it by the routes: a link, or the bridge whose own port it is.
// Empty when it found none.
func (t *table) underlay(g *graph, p *port) correlate.ID {
	egress := p.row["status"].pairs["tunnel_egress_iface"]
	switch owner, ours := g.owner[egress]; {
	case !fit(egress):
		return ""
	case ours:
		return owner
	}
	return t.linkID(egress)
}

// uplinks is what a bridge needs to reach beyond the host. One with uplinks of its own needs no other way; one with tunnels
// needs what they run over, and bridges with uplinks that it is patched to; any other the bridges that are nearer to the outside.
func (t *table) uplinks(g *graph, id correlate.ID) []correlate.Need {
	b := g.bridges[id]
	slices.Sort(b.ups)
	switch len(b.ups) {
	case 0:
	case 1:
		return []correlate.Need{{Mode: correlate.AllOf, Of: b.ups}}
	default:
		return []correlate.Need{{Mode: correlate.KOfN, K: 1, Of: b.ups, Condition: correlate.CondCarrier}}
	}
	ways := slices.Clone(b.over)
	for _, other := range b.patched {
		peer := g.bridges[other]
		switch {
		case slices.Contains(ways, other):
		case peer == nil && t.needed(id, other), // deleted under it
			peer != nil && peer.hops < b.hops, peer != nil && len(peer.ups) > 0:
			ways = append(ways, other)
		}
	}
	if len(ways) == 0 {
		return nil
	}
	// Which network a port is in is not known: what is lost of the ways degrades all.
	slices.Sort(ways)
	return []correlate.Need{{Mode: correlate.SomeOf, Of: ways}}
}

// needed reports whether a resource was last said to need another one.
func (t *table) needed(holder, id correlate.ID) bool {
	return t.stated != nil && slices.ContainsFunc(t.stated.resources[holder].Needs, func(n correlate.Need) bool { return slices.Contains(n.Of, id) })
}

// fit reports whether a name can be part of an id.
func fit(name string) bool { return name != "" && name == printable(name) }
