package correlate

import "time"

// What only a BMC tells.
const (
	CondPSUFailed         Condition = "power-supply-failed"     // a power supply gives no power
	CondPSUInput          Condition = "power-input-lost"        // it gets none
	CondPSUDegraded       Condition = "power-supply-degraded"   // it works and will not for long, or not as configured
	CondPowerLost         Condition = "power-lost"              // fewer power supplies work than the host needs
	CondPowerRedundancy   Condition = "power-redundancy-lost"   // no more may fail
	CondPowerUnit         Condition = "power-unit-failed"       // the power of the machine went, by a fault
	CondFanDegraded       Condition = "fan-degraded"            // a fan is slower than it should be
	CondCoolingLost       Condition = "cooling-lost"            // fewer fans work than the host needs
	CondCoolingRedundancy Condition = "cooling-redundancy-lost" // no more may fail
	CondProcessorFailed   Condition = "processor-failed"        // a processor stopped, or was taken out of use
	CondMemoryFailed      Condition = "memory-failed"           // a module was taken out of use
	CondDriveFailed       Condition = "drive-failed"            // a drive bay reports a fault
	CondDriveDegraded     Condition = "drive-degraded"          // it predicts one, or its array is not whole
	CondBusError          Condition = "bus-error"               // a bus of the mainboard failed
	CondWatchdogExpired   Condition = "host-watchdog"           // the host's watchdog was not fed
	CondSystemStopped     Condition = "system-stopped"          // the operating system stopped by a fault
	CondChassis           Condition = "chassis-opened"          // somebody is at the machine
	CondHardwareFailed    Condition = "hardware-failed"         // another part failed
	CondHardwareDegraded  Condition = "hardware-degraded"       // another part is not as it should be
	CondEventLogFull      Condition = "event-log-full"          // the BMC has no room for its events
)

// bmcHold is how long an event is held that the BMC never says the end of.
const bmcHold = 5 * time.Minute

