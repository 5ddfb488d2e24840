package correlate

// What sensors measure, the kernel's or a BMC's.
const (
	CondTemperature Condition = "temperature"     // too hot, or too cold
	CondFan         Condition = "fan-failed"      // a fan is too slow or stands still
	CondVoltage     Condition = "voltage"         // a voltage is out of its limits
	CondPowerLimit  Condition = "power-threshold" // a current or the power that is drawn is
)

var sensorRules = []Rule{
	{
		Condition: CondTemperature, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "temperature-unacceptable", AbstractCause: CauseCompute,
		Text:   "a temperature is out of its limits",
		Causes: "Cooling of the room, a blocked filter or missing blind panel, failed fans, a heavy load on a hot day; too cold: a sensor that is broken or unplugged, mostly.",
		Remedy: "Look at fans, air filters and the temperature of the room; hotter still, the host switches itself off. Over the critical limit it is major.",
	},
	{
		Condition: CondFan, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "heating-ventilation-cooling-system-problem", AbstractCause: CauseCompute,
		Text:   "a fan is too slow or stands still",
		Causes: "A worn bearing, a connector that came loose, a cable in the blades, a fan that was taken out; a sensor for a fan that was never there.",
		Remedy: "Replace the fan. As long as the others cool enough nothing is lost.",
	},
	{
		Condition: CondVoltage, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "a voltage is out of its limits",
		Causes: "A power supply or regulator that is dying, an overload, a CMOS battery at its end (VBAT), a sensor whose scaling is wrong after a firmware update.",
		Remedy: "Look at the power supplies and the regulators of the mainboard; past the critical limit it is major.",
	},
	{
		Condition: CondPowerLimit, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "threshold-crossed", AbstractCause: CausePower,
		Text:   "a current, or the power that is drawn, is over its limit",
		Causes: "Load near what the supplies or the cap of the rack allow; one supply carrying for two; accelerators that peak together; a cap set too low.",
		Remedy: "Look what draws it; move domains away, or raise the cap that was set on the host.",
	},
}
