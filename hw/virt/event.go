package virt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Event frames of libvirt's remote protocol (src/remote/remote_protocol.x). The procedure numbers are part of the
// protocol and never change; go-libvirt holds them in an internal package.
const (
	remoteProgram  = 0x20008086
	remoteVersion  = 1
	messageTypeMsg = 2 // VIR_NET_MESSAGE: an asynchronous event

	procConnectOpen = 1

	procLifecycle      = 318
	procReboot         = 319
	procWatchdog       = 321
	procIOErrorReason  = 324
	procDiskChange     = 327
	procDeviceRemoved  = 333
	procTunable        = 346
	procAgentLifecycle = 348
	procDeviceAdded    = 354
	procMetadata       = 379
	procMemoryFailure  = 423
	procNicMAC         = 453
)

// eventIDs are the events that a session registers for. Only the first is a must: older libvirts lack some.
var eventIDs = []libvirt.DomainEventID{
	libvirt.DomainEventIDLifecycle,
	libvirt.DomainEventIDReboot,
	libvirt.DomainEventIDWatchdog,
	libvirt.DomainEventIDIoErrorReason,
	libvirt.DomainEventIDDiskChange,
	libvirt.DomainEventIDDeviceRemoved,
	libvirt.DomainEventIDTunable,
	libvirt.DomainEventIDAgentLifecycle,
	libvirt.DomainEventIDDeviceAdded,
	libvirt.DomainEventIDMetadataChange,
	libvirt.DomainEventIDMemoryFailure,
	libvirt.DomainEventIDNicMacChange,
}

// event is one decoded event frame. Which fields are set depends on proc.
type event struct {
	proc uint32
	dom  libvirt.Domain
	at   time.Time // when the frame was read

	// what, detail: event and detail of a lifecycle event, state and reason of the guest agent, action of a watchdog,
	// recipient and action of a memory failure, action (in detail) of an I/O error.
	what, detail  int32
	flags         uint32
	device, path  string // alias and source of an I/O error; alias of a device that came or went
	failureReason string // of an I/O error: enospc, eperm, eio …
}

// maxString bounds every string of an event; libvirt's names and paths stay far below (REMOTE_STRING_MAX is 4 MiB).
const maxString = 64 << 10

var (
	errShort     = errors.New("frame ends early")
	errStringLen = errors.New("string too long")
)

// xdr reads RFC 4506 primitives; the first error sticks.
type xdr struct {
	buf []byte
	err error
}

func (x *xdr) take(n int) []byte {
	if x.err != nil {
		return nil
	}
	if n > len(x.buf) {
		x.err = errShort
		return nil
	}
	b := x.buf[:n]
	x.buf = x.buf[n:]
	return b
}

func (x *xdr) uint() uint32 {
	if b := x.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (x *xdr) int() int32 { return int32(x.uint()) } //nolint:gosec // two's complement on the wire

func (x *xdr) string() string {
	n := x.uint()
	if x.err == nil && n > maxString {
		x.err = errStringLen
	}
	if x.err != nil {
		return ""
	}
	b := x.take((int(n) + 3) &^ 3) // padded to four bytes
	if b == nil {
		return ""
	}
	return string(b[:n])
}

func (x *xdr) domain() libvirt.Domain {
	d := libvirt.Domain{Name: x.string()}
	copy(d.UUID[:], x.take(len(d.UUID)))
	d.ID = x.int()
	return d
}

// decodeEvent decodes the payload of an event frame. ok is false for events that this source has no use for.
func decodeEvent(proc uint32, payload []byte) (ev event, ok bool, err error) {
	switch proc {
	case procLifecycle, procReboot, procWatchdog, procIOErrorReason, procDiskChange, procDeviceRemoved, procTunable,
		procAgentLifecycle, procDeviceAdded, procMetadata, procMemoryFailure, procNicMAC:
	default:
		return event{}, false, nil
	}
	x := &xdr{buf: payload}
	x.int() // callback id: one per event id and session, so proc says it already
	ev = event{proc: proc, dom: x.domain()}
	switch proc {
	case procLifecycle, procAgentLifecycle:
		ev.what, ev.detail = x.int(), x.int()
	case procWatchdog:
		ev.what = x.int()
	case procIOErrorReason:
		ev.path, ev.device, ev.detail, ev.failureReason = x.string(), x.string(), x.int(), x.string()
	case procDeviceAdded, procDeviceRemoved:
		ev.device = x.string()
	case procMemoryFailure:
		ev.what, ev.detail, ev.flags = x.int(), x.int(), x.uint()
	}
	// The rest say only "read the definition again"; what follows the domain in them isn't needed.
	if x.err != nil {
		return event{}, false, fmt.Errorf("decoding libvirt event %d (%d bytes): %w", proc, len(payload), x.err)
	}
	return ev, true, nil
}
