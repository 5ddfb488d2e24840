package delivery

import (
	"cmp"
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Part is one thing that a revision says in a form that speaks of each domain by itself. What the consumer was told is
// kept by part, so that a revision needs only say what differs, and whoever is no longer hit is never forgotten.
type Part struct {
	ID      string `json:"id"` // the form's own; the same for the same thing in every revision of an alarm
	Project string `json:"project,omitempty"`
	View    uint64 `json:"view,omitempty"` // digest of what the consumer was shown; zero: it may have been shown anything, or nothing
}

// Ask is a part to be told. Over says that the fault does not hit it any more; Still, that another one does, of which
// the consumer was told and not yet that it is over.
type Ask struct {
	Part
	Over  bool `json:"over,omitempty"`
	Still bool `json:"still,omitempty"`
}

// asks is what a revision has to say after what the consumer knows. split is false of a form that says all in one.
func (m *Machine) asks(e *entry, a *correlate.Alarm) (asks []Ask, split bool) {
	if m.cfg.Parts == nil {
		return nil, false
	}
	hit, split := m.cfg.Parts(a)
	if !split {
		return nil, false
	}
	known := e.Parts
	if known == nil && e.Told != (correlate.Revision{}) { // by another way, and which parts is not known
		known = doubtful(hit)
	}
	if !a.Standing() {
		hit = nil
	}
	for _, p := range hit {
		if i, ok := find(known, p.ID); !ok || known[i].View == 0 || known[i].View != p.View {
			asks = append(asks, Ask{Part: p})
		}
	}
	if over := Missing(known, hit); len(over) > 0 {
		others := m.others(e)
		for _, p := range over {
			asks = append(asks, Ask{p, true, others[p.ID]})
		}
	}
	return asks, true
}

// others are the parts of which the consumer was told, or may have been, that other alarms hit them.
func (m *Machine) others(e *entry) map[string]bool {
	hit := map[string]bool{}
	if m.cfg.Apart != nil && m.cfg.Apart() {
		return hit
	}
	for _, o := range m.pairs {
		if o == e || o.over {
			continue
		}
		for _, p := range o.Parts {
			hit[p.ID] = true
		}
	}
	return hit
}

// Missing are those of known that a revision, which speaks of hit, does not speak of; nil when there are none.
func Missing(known, hit []Part) (missing []Part) {
	for _, p := range known {
		if _, ok := find(hit, p.ID); !ok {
			missing = append(missing, p)
		}
	}
	return missing
}

// doubt makes every part of a revision one that the consumer may have been told, and every other one that it may have been told to
// be over. Under doubt a part is told again, or
// told to be over, once too often rather than never.
func (m *Machine) doubt(e *entry, a *correlate.Alarm) {
	if m.cfg.Parts == nil || a == nil {
		return
	}
	if hit, split := m.cfg.Parts(a); split {
		e.Parts = merge(doubtful(e.Parts), doubtful(hit))
	}
}

func doubtful(parts []Part) []Part {
	out := slices.Clone(parts)
	for i := range out {
		out[i].View = 0
	}
	return out
}

// merge puts parts into a list by ID, each in the place of the one that it is about. The list itself is left as it is, for
// records are copies that share it.
func merge(list, parts []Part) []Part {
	out := slices.Clone(list)
	for _, p := range parts {
		if i, ok := find(out, p.ID); ok {
			out[i] = p
		} else {
			out = slices.Insert(out, i, p)
		}
	}
	return out
}

func find(list []Part, id string) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(p Part, id string) int { return cmp.Compare(p.ID, id) })
}

// open marks what is about to be asked: until the answer is there, nobody knows what the consumer was told.
func (e *entry) open(asks []Ask) {
	if e.Parts == nil {
		e.Parts = []Part{}
	}
	for _, a := range asks {
		a.View = 0
		e.Parts = merge(e.Parts, []Part{a.Part})
	}
}

// done notes what the consumer took. What it was told to be over while another fault came or went may have passed that one's
// word on the way: it is told again.
func (m *Machine) done(e *entry, asks []Ask) {
	var others map[string]bool
	for _, a := range asks {
		if !a.Over {
			e.Parts = merge(e.Parts, []Part{a.Part})
			continue
		}
		if others == nil {
			others = m.others(e)
		}
		if i, ok := find(e.Parts, a.ID); ok && a.Still == others[a.ID] {
			e.Parts = slices.Delete(slices.Clone(e.Parts), i, i+1)
		}
	}
}

// certain reports whether the consumer was told something of the alarm: it answered that it took it.
func (e *entry) certain() bool {
	return e.Told != (correlate.Revision{}) || slices.ContainsFunc(e.Parts, func(p Part) bool { return p.View != 0 })
}

// knows reports whether the consumer was told anything of the alarm, or may have been.
func (e *entry) knows() bool { return e.Told != (correlate.Revision{}) || len(e.Parts) > 0 }
