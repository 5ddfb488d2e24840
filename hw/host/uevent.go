package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group of what the kernel says; group 2 is udev's (lib/kobject_uevent.c).
const kernelGroup = 1

// listen prompts the source at each uevent that is of its business. It needs no right.
func (s *Source) listen(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("open the socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "uevent")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		return fmt.Errorf("join the kernel's group: %w", err)
	}
	defer context.AfterFunc(ctx, func() { f.Close() })()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("read from the socket: %w", err)
	}
	buf := make([]byte, 8192) // the kernel's are at most 2 KiB (UEVENT_BUFFER_SIZE) and a header
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		if err := conn.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(failed, unix.EAGAIN)
		}); err != nil {
			return fmt.Errorf("read from the socket: %w", err)
		}
		sender, _ := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(failed, unix.ENOBUFS): // some were lost: whose is not known
			s.prompt.Give()
		case errors.Is(failed, unix.EINTR):
		case failed != nil:
			return fmt.Errorf("read from the socket: %w", failed)
		case sender != nil && sender.Pid == 0 && ours(buf[:n]): // the kernel has no process id
			s.counters.uevents.Add(1)
			s.prompt.Give()
		}
	}
}

// ours says whether an event is of what this source reads: a processor, a sensor that went over a limit, an error of a PCI
// device (drivers/pci/pci-driver.c: pci_uevent_ers).
func ours(message []byte) bool {
	head, rest, _ := bytes.Cut(message, []byte{0})
	action, path, ok := strings.Cut(string(head), "@")
	switch {
	case !ok:
		return false
	case strings.HasPrefix(path, "/devices/system/cpu/"):
		return true
	case action == "change" && strings.Contains(path, "/hwmon/"):
		return true
	case action == "change" && strings.HasPrefix(path, "/devices/pci"):
		return bytes.Contains(rest, []byte("ERROR_EVENT="))
	}
	return false
}
