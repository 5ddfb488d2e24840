package virt

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
)

// story drives a tracker by hand and keeps what it said.
type story struct {
	t     *testing.T
	track *tracker
	world *world
	at    time.Time
}

func newStory(t *testing.T) *story {
	owners, err := newOwnership(Owners{}, VNFs{})
	if err != nil {
		t.Fatal(err)
	}
	return &story{t: t, track: newTracker("host/h", owners), world: newWorld(), at: time.Unix(1000, 0)}
}

var (
	refA   = libvirt.Domain{Name: "a", UUID: libvirt.UUID(uuid.MustParse(uuidA)), ID: 1}
	domA   = correlate.ID("domain/" + uuidA)
	xmlA   = "<domain><name>a</name><devices><interface type='bridge'><mac address='" + macA + "'/><source bridge='br0'/><target dev='vnet0'/></interface></devices></domain>"
	vnicA  = correlate.ID("vnic/" + uuidA + "/" + macA)
	always = []correlate.Condition{correlate.CondCrash, correlate.CondStopped, correlate.CondIOError, correlate.CondGuestPanic, correlate.CondWatchdog}
)

func (s *story) say(d correlate.Delta) {
	s.at = s.at.Add(time.Second)
	_ = s.world.Emit(s.t.Context(), d)
}

func (s *story) lifecycle(kind libvirt.DomainEventType, detail int) {
	s.say(s.track.event(&event{proc: procLifecycle, dom: refA, what: int32(kind), detail: int32(detail), at: s.at}))
}

// list is an answer with the one domain in this state, or without it.
func (s *story) agent(state libvirt.ConnectDomainEventAgentLifecycleState, reason libvirt.ConnectDomainEventAgentLifecycleReason) {
	s.say(s.track.event(&event{proc: procAgentLifecycle, dom: refA, what: int32(state), detail: int32(reason), at: s.at}))
}

func (s *story) list(full, persistent bool, state libvirt.DomainState, reason int) {
	o := observed{ref: refA, hasState: true, state: state, reason: int32(reason), persistent: persistent, read: true}
	o.def, o.defErr = parseDefinition(xmlA)
	s.say(s.track.take(&answer{asked: s.track.seq, all: true, at: s.at, domains: []observed{o}}, full))
}

func (s *story) empty(full bool) {
	s.say(s.track.take(&answer{asked: s.track.seq, all: true, at: s.at}, full))
}

// expect checks which condition of the domain stands, if any.
func (s *story) expect(what string, failed correlate.Condition) {
	s.t.Helper()
	for _, c := range always {
		got := s.world.status(domA, c) == correlate.StatusFailed
		if _, stands := s.standing()[c]; c == correlate.CondGuestPanic || c == correlate.CondWatchdog {
			got = stands // an impulse gets no OK
		}
		if got != (c == failed) {
			s.t.Errorf("%s: %s failed is %v", what, c, got)
		}
	}
}

func (s *story) standing() map[correlate.Condition]correlate.Event {
	if d := s.track.domains[refA.UUID]; d != nil {
		return d.standing
	}
	return s.world.events[domA]
}

func (s *story) inactive() bool {
	s.t.Helper()
	r, ok := s.world.resource(domA)
	if !ok {
		s.t.Errorf("the domain is not there")
	}
	return r.Inactive
}

