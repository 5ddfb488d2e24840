package ipmi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kinds of sensor data records (IPMI 2.0, 43).
const (
	recordFull        byte = 0x01
	recordCompact     byte = 0x02
	recordEventOnly   byte = 0x03
	recordAssociation byte = 0x08
	recordRelative    byte = 0x09
	recordGeneric     byte = 0x10
	recordFRU         byte = 0x11
	recordController  byte = 0x12
	recordOEM         byte = 0xC0
)

// eventThreshold is the event type of threshold sensors, eventSpecific that of sensors whose states depend on their type; the
// others between have the same states whatever the sensor is (IPMI 2.0, table 42-1).
const (
	eventThreshold byte = 0x01
	eventSpecific  byte = 0x6F
)

// sensorKey finds a sensor; events name theirs by it.
type sensorKey struct {
	owner byte // slave address, or software id with bit 0 set
	lun   byte
	num   byte
}

// entity is a part of the machine (IPMI 2.0, 39). Instances from 60h are counted by the device that has the sensor.
type entity struct{ id, instance byte }

func (e entity) String() string { return fmt.Sprintf("%d.%d", e.id, e.instance) }

// sensor is one sensor, also when it shares its record with others.
type sensor struct {
	sensorKey
	record  uint16
	name    string
	entity  entity
	logical bool // the entity is a container, not a part
	kind    byte // sensor type (IPMI 2.0, table 42-3)
	event   byte // event/reading type
	// eventOnly: it can't be read, only sends events.
	eventOnly bool
	// skippable: to be ignored while its entity is absent or disabled.
	skippable bool
	states    uint16 // those that a discrete sensor can have
	// Of threshold sensors with a full record: how to make a value of a reading, in what unit, and the thresholds of the factory.
	conversion conversion
	unit       unit
	thresholds thresholds
}

// numeric reports whether a reading is a number.
func (s *sensor) numeric() bool { return s.conversion.format != formatNone }

// device is what a locator record finds.
type device struct {
	record  uint16
	kind    byte // of the record
	name    string
	entity  entity
	address byte // of a controller or a device on a bus; of a logical inventory, its number
	logical bool // of an inventory: the BMC reads it, with Read FRU Data
}

// group says which parts a container has.
type group struct {
	container entity
	members   []entity
}

// parts is what the records say there is.
type parts struct {
	sensors []sensor
	devices []device
	groups  []group  // in the order of the first record of each
	oem     [][]byte // whole records
	other   int      // records of kinds that say nothing here
}

// of finds the sensor that an event names; nil when no record is about it.
func (p *parts) of(k sensorKey) *sensor {
	if i := slices.IndexFunc(p.sensors, func(s sensor) bool { return s.sensorKey == k }); i >= 0 {
		return &p.sensors[i]
	}
	return nil
}

// decodeRecords reads sensor data records. One that is broken is an error among errs and hides no other.
func decodeRecords(records [][]byte) (p parts, errs []error) {
	for _, b := range records {
		if err := p.add(b); err != nil {
			if len(b) >= 2 {
				err = fmt.Errorf("sensor data record %04Xh: %w", binary.LittleEndian.Uint16(b), err)
			}
			errs = append(errs, err)
		}
	}
	return p, errs
}

// shortest is how long a record of each kind is at least: all that comes before the name, whose length must be there.
var shortest = map[byte]int{
	recordFull: 48, recordCompact: 32, recordEventOnly: 17, recordAssociation: 16, recordRelative: 32,
	recordGeneric: 16, recordFRU: 16, recordController: 16,
}

var errRecordShort = errors.New("it is too short")

func (p *parts) add(b []byte) error {
	if len(b) < sdrHeader {
		return errRecordShort
	}
	if n := sdrHeader + int(b[4]); len(b) > n { // what some BMCs append
		b = b[:n]
	}
	if len(b) < shortest[b[3]] {
		return errRecordShort
	}
	switch b[3] {
	case recordFull:
		p.sensors = append(p.sensors, fullSensor(b))
	case recordCompact:
		s := readable(b)
		s.name = recordText(b[31:])
		p.share(s, b[23], b[24])
	case recordEventOnly:
		s := anySensor(b)
		s.kind, s.event, s.eventOnly = b[10], b[11], true
		s.name = recordText(b[16:])
		p.share(s, b[12], b[13])
	case recordAssociation:
		p.associate(b[7], entity{b[5], b[6]}, [4]entity{{b[8], b[9]}, {b[10], b[11]}, {b[12], b[13]}, {b[14], b[15]}})
	case recordRelative: // each member has the address and channel of its device before it
		p.associate(b[9], entity{b[5], b[6]}, [4]entity{{b[12], b[13]}, {b[16], b[17]}, {b[20], b[21]}, {b[24], b[25]}})
	case recordGeneric:
		p.devices = append(p.devices, device{
			record: binary.LittleEndian.Uint16(b), kind: b[3], name: recordText(b[15:]),
			entity: entity{b[12], b[13] & 0x7F}, address: b[6] &^ 1,
		})
	case recordFRU:
		p.devices = append(p.devices, device{
			record: binary.LittleEndian.Uint16(b), kind: b[3], name: recordText(b[15:]),
			entity: entity{b[12], b[13] & 0x7F}, address: b[6], logical: b[7]&0x80 != 0,
		})
	case recordController:
		p.devices = append(p.devices, device{
			record: binary.LittleEndian.Uint16(b), kind: b[3], name: recordText(b[15:]),
			entity: entity{b[12], b[13] & 0x7F}, address: b[5],
		})
	case recordOEM:
		p.oem = append(p.oem, b)
	default:
		p.other++
	}
	return nil
}

