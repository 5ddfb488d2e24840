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

	// CondGroup is what a failed k-of-n group says when its need names no condition.
	CondGroup Condition = "group-failed"

	// Hypervisor and ourselves.
	CondHypervisorUnreachable Condition = "hypervisor-unreachable"
	CondSourceBlind           Condition = "source-blind"          // a source of ours can't see
	CondSourceFailed          Condition = "source-failed"         // a source of ours panicked or gave up
	CondOutbox                Condition = "outbox"                // deliveries are not durable
	CondSubscription          Condition = "subscription-failed"   // a consumer can't be reached, or asked to stop
	CondConflict              Condition = "subscription-conflict" // the files of two hosts contradict each other
	CondUnusable              Condition = "subscription-unusable" // what another host knows of it can't be used here
	CondPeer                  Condition = "peer-unreadable"       // what another host writes can't be read here
	CondUnshared              Condition = "unshared"              // what this host has to say does not reach the others
	CondClock                 Condition = "clock"                 // this host's clock and that of most others differ

	// What the kernel's log tells.
	CondHungTask        Condition = "hung-task"            // tasks make no progress
	CondLockup          Condition = "lockup"               // a processor makes no progress
	CondOops            Condition = "kernel-oops"          // the kernel failed and went on
	CondOutOfMemory     Condition = "out-of-memory"        // the kernel killed a process for want of memory
	CondReadOnly        Condition = "filesystem-read-only" // the kernel stopped writing to a file system
	CondFilesystem      Condition = "filesystem-error"     // a file system is damaged
	CondDiskError       Condition = "disk-error"           // a block device fails requests
	CondTransmitTimeout Condition = "transmit-timeout"     // an adapter does not send what it was given
	CondFirmware        Condition = "firmware-crash"       // the firmware of an adapter or controller died
	CondMachineCheck    Condition = "machine-check"        // the hardware reports an uncorrected error
	CondCorrected       Condition = "hardware-corrected"   // it reports one that was corrected
	CondThrottled       Condition = "thermal-throttling"   // processors are slowed down because they are hot
	CondKernelMessage   Condition = "kernel-message"       // a pattern of the configuration

	// Memory modules.
	CondMemoryUncorrected Condition = "memory-uncorrected" // a module lost data
	CondMemoryDegraded    Condition = "memory-degraded"    // a module corrects too often

	// A host as a whole: what its peers say of one that can't speak, and what it says of itself.
	CondHostLost      Condition = "host-lost"      // a majority of the hosts can't reach it
	CondAgentSilent   Condition = "agent-silent"   // its kernel answers, its agent does not
	CondHostHung      Condition = "host-hung"      // the same for long, and the agent's port is not closed
	CondIsolated      Condition = "isolated"       // it says so itself: it reaches half of the hosts or less
	CondHostShutdown  Condition = "host-shutdown"  // it says so itself, as its last word
	CondHostRestarted Condition = "host-restarted" // its kernel is another one than when its agent ran last
	CondZoneLost      Condition = "zone-lost"      // many hosts of a zone were lost at once
)

// What tenants are told of a cause.
const (
	CauseCompute    = "compute"
	CauseNetwork    = "network"
	CauseStorage    = "storage"
	CausePower      = "power"
	CauseHypervisor = "hypervisor"
)

// impulseHold is how long what only happens, and does not last, is held as a fault: long enough for a consumer that
// polls to see it, short enough not to be mistaken for a lasting one.
const impulseHold = time.Minute

// kernelHold is how long a line of the kernel's log is held: it says that something happened, and never that it is over.
const kernelHold = 5 * time.Minute

// restartHold is longer: whoever was told that the host is lost acts for minutes.
const restartHold = 10 * time.Minute

