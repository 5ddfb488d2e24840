package ipmi

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	uroot "github.com/u-root/u-root/pkg/ipmi"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/hw"
)

// openIPMI is the kernel's driver behind /dev/ipmi0 (Documentation/driver-api/ipmi.rst): u-root carries the commands. Events
// come on a file of their own, as u-root takes whatever comes on its own for the answer to what it has sent.
type openIPMI struct {
	commands  *uroot.IPMI
	events    *os.File
	attention chan struct{}
	listening sync.WaitGroup
}

// openDevice opens the device; errors are those of os.OpenFile.
func openDevice(path string) (Transport, error) {
	commands, err := uroot.OpenPath(path)
	if err != nil {
		return nil, fmt.Errorf("open the BMC's device: %w", err)
	}
	o := &openIPMI{commands: commands, attention: make(chan struct{}, 1)}
	if o.events, err = os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("open the BMC's device for its events: %w", err), commands.Close())
	}
	if err := o.subscribe(); err == nil { // without events the event log is polled all the same
		o.listening.Go(func() { _ = hw.Contain(o.listen) })
	}
	return o, nil
}

// Do implements Transport. u-root gives up after ten seconds.
func (o *openIPMI) Do(r Request) ([]byte, error) {
	data := r.Data
	if len(data) == 0 {
		data = nil // u-root takes the address of the first byte of anything else
	}
	answer, err := o.commands.SendRecv(uroot.NetFn(r.NetFn), uroot.Command(r.Cmd), data)
	var code uroot.CompletionError
	switch {
	case errors.As(err, &code):
		return nil, CompletionError(code)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r, err)
	case len(answer) == 0:
		return nil, errUnspecified
	}
	return answer[1:], nil
}

// Attention implements Transport.
func (o *openIPMI) Attention() <-chan struct{} { return o.attention }

// Close implements Transport. It does not wait for a Do, which may be stuck in the driver.
func (o *openIPMI) Close() error {
	err := errors.Join(o.commands.Close(), o.events.Close())
	o.listening.Wait()
	return err
}

// What <linux/ipmi.h> lays down.
type (
	driverMessage struct {
		netFn, cmd byte
		length     uint16
		data       unsafe.Pointer
	}
	driverReceive struct {
		kind    int32
		address unsafe.Pointer
		length  uint32
		id      int64 // long
		message driverMessage
	}
)

// The numbers of the two calls: _IOR('i', 16, int) and _IOWR('i', 11, struct ipmi_recv).
const (
	callGetsEvents = 2<<30 | 4<<16 | 'i'<<8 | 16
	callReceive    = 3<<30 | unsafe.Sizeof(driverReceive{})<<16 | 'i'<<8 | 11
)

// subscribe asks the driver for the BMC's events on this file; it lets the BMC buffer them meanwhile.
func (o *openIPMI) subscribe() error {
	yes := int32(1)
	return o.control(func(fd uintptr) error { return call(fd, callGetsEvents, unsafe.Pointer(&yes)) })
}

// listen waits for events until the file is closed.
func (o *openIPMI) listen() error {
	raw, err := o.events.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var failure error
		err := raw.Read(func(fd uintptr) bool {
			failure = receive(fd)
			return !errors.Is(failure, syscall.EAGAIN) && !errors.Is(failure, syscall.EINTR)
		})
		if err := errors.Join(err, failure); err != nil {
			return err // closed, or the driver is gone
		}
		select {
		case o.attention <- struct{}{}:
		default: // said already
		}
	}
}

// receive takes one message off the driver's queue and drops it: what it says the event log says better.
func receive(fd uintptr) error {
	var address [64]byte
	var data [512]byte
	m := driverReceive{address: unsafe.Pointer(&address[0]), length: uint32(len(address))}
	m.message.data, m.message.length = unsafe.Pointer(&data[0]), uint16(len(data))
	err := call(fd, callReceive, unsafe.Pointer(&m))
	runtime.KeepAlive(&address)
	runtime.KeepAlive(&data)
	if errors.Is(err, syscall.EMSGSIZE) { // longer than that; taken all the same
		return nil
	}
	return err
}

func (o *openIPMI) control(f func(fd uintptr) error) error {
	raw, err := o.events.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(fd) }); err != nil {
		return err
	}
	return inner
}

func call(fd uintptr, number uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, number, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
