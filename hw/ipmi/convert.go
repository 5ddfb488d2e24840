package ipmi

import (
	"math"
	"strings"
)

// conversion makes a value of a raw reading: y = L[(M·x + B·10^K1)·10^K2] (IPMI 2.0, 36.3).
type conversion struct {
	format byte // of x
	linear byte // L
	factors
}

// factors are M, B and the two exponents.
type factors struct {
	m, b   int16
	k1, k2 int8
}

// Formats of a reading; 11b is none.
const (
	formatUnsigned byte = iota
	formatOnes
	formatTwos
	formatNone
)

// nonLinear begins the linearisations whose factors hold for one reading only and are asked for with it.
const nonLinear = 0x70

// readFactors takes the six bytes that hold them, in a record and in the answer to Get Sensor Reading Factors.
func readFactors(b [6]byte) factors {
	return factors{
		m:  signed10(b[0], b[1]),
		b:  signed10(b[2], b[3]),
		k1: signed4(b[5]),
		k2: signed4(b[5] >> 4),
	}
}

// signed10 is a number of ten bits in two's complement; the upper two are on top of the second byte.
func signed10(low, high byte) int16 { return int16(uint16(high)<<8&0xC000|uint16(low)<<6) >> 6 }

func signed4(b byte) int8 { return int8(b<<4) >> 4 }

// perReading reports whether each reading has factors of its own.
func (c conversion) perReading() bool { return c.linear >= nonLinear }

// value converts a raw reading or threshold. It is false when there is no number: the sensor has none, the linearisation is
// unknown, or the result is not finite, as that of 1/x at zero.
func (c conversion) value(raw byte) (float64, bool) {
	x := float64(raw)
	switch c.format {
	case formatUnsigned:
	case formatOnes:
		if raw >= 0x80 {
			x = -float64(^raw)
		}
	case formatTwos:
		x = float64(int8(raw))
	default:
		return 0, false
	}
	y := (float64(c.m)*x + float64(c.b)*math.Pow10(int(c.k1))) * math.Pow10(int(c.k2))
	switch c.linear {
	case 0x00:
	case 0x01:
		y = math.Log(y)
	case 0x02:
		y = math.Log10(y)
	case 0x03:
		y = math.Log2(y)
	case 0x04:
		y = math.Exp(y)
	case 0x05:
		y = math.Pow(10, y)
	case 0x06:
		y = math.Exp2(y)
	case 0x07:
		y = 1 / y
	case 0x08:
		y *= y
	case 0x09:
		y = y * y * y
	case 0x0A:
		y = math.Sqrt(y)
	case 0x0B:
		y = math.Cbrt(y)
	default:
		if !c.perReading() {
			return 0, false
		}
	}
	return y, !math.IsNaN(y) && !math.IsInf(y, 0)
}

// unit is what a reading counts.
type unit struct {
	flags          byte // rate, how the modifier applies, percentage (IPMI 2.0, table 43-1, sensor units 1)
	base, modifier byte
}

// baseUnits are the short signs of IPMI 2.0, table 43-15; those that no server measures are left out.
var baseUnits = map[byte]string{
	1: "°C", 2: "°F", 3: "K", 4: "V", 5: "A", 6: "W", 7: "J", 8: "C", 9: "VA", 12: "lx", 14: "kPa", 15: "psi", 16: "N",
	17: "CFM", 18: "RPM", 19: "Hz", 20: "µs", 21: "ms", 22: "s", 23: "min", 24: "h", 25: "d", 32: "mm", 33: "cm", 34: "m",
	37: "l", 41: "revolutions", 42: "cycles", 50: "H", 52: "F", 54: "Ω", 60: "dB", 61: "dBA", 66: "bit", 67: "kbit", 68: "Mbit",
	69: "Gbit", 70: "byte", 71: "kB", 72: "MB", 73: "GB", 80: "retries", 81: "resets", 82: "overruns", 83: "underruns",
	84: "collisions", 85: "packets", 86: "messages", 87: "characters", 88: "errors", 89: "corrected errors",
	90: "uncorrected errors", 91: "fatal errors", 92: "g",
}

var rates = [...]string{"", "µs", "ms", "s", "min", "h", "d", ""}

// String is the sign, empty when the unit is unspecified or not known here.
func (u unit) String() string {
	s := baseUnits[u.base]
	if m := baseUnits[u.modifier]; m != "" {
		switch u.flags >> 1 & 3 {
		case 1:
			s += "/" + m
		case 2:
			s += "·" + m
		}
	}
	if u.flags&1 != 0 {
		s = strings.TrimSuffix("% "+s, " ")
	}
	if r := rates[u.flags>>3&7]; r != "" {
		s += "/" + r
	}
	return s
}
