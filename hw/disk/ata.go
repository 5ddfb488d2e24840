package disk

import (
	"errors"
	"fmt"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Commands of ATA8-ACS, sent as SCSI's ATA PASS-THROUGH (16) (SAT-3, 12.2.2).
const (
	ataCheckPower = 0xe5
	ataSMART      = 0xb0
	smartData     = 0xd0
	smartLimits   = 0xd1
	smartStatus   = 0xda
	ataSize       = 512
)

// ataCommand builds one that has no data, and whose registers come back as sense data; or one that reads a sector.
func ataCommand(command, feature uint8, reads bool) []byte {
	const noData, dataIn = 3 << 1, 4 << 1
	const checkCondition, inBySectorCount = 0x20, 0x0e
	cdb := make([]byte, 16)
	cdb[0], cdb[1], cdb[2], cdb[4], cdb[14] = 0x85, noData, checkCondition, feature, command
	if reads {
		cdb[1], cdb[2], cdb[6] = dataIn, inBySectorCount, 1
	}
	if command == ataSMART {
		cdb[10], cdb[12] = 0x4f, 0xc2 // LBA mid and high: the signature of SMART commands
	}
	return cdb
}

// registers of a drive after a command.
type registers struct{ error, status, count, mid, high uint8 }

var errNoRegisters = errors.New("its registers did not come back")

// decodeRegisters takes them from sense data: of descriptor format (SAT-3, 12.2.6) or fixed (12.2.7).
func decodeRegisters(sense []byte) (registers, error) {
	switch {
	case len(sense) >= 8 && sense[0]&0x7f == 0x72:
		end := min(len(sense), 8+int(sense[7]))
		for at := 8; at+2 <= end; at += 2 + int(sense[at+1]) {
			if sense[at] == 0x09 && at+14 <= end {
				d := sense[at : at+14]
				return registers{error: d[3], count: d[5], mid: d[9], high: d[11], status: d[13]}, nil
			}
		}
	case len(sense) >= 14 && sense[0]&0x7f == 0x70 && sense[12] == 0 && sense[13] == 0x1d:
		return registers{error: sense[3], status: sense[4], count: sense[6], mid: sense[10], high: sense[11]}, nil
	}
	return registers{}, errNoRegisters
}

// aborted: the drive does not know the command, or SMART is switched off.
func (r registers) aborted() bool { return r.status&0x01 != 0 && r.error&0x04 != 0 }

// attribute is one of those that vendors define; the numbers that we look at are the same with most.
type attribute struct {
	id, value, worst, limit uint8
	prefail                 bool
	raw                     uint64 // 6 bytes
}

// attributes that count sectors: could not be corrected, wait for another place, could not be read by the drive's own test.
var sectorCounts = map[uint8]string{187: "reported_uncorrectable", 197: "pending_sectors", 198: "offline_uncorrectable"}

// reallocated sectors are normal in small numbers: evidence only.
const reallocated = 5

var errSum = errors.New("its sum is wrong")

// decodeAttributes takes them from the data and the limits of SMART: 30 entries of 12 bytes from the second byte on. Without limits no
// attribute can be below its own.
func decodeAttributes(data, limits []byte) ([]attribute, error) {
	if len(data) != ataSize || sum(data) != 0 {
		return nil, fmt.Errorf("attributes: %w", errSum)
	}
	least := make(map[uint8]uint8)
	if len(limits) == ataSize && sum(limits) == 0 {
		for at := 2; at < 2+30*12; at += 12 {
			least[limits[at]] = limits[at+1]
		}
	}
	var all []attribute
	for at := 2; at < 2+30*12; at += 12 {
		b := data[at : at+12]
		if b[0] == 0 {
			continue
		}
		a := attribute{id: b[0], prefail: b[1]&1 != 0, value: b[3], worst: b[4], limit: least[b[0]]}
		for i := 10; i >= 5; i-- {
			a.raw = a.raw<<8 | uint64(b[i])
		}
		all = append(all, a)
	}
	return all, nil
}

func sum(b []byte) (s uint8) {
	for _, c := range b {
		s += c
	}
	return s
}

// ataHealth is what a drive says of itself.
type ataHealth struct {
	exceeded   bool // it expects to fail
	attributes []attribute
}

func (h ataHealth) report(sectors uint64) *report {
	r := &report{evidence: make(map[string]string)}
	r.note(correlate.CondDiskFailing, h.exceeded, "it expects to fail (SMART)")
	var low []string
	for _, a := range h.attributes {
		// 0, 254 and 255 are no values or no limits (ATA8-ACS, 7.52)
		if a.prefail && a.limit > 0 && a.limit < 254 && a.value > 0 && a.value <= a.limit {
			low = append(low, fmt.Sprintf("%d is %d of at least %d", a.id, a.value, a.limit))
		}
		name := sectorCounts[a.id]
		if a.id == reallocated {
			name = "reallocated_sectors"
		}
		if name == "" {
			continue
		}
		count := a.raw & 0xffff // some vendors put other counts above
		r.evidence[name] = fmt.Sprint(count)
		if a.id != reallocated {
			r.note(correlate.CondDiskFailing, count >= sectors, fmt.Sprintf("%s: %d", name, count))
		}
	}
	r.note(correlate.CondDiskFailing, len(low) > 0, "attributes below their limits: "+strings.Join(low, ", "))
	return r
}

// askATA reads the drive's verdict on itself and its attributes, unless it sleeps.
func askATA(command scsiCommand, sectors uint64) (*report, error) {
	sense, err := command(ataCommand(ataCheckPower, 0, false), nil)
	if err != nil {
		return nil, fmt.Errorf("ask whether it sleeps: %w", err)
	}
	r, err := decodeRegisters(sense)
	switch {
	case err == nil && !r.aborted() && r.count <= 1: // standby, of either kind (ATA8-ACS, 7.8.3)
		return nil, errAsleep
	case err != nil:
		if key, _ := senseKey(sense); key == senseIllegal { // the adapter passes no commands of ATA on
			return nil, errUnsupported
		}
		return nil, fmt.Errorf("ask whether it sleeps: %w", err)
	}
	sense, err = command(ataCommand(ataSMART, smartStatus, false), nil)
	if err != nil {
		return nil, fmt.Errorf("ask for its verdict: %w", err)
	}
	r, err = decodeRegisters(sense)
	if err != nil {
		return nil, fmt.Errorf("ask for its verdict: %w", err)
	}
	var health ataHealth
	switch {
	case r.aborted():
		return nil, errUnsupported
	case r.mid == 0x4f && r.high == 0xc2:
	case r.mid == 0xf4 && r.high == 0x2c:
		health.exceeded = true
	default:
		return nil, fmt.Errorf("ask for its verdict: %w", errNoRegisters)
	}
	data, limits := make([]byte, ataSize), make([]byte, ataSize)
	if sense, err = command(ataCommand(ataSMART, smartData, true), data); err == nil && failedSense(sense) == nil {
		if _, err := command(ataCommand(ataSMART, smartLimits, true), limits); err != nil {
			clear(limits) // newer drives have none
		}
		health.attributes, _ = decodeAttributes(data, limits) // the verdict counts without them
	}
	return health.report(sectors), nil
}
