package nic

import (
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// judgement is the status of one condition.
type judgement struct {
	condition correlate.Condition
	status    correlate.Status
	text      string
}

// judge gives the status of each condition that is watched on a counted link.
func (t *table) judge(index int) []judgement {
	l := t.links[index]
	up := judgement{condition: correlate.CondDisabled, status: correlate.StatusOK, text: "enabled"}
	if l.guest() {
		up.condition = correlate.CondBacking
	}
	carrier := judgement{condition: correlate.CondCarrier}
	if l.up() {
		carrier.status, carrier.text = l.carrier()
	} else {
		up.status, up.text = correlate.StatusFailed, "administratively down"
		carrier.text = up.text
		parent, ok := t.links[l.parent]
		switch {
		case l.kind == kindTap && !l.raised:
			// It is not a domain's yet, or never will be: Open vSwitch makes such for the own ports of its bridges.
			up.status, up.text = correlate.StatusOK, "down, and was not up yet"
		case !t.used(index):
			up.status, up.text = correlate.StatusOK, "down and not in use"
			carrier = judgement{correlate.CondCarrier, correlate.StatusOK, up.text}
		case l.kind == kindVLAN && ok && !parent.up():
			// The kernel takes a VLAN down with its parent (vlan_device_event); nobody disabled it.
			up.status, up.text = correlate.StatusUnknown, "down with "+shown(parent.name)
			carrier.status, carrier.text = correlate.StatusFailed, up.text
		}
	}
	var judged []judgement
	switch l.kind {
	case kindBridge:
		// The carrier of a bridge is that of any port, a tap's too: its uplinks tell more.
		judged = []judgement{up}
	case kindTap:
		// A tap has no cable: its carrier is whether a process holds it.
		if l.up() {
			up.status, up.text = carrier.status, carrier.text
			if carrier.status == correlate.StatusFailed {
				up.text = "no process holds it"
			}
		}
		judged = []judgement{up}
	default:
		judged = []judgement{up, carrier}
	}
	if r, ok := t.rates[index]; ok && l.hardware() {
		judged = append(judged, judgement{correlate.CondLinkErrors, r.status, r.text})
	}
	for i := range judged {
		judged[i].text = shown(l.name) + ": " + judged[i].text
	}
	return judged
}

// edges returns what changed in the conditions of links that are stated already: the part that must not wait.
func (t *table) edges(now time.Time) []correlate.Event {
	var events []correlate.Event
	for _, index := range slices.Sorted(maps.Keys(t.dirty)) {
		l := t.links[index]
		was, ok := t.stated[l.id()]
		if !ok {
			continue
		}
		judged := t.judge(index)
		events = append(events, t.changed(&l, was.judged, judged, now)...)
		was.judged = judged
		t.stated[l.id()] = was
	}
	return events
}

func (t *table) changed(l *link, was, is []judgement, now time.Time) []correlate.Event {
	var events []correlate.Event
	for _, j := range is {
		if !slices.ContainsFunc(was, func(w judgement) bool { return w.condition == j.condition && w.status == j.status }) {
			events = append(events, t.event(l, j, now))
		}
	}
	return events
}

func (t *table) event(l *link, j judgement, now time.Time) correlate.Event {
	return correlate.Event{
		Resource: l.id(), Condition: j.condition, Status: j.status, Text: j.text, Occurred: now, Observed: now,
		Evidence: l.evidence(),
	}
}
