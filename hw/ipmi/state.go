package ipmi

// grade is what a state says of the health of a part.
type grade uint8

const (
	gradeNone     grade = iota // nothing: progress, a button, an identity light
	gradeGood                  // there and well
	gradeAbsent                // not there
	gradeWarning               // in use, but not as it should be
	gradeCritical              // failed
)

func (g grade) String() string {
	switch g {
	case gradeNone:
		return "none"
	case gradeGood:
		return "good"
	case gradeAbsent:
		return "absent"
	case gradeWarning:
		return "warning"
	case gradeCritical:
		return "critical"
	}
	return "grade?"
}

// state is one that a sensor can be in.
type state struct {
	text  string
	grade grade
}

// Types of sensors (IPMI 2.0, table 42-3) that something depends on here.
const (
	typeChassis     byte = 0x05
	typeProcessor   byte = 0x07
	typePowerSupply byte = 0x08
	typePowerUnit   byte = 0x09
	typeMemory      byte = 0x0C
	typeDrive       byte = 0x0D
	typeFirmware    byte = 0x0F
	typeLogging     byte = 0x10
	typeSystem      byte = 0x12
	typeInterrupt   byte = 0x13
	typeChipSet     byte = 0x19
	typeCable       byte = 0x1B
	typeRestart     byte = 0x1D
	typeOSStop      byte = 0x20
	typeSlot        byte = 0x21
	typeWatchdog    byte = 0x23
	typePresence    byte = 0x25
	typeManagement  byte = 0x28
	typeBattery     byte = 0x29
	typeVersion     byte = 0x2B
	typeReplaceable byte = 0x2C
)

// Event types (IPMI 2.0, table 42-2) whose states are in the table below.
const (
	eventPredictive  byte = 0x04
	eventLimit       byte = 0x05
	eventPerformance byte = 0x06
	eventSeverity    byte = 0x07
	eventPresence    byte = 0x08
	eventAvailable   byte = 0x0A
	eventRedundancy  byte = 0x0B
)

// generic are the states of event types that mean the same on every sensor (IPMI 2.0, table 42-2). Those left out (usage,
// asserted or not, enabled or not, ACPI) say nothing without knowing the sensor.
var generic = map[byte][]state{
	eventPredictive:  {{"no failure predicted", gradeGood}, {"failure predicted", gradeWarning}},
	eventLimit:       {{"within its limit", gradeGood}, {"beyond its limit", gradeWarning}},
	eventPerformance: {{"performance met", gradeGood}, {"performance lags", gradeWarning}},
	eventSeverity: {
		{"well", gradeGood},
		{"non-critical, was well", gradeWarning},
		{"critical, was less severe", gradeCritical},
		{"non-recoverable, was less severe", gradeCritical},
		{"non-critical, was more severe", gradeWarning},
		{"critical, was non-recoverable", gradeCritical},
		{"non-recoverable", gradeCritical},
		{"monitored", gradeNone},
		{"informational", gradeNone},
	},
	eventPresence: {{"absent", gradeAbsent}, {"present", gradeGood}},
	eventAvailable: {
		{"running", gradeGood},
		{"in test", gradeNone},
		{"powered off", gradeNone},
		{"on line", gradeGood},
		{"off line", gradeNone},
		{"off duty", gradeNone},
		{"degraded", gradeWarning},
		{"saving power", gradeNone},
		{"installation error", gradeWarning},
	},
	eventRedundancy: {
		{"fully redundant", gradeGood},
		{"redundancy lost", gradeWarning},
		{"redundancy degraded", gradeWarning},
		{"not redundant, was redundant; enough to run", gradeWarning},
		{"not redundant, was insufficient; enough to run", gradeWarning},
		{"not redundant, not enough to run", gradeCritical},
		{"redundancy degraded, was full", gradeWarning},
		{"redundancy degraded, was none", gradeWarning},
	},
}

