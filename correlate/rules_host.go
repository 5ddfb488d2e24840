package correlate

import "time"

// A host as a whole: what its peers say of one that can't speak, and what it says of itself.
const (
	CondHostLost      Condition = "host-lost"      // a majority of the hosts can't reach it
	CondAgentSilent   Condition = "agent-silent"   // its kernel answers, its agent does not
	CondHostHung      Condition = "host-hung"      // the same for long, and the agent's port is not closed
	CondIsolated      Condition = "isolated"       // it says so itself: it reaches half of the hosts or less
	CondHostShutdown  Condition = "host-shutdown"  // it says so itself, as its last word
	CondHostRestarted Condition = "host-restarted" // its kernel is another one than when its agent ran last
	CondZoneLost      Condition = "zone-lost"      // many hosts of a zone were lost at once
)

// restartHold is longer: whoever was told that the host is lost acts for minutes.
const restartHold = 10 * time.Minute

var hostRules = []Rule{
	{
		Condition: CondHostLost, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "a majority of the hosts can't reach it: neither its agent nor its kernel answers",
		Causes: "Power, a panic without restart, a reset, hardware that stopped; or only its network: both legs of the cluster's link, its switch, a wrong VLAN or firewall rule. From outside these look the same.",
		Remedy: "It is unreachable; that it is off is known only when it was fenced. Look at its power (BMC) and its links before its domains are started elsewhere. The host itself clears this when it is back; `paramedic hosts forget` does for one that is not to return.",
	},
	{
		Condition: CondAgentSilent, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseHypervisor,
		Text:   "its kernel answers and its agent does not: its domains go on, unwatched",
		Causes: "The agent crashed, was killed, was stopped for longer than an upgrade takes, does not start because of its configuration; or a firewall on that host lets echoes through and nothing else.",
		Remedy: "Look at the agent on that host (`systemctl status paramedic`, its log). After an orderly stop this is raised when the agent has not been started again for ten minutes.",
	},
	{
		Condition: CondHostHung, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseCompute,
		Text:   "its kernel answers and nothing else does: how its domains are nobody knows",
		Causes: "Userland without processor, memory or root disk while the kernel still answers echoes; a machine that swaps itself to death; a crash dump being written; somebody stopped the agent (SIGSTOP, a debugger).",
		Remedy: "Look at the console (BMC): a userland that stands still, a kernel that writes its crash dump, or an agent that was frozen. Reset the host if nothing moves.",
	},
	{
		Condition: CondIsolated, State: StateAtRisk, Severity: SeverityMajor,
		EventType: TypeCommunications, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseNetwork,
		Text:   "this host reaches half of the hosts or less, itself included, and accuses none of them",
		Causes: "This host's cluster link, its switch or VLAN; a partition of the whole network in which this is the smaller half; hosts that were taken away and not forgotten, so that half of the roster is never there.",
		Remedy: "Look at the links and the switch of this host's cluster.watch address. Most other hosts probably tell of it as host-lost. `paramedic hosts forget` hosts that are gone for good: they count.",
	},
	{
		Condition: CondHostShutdown, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "the host is going down",
		Causes: "`systemctl poweroff` or `reboot`, the power button, an unattended upgrade, a UPS or orchestrator that asked for it.",
		Remedy: "None if it was meant. It clears when the host's agent runs again.",
	},
	{
		Condition: CondHostRestarted, Mode: Impulse, Hold: restartHold, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseCompute,
		Text:   "the host was restarted: what ran on it before has ended",
		Causes: "A reboot that somebody wanted, a panic, a watchdog, power that was away, a reset by the BMC. The text says what was found out.",
		Remedy: "Look at why (kernel log of the boot before, BMC event log). Domains that were running are listed; start those that did not start by themselves.",
	},
	{
		Condition: CondZoneLost, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseCompute,
		Text:   "many hosts of the zone were lost at once",
		Causes: "The rack's switch or its uplinks, the rack's power, a firewall rule for the whole subnet, a batch of reboots; or node.zone names more than what shares a fate.",
		Remedy: "Look at what they share: the switch, the power, the rack. Each host's own host-lost is correlated under this alarm, which ends when the last of them is back or forgotten.",
	},
}
