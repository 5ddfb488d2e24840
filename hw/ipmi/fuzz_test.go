package ipmi

import (
	"math"
	"testing"
	"unicode"
)

func checkText(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		for _, r := range s {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q can't be printed", s)
			}
		}
	}
}

func FuzzSensorRecords(f *testing.F) {
	for _, x := range fixtures(f) {
		for _, b := range x.records {
			f.Add(b, byte(0))
		}
	}
	f.Add(compact(0x13, 0xFF, "PSU"), byte(0xFF))
	f.Fuzz(func(t *testing.T, b []byte, raw byte) {
		p, errs := decodeRecords([][]byte{b})
		if len(errs) > 1 || len(errs) == 1 && len(p.sensors)+len(p.devices)+len(p.groups)+len(p.oem)+p.other != 0 {
			t.Fatalf("a record is read and broken: %+v, %v", p, errs)
		}
		if len(p.sensors) > 15 || len(p.devices) > 1 || len(p.groups) > 1 {
			t.Fatalf("one record is %+v", p)
		}
		for i := range p.sensors {
			s := &p.sensors[i]
			checkText(t, s.name, s.unit.String())
			if v, ok := s.conversion.value(raw); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
				t.Fatalf("%02X is %v", raw, v)
			}
			if p.of(s.sensorKey) == nil {
				t.Fatalf("%+v isn't found", s)
			}
			r := reading{raw: raw, known: true, states: uint16(raw) | uint16(raw)<<7}
			s.present(r)
			for _, st := range s.standing(r) {
				if st.text == "" {
					t.Fatalf("%+v has a state without a name", s)
				}
			}
		}
		for _, d := range p.devices {
			checkText(t, d.name)
		}
		for _, g := range p.groups {
			if len(g.members) > 256 {
				t.Fatalf("%d members", len(g.members))
			}
		}
	})
}

func FuzzLogRecord(f *testing.F) {
	for _, x := range fixtures(f) {
		for _, b := range x.events {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r logRecord
		copy(r[:], b)
		e := decodeEvent(r)
		st, ok := e.state()
		if ok == (st.text == "") || ok && e.kind != kindEvent {
			t.Fatalf("%+v is in state %+v (%t)", e, st, ok)
		}
		e.measured()
		checkText(t, e.detail(), st.text)
		if (e.kind == kindEvent) != (e.raw == nil) {
			t.Fatalf("%+v", e)
		}
	})
}

func FuzzInventory(f *testing.F) {
	for _, x := range fixtures(f) {
		for _, b := range x.inventories {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeInventory(b)
		if err != nil && len(i.damaged) != 0 {
			t.Fatalf("%+v, %v", i, err)
		}
		checkText(t, i.chassis.part, i.chassis.serial, i.board.maker, i.board.name, i.board.serial, i.board.part,
			i.product.maker, i.product.name, i.product.part, i.product.version, i.product.serial, i.product.asset)
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0x20, 0x81, 0x02, 0x15, 0x02, 0x9F, 0x34, 0x12, 0, 0x42, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeController(b); err == nil {
			checkText(t, c.firmware, c.ipmi)
		}
		if c, err := decodeChassis(b); err == nil {
			checkText(t, append(c.power, c.lastDown...)...)
		}
		if c, err := decodeRestartCause(b); err == nil {
			checkText(t, c.String())
		}
		_, _ = decodeLogInfo(b)
		_, _ = decodeStamp(b)
		_, _ = decodeThresholds(b)
		_, _, _ = decodeFactors(b)
		if r, err := decodeReading(b); err == nil && len(r.beyond()) > int(thresholdCount) {
			t.Fatalf("beyond %v", r.beyond())
		}
	})
}
