package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// source looks at one half of the world and tells the process what changed, as hw/nic and hw/virt do: edges at once,
// everything every so often and after each start. It lives as long as its process; its memory survives its own panics.
type source struct {
	p    *process
	name string
	look func(*source) view

	stated  map[correlate.ID]correlate.Resource
	said    map[key]correlate.Status
	oneshot []correlate.Event // what happened and leaves no state behind
	runs    bool
	begun   int // how often it was started
	backoff time.Duration
	queued  time.Duration // when its last delta will be taken: the order stays

	full    bool   // it has stated its full truth to this process
	toldGen uint64 // the world's gen of the last delta that was taken
}

type key struct {
	resource  correlate.ID
	condition correlate.Condition
}

// view is what a source sees in the world.
type view struct {
	resources []correlate.Resource
	status    []correlate.Event
}

func (v *view) say(id correlate.ID, c correlate.Condition, failed bool) {
	st := correlate.StatusOK
	if failed {
		st = correlate.StatusFailed
	}
	v.status = append(v.status, correlate.Event{Resource: id, Condition: c, Status: st})
}

func (v *view) unknown(id correlate.ID, c correlate.Condition) {
	v.status = append(v.status, correlate.Event{Resource: id, Condition: c, Status: correlate.StatusUnknown})
}

func newSource(p *process, name string, look func(*source) view) *source {
	return &source{p: p, name: name, look: look, stated: map[correlate.ID]correlate.Resource{}, said: map[key]correlate.Status{}}
}

// lookAtLinks is what hw/nic sees.
func lookAtLinks(src *source) (v view) {
	w := src.p.s.world
	for _, l := range w.links {
		if l.present {
			_, unsure := w.unsure[l.id]
			v.link(l, unsure)
		}
	}
	for _, d := range w.domains {
		for _, n := range d.vnics {
			if n.tap.present {
				v.resources = append(v.resources, correlate.Resource{ID: n.tap.id, Needs: allOf(n.tap.bridge.id)})
				v.say(n.tap.id, correlate.CondBacking, !n.tap.up)
			}
		}
	}
	return v
}

func (v *view) link(l *link, unsure bool) {
	r := correlate.Resource{ID: l.id}
	switch {
	case l.parent != nil:
		r.Needs = allOf(l.parent.id)
	case len(l.ports) == 1 && !l.bond:
		r.Needs = allOf(l.ports[0].id)
	case len(l.ports) > 0:
		n := correlate.Need{Mode: correlate.KOfN, K: 1, Condition: correlate.CondCarrier}
		for _, p := range l.ports {
			n.Of = append(n.Of, p.id)
		}
		r.Needs = []correlate.Need{n}
	}
	v.resources = append(v.resources, r)
	if unsure {
		v.unknown(l.id, correlate.CondDisabled)
		v.unknown(l.id, correlate.CondCarrier)
		return
	}
	v.say(l.id, correlate.CondDisabled, !l.up)
	switch {
	case l.isBridge():
	case !l.up:
		v.unknown(l.id, correlate.CondCarrier) // the kernel can't say
	default:
		v.say(l.id, correlate.CondCarrier, !l.carrier())
	}
}

// lookAtDomains is what hw/virt sees.
func lookAtDomains(src *source) (v view) {
	v.resources = append(v.resources, correlate.Resource{ID: "hypervisor/libvirt"})
	v.say("hypervisor/libvirt", correlate.CondHypervisorUnreachable, src.p.s.world.blind[src.name])
	for _, d := range src.p.s.world.domains {
		if d.here {
			v.domain(d, src.p.s.cfg.Bug)
		}
	}
	return v
}

func (v *view) domain(d *domain, bug Bug) {
	r := correlate.Resource{ID: d.id, Name: d.name, Project: d.project, Inactive: d.state == off, Needs: allOf("host/" + home)}
	var vnics, disks []correlate.ID
	for _, n := range d.vnics {
		if !n.plugged {
			continue
		}
		vnic := correlate.Resource{ID: n.id, Domain: d.id, Project: d.project, Port: &correlate.Port{MAC: n.mac, PortID: "port-" + n.mac}}
		if d.processed() && bug != DeafToTaps {
			vnic.Needs = allOf(n.tap.id)
		}
		v.resources, vnics = append(v.resources, vnic), append(vnics, n.id)
	}
	for _, k := range d.disks {
		v.resources, disks = append(v.resources, correlate.Resource{ID: k.id, Domain: d.id, Project: d.project}), append(disks, k.id)
		v.say(k.id, correlate.CondBacking, k.lost)
	}
	if len(vnics) > 0 {
		r.Needs = append(r.Needs, correlate.Need{Mode: correlate.SomeOf, Of: vnics})
	}
	if len(disks) > 0 {
		r.Needs = append(r.Needs, correlate.Need{Mode: correlate.AllOf, Of: disks})
	}
	v.resources = append(v.resources, r)
	v.say(d.id, correlate.CondCrash, d.state == crashed)
	v.say(d.id, correlate.CondStopped, d.state == stopped)
	v.say(d.id, correlate.CondIOError, d.state == paused)
	v.say(d.id, correlate.CondGuestAgent, d.agentLost)
	if d.state == panicked {
		v.say(d.id, correlate.CondGuestPanic, true)
	}
}

func allOf(id correlate.ID) []correlate.Need {
	return []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{id}}}
}

// sees reports whether a look would tell anything.
func (src *source) sees() bool { return src.runs && !src.p.dead && !src.p.s.world.blind[src.name] }

// told reports whether the process has taken all that there is to see.
func (src *source) told() bool { return src.full && src.sees() && src.toldGen == src.p.s.world.gen }

