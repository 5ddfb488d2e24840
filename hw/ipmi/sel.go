package ipmi

import (
	"encoding/binary"
	"errors"
	"time"
)

// eventSize is the size of every record of the event log (IPMI 2.0 section 32).
const eventSize = 16

var errEventSize = errors.New("event record is not 16 bytes long")

// Event is one record of the controller's event log.
type Event struct {
	ID   uint16
	Type byte
	// At is zero when the record has no time, or one that the controller counts from its own start.
	At time.Time
	// The rest is set in standard records (type 02h) only; others are the vendor's and are kept raw.
	Generator  uint16
	SensorType byte
	Sensor     byte
	Deasserted bool
	EventType  byte
	Data       [3]byte
	Raw        [eventSize]byte
}

// Standard is false for the vendor's records, of which only ID, Type, At and Raw mean something.
func (e Event) Standard() bool { return e.Type == typeStandard }

const (
	typeStandard  = 0x02
	typeOEMTimed  = 0xc0 // to 0xdf
	typeOEM       = 0xe0 // to 0xff, without a time
	sinceStart    = 0x20000000
	noTime        = 0xffffffff
	deassertedBit = 0x80
)

// ParseEvent reads one record of the event log.
func ParseEvent(b []byte) (Event, error) {
	if len(b) != eventSize {
		return Event{}, errEventSize
	}
	e := Event{ID: binary.LittleEndian.Uint16(b), Type: b[2], Raw: [eventSize]byte(b)}
	if e.Standard() || (e.Type >= typeOEMTimed && e.Type < typeOEM) {
		if s := binary.LittleEndian.Uint32(b[3:]); s > sinceStart && s != noTime {
			e.At = time.Unix(int64(s), 0).UTC()
		}
	}
	if !e.Standard() {
		return e, nil
	}
	e.Generator = binary.LittleEndian.Uint16(b[7:])
	e.SensorType, e.Sensor = b[10], b[11]
	e.Deasserted, e.EventType = b[12]&deassertedBit != 0, b[12]&^deassertedBit
	e.Data = [3]byte(b[13:])
	return e, nil
}