// table defines the conditions. Probable causes are those of ITU-T X.733 annex A and X.721 in hyphenated spelling.
var table = [...]Rule{
	{
		Condition: CondCarrier, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, Follows: true,
		EventType: TypeCommunications, ProbableCause: "loss-of-signal", AbstractCause: CauseNetwork,
		Text:   "the link is enabled and has no carrier",
		Remedy: "Look at the cable, the transceiver and the switch port. On a bond, at its legs; on a VLAN or macvtap, at its parent.",
	},
	{
		Condition: CondDisabled, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "out-of-service", AbstractCause: CauseNetwork,
		Text:   "the link is administratively down",
		Remedy: "Find out who ran `ip link set … down`; set it up again. An adapter that is taken out of use for good: take it out of its bond or bridge.",
	},
	{
		Condition: CondGone, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction",
		Text:   "it was there and has vanished",
		Remedy: "Plug it in again, rescan the bus, or look in the kernel log why its driver let go. Acknowledge the alarm when it was taken out on purpose.",
	},
	{
		Condition: CondLinkErrors, State: StateDegraded, Severity: SeverityMinor, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "lan-error", AbstractCause: CauseNetwork,
		Text:   "the link's error counters rise faster than they should",
		Remedy: "Exchange the cable or the transceiver; compare the counters of the switch port. The figures are in the alarm's text.",
	},
	{
		Condition: CondCrash, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseCompute,
		Text:   "the domain's process died",
		Remedy: "Read the domain's log (/var/log/libvirt/qemu) and the kernel's (out of memory?); start the domain again.",
	},
	{
		Condition: CondGuestPanic, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "the guest's kernel panicked",
		Remedy: "The guest's owner reads its console and crash dump; it is restarted by its `on_crash` action, or by hand.",
	},
	{
		Condition: CondWatchdog, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityMajor,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "the guest stopped feeding its watchdog",
		Remedy: "The guest's owner looks what hung; the watchdog's action (reset, poweroff …) has been carried out.",
	},
	{
		Condition: CondIOError, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the domain is paused because its storage failed",
		Remedy: "Make room or repair the storage that the text names, then `virsh resume` the domain.",
	},
	{
		Condition: CondStopped, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "the domain stopped, and nobody is known to have wanted it",
		Remedy: "Ask who stopped it; start it again. docs/virt.md says which stops are orderly and raise nothing.",
	},
	{
		Condition: CondReboot, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityMajor,
		EventType: TypeProcessingError, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "the guest was reset",
		Remedy: "Nothing, when the guest or its owner wanted it; it is told because the application in it was away.",
	},
	{
		// An upgrade of the agent, or an orderly shutdown, closes its channel first: wait for what explains it.
		Condition: CondGuestAgent, HoldDown: 10 * time.Second, State: StateDegraded, Severity: SeverityMajor,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseCompute,
		Text:   "the agent in the guest was there and does not answer",
		Remedy: "Look at the agent's service in the guest.",
	},
	{
		Condition: CondMemoryFailure, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction", AbstractCause: CauseCompute,
		Text:   "an uncorrected memory error hit the guest's memory",
		Remedy: "Move the domain away and test the host's memory; the guest may have lost a page.",
	},
	{
		Condition: CondBacking, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, Follows: true,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable",
		Text:   "what it stands on is lost",
		Remedy: "Look at what it stands on: the tap or macvtap of the vnic, the file or device of the vdisk. Plug the device anew, or restart the domain.",
	},
	{
		Condition: CondUnreadable, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "its definition can't be understood",
		Remedy: "Repair the definition or metadata that the text names (`virsh edit`); until then the domain is watched without what could not be read.",
	},
	{
		Condition: CondGroup, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable",
		Text:   "too few of its members work",
		Remedy: "Look at its members: their alarms are correlated under this one.",
	},
	{
		Condition: CondHypervisorUnreachable, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseHypervisor,
		Text:   "the hypervisor's daemon does not answer; its domains are not seen, and not known to be hurt",
		Remedy: "Look at the service (`systemctl status libvirtd` or `virtqemud`): restart it when it hangs. Domains go on running meanwhile, unwatched.",
	},
	{
		Condition: CondSourceBlind, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseHypervisor,
		Text:   "a source of this agent can't see",
		Remedy: "The text names the remedy. What it watches keeps its last known state meanwhile.",
	},
	{
		Condition: CondSourceFailed, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseHypervisor,
		Text:   "a source of this agent failed",
		Remedy: "It is started again with growing pauses. Please report the log's stack trace.",
	},
	{
		Condition: CondOutbox, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "storage-capacity-problem", AbstractCause: CauseHypervisor,
		Text:   "deliveries are not durable",
		Remedy: "Make room on, or repair, the file system of notify.dir. Notifications still go out; those under way would not survive a crash.",
	},
	{
		Condition: CondSubscription, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseHypervisor,
		Text:   "a consumer can't be reached, or asked to stop",
		Remedy: "Look at `paramedic deliveries`: repair the endpoint, then retry what is parked; or delete the subscription.",
	},
	{
		Condition: CondConflict, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "the configuration files of several hosts name a subscription with different contents",
		Remedy: "Make the subscription equal in the files of all hosts, and reload them. Until then each host uses its own.",
	},
	{
		Condition: CondUnusable, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "a subscription that the cluster has can't be used at this host, or not be given to the other hosts",
		Remedy: "The text names the reason: upgrade this host, give it the secrets_key_file of the others, or make the subscription's filter shorter.",
	},
	{
		Condition: CondPeer, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "version-mismatch", AbstractCause: CauseHypervisor,
		Text:   "another host writes what this one can't read",
		Remedy: "Upgrade the older of the two. What can be read of the other host still counts.",
	},
	{
		Condition: CondUnshared, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseHypervisor,
		Text:   "what this host has to say does not reach the other hosts",
		Remedy: "The text names the reason. This host still notifies consumers itself; its peers could not speak for it.",
	},
	{
		Condition: CondClock, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "timing-problem", AbstractCause: CauseHypervisor,
		Text:   "the clock of this host is wrong",
		Remedy: "Let NTP (chrony, systemd-timesyncd) set it. From five minutes on it is major: consumers that check the time of a signature refuse what this host sends, this alarm included (any host's `paramedic alarms` shows it). While it is ahead subscriptions can't be made here.",
	},
	{
		// The kernel says it again every two minutes, ten times.
		Condition: CondHungTask, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "system-call-unsuccessful", AbstractCause: CauseCompute,
		Text:   "tasks of the host make no progress",
		Remedy: "The kernel log holds the stack of the task: mostly its storage does not answer. Look at disks and network file systems.",
	},
	{
		Condition: CondLockup, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "a processor of the host makes no progress",
		Remedy: "The kernel log holds its stack. Move the domains away and restart the host; look for a newer kernel or firmware when it returns.",
	},
	{
		Condition: CondOops, Mode: Latched, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "the host's kernel failed and went on: what it still does right nobody knows",
		Remedy: "Move the domains away, save the kernel log and restart the host; acknowledge the alarm then.",
	},
	{
		Condition: CondOutOfMemory, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "out-of-memory", AbstractCause: CauseCompute,
		Text:   "the kernel killed a process because memory ran out",
		Remedy: "Look who took the memory (the kernel log lists all processes). Reserve more for the host, or move domains away.",
	},
	{
		Condition: CondReadOnly, Mode: Latched, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "file-error", AbstractCause: CauseStorage,
		Text:   "the kernel stopped writing to the file system, to save what is on it",
		Remedy: "Look at the disk below it, check the file system and mount it again; acknowledge the alarm then.",
	},
	{
		Condition: CondFilesystem, Mode: Latched, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "corrupt-data", AbstractCause: CauseStorage,
		Text:   "the file system is damaged",
		Remedy: "Take it out of use and check it (fsck, xfs_repair); acknowledge the alarm then.",
	},
	{
		Condition: CondDiskError, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the block device fails requests",
		Remedy: "Look at the drive's own log (smartctl, nvme), its cable and its controller; replace it when it goes on.",
	},
	{
		Condition: CondTransmitTimeout, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "transmit-failure", AbstractCause: CauseNetwork,
		Text:   "the adapter does not send what it was given",
		Remedy: "The driver resets it. When it returns: another firmware, driver or adapter; look for PCIe errors.",
	},
	{
		Condition: CondFirmware, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction",
		Text:   "the firmware of an adapter or controller died",
		Remedy: "The driver restarts it if it can. Look for a newer firmware; a restart of the host may be needed.",
	},
	{
		Condition: CondMachineCheck, Mode: Latched, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "processor-problem", AbstractCause: CauseCompute,
		Text:   "the hardware reports an error that it could not correct",
		Remedy: "Move the domains away. The kernel log (mce, ghes) and the BMC's event log name the part; acknowledge the alarm when it is replaced.",
	},
	{
		Condition: CondCorrected, Mode: Impulse, Hold: kernelHold, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "processor-problem", AbstractCause: CauseCompute,
		Text:   "the hardware reports an error that it has corrected",
		Remedy: "One is nothing; many announce a failure. The kernel log and the BMC's event log name the part.",
	},
	{
		Condition: CondThrottled, Mode: Impulse, Hold: kernelHold, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "temperature-unacceptable", AbstractCause: CauseCompute,
		Text:   "processors are slowed down because they are too hot",
		Remedy: "Look at fans, air filters and the temperature of the room; hotter still, the host switches itself off.",
	},
	{
		Condition: CondKernelMessage, Mode: Impulse, Hold: kernelHold, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "indeterminate", AbstractCause: CauseCompute,
		Text:   "the kernel wrote what hw.kmsg.patterns asks for",
		Remedy: "The text is the kernel's line; who wrote the pattern knows.",
	},
	{
		Condition: CondMemoryUncorrected, Mode: Latched, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "memory-mismatch", AbstractCause: CauseCompute,
		Text:   "the memory module has lost data",
		Remedy: "Move the domains away and replace the module; acknowledge the alarm then. What used the page was killed, or reads something wrong.",
	},
	{
		Condition: CondMemoryDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "threshold-crossed", AbstractCause: CauseCompute,
		Text:   "the memory module corrects errors more often than it should: it may fail soon",
		Remedy: "Move the domains away in time and replace the module. The figures are in the alarm's text.",
	},
	{
		Condition: CondHostLost, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "a majority of the hosts can't reach it: neither its agent nor its kernel answers",
		Remedy: "It is unreachable; that it is off is known only when it was fenced. Look at its power (BMC) and its links before its domains are started elsewhere. The host itself clears this when it is back; `paramedic hosts forget` does for one that is not to return.",
	},
	{
		Condition: CondAgentSilent, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseHypervisor,
		Text:   "its kernel answers and its agent does not: its domains go on, unwatched",
		Remedy: "Look at the agent on that host (`systemctl status paramedic`, its log). After an orderly stop this is raised when the agent has not been started again for ten minutes.",
	},
	{
		Condition: CondHostHung, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseCompute,
		Text:   "its kernel answers and nothing else does: how its domains are nobody knows",
		Remedy: "Look at the console (BMC): a userland that stands still, a kernel that writes its crash dump, or an agent that was frozen. Reset the host if nothing moves.",
	},
	{
		Condition: CondIsolated, State: StateAtRisk, Severity: SeverityMajor,
		EventType: TypeCommunications, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseNetwork,
		Text:   "this host reaches half of the hosts or less, itself included, and accuses none of them",
		Remedy: "Look at the links and the switch of this host's cluster.watch address. Most other hosts probably tell of it as host-lost. `paramedic hosts forget` hosts that are gone for good: they count.",
	},
	{
		Condition: CondHostShutdown, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "the host is going down",
		Remedy: "None if it was meant. It clears when the host's agent runs again.",
	},
	{
		Condition: CondHostRestarted, Mode: Impulse, Hold: restartHold, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseCompute,
		Text:   "the host was restarted: what ran on it before has ended",
		Remedy: "Look at why (kernel log of the boot before, BMC event log). Domains that were running are listed; start those that did not start by themselves.",
	},
	{
		Condition: CondZoneLost, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseCompute,
		Text:   "many hosts of the zone were lost at once",
		Remedy: "Look at what they share: the switch, the power, the rack. Each host's own host-lost is correlated under this alarm, which ends when the last of them is back or forgotten.",
	},
}

// Rules lists the static definitions, for catalogues and checks of the configuration.
func Rules() []Rule { return slices.Clone(table[:]) }

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