// specific are the states that a type of sensor has of its own (IPMI 2.0, table 42-3). Types whose states are about people,
// progress or power saving are left out.
var specific = map[byte][]state{
	typeChassis: {
		{"chassis opened", gradeWarning},
		{"drive bay opened", gradeWarning},
		{"I/O card area opened", gradeWarning},
		{"processor area opened", gradeWarning},
		{"network cable unplugged", gradeWarning},
		{"undocked without leave", gradeWarning},
		{"fan area opened", gradeWarning},
	},
	typeProcessor: {
		{"internal error (IERR)", gradeCritical},
		{"thermal trip", gradeCritical},
		{"self-test failed (FRB1)", gradeCritical},
		{"hung in POST (FRB2)", gradeCritical},
		{"did not start (FRB3)", gradeCritical},
		{"configuration error", gradeCritical},
		{"uncorrectable error of the processor complex", gradeCritical},
		{"present", gradeGood},
		{"disabled", gradeCritical},
		{"terminator present", gradeNone},
		{"throttled", gradeWarning},
		{"uncorrectable machine check", gradeCritical},
		{"correctable machine check", gradeWarning},
	},
	typePowerSupply: {
		{"present", gradeGood},
		{"failed", gradeCritical},
		{"failure predicted", gradeWarning},
		{"input lost", gradeCritical},
		{"input lost or out of range", gradeCritical},
		{"input out of range", gradeWarning},
		{"configuration error", gradeWarning},
		{"inactive, in standby", gradeNone},
	},
	typePowerUnit: {
		{"off", gradeNone},
		{"power cycle", gradeNone},
		{"240 VA power-down", gradeCritical},
		{"interlock power-down", gradeCritical},
		{"input lost", gradeCritical},
		{"soft power control failed", gradeWarning},
		{"failed", gradeCritical},
		{"failure predicted", gradeWarning},
	},
	typeMemory: {
		{"correctable error", gradeWarning},
		{"uncorrectable error", gradeCritical},
		{"parity error", gradeCritical},
		{"scrub failed, a bit is stuck", gradeCritical},
		{"disabled", gradeCritical},
		{"too many correctable errors", gradeWarning},
		{"present", gradeGood},
		{"configuration error", gradeWarning},
		{"spare", gradeNone},
		{"throttled", gradeWarning},
		{"critically hot", gradeCritical},
	},
	typeDrive: {
		{"present", gradeGood},
		{"fault", gradeCritical},
		{"failure predicted", gradeWarning},
		{"hot spare", gradeNone},
		{"array check in progress", gradeNone},
		{"in a critical array", gradeWarning},
		{"in a failed array", gradeCritical},
		{"rebuilding", gradeWarning},
		{"rebuild aborted", gradeWarning},
	},
	typeFirmware: {{"error in POST", gradeWarning}, {"hung", gradeCritical}, {"progress", gradeNone}},
	typeLogging: {
		{"correctable memory errors no longer logged", gradeWarning},
		{"a kind of event no longer logged", gradeNone},
		{"event log cleared", gradeNone},
		{"events no longer logged", gradeWarning},
		{"event log full", gradeWarning},
		{"event log almost full", gradeWarning},
		{"correctable machine checks no longer logged", gradeWarning},
	},
	typeSystem: {
		{"reconfigured", gradeNone},
		{"vendor's boot event", gradeNone},
		{"undetermined hardware failure", gradeCritical},
		{"auxiliary log written", gradeNone},
		{"platform event filter acted", gradeNone},
		{"clock set", gradeNone},
	},
	typeInterrupt: {
		{"front panel NMI", gradeWarning},
		{"bus timeout", gradeCritical},
		{"I/O channel check NMI", gradeCritical},
		{"software NMI", gradeWarning},
		{"PCI parity error", gradeCritical},
		{"PCI system error", gradeCritical},
		{"EISA fail-safe timeout", gradeCritical},
		{"correctable bus error", gradeWarning},
		{"uncorrectable bus error", gradeCritical},
		{"fatal NMI", gradeCritical},
		{"fatal bus error", gradeCritical},
		{"bus degraded", gradeWarning},
	},
	typeChipSet: {{"soft power control failed", gradeWarning}, {"thermal trip", gradeCritical}},
	typeCable:   {{"connected", gradeGood}, {"wrong or not connected", gradeWarning}},
	typeRestart: {
		{"powered up", gradeNone},
		{"hard reset", gradeNone},
		{"warm reset", gradeNone},
		{"network boot asked for", gradeNone},
		{"booted to diagnostics", gradeNone},
		{"hard reset by software", gradeNone},
		{"warm reset by software", gradeNone},
		{"restarted", gradeNone},
	},
	typeOSStop: {
		{"stopped while loading", gradeCritical},
		{"stopped while running", gradeCritical},
		{"graceful stop", gradeNone},
		{"graceful shutdown", gradeNone},
		{"shut down by the platform event filter", gradeNone},
		{"agent does not respond", gradeNone},
	},
	typeSlot: {
		{"fault", gradeCritical},
		{"identified", gradeNone},
		{"installed", gradeGood},
		{"ready for installation", gradeNone},
		{"ready for removal", gradeNone},
		{"powered off", gradeNone},
		{"removal asked for", gradeNone},
		{"interlock open", gradeWarning},
		{"disabled", gradeNone},
		{"spare", gradeNone},
	},
	typeWatchdog: {
		{"timer expired", gradeWarning},
		{"hard reset", gradeCritical},
		{"powered down", gradeCritical},
		{"power cycled", gradeCritical},
		{},
		{},
		{},
		{},
		{"about to expire", gradeWarning},
	},
	typePresence: {{"present", gradeGood}, {"absent", gradeAbsent}, {"disabled", gradeNone}},
	typeManagement: {
		{"a sensor is degraded or can't be reached", gradeWarning},
		{"a controller is degraded or can't be reached", gradeWarning},
		{"a controller is off line", gradeWarning},
		{"a controller can't be reached", gradeWarning},
		{"a sensor failed", gradeWarning},
		{"an inventory device failed", gradeWarning},
	},
	typeBattery: {{"low", gradeWarning}, {"failed", gradeCritical}, {"present", gradeGood}},
	typeVersion: {
		{"hardware changed", gradeNone},
		{"firmware or software changed", gradeNone},
		{"hardware does not fit", gradeWarning},
		{"firmware or software does not fit", gradeWarning},
		{"hardware version not supported", gradeWarning},
		{"firmware or software version not supported", gradeWarning},
		{"hardware change done", gradeNone},
		{"firmware or software change done", gradeNone},
	},
	typeReplaceable: {
		{"not installed", gradeAbsent},
		{"inactive", gradeNone},
		{"activation asked for", gradeNone},
		{"activating", gradeNone},
		{"active", gradeGood},
		{"deactivation asked for", gradeNone},
		{"deactivating", gradeNone},
		{"communication lost", gradeWarning},
	},
}

