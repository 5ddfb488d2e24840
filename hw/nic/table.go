package nic

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// settle is how long a link that lost its master still counts as its port. The kernel takes ports out of a bridge
// before it says that the bridge is deleted, and moves a port between bridges by way of none.
const settle = time.Second

// table holds the links as they were last seen, and what was stated of them. One goroutine owns it.
type table struct {
	root             hw.Root
	include, exclude []string

	links  map[int]link
	names  map[string]int // index by name
	held   map[int]hold
	ghosts map[correlate.ID]ghost
	// Of an earlier run, until the first list: on which links alarms stand, and by port the master that it may have lost.
	alarmed []correlate.ID
	orphans map[correlate.ID]correlate.ID
	details map[int]details
	rates   map[int]errorRate

	stated map[correlate.ID]statement
	dirty  map[int]bool // changed since the last delta
	shape  bool         // who counts or who needs whom may have changed since
	gone   map[correlate.ID]correlate.Gone
	events []correlate.Event // of resources that are gone
}

// hold remembers the master of a link that left it.
type hold struct {
	master correlate.ID
	until  time.Time // zero: the master vanished with its ports, and the port waits for a new one
}

// ghost is an uplink or bond leg that vanished: its master goes on needing it until it returns.
type ghost struct{ master correlate.ID }

// statement is what was last told of a resource.
type statement struct {
	resource correlate.Resource
	judged   []judgement
}

func newTable(root hw.Root, include, exclude []string) *table {
	return &table{
		root: root, include: include, exclude: exclude,
		links: map[int]link{}, names: map[string]int{}, held: map[int]hold{}, ghosts: map[correlate.ID]ghost{},
		details: map[int]details{}, rates: map[int]errorRate{},
		stated: map[correlate.ID]statement{}, dirty: map[int]bool{}, gone: map[correlate.ID]correlate.Gone{},
	}
}

// remember takes up on which links alarms stand, and who needs those: if the first list does not show them, they have
// vanished, before this table was made or while nobody looked.
func (t *table) remember(alarmed map[correlate.ID][]correlate.ID) {
	t.orphans = map[correlate.ID]correlate.ID{}
	for id, holders := range alarmed {
		if match(t.exclude, id.Name()) {
			continue
		}
		t.alarmed = append(t.alarmed, id)
		for _, holder := range holders {
			if holder.Kind() == correlate.KindBridge || holder.Kind() == correlate.KindBond {
				t.ghosts[id] = ghost{holder}
			} else {
				t.orphans[holder] = id
			}
		}
	}
	slices.Sort(t.alarmed)
}

// vanishedBefore says which of the alarmed links are missing, and still missed.
func (t *table) vanishedBefore(now time.Time) (gone []correlate.Gone) {
	for _, id := range t.alarmed {
		_, missed := t.ghosts[id]
		for _, h := range t.held {
			missed = missed || h.master == id && h.until.IsZero()
		}
		if missed && !t.isStated(id) {
			gone = append(gone, correlate.Gone{
				ID: id, Reason: correlate.GoneVanished, Occurred: now, Observed: now,
				Text: shown(id.Name()) + " vanished while nobody watched",
			})
		}
	}
	t.alarmed = nil
	return gone
}

