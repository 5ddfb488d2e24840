package pressure

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

// guest is a domain's process and the threads that are its virtual processors.
type guest struct {
	uuid  string
	pid   string
	vcpus []vcpu
}

type vcpu struct {
	thread string // its id
	name   string // "CPU 3"
}

// guests looks through all processes. qemu names its threads "CPU 3/KVM" when it is told to, as libvirt does
// (debug-threads=on). A qemu that is stuck may hold it up.
func guests(root hw.Root) ([]guest, error) {
	names, err := children(root.ProcPath())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, "1") {
		return nil, errHidden
	}
	var all []guest
	for _, pid := range names {
		name, err := hw.ReadAttr(root.ProcPath(pid, "comm"))
		if err != nil || !strings.Contains(name, "qemu") && !strings.Contains(name, "kvm") {
			continue
		}
		g := guest{uuid: root.DomainOf(pid), pid: pid}
		if g.uuid == "" {
			continue
		}
		threads, err := children(root.ProcPath(pid, "task"))
		if err != nil {
			continue // it has ended
		}
		for _, thread := range threads {
			name, err := hw.ReadAttr(root.ProcPath(pid, "task", thread, "comm"))
			if err != nil {
				continue
			}
			if cpu, _, ok := strings.Cut(name, "/"); ok && strings.HasPrefix(cpu, "CPU ") {
				g.vcpus = append(g.vcpus, vcpu{thread, cpu})
			}
		}
		if len(g.vcpus) > 0 {
			all = append(all, g)
		}
	}
	return all, nil
}

var errHidden = errors.New("the processes of others are hidden: give the agent a /proc without hidepid (and its unit no ProtectProc=)")

// waited is how long a thread wanted to run and did not (Documentation/scheduler/sched-stats.rst: run time, wait, slices).
func (g *guest) waited(root hw.Root, thread string) (time.Duration, error) {
	text, err := hw.ReadAttr(root.ProcPath(g.pid, "task", thread, "schedstat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return 0, fmt.Errorf("read what a thread waited: %q", text)
	}
	ns, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read what a thread waited: %w", err)
	}
	return time.Duration(ns), nil
}

// ended reports whether a process or thread is no more.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// children are the entries that are numbers.
func children(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	numbers := names[:0]
	for _, n := range names {
		if _, err := strconv.ParseUint(n, 10, 32); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}