func TestEachStopIsJudgedByTheTableWhetherTheEventIsSeenOrTheStateFound(t *testing.T) {
	type stop struct {
		detail libvirt.DomainEventStoppedDetailType
		reason libvirt.DomainShutoffReason
		failed correlate.Condition // empty: orderly
	}
	for _, c := range []stop{
		{libvirt.DomainEventStoppedShutdown, libvirt.DomainShutoffShutdown, ""},
		{libvirt.DomainEventStoppedDestroyed, libvirt.DomainShutoffDestroyed, ""},
		{libvirt.DomainEventStoppedSaved, libvirt.DomainShutoffSaved, ""},
		{libvirt.DomainEventStoppedFromSnapshot, libvirt.DomainShutoffFromSnapshot, ""},
		{libvirt.DomainEventStoppedFailed, libvirt.DomainShutoffCrashed, correlate.CondCrash},
		{libvirt.DomainEventStoppedCrashed, libvirt.DomainShutoffCrashed, correlate.CondCrash},
		{-1, libvirt.DomainShutoffFailed, correlate.CondStopped},
		{-1, libvirt.DomainShutoffDaemon, correlate.CondStopped},
		{-1, libvirt.DomainShutoffUnknown, correlate.CondStopped},
	} {
		for _, way := range []string{"event", "state"} {
			if way == "event" && c.detail < 0 {
				continue
			}
			s := newStory(t)
			s.list(true, true, libvirt.DomainRunning, 1)
			s.expect("running", "")
			if way == "event" {
				s.lifecycle(libvirt.DomainEventStopped, int(c.detail))
			} else {
				s.list(true, true, libvirt.DomainShutoff, int(c.reason)) // after a gap
			}
			what := fmt.Sprintf("%s, reason %d", way, c.reason)
			s.expect(what, c.failed)
			if s.inactive() != (c.failed == "") {
				t.Errorf("%s: inactive is %v", what, s.inactive())
			}
			if r, _ := s.world.resource(vnicA); len(r.Needs) != 0 {
				t.Errorf("%s: the vnic of a domain without a process needs %v", what, r.Needs)
			}
			// Later resyncs, also of a libvirtd that has forgotten the reason, change nothing.
			s.list(false, true, libvirt.DomainShutoff, int(c.reason))
			s.expect(what+", again", c.failed)
			s.list(true, true, libvirt.DomainShutoff, int(libvirt.DomainShutoffUnknown))
			s.expect(what+", forgotten", c.failed)
			s.lifecycle(libvirt.DomainEventStarted, 0)
			s.expect(what+", started again", "")
			if s.inactive() {
				t.Errorf("%s: inactive though started", what)
			}
		}
	}
}

// Qemu halts a guest that panicked, and libvirt 9.0 tells that as a pause of its own, before or after the panic, as its
// threads happen to run.
func TestAPauseThatLibvirtTellsBesideAPanicChangesNothing(t *testing.T) {
	paused := func(s *story) { s.lifecycle(libvirt.DomainEventSuspended, int(libvirt.DomainEventSuspendedPaused)) }
	panicked := func(s *story) { s.lifecycle(libvirt.DomainEventCrashed, int(libvirt.DomainEventCrashedPanicked)) }
	for name, events := range map[string][]func(*story){
		"before": {paused, panicked},
		"after":  {panicked, paused},
	} {
		s := newStory(t)
		s.list(true, true, libvirt.DomainRunning, 1)
		for _, happens := range events {
			happens(s)
			if s.inactive() {
				t.Errorf("%s: inactive, though nobody wanted the pause", name)
			}
		}
		s.expect("paused "+name+" the panic", correlate.CondGuestPanic)
		s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedCrashed))
		s.expect("paused "+name+" the panic, then ended", correlate.CondGuestPanic)
	}
}

func TestAPauseByTheOwnerCountsOnceTheStateSaysSo(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	s.lifecycle(libvirt.DomainEventSuspended, int(libvirt.DomainEventSuspendedPaused))
	if len(s.track.wants) != 1 {
		t.Fatalf("wants %v, want the domain read", s.track.wants)
	}
	s.list(false, true, libvirt.DomainPaused, int(libvirt.DomainPausedUser))
	s.expect("paused by its owner", "")
	if !s.inactive() {
		t.Error("active though its owner paused it")
	}
}

func TestAProcessThatIsSignalledFromTheHostIsAFault(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	s.lifecycle(libvirt.DomainEventShutdown, int(libvirt.DomainEventShutdownHost))
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedShutdown))
	s.expect("signalled", correlate.CondStopped)
	s.list(false, true, libvirt.DomainShutoff, int(libvirt.DomainShutoffShutdown))
	s.expect("signalled, again", correlate.CondStopped)

	s = newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	s.lifecycle(libvirt.DomainEventShutdown, int(libvirt.DomainEventShutdownGuest))
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedShutdown))
	s.expect("shut down by its guest", "")
}

