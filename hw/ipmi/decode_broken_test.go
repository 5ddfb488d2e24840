package ipmi

import (
	"slices"
	"testing"
)

func TestAnswersThatAreTooShortAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		least  int
		decode func([]byte) error
	}{
		"device id":     {11, func(b []byte) error { _, err := decodeController(b); return err }},
		"chassis":       {3, func(b []byte) error { _, err := decodeChassis(b); return err }},
		"restart cause": {1, func(b []byte) error { _, err := decodeRestartCause(b); return err }},
		"log":           {14, func(b []byte) error { _, err := decodeLogInfo(b); return err }},
		"clock":         {4, func(b []byte) error { _, err := decodeStamp(b); return err }},
		"reading":       {2, func(b []byte) error { _, err := decodeReading(b); return err }},
		"thresholds":    {7, func(b []byte) error { _, err := decodeThresholds(b); return err }},
		"factors":       {7, func(b []byte) error { _, _, err := decodeFactors(b); return err }},
	} {
		for n := range c.least {
			if c.decode(make([]byte, n)) == nil {
				t.Errorf("%s of %d bytes is taken", name, n)
			}
		}
		if err := c.decode(make([]byte, c.least)); err != nil {
			t.Errorf("%s of %d bytes: %v", name, c.least, err)
		}
	}
}

func TestARecordEndsWhereItSays(t *testing.T) {
	b := compact(1, 0, "PSU")
	b[31] = textLatin<<6 | 9 // more than there is
	p, errs := decodeRecords([][]byte{append(b, "rest"...)})
	if len(errs) != 0 || len(p.sensors) != 1 || p.sensors[0].name != "PSU" {
		t.Errorf("%+v, %v", p.sensors, errs)
	}
}

func TestSensorFFIsNone(t *testing.T) {
	b := compact(3, 1, "PSU")
	b[7] = 0xFD
	p, _ := decodeRecords([][]byte{b})
	if len(p.sensors) != 2 || p.sensors[1].num != 0xFE {
		t.Errorf("%+v", p.sensors)
	}
}

func TestASensorWithoutThresholdsHasNoneWhateverTheMaskSays(t *testing.T) {
	for _, f := range fixtures(t) {
		for _, b := range f.records {
			if b[3] != recordFull {
				continue
			}
			b[11] &^= 0x0C
			b[18] = 0x3F
			p, errs := decodeRecords([][]byte{b})
			if len(errs) != 0 || p.sensors[0].thresholds.readable != 0 {
				t.Errorf("% X: %+v, %v", b, p.sensors, errs)
			}
		}
	}
}

// inventoryOf is one with a product area of these fields, in this language.
func inventoryOf(language byte, fields ...[]byte) []byte {
	area := []byte{1, 0, language}
	for _, f := range fields {
		area = append(area, f...)
	}
	for len(area)%8 != 7 {
		area = append(area, 0)
	}
	area[1] = byte(len(area)/8 + 1)
	area = append(area, -checksum(area))
	b := []byte{1, 0, 0, 0, 1, 0, 0}
	return append(append(b, -checksum(b)), area...)
}

func TestInventoriesInOtherLanguages(t *testing.T) {
	for _, c := range []struct {
		language byte
		text     string
		want     string
	}{
		{25, "\x0E\x4E", "?N"}, // English
		{21, "\x0E\x4E", "与"},
		{21, "\x2D\x4E\xFD\x56", "中国"},
		{21, "Acme", "Acme"}, // says so, and isn't
		{21, "\xC4cm", "Äcm"},
	} {
		field := append([]byte{textLatin<<6 | byte(len(c.text))}, c.text...)
		f, err := decodeInventory(inventoryOf(c.language, field, []byte{0xC1}))
		if err != nil || f.product.maker != c.want || len(f.damaged) != 0 {
			t.Errorf("language %d: %q (%v, damaged %v), not %q", c.language, f.product.maker, err, f.damaged, c.want)
		}
	}
}

func TestAnInventoryWhoseHeaderIsWrongIsNone(t *testing.T) {
	b := inventoryOf(0, []byte{0xC1})
	for i := range 8 {
		bad := slices.Clone(b)
		bad[i]++
		if f, err := decodeInventory(bad); err == nil {
			t.Errorf("% X is taken: %+v", bad, f)
		}
	}
}

func TestAFieldDoesNotReachIntoTheChecksum(t *testing.T) {
	b := inventoryOf(0, []byte{0xC4, 'A', 'c', 'm'}) // one short: the sum would be the fourth
	if f, err := decodeInventory(b); err != nil || f.product.maker != "" {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestAVendorsNumberHasTwentyBits(t *testing.T) {
	c, err := decodeController([]byte{0x20, 0x81, 0x82, 0x15, 0x02, 0x9F, 0x34, 0x12, 0xF1, 0x42, 0x00, 1, 2, 3, 4})
	if err != nil || c.vendor != 0x11234 || !c.updating || c.firmware != "2.15" || c.ipmi != "2.0" || !c.deviceRecords || len(c.auxiliary) != 4 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestLocatorsVendorsRecordsAndOthersAreKeptApart(t *testing.T) {
	p, errs := decodeRecords([][]byte{
		{1, 0, 0x51, recordGeneric, 14, 0x20, 0xA1, 0, 0, 0, 0x08, 0, 32, 0x81, 0, 0xC3, 'S', 'P', 'D'},
		{2, 0, 0x51, recordController, 14, 0x24, 0, 0, 0, 0, 0, 0, 46, 1, 0, 0xC3, 'S', 'a', 't'},
		{3, 0, 0x51, recordOEM, 4, 0xA2, 0x02, 0, 7},
		{4, 0, 0x51, 0x14, 0},
	})
	want := []device{
		{record: 1, kind: recordGeneric, name: "SPD", entity: entity{32, 1}, address: 0xA0},
		{record: 2, kind: recordController, name: "Sat", entity: entity{46, 1}, address: 0x24},
	}
	if len(errs) != 0 || !slices.Equal(p.devices, want) || len(p.oem) != 1 || p.other != 1 || p.of(sensorKey{}) != nil {
		t.Errorf("%+v, %v", p, errs)
	}
}

func TestSensorsOfPresenceSayWhetherThePartIsThere(t *testing.T) {
	for _, c := range []struct {
		kind, event   byte
		states        uint16
		present, told bool
	}{
		{0x04, eventPresence, 0x02, true, true},
		{0x04, eventPresence, 0x01, false, true},
		{0x04, eventPresence, 0x00, false, false},
		{typePresence, eventSpecific, 0x01, true, true},
		{typePresence, eventSpecific, 0x02, false, true},
		{typePresence, eventSpecific, 0x04, true, true},   // disabled
		{typePresence, eventSpecific, 0x03, false, false}, // contradicts itself
		{typePresence, eventSpecific, 0x00, false, false},
		{typeReplaceable, eventSpecific, 0x10, true, true},
		{typeReplaceable, eventSpecific, 0x01, false, true},
		{typePowerSupply, eventRedundancy, 0x01, false, false},
		{typeChassis, eventSpecific, 0x01, false, false},
	} {
		s := &sensor{kind: c.kind, event: c.event, states: 0x7FFF}
		if present, told := s.present(reading{known: true, states: c.states}); present != c.present || told != c.told {
			t.Errorf("%+v: present %t, told %t", c, present, told)
		}
	}
}
