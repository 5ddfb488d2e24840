package correlate

import "time"

// Domains, and what they stand on.
const (
	CondCrash                 Condition = "crash"          // the domain's process died
	CondGuestPanic            Condition = "guest-panic"    // the guest's kernel told the panic device
	CondWatchdog              Condition = "watchdog"       // the guest stopped feeding its watchdog
	CondIOError               Condition = "io-error"       // paused because its storage failed
	CondStopped               Condition = "stopped"        // it stopped, and nobody is known to have wanted it
	CondReboot                Condition = "reboot"         // the guest was reset
	CondGuestAgent            Condition = "guest-agent"    // the agent in the guest was there and is not
	CondMemoryFailure         Condition = "memory-failure" // an uncorrected memory error hit the guest's memory
	CondBacking               Condition = "backing"        // what a vnic or vdisk stands on is lost
	CondUnreadable            Condition = "unreadable"     // its definition can't be understood
	CondHypervisorUnreachable Condition = "hypervisor-unreachable"
)

// ConditionsOfDomains are those that stand on a domain itself, which its owner is told by name; those of other monitors may, too.
func ConditionsOfDomains() []Condition {
	return []Condition{
		CondCrash, CondGuestPanic, CondWatchdog, CondIOError, CondStopped, CondReboot, CondGuestAgent, CondMemoryFailure, CondUnreadable, CondCPUStarved, CondOutOfMemory,
	}
}

// impulseHold is how long what only happens, and does not last, is held as a fault: long enough for a consumer that
// polls to see it, short enough not to be mistaken for a lasting one.
const impulseHold = time.Minute

var domainRules = []Rule{
	{
		Condition: CondCrash, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseCompute,
		Text:   "the domain's process died",
		Causes: "qemu hit an assertion or segmentation fault, was killed for want of memory (`out-of-memory` says so) or by hand with `kill -9`; a device backend or passed-through device failed under it.",
		Remedy: "Read the domain's log (/var/log/libvirt/qemu) and the kernel's (out of memory?); start the domain again.",
	},
	{
		Condition: CondGuestPanic, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "the guest's kernel panicked",
		Causes: "A fault in the guest's kernel or a driver, a root disk that vanished, memory that ran out with panic_on_oom, or somebody who triggered one for a dump.",
		Remedy: "The guest's owner reads its console and crash dump; it is restarted by its `on_crash` action, or by hand.",
	},
	{
		Condition: CondWatchdog, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityMajor,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "the guest stopped feeding its watchdog",
		Causes: "The guest hangs or is overloaded; its feeding daemon died; the host gave it no processor for too long (`cpu-starved`) or its disk did not answer.",
		Remedy: "The guest's owner looks what hung; the watchdog's action (reset, poweroff …) has been carried out.",
	},
	{
		Condition: CondIOError, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the domain is paused because its storage failed",
		Causes: "No room left below a growing image (ENOSPC), a disk or path that failed (EIO), storage over a network that is gone, a lease or permission that was lost. The reason is in the text.",
		Remedy: "Make room or repair the storage that the text names, then `virsh resume` the domain.",
	},
	{
		Condition: CondStopped, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "the domain stopped, and nobody is known to have wanted it",
		Causes: "SIGTERM to qemu (a script, a shutdown of the host, systemd), a start that failed, a migration whose last step failed, a domain that ended while libvirt was not looking.",
		Remedy: "Ask who stopped it; start it again. docs/virt.md says which stops are orderly and raise nothing.",
	},
	{
		Condition: CondReboot, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityMajor,
		EventType: TypeProcessingError, ProbableCause: "out-of-service", AbstractCause: CauseCompute,
		Text:   "the guest was reset",
		Causes: "A reboot from within the guest, `virsh reset`, a controller's reboot action; or a triple fault of its kernel.",
		Remedy: "Nothing, when the guest or its owner wanted it; it is told because the application in it was away.",
	},
	{
		// An upgrade of the agent, or an orderly shutdown, closes its channel first: wait for what explains it.
		Condition: CondGuestAgent, HoldDown: 10 * time.Second, State: StateDegraded, Severity: SeverityMajor,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseCompute,
		Text:   "the agent in the guest was there and does not answer",
		Causes: "The agent was stopped, crashed or is being upgraded; the guest is too busy, out of memory or hangs; its kernel has crashed and no panic device says so.",
		Remedy: "Look at the agent's service in the guest.",
	},
	{
		Condition: CondMemoryFailure, Mode: Impulse, Hold: impulseHold, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction", AbstractCause: CauseCompute,
		Text:   "an uncorrected memory error hit the guest's memory",
		Causes: "A memory module of the host has an error that can't be corrected (`memory-uncorrected`, `machine-check`), and the page was the guest's.",
		Remedy: "Move the domain away and test the host's memory; the guest may have lost a page.",
	},
	{
		Condition: CondBacking, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, Follows: true,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable",
		Text:   "what it stands on is lost",
		Causes: "A tap that was deleted or set down by hand, by an agent of the network or by a failed replug; the parent of a macvtap gone; a vhost-user socket whose other end was restarted and did not reconnect; an image file or volume that was removed or unmapped under the domain.",
		Remedy: "Look at what it stands on: the tap or macvtap of the vnic, the file or device of the vdisk. Plug the device anew, or restart the domain.",
	},
	{
		Condition: CondUnreadable, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "its definition can't be understood",
		Causes: "Nova's metadata without a project, or an element that hw.virt.owners or hw.virt.vnfs names and that holds something else; an interface without a MAC address, or two with the same one; more devices than are watched; a definition that libvirt would not give.",
		Remedy: "Repair the definition or metadata that the text names (`virsh edit`); until then the domain is watched without what could not be read.",
	},
	{
		Condition: CondHypervisorUnreachable, State: StateFailed, Severity: SeverityWarning, Follows: true,
		EventType: TypeProcessingError, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseHypervisor,
		Text:   "the hypervisor's daemon does not answer; its domains are not seen, and not known to be hurt",
		Causes: "The daemon crashed, hangs on storage or a stuck domain, is being restarted or upgraded, or ran into its limit of clients; the socket's permissions were changed.",
		Remedy: "Look at the service (`systemctl status libvirtd` or `virtqemud`): restart it when it hangs. Domains go on running meanwhile, unwatched.",
	},
}
