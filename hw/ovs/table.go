package ovs

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// What stands for the parts of Open vSwitch; units of systemd have no such names. datapath is the kernel's part, of bridges that have one.
const (
	ovsdb    correlate.ID = "service/openvswitch/ovsdb-server"
	vswitchd correlate.ID = "service/openvswitch/ovs-vswitchd"
	datapath correlate.ID = "service/openvswitch/datapath"
)

// table holds what is known of the switch, and what was stated of it. One goroutine owns it.
type table struct {
	root    hw.Root
	include []string

	db             database
	server, daemon report // the newest word on ovsdb-server and on ovs-vswitchd
	seen           bool   // there is, or was, a switch here
	drivers        map[string]string
	peers          map[string]correlate.ID // of a patch port: the bridge that it leads to, or led to when that is gone
	sockets        map[string]socket       // vhost-user sockets by path, as last polled

	stated *statement // nil: nothing yet
}

// statement is the whole truth as of one moment.
type statement struct {
	resources map[correlate.ID]correlate.Resource
	requires  map[correlate.ID][]correlate.Need
	judged    map[condition]judgement
	plugged   map[correlate.ID]correlate.ID // what requires a bridge, by its id
}

type condition struct {
	id        correlate.ID
	condition correlate.Condition
}

type judgement struct {
	status   correlate.Status
	text     string
	evidence map[string]string
}

func newTable(root hw.Root, include []string) *table {
	return &table{root: root, include: include, db: database{}, drivers: map[string]string{}, peers: map[string]correlate.ID{}}
}

func (t *table) takeDatabase(r report) {
	if r.life == alive {
		t.seen = true
		switch {
		case r.whole:
			t.db = database{}
		case r.tables.deletes("Bridge") && t.stated != nil:
			// Its ports go in the same update. Updates that wait together are judged once; who misses it is as of just before.
			t.stated.plugged = t.state().plugged
		}
		t.db.apply(r.tables)
		t.learn()
	}
	if r.life == dead || r.life == hung {
		t.seen = true // a socket that nobody listens to any more was left behind by a switch
	}
	if r.life == absent && t.seen {
		r.life = dead
	}
	t.server = r
}

func (t *table) takeSwitch(r report) {
	if r.life == alive || r.life == hung {
		t.seen = true
	}
	t.daemon = r
}

// daemonLife is how ovs-vswitchd is. One of which nothing is left is missed when the database has bridges for it.
func (t *table) daemonLife() life {
	if t.daemon.life == absent && len(t.db["Bridge"]) > 0 {
		return dead
	}
	return t.daemon.life
}

// judged reports whether enough is known to state anything.
func (t *table) judged() bool {
	return t.server.life != unseen && t.daemon.life != unseen
}

// learn notes the drivers of links, which the database forgets when a link vanishes.
func (t *table) learn() {
	names := make(map[string]bool, len(t.db["Interface"]))
	for _, r := range t.db["Interface"] {
		name := r.text("name")
		names[name] = true
		if driver := r["status"].pairs["driver_name"]; driver != "" {
			t.drivers[name] = driver
		}
	}
	maps.DeleteFunc(t.drivers, func(name, _ string) bool { return !names[name] })
	maps.DeleteFunc(t.peers, func(name string, _ correlate.ID) bool { return !names[name] })
}

// health is how well we see.
func (t *table) health() hw.Health {
	const remedy = "run the agent as root, or as a member of the group that the socket belongs to (openvswitch, hugetlbfs)"
	switch {
	case t.server.life == denied:
		return hw.Health{Sight: hw.SightDegraded, Text: "no right to the database of Open vSwitch: " + remedy + ": " + t.server.text}
	case t.server.life == odd:
		return hw.Health{Sight: hw.SightBlind, Text: "ovsdb-server: " + t.server.text}
	case !t.seen:
		return hw.Health{Sight: hw.SightAbsent, Text: "no Open vSwitch here: " + t.server.text}
	case t.server.life != alive: // an alarm of its own says so
		return hw.Health{Sight: hw.SightDegraded, Text: "ports and links of Open vSwitch are as last seen: ovsdb-server: " + t.server.text}
	case t.daemon.life == denied:
		return hw.Health{Sight: hw.SightDegraded, Text: "whether ovs-vswitchd answers is not seen, only whether it runs: " + remedy + ": " + t.daemon.text}
	}
	return hw.Health{}
}

// delta is what has changed since the last one; the first is full.
func (t *table) delta(now time.Time) correlate.Delta {
	is, was := t.state(), t.stated
	t.stated = is
	d := correlate.Delta{Full: was == nil}
	if was == nil {
		was = &statement{}
	}
	for _, id := range slices.Sorted(maps.Keys(is.resources)) {
		if r, ok := was.resources[id]; !ok || !reflect.DeepEqual(r, is.resources[id]) {
			d.Set = append(d.Set, is.resources[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(is.requires)) {
		if !reflect.DeepEqual(was.requires[id], is.requires[id]) {
			d.Require = append(d.Require, correlate.Requirement{ID: id, Needs: is.requires[id]})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was.requires)) {
		if _, ok := is.requires[id]; !ok {
			d.Require = append(d.Require, correlate.Requirement{ID: id})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was.resources)) {
		if _, ok := is.resources[id]; ok {
			continue
		}
		g := correlate.Gone{ID: id, Reason: correlate.GoneOrderly, Occurred: now, Observed: now, Text: id.Name() + " was removed from Open vSwitch"}
		switch {
		case is.missed(id):
			g.Reason = correlate.GoneVanished
		case was.resources[id].Facts["kind"] == kindVhost:
			// It ends with its domain; why is for the hypervisor to say. The rule of this condition waits for that, and
			// nothing is raised when nobody needs the port any more.
			g.Reason = correlate.GoneByFault
			d.Events = append(d.Events, judgement{status: correlate.StatusFailed, text: g.Text}.event(condition{id, correlate.CondBacking}, now))
		}
		d.Gone = append(d.Gone, g)
	}
	byID := func(a, b condition) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.condition, b.condition))
	}
	for _, c := range slices.SortedFunc(maps.Keys(is.judged), byID) {
		j := is.judged[c]
		if o, ok := was.judged[c]; !ok || o.status != j.status {
			d.Events = append(d.Events, j.event(c, now))
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(was.judged), byID) {
		_, still := is.judged[c]
		_, ours := was.resources[c.id]
		_, there := is.resources[c.id]
		if still || ours && !there || was.judged[c].status == correlate.StatusOK { // what is gone takes its conditions with it
			continue
		}
		d.Events = append(d.Events, judgement{status: correlate.StatusOK, text: c.id.Name() + ": Open vSwitch has nothing to say of it any more"}.event(c, now))
	}
	return d
}

func (j judgement) event(c condition, now time.Time) correlate.Event {
	return correlate.Event{
		Resource: c.id, Condition: c.condition, Status: j.status, Text: j.text, Occurred: now, Observed: now, Evidence: j.evidence,
	}
}

// missed reports whether something of the switch needs id.
func (s *statement) missed(id correlate.ID) bool {
	of := func(n correlate.Need) bool { return slices.Contains(n.Of, id) }
	for _, needs := range s.requires {
		if slices.ContainsFunc(needs, of) {
			return true
		}
	}
	for _, r := range s.resources {
		if slices.ContainsFunc(r.Needs, of) {
			return true
		}
	}
	return false
}
