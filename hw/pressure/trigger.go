package pressure

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/hw"
)

// Since 6.5 the kernel lets everybody have triggers whose window is a multiple of two seconds; before, they needed
// CAP_SYS_RESOURCE (kernel/sched/psi.c: psi_trigger_create).
const triggerWindow = 2_000_000 // µs

// trigger has the kernel say when tasks have stood still for a part of two seconds. It returns the file to poll for POLLPRI.
func trigger(root hw.Root, s stall, percent float64) (int, error) {
	fd, err := unix.Open(root.ProcPath("pressure", s.file), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the pressure of %s: %w", s.file, err)
	}
	which := "some"
	if s.full {
		which = "full"
	}
	if _, err := unix.Write(fd, fmt.Appendf(nil, "%s %d %d\x00", which, int(percent/100*triggerWindow), triggerWindow)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("ask for a trigger on the pressure of %s: %w", s.file, err)
	}
	return fd, nil
}

// triggers waits for the triggers that can be had, in a goroutine of its own, and puts a word into the channel for each that
// fires (at most one in two seconds). stop ends it and has waited for it.
// With an error nobody will say anything.
func triggers(root hw.Root, percent func(stall) float64) (fired <-chan struct{}, stop func(), err error) {
	var polled []unix.PollFd
	closeAll := func() {
		for _, p := range polled {
			_ = unix.Close(int(p.Fd))
		}
	}
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, func() {}, fmt.Errorf("wait for triggers: %w", err)
	}
	polled = append(polled, unix.PollFd{Fd: int32(end), Events: unix.POLLIN})
	for _, s := range stalls {
		if percent(s) <= 0 {
			continue
		}
		fd, err := trigger(root, s, percent(s))
		if err != nil {
			closeAll()
			return nil, func() {}, err
		}
		polled = append(polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI})
	}
	words := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = hw.Contain(func() error {
			forward(polled, words)
			return nil
		})
	}()
	return words, func() {
		_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-ended
		closeAll()
	}, nil
}

// forward goes on until the first file of polled says something.
func forward(polled []unix.PollFd, words chan<- struct{}) {
	for polled = slices.Clone(polled); ; {
		_, err := unix.Poll(polled, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || polled[0].Revents != 0 {
			return
		}
		for i := 1; i < len(polled); i++ {
			switch r := polled[i].Revents; {
			case r&unix.POLLPRI != 0:
				select {
				case words <- struct{}{}:
				default:
				}
			case r != 0: // an error: this one says nothing any more
				polled[i].Fd = -1
			}
		}
	}
}
