package virt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/correlate"
)

// tracker turns what libvirt says into what the source says. It does no I/O and has no clock; one goroutine owns it.
// It outlives connections: what it knew of a domain decides what its state means after a gap.
type tracker struct {
	host   correlate.ID
	owners *ownership

	domains map[libvirt.UUID]*domain
	// touched holds the number of the newest event that changed a domain's state or presence. An answer that was
	// asked for earlier may or may not have seen it: such a domain is asked for again (see take).
	touched map[libvirt.UUID]uint64
	seq     uint64

	wants   map[libvirt.UUID]libvirt.Domain // to be read again
	changed []correlate.ID                  // domains whose device list changed since the owner last looked
}

func newTracker(host correlate.ID, owners *ownership) *tracker {
	return &tracker{
		host: host, owners: owners, domains: map[libvirt.UUID]*domain{}, touched: map[libvirt.UUID]uint64{},
		wants: map[libvirt.UUID]libvirt.Domain{},
	}
}

// answer is what libvirt answered.
type answer struct {
	asked uint64 // tracker.seq when it was asked
	// all says that the answer holds every domain that there is.
	all     bool
	domains []observed
	at      time.Time
}

// observed is one domain of an answer.
type observed struct {
	ref           libvirt.Domain
	missing       bool // libvirt knows no such domain (any more)
	hasState      bool
	state         libvirt.DomainState
	reason        int32
	persistent    bool // meaningful in an answer with all
	read          bool // the definition was read: def or defErr
	def           *definition
	defErr        error
	definitionRaw int // its length in bytes
}

// statement collects one delta.
type statement struct {
	correlate.Delta
	at   time.Time
	full bool // say everything, also that conditions are well
}

// event takes one event frame.
func (t *tracker) event(ev *event) correlate.Delta {
	t.seq++
	st := newStatement(ev.at, false)
	switch ev.proc {
	case procDeviceAdded, procDeviceRemoved, procDiskChange, procTunable, procMetadata, procNicMAC:
		t.want(ev.dom)
		return st.Delta
	}
	d := t.domains[ev.dom.UUID]
	if d == nil && ev.proc == procAgentLifecycle {
		// The first that is heard of a domain, before "started". It says only that there is a process: one that waits
		// for a domain to arrive by migration says it too.
		t.want(ev.dom)
		return st.Delta
	}
	t.touched[ev.dom.UUID] = t.seq
	if ev.proc == procLifecycle {
		t.lifecycle(st, d, ev)
		return st.Delta
	}
	if d == nil {
		// Not known yet: the event must not wait for the definition. It says that the domain runs.
		d = newDomain(ev.dom)
		t.domains[ev.dom.UUID] = d
		t.want(ev.dom)
		t.judge(st, ev.dom.UUID, d, libvirt.DomainRunning, 0)
		t.state(st, d)
	}
	t.condition(st, d, ev)
	return st.Delta
}

func newStatement(at time.Time, full bool) *statement {
	return &statement{Delta: correlate.Delta{Source: Name, Full: full}, at: at, full: full}
}

func (t *tracker) want(ref libvirt.Domain) { t.wants[ref.UUID] = ref }

func (t *tracker) lifecycle(st *statement, d *domain, ev *event) {
	kind := libvirt.DomainEventType(ev.what)
	switch kind {
	case libvirt.DomainEventDefined:
		if d != nil {
			d.persistent, d.name = true, clip(ev.dom.Name) // a rename is a definition
		}
		t.want(ev.dom)
		return
	case libvirt.DomainEventUndefined:
		if d == nil {
			return
		}
		if d.processed {
			d.persistent = false // it lives on until it ends
			return
		}
		t.remove(st, ev.dom.UUID, d, correlate.GoneOrderly, "undefined")
		return
	default:
	}
	state, reason, ok := stateOf(kind, ev.detail, d == nil || d.ran)
	if !ok {
		return
	}
	t.want(ev.dom)
	if d == nil {
		d = newDomain(ev.dom)
		d.ran = state != libvirt.DomainPaused || reason != int32(libvirt.DomainPausedMigration)
		t.domains[ev.dom.UUID] = d
	}
	switch kind {
	case libvirt.DomainEventStarted:
		d.agentSeen = false // a new life; that of the last one is over
	case libvirt.DomainEventShutdown:
		d.signalled = libvirt.DomainEventShutdownDetailType(ev.detail) == libvirt.DomainEventShutdownHost
	case libvirt.DomainEventCrashed:
		d.panicked = true
	default:
	}
	if t.judge(st, ev.dom.UUID, d, state, reason) {
		t.state(st, d)
	}
}

