// Package ipmi is what the host's management controller knows. So far it holds decoders only, which nothing uses yet.
package ipmi

import (
	"errors"
	"math"
)

// Conversion turns a sensor's raw byte into a value in the sensor's unit (IPMI 2.0 section 36.3). It is a value and
// safe for concurrent use.
type Conversion struct {
	m, b       int
	rExp, bExp int
	format     byte // analogue data format: unsigned, ones' complement, two's complement, none
	linear     byte // linearisation
}

var (
	errShort     = errors.New("record is too short for a conversion")
	errNotAnalog = errors.New("sensor has no analogue reading")
	errNonLinear = errors.New("linearisation is not one of the specification")
)

// Offsets in a full sensor record, its five bytes of header included (IPMI 2.0 table 43-1).
const (
	offUnits  = 20
	offLinear = 23
	offM      = 24
	offB      = 26
	offExp    = 29
)

const lastLinear = 11

// ParseConversion reads the conversion of a full sensor record that starts with its header. Sensors whose factors
// depend on the reading, and those of vendors (linearisation 70h and above), are refused.
func ParseConversion(record []byte) (Conversion, error) {
	if len(record) <= offExp {
		return Conversion{}, errShort
	}
	c := Conversion{
		m:      signed(int(record[offM])|int(record[offM+1]>>6)<<8, 10),
		b:      signed(int(record[offB])|int(record[offB+1]>>6)<<8, 10),
		rExp:   signed(int(record[offExp]>>4), 4),
		bExp:   signed(int(record[offExp]&0x0f), 4),
		format: record[offUnits] >> 6,
		linear: record[offLinear] & 0x7f,
	}
	if c.format == 3 {
		return Conversion{}, errNotAnalog
	}
	if c.linear > lastLinear {
		return Conversion{}, errNonLinear
	}
	return c, nil
}

// Value converts a raw reading. ok is false where the linearisation has no finite value, which is no reading.
func (c Conversion) Value(raw byte) (value float64, ok bool) {
	x := int(raw)
	switch c.format {
	case 1:
		if raw >= 0x80 {
			x = -int(^raw)
		}
	case 2:
		x = signed(x, 8)
	}
	y := (float64(c.m*x) + float64(c.b)*math.Pow10(c.bExp)) * math.Pow10(c.rExp)
	y = linearise(c.linear, y)
	return y, !math.IsNaN(y) && !math.IsInf(y, 0)
}

func linearise(how byte, y float64) float64 {
	switch how {
	case 1:
		return math.Log(y)
	case 2:
		return math.Log10(y)
	case 3:
		return math.Log2(y)
	case 4:
		return math.Exp(y)
	case 5:
		return math.Pow(10, y)
	case 6:
		return math.Exp2(y)
	case 7:
		return 1 / y
	case 8:
		return y * y
	case 9:
		return y * y * y
	case 10:
		return math.Sqrt(y)
	case lastLinear:
		return math.Cbrt(y)
	}
	return y
}

// signed reads the low bits of v as two's complement.
func signed(v, bits int) int {
	if v >= 1<<(bits-1) {
		return v - 1<<bits
	}
	return v
}
