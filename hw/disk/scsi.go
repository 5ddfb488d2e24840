package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// scsiCommand sends a command that reads into a buffer, or none. The sense data that came with it may say more; it is empty
// when the drive had nothing to add.
type scsiCommand func(cdb, into []byte) (sense []byte, err error)

// errHost: the command did not reach the drive, or its answer did not come back.
var errHost = errors.New("the adapter reports an error")

// scsiGeneric speaks through an open block device (include/scsi/sg.h: sg_io_hdr).
func scsiGeneric(fd int) scsiCommand {
	return func(cdb, into []byte) ([]byte, error) {
		var pin runtime.Pinner
		defer pin.Unpin()
		sense := make([]byte, 64)
		pin.Pin(&cdb[0])
		pin.Pin(&sense[0])
		header := struct {
			interfaceID, direction               int32
			commandLen, senseLen                 uint8
			segments                             uint16
			length                               uint32
			data, command, sense                 unsafe.Pointer
			timeout, flags                       uint32
			packID                               int32
			user                                 unsafe.Pointer
			status, masked, message, senseFilled uint8
			hostStatus, driverStatus             uint16
			residue                              int32
			duration, info                       uint32
		}{
			interfaceID: 'S', direction: -1, commandLen: uint8(len(cdb)), senseLen: uint8(len(sense)),
			command: unsafe.Pointer(&cdb[0]), sense: unsafe.Pointer(&sense[0]), timeout: 30_000,
		}
		if len(into) > 0 {
			pin.Pin(&into[0])
			header.direction, header.length, header.data = -3, uint32(len(into)), unsafe.Pointer(&into[0])
		}
		const sgIO = 0x2285
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgIO, uintptr(unsafe.Pointer(&header))); errno != 0 {
			return nil, errno
		}
		if header.hostStatus != 0 {
			return nil, fmt.Errorf("%w: %#x", errHost, header.hostStatus)
		}
		return sense[:min(int(header.senseFilled), len(sense))], nil
	}
}

// senseKey gives the key and the additional code of sense data in either format (SPC-4, 4.5).
func senseKey(sense []byte) (key uint8, code uint16) {
	switch {
	case len(sense) >= 4 && sense[0]&0x7f >= 0x72:
		return sense[1] & 0xf, binary.BigEndian.Uint16(sense[2:])
	case len(sense) >= 14:
		return sense[2] & 0xf, binary.BigEndian.Uint16(sense[12:])
	case len(sense) >= 3:
		return sense[2] & 0xf, 0
	}
	return 0, 0
}

const (
	senseRecovered = 0x1
	senseNotReady  = 0x2
	senseIllegal   = 0x5
)

// informational is what the log of informational exceptions says (SPC-4, 7.3.8): the code that the drive would give to a command.
type informational struct {
	code, qualifier uint8
	celsius         uint8 // 0 or 255: not told
}

func decodeInformational(b []byte) (informational, error) {
	if len(b) < 10 || b[0]&0x3f != informationalPage {
		return informational{}, errUnsupported
	}
	end := min(len(b), 4+int(binary.BigEndian.Uint16(b[2:])))
	for at := 4; at+4 <= end; {
		size := int(b[at+3])
		if binary.BigEndian.Uint16(b[at:]) == 0 && size >= 2 && at+4+size <= end {
			i := informational{code: b[at+4], qualifier: b[at+5]}
			if size >= 3 {
				i.celsius = b[at+6]
			}
			return i, nil
		}
		at += 4 + size
	}
	return informational{}, errUnsupported
}

// failedSense is the error that sense data tells; nil: none, or one that the drive has corrected.
func failedSense(sense []byte) error {
	if key, code := senseKey(sense); key > senseRecovered {
		return fmt.Errorf("sense key %x, code %04x", key, code)
	}
	return nil
}

const informationalPage = 0x2f

// report: 5Dh is a failure that is predicted, 0Bh a warning, its qualifier 01h of the temperature (SPC-4, annex F).
func (i informational) report() *report {
	r := &report{evidence: map[string]string{"asc_ascq": fmt.Sprintf("%02x%02x", i.code, i.qualifier)}}
	if i.celsius != 0 && i.celsius != 255 {
		r.evidence["celsius"] = fmt.Sprint(i.celsius)
	}
	const failing, warning = 0x5d, 0x0b
	hot := i.code == warning && i.qualifier == 1
	r.note(correlate.CondDiskFailing, i.code == failing || i.code == warning && !hot, fmt.Sprintf("it expects to fail (code %02x/%02x)", i.code, i.qualifier))
	r.note(correlate.CondDiskHot, hot, "it is too hot")
	return r
}

// askSCSI reads the log of informational exceptions. A drive that is not ready sleeps, and stays asleep: reading a log needs no medium.
func askSCSI(command scsiCommand) (*report, error) {
	sense, err := command([]byte{0x00, 0, 0, 0, 0, 0}, nil) // TEST UNIT READY
	if err != nil {
		return nil, fmt.Errorf("ask whether it is ready: %w", err)
	}
	if key, _ := senseKey(sense); key == senseNotReady {
		return nil, errAsleep
	}
	page := make([]byte, 64)
	const current = 0x40 // cumulative values
	sense, err = command([]byte{0x4d, 0, current | informationalPage, 0, 0, 0, 0, 0, byte(len(page)), 0}, page)
	if err != nil {
		return nil, fmt.Errorf("read its log: %w", err)
	}
	if key, _ := senseKey(sense); key == senseIllegal {
		return nil, errUnsupported
	}
	if err := failedSense(sense); err != nil {
		return nil, fmt.Errorf("read its log: %w", err)
	}
	log, err := decodeInformational(page)
	if err != nil {
		return nil, err
	}
	return log.report(), nil
}