// judge takes a domain's state. It reports whether the domain is still there to be stated.
func (t *tracker) judge(st *statement, key libvirt.UUID, d *domain, state libvirt.DomainState, reason int32) bool {
	m := meaningOf(state, reason)
	d.processed = state != libvirt.DomainShutoff && state != libvirt.DomainNostate
	switch {
	case state == libvirt.DomainShutoff && reason == int32(libvirt.DomainShutoffShutdown) && d.signalled:
		m = signalled
	case state == libvirt.DomainShutoff && m.class == classHeld && d.ran && d.now.class != classFault:
		m = lostSight
	case state == libvirt.DomainShutoff && m.class == classFault && d.incoming:
		// The target of a migration that failed: it never ran here, and goes on where it was.
		m.class, m.condition = classOrderly, ""
	case m.class == classFault && m.condition == correlate.CondCrash && d.panicked:
		m.condition, m.text = correlate.CondGuestPanic, "the guest's kernel panicked"
	}
	if m.class == classFault && d.now.class == classFault && m.state == libvirt.DomainShutoff && d.now.state == libvirt.DomainShutoff {
		// libvirt may give one end two names (an event's detail, the state's reason): the first that was said stays.
		m.condition, m.text = d.now.condition, d.now.text
	}
	switch m.class {
	case classHeld:
		d.incoming = d.incoming || !d.ran && arrives(state, reason, d.persistent)
		if d.now.class == classHeld {
			d.now = m
		} else {
			d.now.name = m.name // for the facts; the verdict stays
		}
		return true
	case classRunning:
		d.ran, d.incoming, d.panicked, d.signalled = true, false, false, false
	case classOrderly:
		d.ran, d.incoming, d.panicked, d.signalled = state != libvirt.DomainShutoff, false, false, false
	case classMigrated:
		t.remove(st, key, d, correlate.GoneMigrated, "migrated to another host")
		return false
	case classFault:
		d.ran = true
	}
	cold := len(d.stated) == 0
	d.now = m
	if m.class == classFault {
		t.fail(st, d, m.condition, d.shown()+": "+m.text, facts("state", m.name))
	}
	for _, c := range [...]correlate.Condition{correlate.CondCrash, correlate.CondStopped, correlate.CondIOError} {
		switch _, stands := d.standing[c]; {
		case m.class == classFault && c == m.condition:
		case stands, st.full, cold:
			if c == correlate.CondStopped && cold && state == libvirt.DomainShutoff && reason == int32(libvirt.DomainShutoffShutdown) {
				// An earlier run may have seen the signal that ended it; the state alone can't take that back.
				continue
			}
			t.well(st, d, c)
		}
	}
	for _, c := range [...]correlate.Condition{correlate.CondGuestPanic, correlate.CondWatchdog} { // impulses end by themselves
		if m.class != classFault || c != m.condition {
			delete(d.standing, c)
		}
	}
	if !d.processed {
		// No guest, no agent to miss.
		if _, stands := d.standing[correlate.CondGuestAgent]; stands || st.full || cold {
			t.well(st, d, correlate.CondGuestAgent)
		}
	}
	return true
}

