package hw

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group of what the kernel says; group 2 is udev's (lib/kobject_uevent.c).
const kernelGroup = 1

// Uevents calls take with each event that the kernel sends of its devices until ctx ends, and with nil when some were lost. It needs no
// right. take must not keep the message: "action@path", a zero byte, and variables that each end in one.
func Uevents(ctx context.Context, take func(message []byte)) error {
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
		case errors.Is(failed, unix.ENOBUFS):
			take(nil)
		case errors.Is(failed, unix.EINTR):
		case failed != nil:
			return fmt.Errorf("read from the socket: %w", failed)
		case sender != nil && sender.Pid == 0: // the kernel has no process id
			take(buf[:n])
		}
	}
}
