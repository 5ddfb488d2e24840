package ipmi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Types of sensors that have numbers, or that several conditions depend on (IPMI 2.0, table 42-3).
const (
	typeTemperature byte = 0x01
	typeVoltage     byte = 0x02
	typeCurrent     byte = 0x03
	typeFan         byte = 0x04
	typeCooling     byte = 0x0A
	typeOtherUnits  byte = 0x0B
)

// fault is what a state means to us.
type fault struct {
	condition correlate.Condition
	severity  correlate.Severity // unset: the rule's
	text      string
}

// kindOf is the kind of resource that a sensor speaks of: a part, when it tells of the part's health as a whole.
func kindOf(s *sensor) correlate.Kind {
	switch {
	case s.event == eventRedundancy: // of several parts
		return correlate.KindSensor
	case s.kind == typeFan:
		return correlate.KindFan
	case s.event == eventThreshold:
		return correlate.KindSensor
	}
	switch s.kind {
	case typeProcessor:
		return correlate.KindCPU
	case typeMemory:
		return correlate.KindDIMM
	case typePowerSupply:
		return correlate.KindPSU
	case typeDrive:
		return correlate.KindDisk
	}
	return correlate.KindSensor
}

// beyondLimit is what it means that a reading is beyond a threshold.
func beyondLimit(kind byte, t threshold) fault {
	f := fault{condition: correlate.CondHardwareDegraded}
	switch kind {
	case typeTemperature:
		f.condition = correlate.CondTemperature
	case typeVoltage:
		f.condition = correlate.CondVoltage
	case typeFan, typeCooling:
		f.condition = correlate.CondFan
		if t.grade() == gradeWarning {
			f.condition = correlate.CondFanDegraded
		}
		return f
	case typeCurrent, typePowerSupply, typePowerUnit, typeOtherUnits:
		f.condition = correlate.CondPowerLimit
	}
	switch t {
	case lowerCritical, upperCritical:
		f.severity = correlate.SeverityMajor
	case lowerNonRecoverable, upperNonRecoverable:
		f.severity = correlate.SeverityCritical
	case lowerNonCritical, upperNonCritical, thresholdCount:
	}
	return f
}

// inState is what a state of a discrete sensor means; false when it is no fault.
func inState(kind, event, offset byte) (fault, bool) {
	st, known := stateOf(event, kind, offset)
	if !known || st.grade != gradeWarning && st.grade != gradeCritical {
		return fault{}, false
	}
	failed := st.grade == gradeCritical
	pick := func(degraded, bad correlate.Condition) fault {
		if failed {
			return fault{condition: bad, text: st.text}
		}
		return fault{condition: degraded, text: st.text}
	}
	if event == eventRedundancy {
		f := fault{condition: correlate.CondHardwareDegraded, text: st.text}
		switch kind {
		case typePowerSupply, typePowerUnit:
			f.condition = correlate.CondPowerRedundancy
		case typeFan, typeCooling, typeTemperature:
			f.condition = correlate.CondCoolingRedundancy
		}
		if failed {
			f.severity = correlate.SeverityCritical
		}
		return f, true
	}
	own := event == eventSpecific
	switch kind {
	case typeTemperature:
		f := fault{condition: correlate.CondTemperature, text: st.text}
		if failed {
			f.severity = correlate.SeverityMajor
		}
		return f, true
	case typeVoltage:
		f := fault{condition: correlate.CondVoltage, text: st.text}
		if failed {
			f.severity = correlate.SeverityMajor
		}
		return f, true
	case typeCurrent:
		return fault{condition: correlate.CondPowerLimit, text: st.text}, true
	case typeFan, typeCooling:
		return pick(correlate.CondFanDegraded, correlate.CondFan), true
	case typePowerSupply:
		if own && (offset == 3 || offset == 4) {
			return fault{condition: correlate.CondPSUInput, text: st.text}, true
		}
		return pick(correlate.CondPSUDegraded, correlate.CondPSUFailed), true
	case typePowerUnit:
		return pick(correlate.CondHardwareDegraded, correlate.CondPowerUnit), true
	case typeProcessor:
		switch {
		case own && offset == 10:
			return fault{condition: correlate.CondThrottled, text: st.text}, true
		case own && offset == 11:
			return fault{condition: correlate.CondMachineCheck, text: st.text}, true
		case own && offset == 12:
			return fault{condition: correlate.CondCorrected, text: st.text}, true
		}
		return pick(correlate.CondHardwareDegraded, correlate.CondProcessorFailed), true
	case typeMemory:
		switch {
		case own && offset == 0:
			return fault{condition: correlate.CondCorrected, text: st.text}, true
		case own && (offset == 1 || offset == 2):
			return fault{condition: correlate.CondMemoryUncorrected, text: st.text}, true
		}
		return pick(correlate.CondMemoryDegraded, correlate.CondMemoryFailed), true
	case typeDrive:
		return pick(correlate.CondDriveDegraded, correlate.CondDriveFailed), true
	case typeInterrupt:
		if own && offset == 7 {
			return fault{condition: correlate.CondCorrected, text: st.text}, true
		}
		f := fault{condition: correlate.CondBusError, text: st.text}
		if !failed {
			f.severity = correlate.SeverityWarning
		}
		return f, true
	case typeWatchdog:
		f := fault{condition: correlate.CondWatchdogExpired, text: st.text}
		if !failed {
			f.severity = correlate.SeverityMajor
		}
		return f, true
	case typeOSStop:
		return fault{condition: correlate.CondSystemStopped, text: st.text}, true
	case typeChassis:
		return fault{condition: correlate.CondChassis, text: st.text}, true
	}
	return pick(correlate.CondHardwareDegraded, correlate.CondHardwareFailed), true
}

