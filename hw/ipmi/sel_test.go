package ipmi

import (
	"errors"
	"testing"
	"time"
)

func TestAnEventIsReadFromItsRecord(t *testing.T) {
	b := []byte{0x34, 0x12, 0x02, 0x00, 0x00, 0x00, 0x60, 0x20, 0x00, 0x04, 0x08, 0x71, 0xef, 0x01, 0xff, 0xfe}
	e, err := ParseEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	want := Event{
		ID: 0x1234, Type: 0x02, At: time.Unix(0x60000000, 0).UTC(), Generator: 0x20, SensorType: 8, Sensor: 0x71,
		Deasserted: true, EventType: 0x6f, Data: [3]byte{0x01, 0xff, 0xfe}, Raw: [16]byte(b),
	}
	if e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
}

func TestRecordsOfVendorsAreKeptRaw(t *testing.T) {
	for _, kind := range []byte{0xc0, 0xdf, 0xe0, 0xff} {
		b := []byte{1, 0, kind, 0, 0, 0, 0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9}
		e, err := ParseEvent(b)
		if err != nil || e.Standard() || e.Sensor != 0 || e.Raw != [16]byte(b) {
			t.Errorf("type %#x: %+v, %v", kind, e, err)
		}
		if timed := kind < 0xe0; e.At.IsZero() == timed {
			t.Errorf("type %#x: time %v", kind, e.At)
		}
	}
}

func TestATimeSinceTheControllersStartIsNoTime(t *testing.T) {
	for _, at := range [][4]byte{{}, {0, 0, 0, 0x20}, {0xff, 0xff, 0xff, 0xff}} {
		b := append(append([]byte{1, 0, 2}, at[:]...), make([]byte, 9)...)
		if e, err := ParseEvent(b); err != nil || !e.At.IsZero() {
			t.Errorf("%x: %v, %v", at, e.At, err)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(make([]byte, eventSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParseEvent(b); (err == nil) != (len(b) == eventSize) || (err != nil && !errors.Is(err, errEventSize)) {
			t.Errorf("%x: %v", b, err)
		}
	})
}
