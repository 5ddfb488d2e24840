package correlate

import "time"

// What the kernel's log tells.
const (
	CondHungTask        Condition = "hung-task"          // tasks make no progress
	CondLockup          Condition = "lockup"             // a processor makes no progress
	CondOops            Condition = "kernel-oops"        // the kernel failed and went on
	CondOutOfMemory     Condition = "out-of-memory"      // the kernel killed a process for want of memory
	CondFilesystem      Condition = "filesystem-error"   // a file system is damaged
	CondDiskError       Condition = "disk-error"         // a block device fails requests
	CondTransmitTimeout Condition = "transmit-timeout"   // an adapter does not send what it was given
	CondFirmware        Condition = "firmware-crash"     // the firmware of an adapter or controller died
	CondMachineCheck    Condition = "machine-check"      // the hardware reports an uncorrected error
	CondCorrected       Condition = "hardware-corrected" // it reports one that was corrected
	CondThrottled       Condition = "thermal-throttling" // processors are slowed down because they are hot
	CondKernelMessage   Condition = "kernel-message"     // a pattern of the configuration
)

// kernelHold is how long a line of the kernel's log is held: it says that something happened, and never that it is over.
const kernelHold = 5 * time.Minute

var kernelRules = []Rule{
	{
		// The kernel says it again every two minutes, ten times.
		Condition: CondHungTask, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "system-call-unsuccessful", AbstractCause: CauseCompute,
		Text:   "tasks of the host make no progress",
		Causes: "Storage that does not answer: NFS or iSCSI whose server is gone, a multipath device that queues without a path, a failing disk; seldom a deadlock in the kernel. A very busy disk can do it, too.",
		Remedy: "The kernel log holds the stack of the task: mostly its storage does not answer. Look at disks and network file systems.",
	},
	{
		Condition: CondLockup, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "a processor of the host makes no progress",
		Causes: "A driver that spins with interrupts off, firmware that took the processor (SMI), a hypervisor below that did not run this host, bad hardware; under heavy overload also storms of interrupts.",
		Remedy: "The kernel log holds its stack. Move the domains away and restart the host; look for a newer kernel or firmware when it returns.",
	},
	{
		Condition: CondOops, Mode: Latched, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseCompute,
		Text:   "the host's kernel failed and went on: what it still does right nobody knows",
		Causes: "A fault in the kernel or a driver, mostly one that is not part of the kernel; bad memory; a device that answered nonsense.",
		Remedy: "Move the domains away, save the kernel log and restart the host; acknowledge the alarm then.",
	},
	{
		Condition: CondOutOfMemory, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "out-of-memory", AbstractCause: CauseCompute,
		Text:   "the kernel killed a process because memory ran out",
		Causes: "More domains or larger ones than the memory carries, memory that leaks in a daemon, huge pages reserved beyond what is left, a memory limit of a group (`memory.max`) that is too tight.",
		Remedy: "Look who took the memory (the kernel log lists all processes). Reserve more for the host, or move domains away.",
	},
	{
		Condition: CondFilesystem, Mode: Latched, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "corrupt-data", AbstractCause: CauseStorage,
		Text:   "the file system is damaged",
		Causes: "A disk or controller that lost or tore writes, bad memory, a power failure with a write cache that is not safe, an image that two hosts had mounted at once.",
		Remedy: "Take it out of use and check it (fsck, xfs_repair); acknowledge the alarm then.",
	},
	{
		Condition: CondDiskError, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the block device fails requests",
		Causes: "A sector that can't be read, a drive that is failing, a cable or backplane; a path that went away; a target that refuses. Single lines about a removed or thin volume mean no broken drive.",
		Remedy: "Look at the drive's own log (smartctl, nvme), its cable and its controller; replace it when it goes on.",
	},
	{
		Condition: CondTransmitTimeout, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "transmit-failure", AbstractCause: CauseNetwork,
		Text:   "the adapter does not send what it was given",
		Causes: "Firmware or driver that hangs, a PCIe link with errors, pause frames of a switch that never end, a host so busy that interrupts were lost.",
		Remedy: "The driver resets it. When it returns: another firmware, driver or adapter; look for PCIe errors.",
	},
	{
		Condition: CondFirmware, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction",
		Text:   "the firmware of an adapter or controller died",
		Causes: "A bug in the firmware, mostly one that a newer version mends; overheating; a driver that does not fit the firmware; a PCIe error or loss of power before it.",
		Remedy: "The driver restarts it if it can. Look for a newer firmware; a restart of the host may be needed.",
	},
	{
		Condition: CondMachineCheck, Mode: Latched, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "processor-problem", AbstractCause: CauseCompute,
		Text:   "the hardware reports an error that it could not correct",
		Causes: "A processor cache or core, the path to a memory module, an interconnect, or a PCIe device seen through the processor: bank and address in the log tell them apart.",
		Remedy: "Move the domains away. The kernel log (mce, ghes) and the BMC's event log name the part; acknowledge the alarm when it is replaced.",
	},
	{
		Condition: CondCorrected, Mode: Impulse, Hold: kernelHold, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "processor-problem", AbstractCause: CauseCompute,
		Text:   "the hardware reports an error that it has corrected",
		Causes: "A single bit in memory or cache (cosmic radiation does that), or the first signs of a module, contact or processor that ages.",
		Remedy: "One is nothing; many announce a failure. The kernel log and the BMC's event log name the part.",
	},
	{
		Condition: CondThrottled, Mode: Impulse, Hold: kernelHold, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "temperature-unacceptable", AbstractCause: CauseCompute,
		Text:   "processors are slowed down because they are too hot",
		Causes: "Fans that failed or are turned down, dust, warm air from the aisle, a cooler that is loose, dried paste; a power limit of the firmware is told the same way by some processors.",
		Remedy: "Look at fans, air filters and the temperature of the room; hotter still, the host switches itself off.",
	},
	{
		Condition: CondKernelMessage, Mode: Impulse, Hold: kernelHold, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "indeterminate", AbstractCause: CauseCompute,
		Text:   "the kernel wrote what hw.kmsg.patterns asks for",
		Causes: "What the pattern was written for. One that is too wide also matches lines of drivers that mean no harm.",
		Remedy: "The text is the kernel's line; who wrote the pattern knows.",
	},
}
