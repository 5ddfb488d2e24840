package correlate

import "time"

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
	AbstractCause string
	// Follows: on a resource whose needs have failed under the same kind of condition, this one is their consequence
	// and is correlated under theirs (a VLAN loses carrier with its parent; a domain's crash is never explained so).
	Follows bool
	// AckClears: an acknowledgement clears it although the condition is Level (hardware taken out on purpose).
	AckClears bool
	Text      string // one sentence: what it means
}

// The conditions that sources of this version report.
const (
	// Links.
	CondCarrier    Condition = "carrier"     // no signal on the link although it is enabled
	CondDisabled   Condition = "disabled"    // administratively down (ip link set down)
	CondGone       Condition = "gone"        // the resource vanished
	CondLinkErrors Condition = "link-errors" // error counters rise faster than they should

	// Domains.
	CondCrash         Condition = "crash"          // the domain's process died
	CondGuestPanic    Condition = "guest-panic"    // the guest's kernel told the panic device
	CondWatchdog      Condition = "watchdog"       // the guest stopped feeding its watchdog
	CondIOError       Condition = "io-error"       // paused because its storage failed
	CondStopped       Condition = "stopped"        // it stopped, and nobody is known to have wanted it
	CondReboot        Condition = "reboot"         // the guest was reset
	CondGuestAgent    Condition = "guest-agent"    // the agent in the guest was there and is not
	CondMemoryFailure Condition = "memory-failure" // an uncorrected memory error hit the guest's memory
	CondBacking       Condition = "backing"        // what a vnic or vdisk stands on is lost
	CondUnreadable    Condition = "unreadable"     // its definition can't be understood

	// Hypervisor and ourselves.
	CondHypervisorUnreachable Condition = "hypervisor-unreachable"
	CondSourceBlind           Condition = "source-blind"        // a source of ours can't see
	CondSourceFailed          Condition = "source-failed"       // a source of ours panicked or gave up
	CondOutbox                Condition = "outbox"              // deliveries are not durable
	CondSubscription          Condition = "subscription-failed" // a consumer can't be reached, or asked to stop
)
