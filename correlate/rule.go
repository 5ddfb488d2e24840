package correlate

import (
	"slices"
	"strings"
	"time"
)

// Mode is how a condition ends.
type Mode uint8

// Level: an explicit OK clears it, or Rule.Hold if it is set. Impulse: it holds Rule.Hold after it was last reported
// failed, then clears by itself; an OK is ignored. Latched: it stands until acknowledged.
const (
	Level Mode = iota
	Impulse
	Latched
)

func (m Mode) String() string {
	switch m {
	case Level:
		return "level"
	case Impulse:
		return "impulse"
	case Latched:
		return "latched"
	}
	return "mode?"
}

// Rule is the static definition of a condition: what it does and how it is told. Policies of the configuration
// refine it; they never replace it.
type Rule struct {
	Condition Condition
	Mode      Mode
	Hold      time.Duration // after the last report; zero: no end by itself
	// HoldDown delays the raise: the condition must have been failed for that long. The clear is not delayed.
	HoldDown time.Duration
	State    State // of the resource while it stands
	// Graded: one that is less than critical, and not indeterminate, degrades the resource at most.
	Graded   bool
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
	Causes    string // what is found behind it, the likeliest first; empty for a condition of another monitor
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

// Causes are all of them.
func Causes() []string {
	return []string{CauseCompute, CauseNetwork, CauseStorage, CausePower, CauseHypervisor}
}

// table defines the conditions: the files rules_*.go, one for each group of the fault catalogue. Probable causes are those
// of ITU-T X.733 annex A and X.721 in hyphenated spelling.
var table = slices.Concat(linkRules, domainRules, agentRules, kernelRules, memoryRules, diskRules, boardRules, sensorRules, bmcRules, switchRules, hostRules, loadRules)

// Rules lists the static definitions, for catalogues and checks of the configuration.
func Rules() []Rule { return slices.Clone(table) }

// Foreign reports whether a condition is of another monitor (Config.Rules, RuleOf): only those have a dot in their name.
func (c Condition) Foreign() bool { return strings.Contains(string(c), ".") }

// RuleOf is the static definition of a condition. One that is not defined, from another monitor, is level, fails its
// resource unless the monitor says that it is less than critical, and has severity indeterminate, which passes every
// filter: what nobody has classified is not dropped. Many monitors never say that it is over, so an acknowledgement clears it.
func RuleOf(c Condition) Rule {
	for _, r := range table {
		if r.Condition == c {
			return r
		}
	}
	return Rule{
		Condition: c, State: StateFailed, Graded: true, Severity: SeverityIndeterminate, AckClears: true,
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