func TestALiveMigrationIsNoFaultOnEitherSide(t *testing.T) {
	// The source: paused for the last step, stopped, undefined.
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	s.lifecycle(libvirt.DomainEventSuspended, int(libvirt.DomainEventSuspendedMigrated))
	if s.inactive() {
		t.Error("source: inactive while it is only paused for the last step")
	}
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedMigrated))
	for _, id := range []correlate.ID{domA, vnicA} {
		if why, ok := s.world.goneAs(id); !ok || why != correlate.GoneMigrated {
			t.Errorf("source: %s gone %v, %v", id, ok, why)
		}
	}
	s.list(false, true, libvirt.DomainShutoff, int(libvirt.DomainShutoffMigrated)) // its definition is still there
	if _, ok := s.world.resource(domA); ok {
		t.Error("source: stated although it lives elsewhere")
	}
	s.lifecycle(libvirt.DomainEventUndefined, 0)
	s.empty(false)
	if why, _ := s.world.goneAs(domA); why != correlate.GoneMigrated {
		t.Errorf("source: gone as %v after the undefine", why)
	}

	// The target: started, paused, resumed.
	s = newStory(t)
	s.empty(true)
	// As libvirt 9.0 says it of a domain with a guest agent's channel that nobody has open.
	s.agent(libvirt.ConnectDomainEventAgentLifecycleStateDisconnected, libvirt.ConnectDomainEventAgentLifecycleReasonDomainStarted)
	s.lifecycle(libvirt.DomainEventStarted, int(libvirt.DomainEventStartedMigrated))
	s.list(false, false, libvirt.DomainPaused, int(libvirt.DomainPausedMigration))
	if !s.inactive() {
		t.Error("target: active before it runs here")
	}
	s.agent(libvirt.ConnectDomainEventAgentLifecycleStateDisconnected, libvirt.ConnectDomainEventAgentLifecycleReasonChannel)
	s.lifecycle(libvirt.DomainEventResumed, int(libvirt.DomainEventResumedMigrated))
	s.agent(libvirt.ConnectDomainEventAgentLifecycleStateDisconnected, libvirt.ConnectDomainEventAgentLifecycleReasonChannel)
	s.expect("target", "")
	if s.world.status(domA, correlate.CondGuestAgent) == correlate.StatusFailed {
		t.Error("target: misses an agent that was never there")
	}
	if s.inactive() {
		t.Error("target: inactive although it runs here")
	}

	// The same, of a migration that began before we did.
	for _, why := range []libvirt.DomainPausedReason{libvirt.DomainPausedMigration, libvirt.DomainPausedStartingUp} {
		s = newStory(t)
		s.list(true, false, libvirt.DomainPaused, int(why))
		s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedFailed))
		s.expect("failed target, first seen arriving", "")
	}

	// The target of a migration that fails: it never ran here.
	s = newStory(t)
	s.empty(true)
	s.agent(libvirt.ConnectDomainEventAgentLifecycleStateDisconnected, libvirt.ConnectDomainEventAgentLifecycleReasonDomainStarted)
	s.lifecycle(libvirt.DomainEventStarted, int(libvirt.DomainEventStartedMigrated))
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedFailed))
	s.expect("failed target", "")
	s.empty(false)
	if why, ok := s.world.goneAs(domA); !ok || why != correlate.GoneOrderly {
		t.Errorf("failed target: gone %v, %v", ok, why)
	}
}

func TestATransientDomainThatCrashesLeavesItsAlarm(t *testing.T) {
	s := newStory(t)
	s.list(true, false, libvirt.DomainRunning, 1)
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedFailed))
	s.expect("crashed", correlate.CondCrash)
	if len(s.track.wants) != 1 {
		t.Fatalf("wants %v, want the domain read again", s.track.wants)
	}
	s.say(s.track.take(&answer{asked: s.track.seq, at: s.at, domains: []observed{{ref: refA, missing: true}}}, false))
	s.expect("crashed and gone", correlate.CondCrash)
	if why, ok := s.world.goneAs(domA); !ok || why != correlate.GoneByFault {
		t.Errorf("gone %v, %v", ok, why)
	}
	s.lifecycle(libvirt.DomainEventStarted, 0)
	s.expect("started anew", "")
}

func TestADomainThatIsUndefinedOrVanishesInOrderIsNoFault(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	s.lifecycle(libvirt.DomainEventUndefined, 0) // it runs on, and is transient now
	if _, ok := s.world.resource(domA); !ok {
		t.Fatal("gone although it runs")
	}
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedDestroyed))
	s.empty(false)
	if why, ok := s.world.goneAs(domA); !ok || why != correlate.GoneOrderly {
		t.Errorf("gone %v, %v", ok, why)
	}
}

