package ipmi

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/bougou/go-ipmi/pkg/types"
	"pgregory.net/rapid"
)

// The decoders are held against go-ipmi's, which were written by others from the same documents. Where they differ knowingly,
// it is said here.

func TestSensorRecordsAreReadAsGoIPMIReadsThem(t *testing.T) {
	for _, f := range fixtures(t) {
		for _, b := range f.records {
			compareRecord(t, b)
		}
	}
	if t.Failed() {
		return
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 48, 64).Draw(t, "record")
		b[3] = rapid.SampledFrom([]byte{recordFull, recordCompact, recordEventOnly, recordFRU, recordController}).Draw(t, "kind")
		b[4] = byte(len(b) - sdrHeader)
		switch b[3] { // plain text within the record: what is beyond is an error to go-ipmi
		case recordFull:
			b[47] = textLatin<<6 | b[47]%byte(len(b)-47)
		case recordCompact:
			b[31] = textLatin<<6 | b[31]&0x0F
		case recordEventOnly:
			b[16] = textLatin<<6 | b[16]&0x1F
		default:
			b[15] = textLatin<<6 | b[15]&0x1F
		}
		compareRecord(t, b)
	})
}

func compareRecord(t rapid.TB, b []byte) {
	t.Helper()
	theirs, err := types.ParseSDR(b, 0)
	if err != nil {
		t.Fatalf("go-ipmi refuses % X: %v", b, err)
	}
	p, errs := decodeRecords([][]byte{b})
	if len(errs) != 0 {
		t.Fatalf("% X: %v", b, errs)
	}
	same := func(what string, ours, theirs any) {
		t.Helper()
		if ours != theirs {
			t.Errorf("% X: %s is %v, go-ipmi says %v", b, what, ours, theirs)
		}
	}
	var s sensor
	if len(p.sensors) > 0 {
		s = p.sensors[0]
	}
	key := func(g types.GeneratorID, n types.SensorNumber) sensorKey {
		return sensorKey{owner: byte(g), lun: byte(g>>8) & 3, num: byte(n)}
	}
	switch {
	case theirs.Full != nil:
		f := theirs.Full
		same("key", s.sensorKey, key(f.GeneratorID, f.SensorNumber))
		same("name", s.name, clean(latin(f.IDStringBytes)))
		same("entity", s.entity, entity{byte(f.SensorEntityID), byte(f.SensorEntityInstance)})
		same("logical", s.logical, f.SensorEntityIsLogical)
		same("kind", s.kind, byte(f.SensorType))
		same("event type", s.event, byte(f.SensorEventReadingType))
		same("skippable", s.skippable, f.SensorCapabilities.IgnoreSensorIfNoEntity)
		same("numeric", s.numeric(), f.SensorUnit.IsAnalog())
		same("M", s.conversion.m, f.M)
		same("B", s.conversion.b, f.B)
		same("K1", s.conversion.k1, f.B_Exp)
		same("K2", s.conversion.k2, f.R_Exp)
		if s.event == eventThreshold && s.thresholds.readable != 0 {
			same("thresholds", s.thresholds.raw, [6]byte{f.LNC_Raw, f.LCR_Raw, f.LNR_Raw, f.UNC_Raw, f.UCR_Raw, f.UNR_Raw})
			for n, mask := range []types.Mask_Threshold{f.Mask.Threshold.LNC, f.Mask.Threshold.LCR, f.Mask.Threshold.LNR, f.Mask.Threshold.UNC, f.Mask.Threshold.UCR, f.Mask.Threshold.UNR} {
				_, ok := s.thresholds.of(threshold(n))
				same("readable "+threshold(n).String(), ok, mask.Settable) // go-ipmi takes the two bytes for each other
			}
		}
	case theirs.Compact != nil:
		c := theirs.Compact
		if len(p.sensors) == 0 { // FFh is no sensor
			same("number", byte(c.SensorNumber), byte(0xFF))
			return
		}
		same("key", s.sensorKey, key(c.GeneratorID, c.SensorNumber))
		if c.ShareCount <= 1 {
			same("name", s.name, clean(latin(c.IDStringBytes)))
		}
		same("kind", s.kind, byte(c.SensorType))
		same("event type", s.event, byte(c.SensorEventReadingType))
	case theirs.EventOnly != nil:
		e := theirs.EventOnly
		if len(p.sensors) == 0 {
			same("number", byte(e.SensorNumber), byte(0xFF))
			return
		}
		same("key", s.sensorKey, key(e.GeneratorID, e.SensorNumber))
		same("kind", s.kind, byte(e.SensorType))
		same("shared by", len(p.sensors) <= max(1, int(e.ShareCount)), true)
		same("event only", s.eventOnly, true)
	case theirs.FRUDeviceLocator != nil:
		d := p.devices[0]
		same("name", d.name, clean(latin(theirs.FRUDeviceLocator.DeviceIDBytes)))
		same("entity", d.entity.id, theirs.FRUDeviceLocator.FRUEntityID)
		same("logical", d.logical, theirs.FRUDeviceLocator.IsLogicalFRUDevice)
	case theirs.MgmtControllerDeviceLocator != nil:
		d := p.devices[0]
		same("name", d.name, clean(latin(theirs.MgmtControllerDeviceLocator.DeviceIDBytes)))
		same("entity", d.entity.id, theirs.MgmtControllerDeviceLocator.EntityID)
	}
}