// ofHost reports whether a condition is the whole machine's, whichever sensor tells it.
func ofHost(c correlate.Condition) bool {
	return slices.Contains([]correlate.Condition{
		correlate.CondBusError, correlate.CondWatchdogExpired, correlate.CondSystemStopped, correlate.CondPowerUnit,
	}, c)
}

// says lists the faults that a sensor tells of by its reading.
func (s *sensor) says(r reading, limits thresholds) []fault {
	if !r.known {
		return nil
	}
	var all []fault
	if s.event == eventThreshold {
		for _, t := range r.beyond() {
			f := beyondLimit(s.kind, t)
			f.text = s.name + ": " + s.value(r.raw) + ", beyond the " + t.String() + " threshold" + s.limit(t, limits)
			all = append(all, f)
		}
		return all
	}
	if present, told := s.present(r); told && !present {
		return nil
	}
	for offset := range byte(15) {
		if r.states&(1<<offset) == 0 {
			continue
		}
		if f, ok := inState(s.kind, s.event, offset); ok {
			f.text = s.name + ": " + f.text
			all = append(all, f)
		}
	}
	return all
}

// value is a reading with its unit; raw when it can't be converted.
func (s *sensor) value(raw byte) string {
	v, ok := s.conversion.value(raw)
	if !ok {
		return fmt.Sprintf("raw reading %02Xh", raw)
	}
	return strings.TrimSpace(fmt.Sprintf("%.4g %s", v, s.unit))
}

func (s *sensor) limit(t threshold, limits thresholds) string {
	raw, ok := limits.of(t)
	if !ok {
		return ""
	}
	return " of " + s.value(raw)
}

// tells gives the fault that an event speaks of; false when it speaks of none. s is nil when no record describes its sensor.
func (e *logEvent) tells(s *sensor) (fault, bool) {
	if e.kind != kindEvent {
		return fault{}, false
	}
	name := fmt.Sprintf("sensor %02Xh", e.sensor.num)
	if s != nil && s.name != "" {
		name = s.name
	}
	if t, _, ok := e.threshold(); ok {
		f := beyondLimit(e.of, t)
		f.text = name + ": beyond the " + t.String() + " threshold"
		raw, limit, hasReading, hasLimit := e.measured()
		if s != nil && hasReading {
			f.text = name + ": " + s.value(raw) + ", beyond the " + t.String() + " threshold"
			if hasLimit {
				f.text += " of " + s.value(limit)
			}
		}
		return f, true
	}
	f, ok := inState(e.of, e.event, e.offset)
	if !ok {
		return fault{}, false
	}
	f.text = name + ": " + f.text
	if detail := e.detail(); detail != "" {
		f.text += " (" + detail + ")"
	}
	return f, true
}
