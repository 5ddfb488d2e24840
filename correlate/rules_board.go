package correlate

// Processors and the PCI Express fabric.
const (
	CondCPUOffline    Condition = "cpu-offline"    // logical processors that worked do no more
	CondPCIeFatal     Condition = "pcie-fatal"     // a PCIe link or device failed
	CondPCIeNonFatal  Condition = "pcie-non-fatal" // a transaction over PCIe failed
	CondPCIeCorrected Condition = "pcie-corrected" // a PCIe link corrects too often
)

var boardRules = []Rule{
	{
		Condition: CondCPUOffline, State: StateDegraded, Severity: SeverityCritical, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "processor-problem", AbstractCause: CauseCompute,
		Text:   "logical processors that worked are offline",
		Causes: "Somebody or a script set them offline (tuning, isolation, live patching); the kernel or mcelog took a core out of use after corrected errors; a hypervisor below took them away.",
		Remedy: "The kernel log or the BMC's event log says why. Set them online again (`echo 1 > /sys/devices/system/cpu/cpu…/online`), or move the domains away and replace the processor. Acknowledge the alarm when they were set offline on purpose.",
	},
	{
		Condition: CondPCIeFatal, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction",
		Text:   "its PCI Express link or device had a fatal error: the kernel resets it",
		Causes: "A card that is loose, hot or dying; a riser or cable; power that sagged; firmware of the device that crashed; surprise removal of a hot-pluggable drive.",
		Remedy: "Reseat or replace the card, its riser or cable. When it did not come back, its own alarms stand on; a restart of the host may be needed.",
	},
	{
		Condition: CondPCIeNonFatal, Mode: Impulse, Hold: kernelHold, State: StateDegraded, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction",
		Text:   "a transaction over its PCI Express link failed and was not corrected",
		Causes: "A completion that timed out because the device was busy or its firmware hung, a poisoned packet, a driver that touched what was not there any more.",
		Remedy: "Look for a newer firmware or driver; when it returns, reseat or replace the card, its riser or cable.",
	},
	{
		Condition: CondPCIeCorrected, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "threshold-crossed",
		Text:   "its PCI Express link corrects errors more often than it should: it may fail soon",
		Causes: "A marginal link: contacts, riser, cable, a retimer, a card that gets too hot, or a link that was trained at a speed it can't hold.",
		Remedy: "Reseat the card, its riser or cable, and replace it when that does not help. The figures are in the alarm's text.",
	},
}
