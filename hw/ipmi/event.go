package ipmi

import (
	"encoding/binary"
	"fmt"
	"time"
)

// recordKind says what a record of the event log is (IPMI 2.0, 32).
type recordKind uint8

const (
	kindEvent   recordKind = iota // a sensor's
	kindStamped                   // a vendor's, with a time
	kindPlain                     // a vendor's
	kindUnknown
)

// logEvent is a record of the event log, taken apart.
type logEvent struct {
	id    uint16
	kind  recordKind
	stamp stamp // of kindEvent and kindStamped

	// Of kindEvent.
	sensor  sensorKey
	of      byte // sensor type
	event   byte // event type
	ended   bool // the state is over
	offset  byte // which state, or which threshold in which direction
	data    [3]byte
	channel byte

	// Of the vendors' kinds; nothing is made of them here.
	vendor uint32 // IANA enterprise number, of kindStamped
	raw    []byte
}

// decodeEvent takes a record apart. Each record means something, if only to its vendor.
func decodeEvent(r logRecord) logEvent {
	e := logEvent{id: r.id(), stamp: stamp(binary.LittleEndian.Uint32(r[3:]))}
	switch kind := r[2]; {
	case kind == 0x02:
		e.sensor = sensorKey{owner: r[7], lun: r[8] & 3, num: r[11]}
		e.channel = r[8] >> 4
		e.of, e.event, e.ended = r[10], r[12]&0x7F, r[12]&0x80 != 0
		e.data = [3]byte(r[13:])
		e.offset = e.data[0] & 0x0F
	case kind >= 0xE0:
		e.kind, e.stamp, e.raw = kindPlain, stampNone, r[3:]
	case kind >= 0xC0:
		e.kind, e.raw = kindStamped, r[10:]
		e.vendor = uint32(r[7]) | uint32(r[8])<<8 | uint32(r[9])<<16
	default:
		e.kind, e.stamp, e.raw = kindUnknown, stampNone, r[3:]
	}
	return e
}

// software reports whether the firmware or the operating system wrote it, rather than a controller.
func (e *logEvent) software() bool { return e.sensor.owner&1 != 0 }

// threshold is the one that was passed, and in which direction; ok is false when the event is not about one.
func (e *logEvent) threshold() (t threshold, rising, ok bool) {
	t = threshold(e.offset / 2)
	return t, e.offset&1 != 0, e.kind == kindEvent && e.event == eventThreshold && t < thresholdCount
}

// measured gives the raw reading that passed the threshold, and the threshold as it was then, as far as the event has them.
func (e *logEvent) measured() (reading, limit byte, hasReading, hasLimit bool) {
	if _, _, ok := e.threshold(); !ok {
		return 0, 0, false, false
	}
	return e.data[1], e.data[2], e.data[0]>>6 == 1, e.data[0]>>4&3 == 1
}

// state says what the event is about; false when that is not known here.
func (e *logEvent) state() (state, bool) {
	if e.kind != kindEvent {
		return state{}, false
	}
	if t, _, ok := e.threshold(); ok {
		return state{t.String(), t.grade()}, true
	}
	return stateOf(e.event, e.of, e.offset)
}

// detail is what the event adds to its state, empty when it adds nothing that is known here.
func (e *logEvent) detail() string {
	if e.kind != kindEvent || e.event != eventSpecific {
		return ""
	}
	second, third := e.data[0]>>6 == 3, e.data[0]>>4&3 == 3 // they say more, as the sensor's type lays down
	pick := func(texts []string, i byte) string {
		if int(i) < len(texts) {
			return texts[i]
		}
		return ""
	}
	switch {
	case e.of == typeMemory && third:
		return fmt.Sprintf("module %d", e.data[2])
	case e.of == typePowerSupply && e.offset == 6 && third:
		return pick([]string{"vendors differ", "revisions differ", "a processor is missing", "power ratings differ", "voltage ratings differ"}, e.data[2]&0x0F)
	case e.of == typeWatchdog && second:
		return pick([]string{"", "BIOS FRB2", "BIOS POST", "loading the operating system", "operating system", "vendor's"}, e.data[1]&0x0F)
	case e.of == typeRestart && e.offset == 7 && second:
		return restartCause(e.data[1] & 0x0F).String()
	}
	return ""
}

// stamp is a time of the BMC's clock: seconds since 1970, in whatever zone the BMC believes it lives.
type stamp uint32

const (
	stampNone stamp = 0xFFFFFFFF
	// Up to stampDated it counts from the start of the BMC (IPMI 2.0, 37).
	stampDated stamp = 0x20000000
	// The BMC's clock is read a moment before or after a record is.
	stampSlack = 2 * time.Second
)

// at gives the time by our own clock, when the BMC's showed now at the time of asking. So neither its zone nor its error
// matters, only whether it was set between the event and now: a stamp of the future, or one of two that counts from the BMC's
// start while the other doesn't, gives no time. An event from before the BMC's last start whose clock keeps no date may be
// older than is said.
func (s stamp) at(now stamp, asked time.Time) (time.Time, bool) {
	if s == stampNone || now == stampNone || (s > stampDated) != (now > stampDated) {
		return time.Time{}, false
	}
	ago := time.Duration(int64(now)-int64(s)) * time.Second
	if ago < -stampSlack {
		return time.Time{}, false
	}
	return asked.Add(-max(ago, 0)), true
}

// decodeStamp reads the answer to Get SEL Time.
func decodeStamp(b []byte) (stamp, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("read the event log's clock: %d bytes", len(b))
	}
	return stamp(binary.LittleEndian.Uint32(b)), nil
}

// logInfo is what the BMC says of its event log.
type logInfo struct {
	records, free int // free: bytes
	added, erased stamp
	overflown     bool // records were lost
}

// decodeLogInfo reads the answer to Get SEL Info.
func decodeLogInfo(b []byte) (logInfo, error) {
	if len(b) < 14 {
		return logInfo{}, fmt.Errorf("ask what the event log holds: %d bytes", len(b))
	}
	return logInfo{
		records: int(binary.LittleEndian.Uint16(b[1:])), free: int(binary.LittleEndian.Uint16(b[3:])),
		added: stamp(binary.LittleEndian.Uint32(b[5:])), erased: stamp(binary.LittleEndian.Uint32(b[9:])),
		overflown: b[13]&0x80 != 0,
	}, nil
}
