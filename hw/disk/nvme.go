package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// The NVM Express Base Specification 2.0: admin commands, figure 138; Get Log Page, 5.16; Identify, 5.17.
const (
	nvmeGetLogPage = 0x02
	nvmeIdentify   = 0x06
	nvmeHealthLog  = 0x02
	nvmeHealthSize = 512
	nvmeIdentSize  = 4096
)

// nvmeCommand sends an admin command that reads: to the whole controller when nsid is all ones.
type nvmeCommand func(opcode uint8, nsid, cdw10 uint32, into []byte) error

// nvmeError is a status that the controller gave to a command (status code and type, without the retry bits).
type nvmeError uint16

func (e nvmeError) Error() string { return fmt.Sprintf("nvme status %#x", uint16(e)) }

// Status codes of the generic type: the command, or a field of it, is not known (figure 90).
const (
	errInvalidOpcode nvmeError = 0x01
	errInvalidField  nvmeError = 0x02
)

// nvmeAdmin speaks through an open device of the controller or of one of its namespaces (include/uapi/linux/nvme_ioctl.h).
func nvmeAdmin(fd int) nvmeCommand {
	return func(opcode uint8, nsid, cdw10 uint32, into []byte) error {
		var pin runtime.Pinner
		defer pin.Unpin()
		pin.Pin(&into[0])
		command := struct {
			opcode, flags   uint8
			_               uint16
			nsid            uint32
			_               [2]uint32
			metadata        uint64
			address         uint64
			metadataLen     uint32
			length          uint32
			cdw10           uint32
			_               [5]uint32
			timeout, result uint32
		}{
			opcode: opcode, nsid: nsid, address: uint64(uintptr(unsafe.Pointer(&into[0]))), length: uint32(len(into)), cdw10: cdw10,
		}
		const adminCommand = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD
		status, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), adminCommand, uintptr(unsafe.Pointer(&command)))
		switch {
		case errno != 0:
			return errno
		case status != 0:
			return nvmeError(status & 0x7ff)
		}
		return nil
	}
}

// nvmeHealth is the log of SMART and health information (figure 207).
type nvmeHealth struct {
	warning      uint8 // critical warnings, a bit each
	temperature  int   // K; 0: not reported
	spare        uint8 // percent
	spareLimit   uint8
	used         uint8 // percent of the life that the vendor expects; 255: more
	powerOnHours uint64
	mediaErrors  uint64
}

func decodeNVMeHealth(b []byte) (nvmeHealth, error) {
	if len(b) < nvmeHealthSize {
		return nvmeHealth{}, fmt.Errorf("health log of %d bytes", len(b))
	}
	return nvmeHealth{
		warning: b[0], temperature: int(binary.LittleEndian.Uint16(b[1:])), spare: b[3], spareLimit: b[4], used: b[5],
		powerOnHours: low64(b[128:144]), mediaErrors: low64(b[160:176]),
	}, nil
}

// low64 of a number of 16 bytes; all ones when it is larger.
func low64(b []byte) uint64 {
	if binary.LittleEndian.Uint64(b[8:]) != 0 {
		return ^uint64(0)
	}
	return binary.LittleEndian.Uint64(b)
}

// Bits of the critical warning.
const (
	nvmeSpareLow = 1 << iota
	nvmeHot
	nvmeUnreliable
	nvmeReadOnly
	nvmeBackup
	nvmeMemory
)

const kelvin = 273

func (h nvmeHealth) report(hotFrom int) *report {
	r := &report{evidence: map[string]string{
		"critical_warning": fmt.Sprintf("%#02x", h.warning), "percentage_used": fmt.Sprint(h.used), "available_spare": fmt.Sprint(h.spare),
		"media_errors": fmt.Sprint(h.mediaErrors), "power_on_hours": fmt.Sprint(h.powerOnHours),
	}}
	r.note(correlate.CondDiskFailed, h.warning&nvmeReadOnly != 0, "its media is read-only")
	r.note(correlate.CondDiskFailing, h.warning&nvmeSpareLow != 0 || h.spare < h.spareLimit,
		fmt.Sprintf("%d%% of its spare capacity is left, its limit is %d%%", h.spare, h.spareLimit))
	r.note(correlate.CondDiskFailing, h.warning&nvmeUnreliable != 0, "it is not reliable any more: errors of its media, or inside")
	r.note(correlate.CondDiskFailing, h.warning&nvmeBackup != 0, "its volatile memory would be lost with the power")
	r.note(correlate.CondDiskFailing, h.warning&nvmeMemory != 0, "its persistent memory is read-only or not reliable")
	r.note(correlate.CondDiskFailing, h.used >= 100, fmt.Sprintf("%d%% of the life that its vendor expects is used up", h.used))
	celsius := h.temperature - kelvin
	if h.temperature > 0 {
		r.evidence["celsius"] = fmt.Sprint(celsius)
	}
	text := fmt.Sprintf("it is at %d °C", celsius)
	if hotFrom > 0 {
		text += fmt.Sprintf(", its limit is %d °C", hotFrom-kelvin)
	}
	r.note(correlate.CondDiskHot, h.warning&nvmeHot != 0 || hotFrom > 0 && h.temperature >= hotFrom, text)
	return r
}

// askNVMe reads the health log, and from what temperature on the controller warns (Identify, figure 275: WCTEMP).
func askNVMe(command nvmeCommand) (*report, error) {
	log := make([]byte, nvmeHealthSize)
	const allNamespaces = 0xffffffff
	err := command(nvmeGetLogPage, allNamespaces, (nvmeHealthSize/4-1)<<16|nvmeHealthLog, log)
	switch {
	case errors.Is(err, errInvalidOpcode), errors.Is(err, errInvalidField), errors.Is(err, unix.ENOTTY):
		return nil, errUnsupported
	case err != nil:
		return nil, fmt.Errorf("read the health log: %w", err)
	}
	health, err := decodeNVMeHealth(log)
	if err != nil {
		return nil, err
	}
	identity := make([]byte, nvmeIdentSize)
	hotFrom := 0
	if err := command(nvmeIdentify, 0, 1, identity); err == nil { // else the warning alone counts
		hotFrom = int(binary.LittleEndian.Uint16(identity[266:]))
	}
	r := health.report(hotFrom)
	if serial := strings.TrimSpace(string(identity[4:24])); printable(serial) {
		r.evidence["serial"] = serial
	}
	return r, nil
}

func printable(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}
