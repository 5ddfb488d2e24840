package ipmi

import (
	"errors"
	"fmt"
)

// Network functions (IPMI 2.0, table 5-1).
const (
	netChassis byte = 0x00
	netSensor  byte = 0x04
	netApp     byte = 0x06
	netStorage byte = 0x0A
)

// Request is one command to the BMC, at its LUN 0.
type Request struct {
	NetFn, Cmd byte
	Data       []byte
}

func (r Request) String() string { return fmt.Sprintf("command %02Xh/%02Xh", r.NetFn, r.Cmd) }

// CompletionError is a completion code other than 00h (IPMI 2.0, table 5-2).
type CompletionError byte

// The codes that something is made of here.
const (
	errBusy        CompletionError = 0xC0
	errTimedOut    CompletionError = 0xC3 // also what the driver says when the BMC does not answer it
	errReservation CompletionError = 0xC5
	errShort       CompletionError = 0xC7
	errLong        CompletionError = 0xC8
	errRange       CompletionError = 0xC9
	errTooMany     CompletionError = 0xCA // bytes that can't be returned at once
	errNotPresent  CompletionError = 0xCB
	errUnspecified CompletionError = 0xFF
)

func (c CompletionError) Error() string {
	return fmt.Sprintf("the BMC answers with code %02Xh", byte(c))
}

// Transport carries commands to the BMC, one at a time.
type Transport interface {
	// Do sends a command and waits for its answer, whose data come without the completion code. A code other than 00h is
	// a CompletionError, any other error says that the transport is of no use any more. It may take as long as it likes; Close
	// ends it if anything can.
	Do(Request) ([]byte, error)
	// Attention has a value when the BMC has something to tell. One value may stand for many.
	Attention() <-chan struct{}
	// Close may be called while a Do waits.
	Close() error
}

// errSilent: the BMC gave no answer in time.
var errSilent = errors.New("the BMC does not answer")
