package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/hw"
)

// listen prompts the source at each of the kernel's events of block devices and NVMe controllers.
func (s *Source) listen(ctx context.Context) error {
	return hw.Uevents(ctx, func(message []byte) {
		ours, drive := concerns(message)
		switch {
		case message == nil: // some were lost: whose is not known
			s.drives.hurry("")
		case drive != "":
			s.drives.hurry(drive)
		case !ours:
			return
		}
		s.counters.prompts.Add(1)
		s.config.Prompt.Give()
	})
}

// concerns says whether an event is of what this source reads, and names the NVMe controller that has something to say
// (drivers/nvme/host/core.c: nvme_aen_uevent).
func concerns(message []byte) (ours bool, drive string) {
	head, rest, _ := bytes.Cut(message, []byte{0})
	_, path, ok := strings.Cut(string(head), "@")
	if !ok {
		return false, ""
	}
	var subsystem string
	var speaks bool
	for v := range bytes.SplitSeq(rest, []byte{0}) {
		name, value, _ := strings.Cut(string(v), "=")
		switch name {
		case "SUBSYSTEM":
			subsystem = value
		case "NVME_AEN":
			speaks = true
		}
	}
	switch subsystem {
	case "block":
		return true, ""
	case "nvme":
		if speaks {
			drive = path[strings.LastIndexByte(path, '/')+1:]
		}
		return true, drive
	}
	return false, ""
}

// attend prompts the source when the mount table changes, or the state of an array: both files say so to poll(2) (fs/proc_namespace.c,
// drivers/md/md.c: mdstat_poll).
func (s *Source) attend(ctx context.Context) error {
	var stop [2]int
	if err := unix.Pipe2(stop[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	end := os.NewFile(uintptr(stop[1]), "stop")
	defer func() { _ = unix.Close(stop[0]) }()
	defer context.AfterFunc(ctx, func() { end.Close() })()
	defer end.Close()
	for {
		err := s.awaitChange(stop[0])
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s.counters.prompts.Add(1)
		s.config.Prompt.Give()
		select { // what changes meanwhile is seen by the second look that a prompt brings
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// pause is how long nobody waits for changes after one: they come in bursts. It is shorter than the time between the two looks
// after a prompt.
const pause = 50 * time.Millisecond

// awaitChange returns when one of the files has changed since it was called, or stop is closed at its other end.
func (s *Source) awaitChange(stop int) error {
	waits := []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}}
	for _, elem := range [][]string{{"self", "mountinfo"}, {"mdstat"}} {
		f, err := os.Open(s.config.Root.ProcPath(elem...))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without arrays
		}
		if err != nil {
			return fmt.Errorf("wait for changes: %w", err)
		}
		defer f.Close()
		waits = append(waits, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLPRI})
	}
	for {
		_, err := unix.Poll(waits, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