func TestAnAnswerThatIsOlderThanAnEventChangesNothing(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	asked := s.track.seq
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedFailed))
	s.track.wants = map[libvirt.UUID]libvirt.Domain{}
	late := observed{ref: refA, hasState: true, state: libvirt.DomainRunning, reason: 1, persistent: true}
	for _, full := range []bool{false, true} {
		s.say(s.track.take(&answer{asked: asked, all: true, at: s.at, domains: []observed{late}}, full))
		s.expect("late answer", correlate.CondCrash)
		if _, ok := s.world.resource(domA); !ok {
			t.Errorf("full %v: the domain is gone", full)
		}
	}
	if len(s.track.wants) != 1 {
		t.Error("the domain is not asked for again")
	}
}

func TestARepeatedResyncSaysNothing(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	o := observed{ref: refA, hasState: true, state: libvirt.DomainRunning, reason: 1, persistent: true, read: true}
	o.def, _ = parseDefinition(xmlA)
	d := s.track.take(&answer{asked: s.track.seq, all: true, at: s.at, domains: []observed{o}}, false)
	if len(d.Set)+len(d.Gone)+len(d.Events) != 0 {
		t.Errorf("%+v", d)
	}
}

func TestTheGuestAgentIsMissedOnlyOnceItWasThere(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	s.agent(2, 1)
	if s.world.status(domA, correlate.CondGuestAgent) == correlate.StatusFailed {
		t.Error("missed although the domain only started")
	}
	s.agent(1, 2)
	s.agent(2, 2)
	if s.world.status(domA, correlate.CondGuestAgent) != correlate.StatusFailed {
		t.Error("not missed")
	}
	s.agent(1, 2)
	if s.world.status(domA, correlate.CondGuestAgent) != correlate.StatusOK {
		t.Error("still missed")
	}
	s.agent(2, 2)
	s.lifecycle(libvirt.DomainEventStopped, int(libvirt.DomainEventStoppedShutdown))
	if s.world.status(domA, correlate.CondGuestAgent) != correlate.StatusOK {
		t.Error("missed in a domain that is off")
	}
}

func TestAnEventOfADomainThatIsNotKnownYetIsToldAtOnce(t *testing.T) {
	s := newStory(t)
	ev := decodeFrame(t, frames(t)["memory-failure-guest"])
	ev.at, ev.dom = s.at, refA
	s.say(s.track.event(&ev))
	e := s.world.event(domA, correlate.CondMemoryFailure)
	if e.Status != correlate.StatusFailed || e.Evidence["recipient"] != "guest" || e.Evidence["action"] != "inject" || e.Evidence["action_required"] != "yes" {
		t.Errorf("%+v", e)
	}
	if _, ok := s.world.resource(domA); !ok || len(s.track.wants) != 1 {
		t.Error("the domain is neither stated nor asked for")
	}
}

func TestADefinitionThatBreaksKeepsTheLastGoodOne(t *testing.T) {
	s := newStory(t)
	s.list(true, true, libvirt.DomainRunning, 1)
	o := observed{ref: refA, hasState: true, state: libvirt.DomainRunning, persistent: true, read: true}
	_, o.defErr = parseDefinition("<domain>")
	s.say(s.track.take(&answer{asked: s.track.seq, all: true, at: s.at, domains: []observed{o}}, false))
	e := s.world.event(domA, correlate.CondUnreadable)
	if e.Status != correlate.StatusFailed || !strings.HasPrefix(e.Text, "a: parsing the domain's definition") {
		t.Errorf("%+v", e)
	}
	if r, ok := s.world.resource(vnicA); !ok || len(r.Needs) != 1 {
		t.Error("its vnic is lost")
	}
	s.list(false, true, libvirt.DomainRunning, 1)
	if s.world.status(domA, correlate.CondUnreadable) != correlate.StatusOK {
		t.Error("still unreadable")
	}
}

// markdown is the table of states as docs/virt.md shows it.
func markdown() string {
	var b strings.Builder
	b.WriteString("| libvirt's state | announced by | taken as | condition |\n|---|---|---|---|\n")
	dash := func(s string) string {
		if s == "" {
			return "—"
		}
		return s
	}
	for _, m := range append(append([]meaning{}, meanings...), signalled, lostSight, vanished) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", m.name, dash(m.event), m.class, dash(string(m.condition)))
	}
	return b.String()
}

func TestTheDocumentedTableIsTheOneInTheCode(t *testing.T) {
	doc, err := os.ReadFile("../../docs/virt.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), markdown()) {
		t.Errorf("docs/virt.md must hold this table:\n%s", markdown())
	}
}
