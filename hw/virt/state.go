package virt

import (
	"fmt"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/correlate"
)

// class is what a domain's state means for those who use it.
type class uint8

const (
	// classHeld: in between, or libvirt doesn't know. What was true before stays true.
	classHeld class = iota
	classRunning
	// classOrderly: not running because the guest or its owner wanted it so.
	classOrderly
	// classFault: not running, and nobody wanted it so; the row's condition stands.
	classFault
	// classMigrated: it lives on another host now.
	classMigrated
)

func (c class) String() string {
	switch c {
	case classHeld:
		return "keeps what was known"
	case classRunning:
		return "running"
	case classOrderly:
		return "orderly"
	case classFault:
		return "fault"
	case classMigrated:
		return "migrated away"
	}
	return "class?"
}

// meaning is one row of the table of states: what libvirt's state and reason mean.
type meaning struct {
	state     libvirt.DomainState
	reason    int32
	name      string // libvirt's words, for facts and docs
	event     string // the lifecycle event that announces it
	class     class
	condition correlate.Condition // of a fault
	text      string              // of a fault, for people
}

// anyReason rows are taken when no row names the reason.
const anyReason int32 = -1

// meanings is the table that decides which stops are faults. docs/virt.md shows the same; a test holds both equal.
// States and reasons are those of libvirt/libvirt-domain.h (virDomainState, virDomain*Reason).
var meanings = []meaning{
	{libvirt.DomainNostate, anyReason, "no state", "", classHeld, "", ""},
	{libvirt.DomainRunning, anyReason, "running", "started, resumed", classRunning, "", ""},
	{libvirt.DomainBlocked, anyReason, "blocked", "", classRunning, "", ""},

	{libvirt.DomainPaused, int32(libvirt.DomainPausedUser), "paused (user)", "", classOrderly, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedMigration), "paused (migration)", "suspended: migrated", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedSave), "paused (save)", "", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedDump), "paused (dump)", "", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedIoerror), "paused (io error)", "suspended: io error", classFault, correlate.CondIOError, "paused because its storage failed"},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedWatchdog), "paused (watchdog)", "suspended: watchdog", classFault, correlate.CondWatchdog, "paused by its watchdog"},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedFromSnapshot), "paused (from snapshot)", "suspended: from snapshot", classOrderly, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedShuttingDown), "paused (shutting down)", "", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedSnapshot), "paused (snapshot)", "", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedCrashed), "paused (crashed)", "", classFault, correlate.CondGuestPanic, "paused because the guest crashed"},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedStartingUp), "paused (starting up)", "", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedPostcopy), "paused (post-copy)", "suspended: post-copy", classHeld, "", ""},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedPostcopyFailed), "paused (post-copy failed)", "suspended: post-copy failed", classFault, correlate.CondStopped, "paused because its post-copy migration failed"},
	{libvirt.DomainPaused, int32(libvirt.DomainPausedAPIError), "paused (api error)", "suspended: api error", classFault, correlate.CondStopped, "left paused because an operation on it failed"},
	{libvirt.DomainPaused, anyReason, "paused (unknown)", "suspended: paused", classHeld, "", ""},

	{libvirt.DomainShutdown, anyReason, "in shutdown", "shutdown", classHeld, "", ""},

	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffShutdown), "shutoff (shutdown)", "stopped: shutdown", classOrderly, "", ""},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffDestroyed), "shutoff (destroyed)", "stopped: destroyed", classOrderly, "", ""},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffCrashed), "shutoff (crashed)", "stopped: failed, stopped: crashed", classFault, correlate.CondCrash, "its process died, or its guest crashed"},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffMigrated), "shutoff (migrated)", "stopped: migrated", classMigrated, "", ""},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffSaved), "shutoff (saved)", "stopped: saved", classOrderly, "", ""},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffFailed), "shutoff (failed)", "stopped: failed, before it ran", classFault, correlate.CondStopped, "it failed to start"},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffFromSnapshot), "shutoff (from snapshot)", "stopped: from snapshot", classOrderly, "", ""},
	{libvirt.DomainShutoff, int32(libvirt.DomainShutoffDaemon), "shutoff (daemon)", "", classFault, correlate.CondStopped, "the hypervisor daemon ended it while reconnecting"},
	{libvirt.DomainShutoff, anyReason, "shutoff (unknown)", "", classHeld, "", ""},

	{libvirt.DomainCrashed, anyReason, "crashed (panicked)", "crashed: panicked, crashed: crashloaded", classFault, correlate.CondGuestPanic, "the guest's kernel panicked"},
	{libvirt.DomainPmsuspended, anyReason, "suspended by the guest", "pmsuspended", classOrderly, "", ""},
}

