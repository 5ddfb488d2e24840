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
		Remedy: "Look at fans, air filters and the temperature of the room; hotter still, the host switches itself off. Over the critical limit it is major.",
	},
	{
		Condition: CondFan, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeEnvironmental, ProbableCause: "heating-ventilation-cooling-system-problem", AbstractCause: CauseCompute,
		Text:   "a fan is too slow or stands still",
		Remedy: "Replace the fan. As long as the others cool enough nothing is lost.",
	},
	{
		Condition: CondVoltage, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "power-problem", AbstractCause: CausePower,
		Text:   "a voltage is out of its limits",
		Remedy: "Look at the power supplies and the regulators of the mainboard; past the critical limit it is major.",
	},
	{
		Condition: CondPowerLimit, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "threshold-crossed", AbstractCause: CausePower,
		Text:   "a current, or the power that is drawn, is over its limit",
		Remedy: "Look what draws it; move domains away, or raise the cap that was set on the host.",
	},
}