func latin(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

func TestReadingsAreConvertedAsGoIPMIConvertsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := [6]byte(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "factors"))
		c := conversion{
			format: rapid.ByteRange(formatUnsigned, formatTwos).Draw(t, "format"), linear: rapid.ByteRange(0, 0x0B).Draw(t, "linear"),
			factors: readFactors(b),
		}
		raw := rapid.Byte().Draw(t, "raw")
		ours, ok := c.value(raw)
		theirs := types.ConvertReading(raw, types.SensorAnalogUnitFormat(c.format),
			types.ReadingFactors{M: c.m, B: c.b, B_Exp: c.k1, R_Exp: c.k2}, types.LinearizationFunc(c.linear))
		if c.linear == 0x05 { // go-ipmi drops the fraction of the exponent
			linear := c
			linear.linear = 0
			y, _ := linear.value(raw)
			theirs = math.Pow(10, y)
		}
		finite := !math.IsNaN(theirs) && !math.IsInf(theirs, 0)
		if ok != finite || ok && math.Abs(ours-theirs) > 1e-9*math.Max(1, math.Abs(theirs)) {
			t.Errorf("%+v of %02X is %v (%t), go-ipmi says %v", c, raw, ours, ok, theirs)
		}
	})
}

func TestEventsAreReadAsGoIPMIReadsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := logRecord(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "record"))
		if rapid.Bool().Draw(t, "sensor's") {
			r[2] = 0x02
		}
		e := decodeEvent(r)
		theirs, err := types.ParseSEL(r[:])
		if err != nil {
			t.Fatalf("go-ipmi refuses % X: %v", r, err)
		}
		same := func(what string, ours, theirs any) {
			t.Helper()
			if ours != theirs {
				t.Errorf("% X: %s is %v, go-ipmi says %v", r, what, ours, theirs)
			}
		}
		same("id", e.id, theirs.RecordID)
		switch {
		case r[2] == 0x02:
			s := theirs.Standard
			same("stamp", int64(e.stamp), s.Timestamp.Unix())
			same("owner", e.sensor.owner, byte(s.GeneratorID))
			same("number", e.sensor.num, byte(s.SensorNumber))
			same("type", e.of, byte(s.SensorType))
			same("event type", e.event, byte(s.EventReadingType))
			same("over", e.ended, bool(s.EventDir))
			same("offset", e.offset, s.EventData.EventReadingOffset())
			same("data", e.data, [3]byte{s.EventData.EventData1, s.EventData.EventData2, s.EventData.EventData3})
		case theirs.OEMTimestamped != nil:
			same("kind", e.kind, kindStamped)
			same("vendor", e.vendor, theirs.OEMTimestamped.ManufacturerID)
			same("raw", slices.Equal(e.raw, theirs.OEMTimestamped.OEMDefined[:]), true)
		case theirs.OEMNonTimestamped != nil: // go-ipmi keeps six bytes of thirteen
			same("kind", e.kind, kindPlain)
			same("raw", slices.Equal(e.raw[:6], theirs.OEMNonTimestamped.OEM[:6]), true)
		default: // of other kinds go-ipmi takes more for a sensor's event than there are
			same("kind", e.kind, kindUnknown)
		}
	})
}

// Whatever the tables say must be a state that go-ipmi knows, too.
func TestStatesAreAmongThoseOfGoIPMI(t *testing.T) {
	for kind, states := range specific {
		for offset, s := range states {
			if s.text == "" {
				continue
			}
			if types.EventReadingType(eventSpecific).EventForOffset(types.SensorType(kind), uint8(offset)) == nil {
				t.Errorf("type %02Xh has no state %X (%s) in go-ipmi", kind, offset, s.text)
			}
		}
	}
	for event, states := range generic {
		for offset, s := range states {
			if types.EventReadingType(event).EventForOffset(0, uint8(offset)) == nil {
				t.Errorf("event type %02Xh has no state %X (%s) in go-ipmi", event, offset, s.text)
			}
		}
	}
}

func TestInventoriesAreReadAsGoIPMIReadsThem(t *testing.T) {
	compared := 0
	for _, f := range fixtures(t) {
		for _, b := range f.inventories {
			ours, err := decodeInventory(b)
			theirs, refused := types.ParseFRU(b)
			if err != nil || refused != nil || len(ours.damaged) != 0 {
				continue // go-ipmi gives up where anything is damaged
			}
			compared++
			if a := theirs.BoardInfoArea; a != nil {
				for i, pair := range [][2]string{
					{ours.board.maker, string(a.Manufacturer)},
					{ours.board.name, string(a.ProductName)},
					{ours.board.serial, string(a.SerialNumber)},
					{ours.board.part, string(a.PartNumber)},
				} {
					if pair[0] != clean(pair[1]) {
						t.Errorf("field %d of the board is %q, go-ipmi says %q", i, pair[0], pair[1])
					}
				}
				if !ours.board.made.Equal(a.MfgDateTime) {
					t.Errorf("the board was made %v, go-ipmi says %v", ours.board.made, a.MfgDateTime)
				}
			}
		}
	}
	if compared == 0 {
		t.Error("no inventory was compared")
	}
}