// arrives reports whether a domain that never ran here waits to arrive by migration. Libvirt's reason for the pause of
// one is "migration" or "starting up"; the latter it shares with a domain that is being started, but that one is
// transient only when somebody waits for its start, who is told himself that it failed.
func arrives(state libvirt.DomainState, reason int32, persistent bool) bool {
	if state != libvirt.DomainPaused {
		return false
	}
	why := libvirt.DomainPausedReason(reason)
	return why == libvirt.DomainPausedMigration || why == libvirt.DomainPausedStartingUp && !persistent
}

// fail says that a condition stands. What stands already is said again as it was.
func (t *tracker) fail(st *statement, d *domain, c correlate.Condition, text string, evidence map[string]string) {
	e, stands := d.standing[c]
	if !stands {
		e = correlate.Event{
			Source: Name, Resource: d.resource(), Condition: c, Status: correlate.StatusFailed, Text: text, Observed: st.at,
			Evidence: evidence,
		}
		d.standing[c] = e
	}
	st.Events = append(st.Events, e)
}

func (t *tracker) well(st *statement, d *domain, c correlate.Condition) {
	delete(d.standing, c)
	st.Events = append(st.Events, correlate.Event{
		Source: Name, Resource: d.resource(), Condition: c, Status: correlate.StatusOK, Observed: st.at,
	})
}

// once says that something happened that holds for a time and leaves no state in libvirt.
func (t *tracker) once(st *statement, d *domain, c correlate.Condition, text string, evidence map[string]string) {
	st.Events = append(st.Events, correlate.Event{
		Source: Name, Resource: d.resource(), Condition: c, Status: correlate.StatusFailed, Text: text, Observed: st.at,
		Evidence: evidence,
	})
}

func (t *tracker) condition(st *statement, d *domain, ev *event) {
	name := d.shown()
	switch ev.proc {
	case procReboot:
		t.once(st, d, correlate.CondReboot, name+": the guest was reset", nil)
	case procWatchdog:
		action := libvirt.DomainEventWatchdogAction(ev.what)
		say := t.once
		if action == libvirt.DomainEventWatchdogPause {
			say = t.fail // "suspended: watchdog" follows, and it stands until somebody resumes the domain
		}
		say(st, d, correlate.CondWatchdog, fmt.Sprintf("%s: its watchdog was not fed, action %s", name, watchdogAction(action)),
			facts("action", watchdogAction(action)))
	case procIOErrorReason:
		t.ioError(st, d, ev)
	case procAgentLifecycle:
		connected := libvirt.ConnectDomainEventAgentLifecycleState(ev.what) == libvirt.ConnectDomainEventAgentLifecycleStateConnected
		// What was not there can't be lost: a start says "disconnected" before the agent can be there, and so does, by
		// its channel even, a domain that arrives by migration without one.
		t.agent(st, d, connected)
	case procMemoryFailure:
		t.memoryFailure(st, d, ev)
	}
}

func (t *tracker) agent(st *statement, d *domain, connected bool) {
	d.agentSeen = d.agentSeen || connected
	_, stands := d.standing[correlate.CondGuestAgent]
	switch {
	case connected || !d.processed:
		if stands || st.full || connected {
			t.well(st, d, correlate.CondGuestAgent)
		}
	case d.agentSeen:
		t.fail(st, d, correlate.CondGuestAgent, d.shown()+": the agent in the guest is gone", nil)
	}
}

func (t *tracker) ioError(st *statement, d *domain, ev *event) {
	if libvirt.DomainEventIOErrorAction(ev.detail) != libvirt.DomainEventIoErrorPause {
		return // the guest is told of the error and goes on; libvirt never says that it is over
	}
	disk := clip(ev.device)
	if d.def != nil {
		for i := range d.def.vdisks {
			if v := &d.def.vdisks[i]; v.alias == ev.device {
				disk = v.target
			}
		}
	}
	reason := clip(ev.failureReason)
	text := fmt.Sprintf("%s: paused because its disk %s failed", d.shown(), disk)
	if reason != "" {
		text += ": " + reason
	}
	// The pause may have been said first, without the reason: the fuller text takes its place.
	e := correlate.Event{
		Source: Name, Resource: d.resource(), Condition: correlate.CondIOError, Status: correlate.StatusFailed, Text: text,
		Observed: st.at, Evidence: facts("disk", disk, "device", clip(ev.device), "path", clip(ev.path), "reason", reason),
	}
	d.standing[correlate.CondIOError] = e
	st.Events = append(st.Events, e)
}

