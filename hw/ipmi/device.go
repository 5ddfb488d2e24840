package ipmi

import (
	"encoding/binary"
	"fmt"
)

const (
	commandDeviceID      byte = 0x01 // of netApp
	commandChassisStatus byte = 0x01 // of netChassis
	commandRestartCause  byte = 0x07 // of netChassis
)

// controller is what a BMC says of itself.
type controller struct {
	id, revision   byte
	firmware       string // major.minor
	updating       bool   // its firmware, or it starts: little is answered
	ipmi           string // the version it speaks
	vendor         uint32 // IANA enterprise number
	product        uint16
	auxiliary      []byte // of the firmware's version, as the vendor likes; nil: none
	sensors        bool   // it has some
	records        bool   // it has the repository of sensor data records
	log, inventory bool
	deviceRecords  bool // it has sensor data records of its own
}

// decodeController reads the answer to Get Device ID.
func decodeController(b []byte) (controller, error) {
	if len(b) < 11 {
		return controller{}, fmt.Errorf("ask who the BMC is: %d bytes", len(b))
	}
	c := controller{
		id: b[0], revision: b[1] & 0x0F, deviceRecords: b[1]&0x80 != 0,
		firmware: fmt.Sprintf("%d.%02x", b[2]&0x7F, b[3]), updating: b[2]&0x80 != 0,
		ipmi:    fmt.Sprintf("%d.%d", b[4]&0x0F, b[4]>>4),
		sensors: b[5]&0x01 != 0, records: b[5]&0x02 != 0, log: b[5]&0x04 != 0, inventory: b[5]&0x08 != 0,
		vendor:  uint32(b[6]) | uint32(b[7])<<8 | uint32(b[8]&0x0F)<<16,
		product: binary.LittleEndian.Uint16(b[9:]),
	}
	if len(b) >= 15 {
		c.auxiliary = b[11:15]
	}
	return c, nil
}

// chassis is the state of the machine's case and power.
type chassis struct {
	on       bool
	power    []string // what is wrong with the power
	lastDown []string // why it went the last time, as far as the BMC knows
	opened   bool
	drive    bool // a drive is at fault
	cooling  bool // a fan or the cooling is
}

// decodeChassis reads the answer to Get Chassis Status.
func decodeChassis(b []byte) (chassis, error) {
	if len(b) < 3 {
		return chassis{}, fmt.Errorf("ask for the chassis's status: %d bytes", len(b))
	}
	pick := func(bits byte, texts ...string) (all []string) {
		for i, t := range texts {
			if t != "" && bits&(1<<i) != 0 {
				all = append(all, t)
			}
		}
		return all
	}
	return chassis{
		on:       b[0]&0x01 != 0,
		power:    pick(b[0], "", "overload", "interlock", "fault", "control fault"),
		lastDown: pick(b[1], "input lost", "overload", "interlock", "fault"),
		opened:   b[2]&0x01 != 0, drive: b[2]&0x04 != 0, cooling: b[2]&0x08 != 0,
	}, nil
}

// restartCause is why the machine started the last time (IPMI 2.0, 28.11).
type restartCause byte

func (c restartCause) String() string {
	texts := [...]string{
		"unknown", "by a command to the BMC", "reset button", "power button", "watchdog", "vendor's cause",
		"power returned, always on", "power returned, as before", "reset by the platform event filter",
		"power cycle by the platform event filter", "soft reset", "real-time clock",
	}
	if int(c) >= len(texts) {
		return texts[0]
	}
	return texts[c]
}

// decodeRestartCause reads the answer to Get System Restart Cause.
func decodeRestartCause(b []byte) (restartCause, error) {
	if len(b) < 1 {
		return 0, fmt.Errorf("ask why the machine started: %d bytes", len(b))
	}
	return restartCause(b[0] & 0x0F), nil
}
