package correlate

// Disks and what stands on them. What the kernel's log says of them is in rules_kernel.go.
const (
	CondDiskOffline   Condition = "disk-offline"       // the kernel has given the disk, or this way to it, up
	CondMemberFailed  Condition = "raid-member-failed" // an array has put a member out of use
	CondRAIDDegraded  Condition = "raid-degraded"      // an array lacks members and still works
	CondRAIDFailed    Condition = "raid-failed"        // an array lacks more than it can do without
	CondNoPath        Condition = "no-path"            // no way to a multipath disk is left
	CondFilesystemOut Condition = "filesystem-full"    // a file system runs out of space or inodes
)

var diskRules = []Rule{
	{
		Condition: CondDiskOffline, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "the kernel has given the disk, or this way to it, up",
		Remedy: "Look at the drive, its cable, its controller or its fabric. It ends when the state that the text names is good again.",
	},
	{
		Condition: CondMemberFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "io-device-error", AbstractCause: CauseStorage,
		Text:   "an array has put this member out of use",
		Remedy: "Look in the kernel log why; take it out of the array and give the array another one. It ends when the array does not list it as faulty any more.",
	},
	{
		Condition: CondRAIDDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseStorage,
		Text:   "the array lacks members and still works",
		Remedy: "Give it the members that it lacks. It ends when they hold all data, which a rebuild may take hours for.",
	},
	{
		Condition: CondRAIDFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseStorage,
		Text:   "the array lacks more members than it can do without",
		Remedy: "Look at its members: their alarms are correlated under this one. Do not write to them before it is known which hold the newest data.",
	},
	{
		Condition: CondNoPath, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseStorage,
		Text:   "no way to the multipath disk is left",
		Remedy: "Look at the paths: their alarms are correlated under this one. Then at the adapters, the fabric and the storage.",
	},
	{
		Condition: CondFilesystemOut, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "storage-capacity-problem", AbstractCause: CauseStorage,
		Text:   "the file system runs out of space or inodes",
		Remedy: "Make room. Domains whose images grow are paused (`io-error`) when there is none left.",
	},
}