var bmcRules = []Rule{
	{
		Condition: CondPSUFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "the power supply failed",
		Causes: "A fan, capacitor or fuse in the supply; overheating or a short behind it makes it switch itself off; seldom just a bad seat.",
		Remedy: "Replace it. As long as enough others work nothing is lost.",
	},
	{
		Condition: CondPSUInput, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "the power supply gets no power",
		Causes: "A cord that was pulled or not pushed in, a tripped breaker, a socket of the rack's distribution that is off, one feed of the room in maintenance.",
		Remedy: "Look at its cord, the power distribution of the rack and the feed. As long as enough others work nothing is lost.",
	},
	{
		Condition: CondPSUDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "the power supply works, but predicts its failure, has a bad input, or does not fit the others",
		Causes: "Age and heat; supplies of different wattage, model or firmware side by side; a feed of too low or unsteady voltage.",
		Remedy: "The text says which. Replace it, or look at its feed.",
	},
	{
		Condition: CondPowerLost, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "fewer power supplies work than the host needs",
		Causes: "Both feeds are on one breaker and it tripped; one supply was dead already and the second followed; somebody pulled the wrong cord; or hw.ipmi.power_supplies asks for more than there are.",
		Remedy: "Move the domains away at once. Look at the alarms of the power supplies, which are correlated under this one.",
	},
	{
		Condition: CondPowerRedundancy, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "the host's power is not redundant any more",
		Causes: "One supply or feed has gone, mostly with an alarm of its own. Also: a load above what one supply could carry, or redundancy that is switched off in the BMC.",
		Remedy: "Look at its power supplies and feeds; the next one that fails may switch the host off.",
	},
	{
		Condition: CondPowerUnit, Mode: Impulse, Hold: bmcHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "the machine's power went, or is about to, by a fault",
		Causes: "A soft power-up that failed, a voltage fault by which the board protects itself, an interlock; a feed that broke down for longer than the supplies bridge.",
		Remedy: "The BMC's event log says more. Look at the power supplies, the feed and the mainboard.",
	},
	{
		Condition: CondFanDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "heating-ventilation-cooling-system-problem", AbstractCause: CauseCompute,
		Text:   "a fan is slower than it should be, or predicts its failure",
		Causes: "Dust, worn bearings, a cable in the blades; a fan of another model whose speed the BMC judges by the wrong thresholds.",
		Remedy: "Look for dust and worn bearings, and replace it.",
	},
	{
		Condition: CondCoolingLost, State: StateFailed, Severity: SeverityCritical,
		EventType: TypeEnvironmental, ProbableCause: "heating-ventilation-cooling-system-problem", AbstractCause: CauseCompute,
		Text:   "fewer fans work than the host needs: it will slow down, and then switch itself off",
		Causes: "The fan board or its controller failed, so that several fans stand still at once; fan trays pulled for work; or hw.ipmi.fans asks for more than there are.",
		Remedy: "Move the domains away at once and replace the fans, whose alarms are correlated under this one.",
	},
	{
		Condition: CondCoolingRedundancy, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "heating-ventilation-cooling-system-problem", AbstractCause: CauseCompute,
		Text:   "the host's cooling is not redundant any more",
		Causes: "One fan has failed or was taken out, mostly with an alarm of its own.",
		Remedy: "Look at its fans and replace the one that failed.",
	},
	{
		Condition: CondProcessorFailed, State: StateDegraded, Severity: SeverityCritical, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "processor-problem", AbstractCause: CauseCompute,
		Text:   "a processor stopped, or was taken out of use",
		Causes: "IERR: often what a device or bus did to the processor rather than the processor itself. Thermal trip: a cooler that is loose, or dead fans. A failed start: a bad seat, bent pins, mixed steppings.",
		Remedy: "Move the domains away and look in the BMC's event log; replace the processor, or its cooler after a thermal trip.",
	},
	{
		Condition: CondMemoryFailed, State: StateDegraded, Severity: SeverityCritical, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "memory-mismatch", AbstractCause: CauseCompute,
		Text:   "a memory module failed its test or was taken out of use",
		Causes: "A worn-out module, one that is not seated well, a bad slot or memory channel of the processor, or firmware that switched it off after too many errors.",
		Remedy: "Move the domains away and replace the module.",
	},
	{
		Condition: CondDriveFailed, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "storage-capacity-problem", AbstractCause: CauseStorage,
		Text:   "a drive bay reports that its drive or array failed",
		Causes: "A drive that died or was pulled out of its array, a backplane or its cable, an array that lost more drives than it can do without.",
		Remedy: "Replace the drive; the alarms of the disks and arrays say whom it hits.",
	},
	{
		Condition: CondDriveDegraded, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "storage-capacity-problem", AbstractCause: CauseStorage,
		Text:   "a drive predicts its failure, or its array is not whole",
		Causes: "A drive whose own prediction (SMART) came true for the controller, one that is being rebuilt, a spare that is missing.",
		Remedy: "Replace the drive in time, or wait for the array to be rebuilt.",
	},
	{
		Condition: CondBusError, Mode: Impulse, Hold: bmcHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction", AbstractCause: CauseCompute,
		Text:   "a bus of the mainboard failed, or an interrupt said so",
		Causes: "A card that is loose or dying, a riser, a parity or system error on PCI; an NMI that somebody triggered by the front panel or the BMC to get a crash dump.",
		Remedy: "The kernel log and the BMC's event log name the part: reseat or replace the card or the mainboard.",
	},
	{
		Condition: CondWatchdogExpired, Mode: Impulse, Hold: bmcHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "timing-problem", AbstractCause: CauseCompute,
		Text:   "the host's watchdog was not fed: its operating system stood still",
		Causes: "A hang of kernel or userland, storage that the feeding daemon waited for, overload, or a debugger; also a daemon that was stopped without disarming the watchdog.",
		Remedy: "Look in the kernel log and the BMC's event log what it did last.",
	},
	{
		Condition: CondSystemStopped, Mode: Impulse, Hold: bmcHold, State: StateDegraded, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseCompute,
		Text:   "the operating system of the host stopped by a fault",
		Causes: "A panic of the kernel: a bug in it or a driver, bad memory, storage of the root file system that vanished. A shutdown that the BMC was told of as such is none.",
		Remedy: "Look for its last words: pstore, kdump, the BMC's event log.",
	},
	{
		Condition: CondChassis, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "enclosure-door-open", AbstractCause: CauseCompute,
		Text:   "the chassis or a part of it is open",
		Causes: "Somebody works at the machine; a cover that was not closed after work; an intrusion switch that is broken or was never reset.",
		Remedy: "Find out who is at the machine, and close it. Some BMCs say so until their event log is cleared.",
	},
	{
		Condition: CondHardwareFailed, State: StateDegraded, Severity: SeverityCritical, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction", AbstractCause: CauseCompute,
		Text:   "a part of the machine failed",
		Causes: "What no other condition fits: battery, cable, slot, module, management controller or a vendor's own sensor in a critical state. The name of the sensor says which.",
		Remedy: "The text names the BMC's sensor and what it says; the manual of the machine knows the part.",
	},
	{
		Condition: CondHardwareDegraded, State: StateAtRisk, Severity: SeverityWarning, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction", AbstractCause: CauseCompute,
		Text:   "a part of the machine is not as it should be",
		Causes: "A value beyond a threshold that has no condition of its own, a weak CMOS or cache battery, a part that is missing or not configured as the BMC expects.",
		Remedy: "The text names the BMC's sensor and what it says; the manual of the machine knows the part.",
	},
	{
		Condition: CondEventLogFull, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "storage-capacity-problem", AbstractCause: CauseHypervisor,
		Text:   "the BMC's event log is almost full: it may drop what comes next",
		Causes: "Nobody has cleared it for years, or one part writes without end: a flapping sensor, a memory module that corrects all the time.",
		Remedy: "Save it and clear it (`ipmitool sel save …`, `ipmitool sel clear`). Sensors are read all the same.",
	},
}
