package correlate

import "time"

// Need is one edge bundle of the topology: the resource that holds it needs the members of Of.
//
// A member that the topology doesn't hold (not stated yet, or gone without a fault) or that is inactive doesn't count:
// what is unknown fails nobody.
type Need struct {
	Mode NeedMode
	K    int // how many of Of must work, for KOfN; at least 1
	Of   []ID
	// Condition is what the group's own alarm says when a KOfN need fails, for instance CondCarrier for a bond. It is
	// the same condition as the source reports on the group itself, so that both are one alarm.
	Condition Condition
}

// NeedMode says how the health of the members becomes the health of the holder.
type NeedMode uint8

// The three modes of DESIGN's health rule.
const (
	AllOf  NeedMode = iota // a member failed: failed; a member degraded: degraded
	KOfN                   // more than n-k members failed: failed and an alarm of its own; any failed: at-risk
	SomeOf                 // some members failed or degraded: degraded; all failed: failed
)

func (m NeedMode) String() string {
	switch m {
	case AllOf:
		return "all-of"
	case KOfN:
		return "k-of-n"
	case SomeOf:
		return "some-of"
	}
	return "need-mode?"
}

// Requirement is what a source adds to the needs of a resource that another one states: what the host needs of its power
// supplies, or a tap of the switch that it is plugged into. It may come before that resource is stated.
// Require nothing of the members of a group (KOfN) that another source states: after a restart of the agent the group would be
// judged without it until its source has spoken.
type Requirement struct {
	ID    ID
	Needs []Need // in place of those that the source required of ID before; none takes them back
}

// Delta is what one source says at once. It is applied as a whole: resources first, then requirements, then what is gone,
// then events; only then is health derived, so that two links that fail together make one alarm and not two.
type Delta struct {
	Source string
	// Full says that Set, Require and Events are the whole present truth of Source: any resource that it stated earlier and
	// does not state now is gone with GoneVanished, unless Gone says otherwise, and any level condition that it
	// reported failed earlier and does not mention now has recovered (a read that failed is mentioned as unknown). What it
	// required earlier and does not require now is not needed any more.
	Full bool
	// Renewed says that Source was configured anew: what its next full statement lacks is not watched any more, and not gone.
	// Together with Full it was switched off: nothing that it reported stands any more, not even what is gone or latched.
	Renewed bool
	Set     []Resource
	Require []Requirement
	Gone    []Gone
	Events  []Event
}

// Gone takes a resource out of the topology.
type Gone struct {
	ID                 ID
	Reason             GoneReason
	Occurred, Observed time.Time
	Text               string
}

// GoneReason decides what becomes of a removed resource's alarms.
type GoneReason uint8

// GoneVanished raises CondGone when the resource is physical, or when something needed it; else it is taken as
// orderly. GoneOrderly clears the resource's alarms with ReasonGone, GoneMigrated with ReasonMigrated.
// GoneByFault removes the resource and leaves its standing alarms standing (a transient domain that crashed, a tap
// that was deleted): until the resource is stated again and well, until they are acknowledged, or, but for CondGone,
// until nothing active needs a resource that was needed.
const (
	GoneVanished GoneReason = iota
	GoneOrderly
	GoneMigrated
	GoneByFault
)
