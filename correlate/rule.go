package correlate

import (
	"slices"
	"time"
)

// Mode is how a condition ends.
type Mode uint8

// Level: an explicit OK clears it. Impulse: it holds Rule.Hold after it was last reported failed, then clears by
// itself; an OK is ignored. Latched: it stands until acknowledged.
const (
	Level Mode = iota
	Impulse
	Latched
)

// Rule is the static definition of a condition: what it does and how it is told. Policies of the configuration
// refine it; they never replace it.
type Rule struct {
	Condition Condition
	Mode      Mode
	Hold      time.Duration // Impulse only
	// HoldDown delays the raise: the condition must have been failed for that long. The clear is not delayed.
	HoldDown time.Duration
	State    State    // of the resource while it stands
	Severity Severity // when a domain is affected, or when Absorbed is unset
	// Absorbed is the severity while no domain is affected: redundancy, or nobody there, absorbs the fault.
	Absorbed      Severity
	EventType     EventType
	ProbableCause string
	AbstractCause string // empty: by the kind of the resource
	// Follows: on a resource whose needs have failed under the same kind of condition, this one is their consequence
	// and is correlated under theirs (a VLAN loses carrier with its parent; a domain's crash is never explained so).
	Follows bool
	// AckClears: an acknowledgement clears it although the condition is Level (hardware taken out on purpose).
	AckClears bool
	Text      string // one sentence: what it means
	Remedy    string // what an operator does about it
}

// What tenants are told of a cause.
const (
	CauseCompute    = "compute"
	CauseNetwork    = "network"
	CauseStorage    = "storage"
	CausePower      = "power"
	CauseHypervisor = "hypervisor"
)

// table defines the conditions: the files rules_*.go, one for each group of the fault catalogue. Probable causes are those
// of ITU-T X.733 annex A and X.721 in hyphenated spelling.
var table = slices.Concat(linkRules, domainRules, agentRules, kernelRules, memoryRules, diskRules, boardRules, sensorRules, bmcRules, switchRules, hostRules, loadRules)

// Rules lists the static definitions, for catalogues and checks of the configuration.
func Rules() []Rule { return slices.Clone(table) }

// RuleOf is the static definition of a condition. One that is not defined, from another monitor, is level, fails its
// resource, and has severity indeterminate, which passes every filter: what nobody has classified is not dropped.
func RuleOf(c Condition) Rule {
	for _, r := range table {
		if r.Condition == c {
			return r
		}
	}
	return Rule{
		Condition: c, State: StateFailed, Severity: SeverityIndeterminate,
		EventType: TypeEquipment, ProbableCause: "indeterminate", Text: string(c),
	}
}

// abstractCause is what tenants are told of a fault whose rule does not say.
func abstractCause(k Kind) string {
	switch k {
	case KindNIC, KindBond, KindBridge, KindVNIC:
		return CauseNetwork
	case KindDisk, KindVolume, KindVDisk:
		return CauseStorage
	case KindPSU:
		return CausePower
	case KindHypervisor, KindService:
		return CauseHypervisor
	case KindHost, KindZone, KindCPU, KindDIMM, KindFan, KindSensor, KindDomain:
	}
	return CauseCompute
}
