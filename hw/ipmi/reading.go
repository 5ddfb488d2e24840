package ipmi

import "fmt"

// Get Sensor Reading and its relatives, all of network function netSensor (IPMI 2.0, 35).
const (
	commandFactors    byte = 0x23
	commandThresholds byte = 0x27
	commandReading    byte = 0x2D
)

// threshold is one of the six of a threshold sensor, in the order of the bits by which BMCs name them.
type threshold uint8

const (
	lowerNonCritical threshold = iota
	lowerCritical
	lowerNonRecoverable
	upperNonCritical
	upperCritical
	upperNonRecoverable
	thresholdCount
)

func (t threshold) String() string {
	return [...]string{
		"lower non-critical", "lower critical", "lower non-recoverable", "upper non-critical", "upper critical", "upper non-recoverable", "?",
	}[min(t, thresholdCount)]
}

// grade is how bad it is to be beyond it.
func (t threshold) grade() grade {
	if t == lowerNonCritical || t == upperNonCritical {
		return gradeWarning
	}
	return gradeCritical
}

// thresholds are raw; only those whose bit is set in readable mean anything.
type thresholds struct {
	readable uint8
	raw      [thresholdCount]byte
}

func (t thresholds) of(n threshold) (raw byte, ok bool) {
	if n >= thresholdCount || t.readable&(1<<n) == 0 {
		return 0, false
	}
	return t.raw[n], true
}

// decodeThresholds reads the answer to Get Sensor Thresholds.
func decodeThresholds(b []byte) (thresholds, error) {
	if len(b) < 1+int(thresholdCount) {
		return thresholds{}, fmt.Errorf("read a sensor's thresholds: %d bytes", len(b))
	}
	return thresholds{readable: b[0] & 0x3F, raw: [thresholdCount]byte(b[1:])}, nil
}

// decodeFactors reads the answer to Get Sensor Reading Factors. They hold for the reading asked about and those up to next.
func decodeFactors(b []byte) (f factors, next byte, err error) {
	if len(b) < 7 {
		return factors{}, 0, fmt.Errorf("read a sensor's factors: %d bytes", len(b))
	}
	return readFactors([6]byte(b[1:])), b[0], nil
}

// reading is what a sensor says now.
type reading struct {
	raw byte
	// known is false when the BMC has no reading, as of a part that is absent, or does not look: then nothing else counts.
	known bool
	// states are the bits of a discrete sensor, or of the thresholds that the reading is beyond.
	states uint16
}

// decodeReading reads the answer to Get Sensor Reading.
func decodeReading(b []byte) (reading, error) {
	if len(b) < 2 {
		return reading{}, fmt.Errorf("read a sensor: %d bytes", len(b))
	}
	const unavailable, scanning = 0x20, 0x40
	r := reading{raw: b[0], known: b[1]&unavailable == 0 && b[1]&scanning != 0}
	if len(b) > 2 {
		r.states = uint16(b[2])
	}
	if len(b) > 3 {
		r.states |= uint16(b[3]&0x7F) << 8
	}
	return r, nil
}

// beyond lists the thresholds that the reading of a threshold sensor has passed, the worst of each side last.
func (r reading) beyond() []threshold {
	var all []threshold
	for t := range thresholdCount {
		if r.known && r.states&(1<<t) != 0 {
			all = append(all, t)
		}
	}
	return all
}