// apply takes in a link as a message showed it. inDump is true for answers to a dump: only those hold the VFs.
func (t *table) apply(from netlink.Link, inDump bool, now time.Time) {
	index := from.Attrs().Index
	prev, known := t.links[index]
	dev := prev.device
	if !known || inDump {
		dev = readDevice(t.root, from, prev.device)
	}
	l := newLink(from, dev)
	l.raised = l.up() || prev.raised || slices.Contains(t.alarmed, l.id())
	if known && !inDump {
		l.vfs = prev.vfs
	}
	if other, ok := t.names[l.name]; ok && other != index { // one name, two indexes: the older sighting missed its end
		t.forget(other)
	}
	if known && prev.name != l.name && t.names[prev.name] == index {
		delete(t.names, prev.name)
	}
	t.names[l.name] = index
	if known && prev.id() != l.id() && t.isStated(prev.id()) {
		t.gone[prev.id()] = correlate.Gone{
			ID: prev.id(), Reason: correlate.GoneOrderly, Occurred: now, Observed: now,
			Text: fmt.Sprintf("%s is now %s", shown(prev.name), l.id()),
		}
	}
	switch {
	case l.master != 0:
		delete(t.held, index)
	case prev.master != 0:
		if m, ok := t.links[prev.master]; ok && m.hasPorts() {
			t.held[index] = hold{m.id(), now.Add(settle)}
		}
	}
	if lost, ok := t.orphans[l.id()]; ok && l.master == 0 {
		t.held[index] = hold{master: lost}
	}
	delete(t.ghosts, l.id())
	if !known && l.hasPorts() { // who waited for it has a moment to become its port again
		for other, h := range t.held {
			if h.master == l.id() && h.until.IsZero() {
				t.held[other] = hold{h.master, now.Add(settle)}
			}
		}
	}
	t.links[index] = l
	t.dirty[index] = true
	if !known || prev.structure() != l.structure() {
		t.shape = true
	}
}

// remove takes out a link that the kernel no longer has here.
func (t *table) remove(index int, moved bool, now time.Time) {
	l, ok := t.links[index]
	if !ok {
		return
	}
	id := l.id()
	if l.hasPorts() { // who needs it waits for a new master; it failed them
		for other, port := range t.links {
			if t.masterID(other) == id && !t.uplink(&port) {
				t.held[other] = hold{master: id}
			}
		}
	}
	if t.isStated(id) {
		g := correlate.Gone{ID: id, Reason: correlate.GoneVanished, Occurred: now, Observed: now}
		switch {
		case l.guest():
			// A tap ends with its domain; why is for the hypervisor to say. The rule of this condition waits for that.
			g.Reason, g.Text = correlate.GoneByFault, shown(l.name)+" vanished"
			t.events = append(t.events, correlate.Event{
				Resource: id, Condition: correlate.CondBacking, Status: correlate.StatusFailed,
				Text: g.Text, Occurred: now, Observed: now,
			})
		case l.kind == kindVF && !t.used(index) && exists(l.device.path):
			g.Reason, g.Text = correlate.GoneOrderly, shown(l.name)+" gave its function to another driver"
		case moved:
			g.Text = shown(l.name) + " moved to another network namespace"
			if l.hardware() && !t.used(index) || !l.hardware() && !t.missed(&l) {
				g.Reason = correlate.GoneOrderly
			}
		case !l.hardware() && !t.missed(&l): // software doesn't break off; somebody removed it
			g.Reason, g.Text = correlate.GoneOrderly, shown(l.name)+" was removed"
		default:
			g.Text = shown(l.name) + " vanished"
		}
		t.gone[id] = g
		if master := t.masterID(index); master != "" && g.Reason == correlate.GoneVanished && t.uplink(&l) {
			t.ghosts[id] = ghost{master}
		}
	}
	t.forget(index)
	t.shape = true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return path != "" && err == nil
}

func (t *table) forget(index int) {
	if name := t.links[index].name; t.names[name] == index {
		delete(t.names, name)
	}
	delete(t.links, index)
	delete(t.held, index)
	delete(t.details, index)
	delete(t.rates, index)
	delete(t.dirty, index)
}

