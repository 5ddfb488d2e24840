package ipmi

import (
	"errors"
	"math"
	"testing"
)

func record(units, linear byte, m, b int, exp byte) []byte {
	r := make([]byte, 48)
	r[offUnits], r[offLinear], r[offExp] = units, linear, exp
	r[offM], r[offM+1] = byte(m&0xff), byte(m>>8&3)<<6
	r[offB], r[offB+1] = byte(b&0xff), byte(b>>8&3)<<6
	return r
}

func TestAReadingIsConvertedByTheFactorsOfItsRecord(t *testing.T) {
	for _, tc := range []struct {
		name   string
		record []byte
		raw    byte
		want   float64
	}{
		{"unsigned", record(0, 0, 1, 0, 0), 0xff, 255},
		{"ones' complement", record(0x40, 0, 1, 0, 0), 0xfe, -1},
		{"ones' complement, minus zero", record(0x40, 0, 1, 0, 0), 0xff, 0},
		{"two's complement", record(0x80, 0, 1, 0, 0), 0xff, -1},
		{"negative factor", record(0, 0, -512, 0, 0), 2, -1024},
		{"offset and exponents", record(0, 0, 2, -5, 0xe1), 100, 1.5},
		{"smallest exponents", record(0, 0, 0, 1, 0x88), 0, 1e-16},
		{"ln", record(0, 1, 1, 0, 0), 1, 0},
		{"log10", record(0, 2, 1, 0, 0), 100, 2},
		{"log2", record(0, 3, 1, 0, 0), 8, 3},
		{"e", record(0, 4, 1, 0, 0), 1, math.E},
		{"exp10", record(0, 5, 1, 0, 0), 2, 100},
		{"exp2", record(0, 6, 1, 0, 0), 4, 16},
		{"reciprocal", record(0, 7, 1, 0, 0), 4, 0.25},
		{"square", record(0, 8, 1, 0, 0), 5, 25},
		{"cube", record(0, 9, 1, 0, 0), 3, 27},
		{"square root", record(0, 10, 1, 0, 0), 49, 7},
		{"cube root", record(0x80, 11, 1, 0, 0), 0xf8, -2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := ParseConversion(tc.record)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := c.Value(tc.raw)
			if !ok || math.Abs(got-tc.want) > 1e-9*math.Max(1e-9, math.Abs(tc.want)) {
				t.Errorf("Value(%#x) = %v, %v, want %v", tc.raw, got, ok, tc.want)
			}
		})
	}
}

func TestWhatHasNoValueIsNoReading(t *testing.T) {
	c, err := ParseConversion(record(0, 7, 1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := c.Value(0); ok {
		t.Errorf("1/0 = %v is taken as a reading", v)
	}
}

func TestRecordsWithoutAUsableConversionAreRefused(t *testing.T) {
	for _, tc := range []struct {
		record []byte
		want   error
	}{
		{make([]byte, offExp), errShort},
		{record(0xc0, 0, 1, 0, 0), errNotAnalog},
		{record(0, 0x70, 1, 0, 0), errNonLinear},
	} {
		if _, err := ParseConversion(tc.record); !errors.Is(err, tc.want) {
			t.Errorf("got %v, want %v", err, tc.want)
		}
	}
}

func FuzzConversion(f *testing.F) {
	f.Add(record(0x80, 0, -3, 7, 0xe1), byte(0x90))
	f.Fuzz(func(t *testing.T, rec []byte, raw byte) {
		c, err := ParseConversion(rec)
		if err != nil {
			return
		}
		if v, ok := c.Value(raw); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%v is taken as a reading", v)
		}
	})
}