// edge tells what has changed, if the source hears of it.
func (src *source) edge() {
	if src.full && src.sees() && !src.p.s.world.losing[src.name] {
		src.tell(false)
	}
}

// start begins a run of the source: health first, then the full truth, then a relist every so often.
func (src *source) start() {
	src.runs = true
	src.begun++
	run := src.begun
	if src.p.s.world.blind[src.name] {
		src.blindness(true)
	} else {
		src.tell(true)
	}
	src.p.s.after(10*time.Second, "", func() {
		if src.runs && src.begun == run && !src.p.dead {
			src.backoff = 0
			src.p.selfReport(src.name, correlate.CondSourceFailed, false)
		}
	})
	src.relist(run)
}

func (src *source) relist(run int) {
	src.p.s.after(src.p.s.between(10*time.Second, 25*time.Second), "", func() {
		if src.begun != run || src.p.dead {
			return
		}
		if src.sees() {
			src.tell(true)
		}
		src.relist(run)
	})
}

// panics ends a run; the supervisor starts the next one.
func (src *source) panics() {
	if !src.runs {
		return
	}
	src.runs = false
	src.p.selfReport(src.name, correlate.CondSourceFailed, true)
	src.backoff = min(max(100*time.Millisecond, 2*src.backoff), 30*time.Second)
	src.p.s.after(src.backoff, "source "+src.name+" starts again", func() {
		if !src.p.dead {
			src.start()
		}
	})
}

// blindness says that the source can't see, or sees again: libvirt's says it of the hypervisor, the other of itself.
func (src *source) blindness(blind bool) {
	switch {
	case src.name != "virt":
		src.p.selfReport(src.name, correlate.CondSourceBlind, blind)
	case blind && src.runs:
		src.send(correlate.Delta{Events: []correlate.Event{src.event("hypervisor/libvirt", correlate.CondHypervisorUnreachable)}})
	}
	if !blind && src.sees() {
		src.tell(true)
	}
}

func (src *source) event(id correlate.ID, c correlate.Condition) correlate.Event {
	now := src.p.s.clock()
	return correlate.Event{Resource: id, Condition: c, Status: correlate.StatusFailed, Occurred: now, Observed: now, Text: "seen by " + src.name}
}

// tell sends what differs from what was said; with full, everything.
func (src *source) tell(full bool) {
	v := src.look(src)
	d := correlate.Delta{Full: full}
	stated := make(map[correlate.ID]correlate.Resource, len(v.resources))
	for _, r := range v.resources {
		if was, ok := src.stated[r.ID]; full || !ok || !sameResource(&was, &r) {
			d.Set = append(d.Set, r)
		}
		stated[r.ID] = r
	}
	for _, id := range slices.Sorted(maps.Keys(src.stated)) {
		if _, ok := stated[id]; !ok {
			src.gone(id, &d)
		}
	}
	said := make(map[key]correlate.Status, len(v.status))
	for _, st := range v.status {
		k := key{st.Resource, st.Condition}
		if was, ok := src.said[k]; full || !ok || was != st.Status {
			e := src.event(st.Resource, st.Condition)
			e.Status = st.Status
			d.Events = append(d.Events, e)
		}
		said[k] = st.Status
	}
	d.Events = append(d.Events, src.oneshot...)
	src.oneshot, src.stated, src.said = nil, stated, said
	src.send(d)
}

// gone says why a resource is no longer there, as far as the source can know.
func (src *source) gone(id correlate.ID, d *correlate.Delta) {
	g := correlate.Gone{ID: id, Reason: correlate.GoneVanished, Observed: src.p.s.clock()}
	w := src.p.s.world
	if src.name == "nic" {
		if !slices.ContainsFunc(w.links, func(l *link) bool { return l.id == id }) { // a tap: why is for the hypervisor to say
			g.Reason = correlate.GoneByFault
			d.Events = append(d.Events, src.event(id, correlate.CondBacking))
		}
		d.Gone = append(d.Gone, g)
		return
	}
	g.Reason = correlate.GoneOrderly // detached, or with its domain
	for _, dom := range w.domains {
		switch {
		case dom.id == id:
			g.Reason = dom.end
			if dom.end == correlate.GoneByFault {
				d.Events = append(d.Events, src.event(id, correlate.CondCrash))
			}
		case !dom.here && dom.end == correlate.GoneMigrated && src.stated[id].Domain == dom.id:
			g.Reason = correlate.GoneMigrated
		}
	}
	d.Gone = append(d.Gone, g)
}

// send queues a delta: what one source says is taken in its order.
func (src *source) send(d correlate.Delta) {
	s := src.p.s
	d.Source = src.name
	for i := range d.Events {
		d.Events[i].Source = src.name
	}
	if s.cfg.Bug == UnknownMeansWell {
		for i := range d.Events {
			if d.Events[i].Status == correlate.StatusUnknown {
				d.Events[i].Status = correlate.StatusOK
			}
		}
	}
	src.queued = max(src.queued, s.now+s.between(0, 2*time.Millisecond))
	gen := s.world.gen
	s.after(src.queued-s.now, "", func() {
		if src.p.dead {
			return
		}
		if d.Full || len(d.Set)+len(d.Gone)+len(d.Events) > 0 {
			src.p.take(d)
		}
		s.check.stated(src, &d)
		if src.full = src.full || d.Full; src.full {
			src.toldGen = gen
		}
		s.check.step()
	})
}

func sameResource(a, b *correlate.Resource) bool {
	return a.Inactive == b.Inactive && slices.EqualFunc(a.Needs, b.Needs, func(x, y correlate.Need) bool {
		return x.Mode == y.Mode && slices.Equal(x.Of, y.Of)
	})
}
