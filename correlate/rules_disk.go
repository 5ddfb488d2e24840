package correlate

// Disks and what stands on them. What the kernel's log says of them is in rules_kernel.go.
const (
	CondDiskOffline    Condition = "disk-offline"         // the kernel has given the disk, or this way to it, up
	CondMemberFailed   Condition = "raid-member-failed"   // an array has put a member out of use
	CondRAIDDegraded   Condition = "raid-degraded"        // an array lacks members and still works
	CondRAIDFailed     Condition = "raid-failed"          // an array lacks more than it can do without
	CondNoPath         Condition = "no-path"              // no way to a multipath disk is left
	CondFilesystemFull Condition = "filesystem-full"      // a file system runs out of space or inodes
	CondReadOnly       Condition = "filesystem-read-only" // the kernel stopped writing to a file system
	CondDiskFailed     Condition = "disk-failed"          // the disk says that it does not work any more
	CondDiskFailing    Condition = "disk-failing"         // the disk says that it will fail
	CondDiskHot        Condition = "disk-temperature"     // the disk says that it is too hot
	CondDiskSilent     Condition = "disk-silent"          // the disk does not answer
)

var diskRules = []Rule{
	{
		Condition: CondDiskOffline, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the kernel has given the disk, or this way to it, up",
		Causes: "The drive stopped answering and the kernel's error handling gave up after resets; a cable, expander or backplane; a fabric port or target that went (transport-offline); somebody wrote `offline` to its state.",
		Remedy: "Look at the drive, its cable, its controller or its fabric. It ends when the state that the text names is good again.",
	},
	{
		Condition: CondMemberFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "an array has put this member out of use",
		Causes: "The member failed a write, or a read that could not be repaired from the others; its drive vanished; or somebody ran `mdadm --fail` to replace it.",
		Remedy: "Look in the kernel log why; take it out of the array and give the array another one. It ends when the array does not list it as faulty any more.",
	},
	{
		Condition: CondRAIDDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseStorage,
		Text:   "the array lacks members and still works",
		Causes: "A member failed or is missing since the start; a rebuild that still runs; an array that was made with a missing member.",
		Remedy: "Give it the members that it lacks. It ends when they hold all data, which a rebuild may take hours for.",
	},
	{
		Condition: CondRAIDFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseStorage,
		Text:   "the array lacks more members than it can do without",
		Causes: "A second drive failed during the rebuild after the first; a controller, cable or shelf that several members share; members that came too late at the start of the host.",
		Remedy: "Look at its members: their alarms are correlated under this one. Do not write to them before it is known which hold the newest data.",
	},
	{
		Condition: CondNoPath, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseStorage,
		Text:   "no way to the multipath disk is left",
		Causes: "The storage itself or its fabric is down, zoning or masking was changed, a controller fails over and takes too long; both adapters hang on one switch.",
		Remedy: "Look at the paths: their alarms are correlated under this one. Then at the adapters, the fabric and the storage.",
	},
	{
		Condition: CondFilesystemFull, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "storage-capacity-problem", AbstractCause: CauseStorage,
		Text:   "the file system runs out of space or inodes",
		Causes: "Images of domains that grow (qcow2, snapshots that nobody removed), crash dumps, logs of something that fails over and over; files that are deleted and still open; millions of small files where inodes run out.",
		Remedy: "Make room. Domains whose images grow are paused (`io-error`) when there is none left.",
	},
	{
		Condition: CondReadOnly, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "file-error", AbstractCause: CauseStorage,
		Text:   "the kernel stopped writing to the file system, to save what is on it",
		Causes: "The device below failed requests, or the kernel found the file system's own structures inconsistent; a thin pool that is full; storage over a network that was away for too long.",
		Remedy: "Look at the disk below it, check the file system and mount it again. It ends when it is written to again, or unmounted.",
	},
	{
		Condition: CondDiskFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the disk says that it does not work any more",
		Causes: "The drive has used up its spare blocks, or its firmware locked itself after an internal error to keep the data readable.",
		Remedy: "Save what is on it and replace it. It ends when the disk says that it is well.",
	},
	{
		Condition: CondDiskFailing, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "threshold-crossed", AbstractCause: CauseStorage,
		Text:   "the disk says that it will fail",
		Causes: "Age: flash that is worn out, sectors that can't be read, spare blocks that run out; capacitors for the write cache that have lost their charge; a head or motor whose attributes drift.",
		Remedy: "Move away what stands on it and replace it. It ends when the disk says that it is well.",
	},
	{
		Condition: CondDiskHot, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "temperature-unacceptable", AbstractCause: CauseStorage,
		Text:   "the disk says that it is too hot",
		Causes: "A fan that failed or was turned down, blocked air, blind panels missing, a rebuild or backup that keeps it busy, an NVMe drive without a heat sink.",
		Remedy: "Look at fans, air filters and the temperature of the room; it slows down, and switches itself off when it gets hotter.",
	},
	{
		Condition: CondDiskSilent, State: StateDegraded, Severity: SeverityMajor, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the disk does not answer",
		Causes: "A controller or drive in the middle of error recovery, firmware that hangs, a bus that is being reset over and over; a drive that is so busy that administration commands wait.",
		Remedy: "Look in the kernel log whether its adapter resets it. It ends when it answers.",
	},
}