// anySensor reads what all sensor records begin with.
func anySensor(b []byte) sensor {
	return sensor{
		record:    binary.LittleEndian.Uint16(b),
		sensorKey: sensorKey{owner: b[5], lun: b[6] & 3, num: b[7]},
		entity:    entity{b[8], b[9] & 0x7F}, logical: b[9]&0x80 != 0,
		conversion: conversion{format: formatNone},
	}
}

// readable reads what full and compact records have in common.
func readable(b []byte) sensor {
	s := anySensor(b)
	s.skippable = b[11]&0x80 != 0
	s.kind, s.event = b[12], b[13]
	s.unit = unit{flags: b[20] & 0x3F, base: b[21], modifier: b[22]}
	if s.event != eventThreshold {
		s.states = binary.LittleEndian.Uint16(b[18:]) & 0x7FFF
	}
	return s
}

func fullSensor(b []byte) sensor {
	s := readable(b)
	s.name = recordText(b[47:])
	s.conversion = conversion{format: b[20] >> 6, linear: b[23] & 0x7F, factors: readFactors([6]byte(b[24:]))}
	if access := b[11] >> 2 & 3; s.event == eventThreshold && access != 0 {
		s.thresholds.readable = b[18] & 0x3F
		for t := range thresholdCount { // the uppermost comes first
			s.thresholds.raw[t] = b[41-t]
		}
	}
	return s
}

// share adds the sensors that share a record: their numbers follow each other, and their names get a number or letters.
func (p *parts) share(s sensor, first, second byte) {
	count := max(1, int(first&0x0F))
	letters, entities, offset := first>>4&3 == 1, second&0x80 != 0, int(second&0x7F)
	for i := range count {
		one := s
		if int(s.num)+i >= 0xFF { // FFh is no sensor
			break
		}
		one.num += byte(i)
		if entities {
			one.entity.instance = (one.entity.instance + byte(i)) & 0x7F
		}
		if count > 1 && letters {
			one.name = strings.TrimSpace(one.name + " " + alphabetic(offset+i))
		} else if count > 1 {
			one.name = strings.TrimSpace(one.name + " " + strconv.Itoa(offset+i))
		}
		p.sensors = append(p.sensors, one)
	}
}

// alphabetic counts A … Z, AA, AB ….
func alphabetic(n int) string {
	if n < 26 {
		return string(rune('A' + n))
	}
	return alphabetic(n/26-1) + alphabetic(n%26)
}

// associate adds members to the group of a container, which may have several records. Either they are a list, or two ranges.
// Instances lose their uppermost bit, which is none of theirs, as those of sensors do: both must find each other.
func (p *parts) associate(flags byte, container entity, listed [4]entity) {
	container.instance &= 0x7F
	for i := range listed {
		listed[i].instance &= 0x7F
	}
	i := slices.IndexFunc(p.groups, func(g group) bool { return g.container == container })
	if i < 0 {
		i = len(p.groups)
		p.groups = append(p.groups, group{container: container})
	}
	add := func(e entity) {
		if e.id != 0 && !slices.Contains(p.groups[i].members, e) {
			p.groups[i].members = append(p.groups[i].members, e)
		}
	}
	if flags&0x80 == 0 {
		for _, e := range listed {
			add(e)
		}
		return
	}
	for _, r := range [...][2]entity{{listed[0], listed[1]}, {listed[2], listed[3]}} {
		if r[0].id != r[1].id {
			continue // a range is of one kind of part
		}
		for n := int(r[0].instance); n <= int(r[1].instance); n++ {
			add(entity{r[0].id, byte(n)})
		}
	}
}
