package ovs

import (
	"net"
	"regexp"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
)

var pciAddress = regexp.MustCompile(`^[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]`)

func (p *port) vhost() bool { return p.kind == "dpdkvhostuser" || p.kind == "dpdkvhostuserclient" }

// port states what only Open vSwitch shows of an interface, and what hangs on its bridge.
func (t *table) port(s *statement, g *graph, p *port) {
	to := []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{p.bridge}}}
	switch {
	case p.kind == kindDPDK:
		s.set(p.resource(kindDPDK, nil))
		t.judgeState(s, p)
		t.judgeCarrier(s, p)
	case p.vhost():
		s.set(p.resource(kindVhost, to))
		t.judgeState(s, p)
		t.judgeSocket(s, p)
		if vnic := p.vnic(); vnic != "" {
			s.requires[vnic] = []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{p.id}}}
		}
	case slices.Contains(tunnels, p.kind):
		var over []correlate.Need
		if way := t.underlay(g, p); way != "" && way != p.bridge {
			over = []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{way}}}
		}
		s.set(p.resource(kindTunnel, over))
		t.judgeState(s, p)
		t.judgeTunnel(s, p)
	case p.kind == "patch": // it only leads on
	case p.kind == "internal", p.kind == "tap": // made by the switch, and ends with its bridge
		s.requires[p.id] = to
		t.judgeError(s, p)
	default:
		if !p.uplink {
			s.plug(p.id, p.bridge)
		}
		t.judgeError(s, p)
	}
	t.judgeLACP(s, p)
}

func (p *port) resource(kind string, needs []correlate.Need) correlate.Resource {
	status, options, ids := p.row["status"].pairs, p.row["options"].pairs, p.row["external_ids"].pairs
	facts := map[string]string{
		"kind": kind, "type": p.kind, "bridge": p.bridge.Name(), "admin": p.text("admin_state"), "mac": p.text("mac_in_use"),
		"mtu": p.text("mtu"), "driver": status["driver_name"], "socket": options["vhost-server-path"], "mode": status["mode"],
		"remote": options["remote_ip"], "egress": status["tunnel_egress_iface"], "iface_id": ids["iface-id"],
		"pci": pciAddress.FindString(options["dpdk-devargs"]),
	}
	switch p.text("link_state") {
	case "up":
		facts["carrier"] = "yes"
	case "down":
		facts["carrier"] = "no"
	}
	if n, err := strconv.ParseUint(p.text("link_speed"), 10, 64); err == nil && n >= 1e6 {
		facts["speed_mbps"] = strconv.FormatUint(n/1e6, 10)
	}
	for key, v := range facts {
		facts[key] = printable(v)
	}
	return correlate.Resource{ID: p.id, Name: p.name, Needs: needs, Facts: facts}
}

// vnic is whose port it is, when whoever plugged it in has said so: libvirt writes vm-id, Nova vm-uuid.
func (p *port) vnic() correlate.ID {
	ids := p.row["external_ids"].pairs
	mac, err := net.ParseMAC(ids["attached-mac"])
	if err != nil {
		return ""
	}
	for _, key := range []string{"vm-uuid", "vm-id"} {
		if id, err := uuid.Parse(ids[key]); err == nil {
			return correlate.NewID(correlate.KindVNIC, id.String()+"/"+mac.String())
		}
	}
	return ""
}

// judge notes what the database says of a port; it is the past when nobody keeps the database true.
func (t *table) judge(s *statement, id correlate.ID, c correlate.Condition, p *port, status correlate.Status, text string) {
	j := judgement{status: status, text: p.name + ": " + text, evidence: p.evidence()}
	if l := t.daemonLife(); l != alive && l != denied || t.server.life != alive {
		j.status = correlate.StatusUnknown
	}
	s.judged[condition{id, c}] = j
}

func (p *port) evidence() map[string]string {
	e := map[string]string{}
	for _, column := range []string{"admin_state", "link_state", "error"} {
		if v := p.text(column); v != "" {
			e[column] = printable(v)
		}
	}
	return e
}

// judgeError says whether the switch can use a link that another source states. That the kernel has none of that name is for
// that source to say: a port stays in the database when its domain is gone.
func (t *table) judgeError(s *statement, p *port) {
	if fails := printable(p.text("error")); fails != "" && !noDevice.MatchString(fails) {
		t.judge(s, p.id, correlate.CondPort, p, correlate.StatusFailed, fails)
	}
}

var noDevice = regexp.MustCompile(`\(No such device\)$`)

// by is the status of something that has one good value, and is not known when it has none.
func by(value, good string) correlate.Status {
	switch value {
	case "":
		return correlate.StatusUnknown
	case good:
		return correlate.StatusOK
	}
	return correlate.StatusFailed
}

// judgeState judges a port that is ours.
func (t *table) judgeState(s *statement, p *port) {
	status, text := correlate.StatusOK, "in use"
	if fails := printable(p.text("error")); fails != "" {
		status, text = correlate.StatusFailed, fails
	}
	t.judge(s, p.id, correlate.CondPort, p, status, text)
	admin := p.text("admin_state")
	t.judge(s, p.id, correlate.CondDisabled, p, by(admin, "up"), "administratively "+printable(admin))
}

func (t *table) judgeCarrier(s *statement, p *port) {
	status, text := by(p.text("link_state"), "up"), "carrier"
	if status == correlate.StatusFailed {
		text = "no carrier"
	}
	if p.text("admin_state") != "up" { // it has none then, whatever its cable has
		status = correlate.StatusUnknown
	}
	t.judge(s, p.id, correlate.CondCarrier, p, status, text)
}

// judgeTunnel tells what BFD says of the other end, where it is switched on.
func (t *table) judgeTunnel(s *statement, p *port) {
	if p.row["bfd"].pairs["enable"] != "true" {
		return
	}
	bfd := p.row["bfd_status"].pairs
	status, text := by(bfd["forwarding"], "true"), "the other end ("+p.row["options"].pairs["remote_ip"]+") answers"
	if status == correlate.StatusFailed {
		text = "the other end (" + p.row["options"].pairs["remote_ip"] + ") does not answer: BFD is " + bfd["state"] + ", " + bfd["diagnostic"]
	}
	t.judge(s, p.id, correlate.CondTunnel, p, status, printable(text))
}

// judgeLACP tells on a port that should have a partner whether it has one.
func (t *table) judgeLACP(s *statement, p *port) {
	if !p.lacp {
		return
	}
	status, text := by(p.text("lacp_current"), "true"), "its LACP partner agrees"
	if status == correlate.StatusFailed {
		text = "no LACP partner"
	}
	t.judge(s, p.id, correlate.CondLACP, p, status, text)
}
