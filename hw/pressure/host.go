package pressure

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// stall is one of the kernel's pressure files (Documentation/accounting/psi.rst).
type stall struct {
	file      string
	full      bool // all tasks stood still at once; else some did
	condition correlate.Condition
	text      string
}

// stalls are what is read of them: processors keep running while tasks wait for them, so there "all" says nothing.
var stalls = []stall{
	{"memory", true, correlate.CondMemoryPressure, "all tasks stood still for want of memory"},
	{"io", true, correlate.CondIOPressure, "all tasks waited for their storage"},
	{"cpu", false, correlate.CondCPUPressure, "tasks waited for a processor"},
}

// read gives how long tasks have stood still since the start of the kernel.
func (s stall) read(proc procfs.FS) (time.Duration, error) {
	psi, err := proc.PSIStatsForResource(s.file)
	if err != nil {
		return 0, fmt.Errorf("read the pressure: %w", err)
	}
	line := psi.Some
	if s.full {
		line = psi.Full
	}
	if line == nil {
		return 0, fmt.Errorf("read the pressure of %s: it lacks a line", s.file)
	}
	return time.Duration(min(line.Total, maxMicroseconds)) * time.Microsecond, nil
}

// maxMicroseconds are 292 years: the most that a Duration holds.
const maxMicroseconds = 1<<63/1000 - 1

// supply is something that the host has so much of.
type supply struct {
	condition correlate.Condition
	unit      string
	read      func(hw.Root, procfs.FS) (left, all uint64, err error)
}

// supplies are looked at in each poll. One of which a file does not exist is not there.
var supplies = []supply{
	{correlate.CondMemoryExhausted, "MiB of memory and swap", memory},
	{correlate.CondTasksExhausted, "processes and threads", tasks},
	{correlate.CondFilesExhausted, "files", files},
	{correlate.CondConntrack, "connections", connections},
}

// memory leaves out what is set aside as huge pages: nobody but who asked for them gets those. What swap is free counts as
// left, and not to the whole: it delays the end and makes nothing fast.
func memory(_ hw.Root, proc procfs.FS) (left, all uint64, err error) {
	m, err := proc.Meminfo()
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory: %w", err)
	}
	if m.MemTotal == nil || m.MemAvailable == nil {
		return 0, 0, errors.New("read the memory: how much there is, or is left, is not said")
	}
	all, left = *m.MemTotal, *m.MemAvailable
	if m.Hugetlb != nil {
		all -= min(all, *m.Hugetlb)
	}
	if m.SwapFree != nil {
		left += *m.SwapFree
	}
	return left / 1024, all / 1024, nil
}

// tasks are bounded twice: by their ids and by their number (proc(5): pid_max, threads-max; loadavg: running/all).
func tasks(root hw.Root, _ procfs.FS) (left, all uint64, err error) {
	text, err := hw.ReadAttr(root.ProcPath("loadavg"))
	if err != nil {
		return 0, 0, err
	}
	var used uint64
	if f := strings.Fields(text); len(f) > 3 {
		_, n, _ := strings.Cut(f[3], "/")
		used, err = strconv.ParseUint(n, 10, 64)
	} else {
		err = strconv.ErrSyntax
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the number of tasks: %w", err)
	}
	return remaining(root, used, []string{"sys", "kernel", "pid_max"}, []string{"sys", "kernel", "threads-max"})
}

func files(root hw.Root, _ procfs.FS) (left, all uint64, err error) {
	text, err := hw.ReadAttr(root.ProcPath("sys", "fs", "file-nr")) // allocated, unused (always 0), the most
	if err != nil {
		return 0, 0, err
	}
	n, _, _ := strings.Cut(text, "\t")
	used, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read the number of files: %w", err)
	}
	return remaining(root, used, []string{"sys", "fs", "file-max"})
}

// connections are those of the network namespace of the agent, which is the host's.
func connections(root hw.Root, _ procfs.FS) (left, all uint64, err error) {
	used, err := number(root, []string{"sys", "net", "netfilter", "nf_conntrack_count"})
	if err != nil {
		return 0, 0, err
	}
	return remaining(root, used, []string{"sys", "net", "netfilter", "nf_conntrack_max"})
}

// remaining takes the lowest of the limits.
func remaining(root hw.Root, used uint64, limits ...[]string) (left, all uint64, err error) {
	for i, path := range limits {
		n, err := number(root, path)
		if err != nil {
			return 0, 0, err
		}
		if i == 0 || n < all {
			all = n
		}
	}
	return all - min(used, all), all, nil
}

func number(root hw.Root, path []string) (uint64, error) {
	text, err := hw.ReadAttr(root.ProcPath(path...))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64) // file-max may be more than an int64 holds
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", strings.Join(path, "/"), err)
	}
	return n, nil
}

// stolen gives the processors' time in ticks, and how much of it the hypervisor below took (proc(5): the first line of stat).
func stolen(root hw.Root) (steal, all uint64, err error) {
	f, err := os.Open(root.ProcPath("stat"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the processors' time: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 512).ReadString('\n') // the rest is long
	if err != nil {
		return 0, 0, fmt.Errorf("read the processors' time: %w", err)
	}
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("read the processors' time: %q", line)
	}
	for i, text := range fields[1:9] { // those behind are parts of the first
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the processors' time: %w", err)
		}
		if all += n; i == 7 {
			steal = n
		}
	}
	return steal, all, nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