// memoryFailure: virDomainMemoryFailureEvent. The kernel told qemu of an uncorrected error in the guest's memory.
func (t *tracker) memoryFailure(st *statement, d *domain, ev *event) {
	recipient, action := memoryRecipient(ev.what), memoryAction(ev.detail)
	text := fmt.Sprintf("%s: uncorrected memory error, told to the %s, action %s", d.shown(), recipient, action)
	evidence := facts("recipient", recipient, "action", action)
	if libvirt.DomainMemoryFailureFlags(ev.flags)&libvirt.DomainMemoryFailureActionRequired != 0 { //nolint:gosec // a bit set
		evidence["action_required"] = "yes"
	}
	if libvirt.DomainMemoryFailureFlags(ev.flags)&libvirt.DomainMemoryFailureRecursive != 0 { //nolint:gosec // a bit set
		evidence["recursive"] = "yes"
	}
	t.once(st, d, correlate.CondMemoryFailure, text, evidence)
}

// remove forgets a domain.
func (t *tracker) remove(st *statement, key libvirt.UUID, d *domain, why correlate.GoneReason, text string) {
	for i := len(d.stated) - 1; i >= 0; i-- { // devices first
		reason := why
		if i > 0 && why == correlate.GoneByFault {
			reason = correlate.GoneOrderly // the fault is the domain's, not its devices'
		}
		st.Gone = append(st.Gone, correlate.Gone{ID: d.stated[i].ID, Reason: reason, Observed: st.at, Text: text})
	}
	if len(d.stated) > 0 {
		t.changed = append(t.changed, d.resource())
	}
	delete(t.domains, key)
	delete(t.wants, key)
}

// state says the domain's resources, those that changed unless full.
func (t *tracker) state(st *statement, d *domain) {
	next := d.resources(t.host)
	if devices(next) != devices(d.stated) {
		t.changed = append(t.changed, d.resource())
	}
	for i := range d.stated {
		if !slices.ContainsFunc(next, func(r correlate.Resource) bool { return r.ID == d.stated[i].ID }) {
			st.Gone = append(st.Gone, correlate.Gone{ID: d.stated[i].ID, Reason: correlate.GoneOrderly, Observed: st.at, Text: "detached"})
		}
	}
	for i := range next {
		same := i < len(d.stated) && sameResource(&next[i], &d.stated[i])
		if !same || st.full {
			st.Set = append(st.Set, next[i])
		}
	}
	d.stated = next
}

// take takes an answer. full makes the delta say everything.
func (t *tracker) take(a *answer, full bool) correlate.Delta {
	st := newStatement(a.at, full)
	listed := make(map[libvirt.UUID]bool, len(a.domains))
	for i := range a.domains {
		o := &a.domains[i]
		listed[o.ref.UUID] = true
		t.observe(st, a, o)
	}
	if a.all {
		for key, d := range t.domains {
			switch {
			case listed[key]:
			case t.touched[key] > a.asked:
				if full {
					t.repeat(st, d) // it must not seem to be gone
				}
			default:
				t.missing(st, key, d)
			}
		}
		maps.DeleteFunc(t.touched, func(_ libvirt.UUID, seq uint64) bool { return seq <= a.asked })
	}
	return st.Delta
}