// Two ends can't be told by the state alone: what was seen before it decides.
var (
	// A process that got SIGTERM (qemu's SHUTDOWN event with guest=false) ends as shutoff (shutdown), like a guest that
	// shut itself down. Neither guest nor owner asked for it; an owner's destroy has its own reason.
	signalled = meaning{libvirt.DomainShutoff, int32(libvirt.DomainShutoffShutdown), "shutoff (shutdown)", "shutdown: host, then stopped: shutdown", classFault, correlate.CondStopped, "its process was ended by a signal from the host"}
	// It ran when last seen, and libvirt doesn't know how it ended.
	lostSight = meaning{libvirt.DomainShutoff, int32(libvirt.DomainShutoffUnknown), "shutoff (unknown)", "none: it ran when last seen", classFault, correlate.CondStopped, "it stopped unseen, and libvirt doesn't know why"}
	// A transient domain leaves no state behind.
	vanished = meaning{libvirt.DomainNostate, anyReason, "gone, transient", "none: it ran when last seen", classFault, correlate.CondStopped, "it ended unseen; being transient, it left no reason behind"}
)

func meaningOf(state libvirt.DomainState, reason int32) meaning {
	var found *meaning
	for i := range meanings {
		m := &meanings[i]
		if m.state == state && (m.reason == reason || m.reason == anyReason && found == nil) {
			found = m
			if m.reason == reason {
				break
			}
		}
	}
	if found == nil {
		// A state newer than this table: no verdict on what isn't understood.
		return meaning{state: state, reason: reason, name: fmt.Sprintf("state %d (%d)", state, reason), class: classHeld}
	}
	return *found
}

// stateOf is the state and reason that a lifecycle event announces. ran says whether the domain had been running
// here: libvirt says "stopped: failed" both of a process that died and of one that never came up.
func stateOf(event libvirt.DomainEventType, detail int32, ran bool) (state libvirt.DomainState, reason int32, ok bool) {
	switch event {
	case libvirt.DomainEventStarted:
		if libvirt.DomainEventStartedDetailType(detail) == libvirt.DomainEventStartedMigrated {
			// The target of a live migration: it runs here when "resumed: migrated" comes.
			return libvirt.DomainPaused, int32(libvirt.DomainPausedMigration), true
		}
		return libvirt.DomainRunning, 0, true
	case libvirt.DomainEventResumed:
		return libvirt.DomainRunning, 0, true
	case libvirt.DomainEventSuspended:
		switch libvirt.DomainEventSuspendedDetailType(detail) {
		case libvirt.DomainEventSuspendedMigrated:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedMigration), true
		case libvirt.DomainEventSuspendedIoerror:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedIoerror), true
		case libvirt.DomainEventSuspendedWatchdog:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedWatchdog), true
		case libvirt.DomainEventSuspendedFromSnapshot:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedFromSnapshot), true
		case libvirt.DomainEventSuspendedAPIError:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedAPIError), true
		case libvirt.DomainEventSuspendedPostcopy:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedPostcopy), true
		case libvirt.DomainEventSuspendedPostcopyFailed:
			return libvirt.DomainPaused, int32(libvirt.DomainPausedPostcopyFailed), true
		case libvirt.DomainEventSuspendedPaused, libvirt.DomainEventSuspendedRestored:
			// "paused" is the detail of every reason that has none of its own (qemuDomainPausedReasonToSuspendedEvent):
			// the user's wish, a dump, a panicked guest that qemu halts. The state, which is read now, says which.
		}
		return libvirt.DomainPaused, int32(libvirt.DomainPausedUnknown), true
	case libvirt.DomainEventStopped:
		switch libvirt.DomainEventStoppedDetailType(detail) {
		case libvirt.DomainEventStoppedShutdown:
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffShutdown), true
		case libvirt.DomainEventStoppedDestroyed:
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffDestroyed), true
		case libvirt.DomainEventStoppedCrashed:
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffCrashed), true
		case libvirt.DomainEventStoppedMigrated:
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffMigrated), true
		case libvirt.DomainEventStoppedSaved:
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffSaved), true
		case libvirt.DomainEventStoppedFailed:
			if ran {
				return libvirt.DomainShutoff, int32(libvirt.DomainShutoffCrashed), true
			}
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffFailed), true
		case libvirt.DomainEventStoppedFromSnapshot:
			return libvirt.DomainShutoff, int32(libvirt.DomainShutoffFromSnapshot), true
		case libvirt.DomainEventStoppedRecreated:
			// A reset that libvirt does by starting the process anew; "started" follows at once.
			return libvirt.DomainNostate, 0, true
		}
		return libvirt.DomainShutoff, int32(libvirt.DomainShutoffUnknown), true
	case libvirt.DomainEventShutdown:
		return libvirt.DomainShutdown, 0, true
	case libvirt.DomainEventPmsuspended:
		return libvirt.DomainPmsuspended, 0, true
	case libvirt.DomainEventCrashed:
		return libvirt.DomainCrashed, int32(libvirt.DomainCrashedPanicked), true
	case libvirt.DomainEventDefined, libvirt.DomainEventUndefined:
	}
	return 0, 0, false
}