// stateOf says what a state of a discrete sensor means; false when that is not known here.
func stateOf(event, kind, offset byte) (state, bool) {
	states := generic[event]
	if event == eventSpecific {
		states = specific[kind]
	}
	if int(offset) >= len(states) || states[offset].text == "" {
		return state{}, false
	}
	return states[offset], true
}

// standing lists the states that a sensor is in, as far as they are known here: of a threshold sensor the thresholds that it
// is beyond.
func (s *sensor) standing(r reading) []state {
	if !r.known {
		return nil
	}
	var all []state
	if s.event == eventThreshold {
		for _, t := range r.beyond() {
			all = append(all, state{t.String(), t.grade()})
		}
		return all
	}
	for offset := range byte(15) {
		if r.states&(1<<offset) == 0 {
			continue
		}
		if st, ok := stateOf(s.event, s.kind, offset); ok {
			all = append(all, st)
		}
	}
	return all
}

// present says whether the part is there; told is false when the sensor does not say. A part that is not there has no health.
func (s *sensor) present(r reading) (present, told bool) {
	has := func(offset byte) bool { return r.states&(1<<offset) != 0 }
	switch {
	case !r.known:
		return false, false
	case s.event == eventPresence:
		return has(1) && !has(0), has(0) != has(1)
	case s.event != eventSpecific:
		return false, false
	case s.kind == typePresence:
		there := has(0) || has(2) // disabled is there, too
		return there && !has(1), there != has(1)
	case s.kind == typeReplaceable:
		return r.states != 0 && !has(0), r.states != 0
	}
	offset, ok := map[byte]byte{typeProcessor: 7, typePowerSupply: 0, typeMemory: 6, typeDrive: 0, typeBattery: 2}[s.kind]
	if !ok || s.states&(1<<offset) == 0 { // it can't show that
		return false, false
	}
	return has(offset), true
}