func (t *tracker) observe(st *statement, a *answer, o *observed) {
	key := o.ref.UUID
	d := t.domains[key]
	if t.touched[key] > a.asked {
		// An event came since it was asked: the answer may be older. What the definition says is taken from the
		// answer that follows.
		t.want(o.ref)
		if st.full && d != nil {
			t.repeat(st, d)
		}
		return
	}
	if o.missing {
		if d != nil {
			t.missing(st, key, d)
		}
		return
	}
	if d == nil {
		if o.hasState && meaningOf(o.state, o.reason).class == classMigrated {
			return // it lives elsewhere; what is left here is a definition
		}
		d = newDomain(o.ref)
		if o.hasState && meaningOf(o.state, o.reason).class == classFault {
			d.ran = true
		}
		t.domains[key] = d
	}
	if a.all {
		d.persistent = o.persistent
	}
	if o.read {
		t.define(st, d, o)
	} else if d.unreadable != "" {
		t.fail(st, d, correlate.CondUnreadable, d.unreadable, nil)
	}
	if o.hasState && !t.judge(st, key, d, o.state, o.reason) {
		return
	}
	if o.read && d.processed && d.def != nil && d.def.agent != "" {
		t.agent(st, d, d.def.agent == "connected")
	}
	if st.full {
		t.repeatEvents(st, d)
	}
	t.state(st, d)
}

// repeat says again all that is known of a domain.
func (t *tracker) repeat(st *statement, d *domain) {
	t.state(st, d)
	t.repeatEvents(st, d)
}

// repeatEvents says again what stands and isn't part of the delta yet.
func (t *tracker) repeatEvents(st *statement, d *domain) {
	for _, c := range slices.Sorted(maps.Keys(d.standing)) {
		e := d.standing[c]
		if !slices.ContainsFunc(st.Events, func(x correlate.Event) bool {
			return x.Resource == e.Resource && x.Condition == e.Condition
		}) {
			st.Events = append(st.Events, e)
		}
	}
}

func (t *tracker) define(st *statement, d *domain, o *observed) {
	name := clip(o.ref.Name)
	d.name = name
	d.unreadable = ""
	switch {
	case o.defErr != nil:
		d.unreadable = name + ": " + o.defErr.Error()
	default:
		d.def = o.def
		t.owners.apply(d.id, name, d.def)
		if len(d.def.problems) > 0 {
			d.unreadable = name + ": " + strings.Join(d.def.problems, "; ")
		}
	}
	was, stands := d.standing[correlate.CondUnreadable]
	if d.unreadable != "" {
		if stands && was.Text != d.unreadable {
			delete(d.standing, correlate.CondUnreadable)
		}
		t.fail(st, d, correlate.CondUnreadable, d.unreadable, facts("bytes", fmt.Sprint(o.definitionRaw)))
		return
	}
	if stands || st.full || len(d.stated) == 0 {
		t.well(st, d, correlate.CondUnreadable)
	}
}

// missing: libvirt doesn't know the domain any more, and no event said why.
func (t *tracker) missing(st *statement, key libvirt.UUID, d *domain) {
	switch {
	case d.now.class == classFault:
		// A transient domain that ended by a fault leaves nothing but its alarm.
		t.repeatEvents(st, d)
		t.remove(st, key, d, correlate.GoneByFault, d.now.text)
	case d.now.class == classOrderly || d.persistent || !d.ran:
		// Somebody undefined it: that is a wish, whatever went before.
		t.remove(st, key, d, correlate.GoneOrderly, "undefined")
	default:
		d.now = vanished
		t.fail(st, d, correlate.CondStopped, d.shown()+": "+vanished.text, nil)
		t.remove(st, key, d, correlate.GoneByFault, vanished.text)
	}
}

func watchdogAction(a libvirt.DomainEventWatchdogAction) string {
	return nameOf(int32(a), "none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi")
}

func memoryRecipient(n int32) string { return nameOf(n, "hypervisor", "guest") }

func memoryAction(n int32) string { return nameOf(n, "ignore", "inject", "fatal", "reset") }

func nameOf(n int32, names ...string) string {
	if n >= 0 && int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprint(n)
}
