package correlate

// Memory modules.
const (
	CondMemoryUncorrected Condition = "memory-uncorrected" // a module lost data
	CondMemoryDegraded    Condition = "memory-degraded"    // a module corrects too often
)

var memoryRules = []Rule{
	{
		Condition: CondMemoryUncorrected, Mode: Latched, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "memory-mismatch", AbstractCause: CauseCompute,
		Text:   "the memory module has lost data",
		Causes: "A module that ages or overheats, a bad contact, a channel or the processor's memory controller; many corrected errors mostly came first (`memory-degraded`).",
		Remedy: "Move the domains away and replace the module; acknowledge the alarm then. What used the page was killed, or reads something wrong.",
	},
	{
		Condition: CondMemoryDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "threshold-crossed", AbstractCause: CauseCompute,
		Text:   "the memory module corrects errors more often than it should: it may fail soon",
		Causes: "A weak cell row or chip, a contact that oxidised, heat, a voltage or timing (XMP, mixed modules) at the edge. From the BMC also: a module that is misconfigured or throttled.",
		Remedy: "Move the domains away in time and replace the module. The figures are in the alarm's text.",
	},
}
