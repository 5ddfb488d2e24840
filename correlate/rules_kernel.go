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
}