// relist makes the table equal to a dump.
func (t *table) relist(l listing, now time.Time) {
	seen := make(map[int]bool, len(l.links))
	for _, from := range l.links {
		seen[from.Attrs().Index] = true
	}
	if !l.interrupted {
		// First what is gone: its ports then remember it.
		names := make(map[string]bool, len(l.links))
		for _, from := range l.links {
			names[from.Attrs().Name] = true
		}
		for _, index := range slices.Sorted(maps.Keys(t.links)) {
			switch {
			case seen[index] || l.unread[index]:
			case names[t.links[index].name]: // it returned under another index; apply replaces it
			default:
				t.remove(index, false, now)
			}
		}
	}
	for _, from := range l.links {
		t.apply(from, true, now)
		t.count(from, now)
	}
	if !l.interrupted {
		t.orphans = nil
	}
	t.shape = true // what sysfs says of functions has no messages
}

// expire applies the holds whose time is over, and says when the next one is (zero: none).
func (t *table) expire(now time.Time) (next time.Time) {
	for index, h := range t.held {
		switch {
		case h.until.IsZero():
		case !now.Before(h.until):
			delete(t.held, index)
			t.shape = true
		case next.IsZero() || h.until.Before(next):
			next = h.until
		}
	}
	return next
}

// masterID is the bridge or bond of a link, the one that it just left or lost included. Other masters are left out:
// the ovs-system of Open vSwitch is down by design, a VRF is only a routing table.
func (t *table) masterID(index int) correlate.ID {
	if h, ok := t.held[index]; ok {
		return h.master
	}
	if m, ok := t.links[t.links[index].master]; ok && m.hasPorts() {
		return m.id()
	}
	return ""
}

func (t *table) isStated(id correlate.ID) bool {
	_, ok := t.stated[id]
	return ok
}

func match(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, name) // New has checked the globs
		return ok && err == nil
	})
}

// delta returns everything that is to be told since the last delta; with full, everything. edges come first.
func (t *table) delta(full bool, now time.Time) correlate.Delta {
	d := correlate.Delta{Full: full}
	next := t.stated
	if full || t.shape {
		next = map[correlate.ID]statement{}
		shape := t.shaped()
		for _, index := range slices.Sorted(maps.Keys(shape.counted)) {
			l := t.links[index]
			s := statement{t.resource(index, t.needs(index, &shape)), t.judge(index)}
			next[l.id()] = s
			was, ok := t.stated[l.id()]
			if full || !ok || !reflect.DeepEqual(was.resource, s.resource) {
				d.Set = append(d.Set, s.resource)
			}
			if full || t.gone[l.id()].ID != "" {
				was.judged = nil
			}
			d.Events = append(d.Events, t.changed(&l, was.judged, s.judged, now)...)
		}
		t.functions(shape.counted, next, &d, now)
		for _, id := range slices.Sorted(maps.Keys(t.stated)) {
			if _, ok := next[id]; ok {
				continue
			}
			g, ok := t.gone[id]
			if !ok {
				g = correlate.Gone{
					ID: id, Reason: correlate.GoneOrderly, Occurred: now, Observed: now, Text: "no longer counts",
				}
			}
			d.Gone = append(d.Gone, g)
		}
	} else {
		for _, index := range slices.Sorted(maps.Keys(t.dirty)) {
			l := t.links[index]
			was, ok := t.stated[l.id()]
			if !ok {
				continue
			}
			s := statement{t.resource(index, was.resource.Needs), t.judge(index)}
			if !reflect.DeepEqual(was.resource, s.resource) {
				d.Set = append(d.Set, s.resource)
			}
			d.Events = append(d.Events, t.changed(&l, was.judged, s.judged, now)...)
			next[l.id()] = s
		}
	}
	for _, e := range t.events {
		if _, back := next[e.Resource]; !back {
			d.Events = append(d.Events, e)
		}
	}
	t.stated, t.shape, t.events = next, false, nil
	maps.DeleteFunc(t.ghosts, func(_ correlate.ID, g ghost) bool { return !t.isStated(g.master) })
	if full {
		d.Gone = append(d.Gone, t.vanishedBefore(now)...)
	}
	clear(t.dirty)
	clear(t.gone)
	slices.SortFunc(d.Set, func(a, b correlate.Resource) int { return cmp.Compare(a.ID, b.ID) })
	return d
}
