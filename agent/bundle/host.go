package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func versions(o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "paramedic %s\n%s %s/%s\n", o.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "vcs") || slices.Contains([]string{"CGO_ENABLED", "GOAMD64", "GOARM64", "-race", "-tags", "-trimpath"}, s.Key) {
				fmt.Fprintf(&b, "%s=%s\n", s.Key, s.Value)
			}
		}
		for _, m := range info.Deps {
			fmt.Fprintf(&b, "%s %s\n", m.Path, m.Version)
		}
	}
	return b.String()
}

// output is what a program prints, the end of it when that is too much.
func output(ctx context.Context, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("there is no %s here", name)
	}
	c := exec.CommandContext(ctx, path, args...)
	c.WaitDelay = 100 * time.Millisecond // for what it has left behind
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	var out ending
	var complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &ending{most: 1 << 10, buffer: &complaint}
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// ending keeps the end of what is written to it.
type ending struct {
	most   int
	buffer *bytes.Buffer
}

func (e *ending) Write(p []byte) (int, error) {
	if e.buffer == nil {
		e.buffer = new(bytes.Buffer)
	}
	if e.most == 0 {
		e.most = maxPart
	}
	e.buffer.Write(p)
	if over := e.buffer.Len() - e.most; over > e.most { // seldom, for it copies
		e.buffer = bytes.NewBuffer(slices.Clone(e.buffer.Bytes()[over:]))
	}
	return len(p), nil
}

func (e *ending) String() string {
	if e.buffer == nil {
		return ""
	}
	return e.buffer.String()
}

// journal is the end of the agent's log.
func journal(ctx context.Context, o Options) (string, string, error) {
	if o.LogFile != "" {
		text, err := tail(o.LogFile, o.LogLines)
		return unnamed(text), "", err
	}
	text, err := output(ctx, "journalctl", "--no-pager", "--quiet", "--unit", o.Unit, "--lines", strconv.Itoa(o.LogLines), "--output", "short-iso-precise")
	if err == nil && strings.TrimSpace(text) == "" {
		err = fmt.Errorf("journalctl has nothing of %s: either it never ran by systemd, or this user may not read the journal (as root, or in the group systemd-journal). "+
			"Of an agent that is run otherwise name its log with --log", o.Unit)
	}
	return unnamed(text), "", err
}

// What the log says of the files of secrets: in a line of the configuration, and by name. Who writes a secret where its file belongs
// has it in the log of an older agent, also when the configuration was mended.
var (
	fileKey  = regexp.MustCompile(`((?:secret|password|token|key)s?_file(?:\\*["'])?\s*:\s+)(?:[^\s\\]|\\[^n])(?:[^\n\\]|\\[^n])*`)
	fileName = regexp.MustCompile(`(\bfile )(?:[^\n\\]|\\[^n])*?(: can't read it: )`)
	fileMade = regexp.MustCompile(`(keygen --[a-z]+ --file )[^\n"\\]+`)
)

// unnamed is a log without what stands where such a file is named.
func unnamed(log string) string {
	log = fileKey.ReplaceAllString(log, "${1}"+removed)
	log = fileName.ReplaceAllString(log, "${1}"+removed+"${2}")
	return fileMade.ReplaceAllString(log, "${1}"+removed)
}

// properties of the unit that hold no text of an administrator's but names and paths: no Environment, no Exec.
var properties = []string{
	"Id", "Names", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "FragmentPath", "DropInPaths", "NeedDaemonReload", "Type", "NotifyAccess", "MainPID",
	"ExecMainStartTimestamp", "ExecMainExitTimestamp", "ExecMainCode", "ExecMainStatus", "StateChangeTimestamp", "ActiveEnterTimestamp", "NRestarts", "WatchdogUSec",
	"WatchdogTimestamp", "TimeoutStopUSec", "Restart", "RestartUSec", "OOMPolicy", "OOMScoreAdjust", "MemoryCurrent", "MemoryPeak", "MemoryMax", "TasksCurrent", "TasksMax", "CPUUsageNSec",
	"LimitNOFILE", "User", "Group", "SupplementaryGroups", "AmbientCapabilities", "CapabilityBoundingSet", "NoNewPrivileges", "ProtectSystem", "ProtectHome",
	"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectKernelLogs", "ProtectClock", "RestrictAddressFamilies",
}

func unit(ctx context.Context, o Options) (string, string, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "", "", errors.New("systemd does not run this host")
	}
	text, err := output(ctx, "systemctl", "show", "--no-pager", o.Unit, "--property", strings.Join(properties, ","))
	return text, "", err
}

// process is what the kernel says of the agent. Neither its environment nor its command line is read.
func process(pid int) (string, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "pid %d\n\n", pid)
	for line := range strings.Lines(string(status)) {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{
			"Name", "State", "Uid", "Gid", "Groups", "FDSize", "VmPeak", "VmSize", "VmLck", "VmHWM", "VmRSS", "RssAnon", "VmSwap", "Threads", "SigQ", "CapInh", "CapPrm", "CapEff", "CapBnd",
			"CapAmb", "NoNewPrivs", "Seccomp", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches",
		}, name) {
			b.WriteString(line)
		}
	}
	for _, name := range []string{"limits", "cgroup", "oom_score_adj", "schedstat", "io"} {
		section(&b, name, filepath.Join(dir, name))
	}
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		fmt.Fprintf(&b, "\n# open files: %v\n", err)
		return b.String(), nil
	}
	kinds := make(map[string]int)
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		kind, _, _ := strings.Cut(to, ":")
		if strings.HasPrefix(to, "/") {
			kind = "file or device"
		}
		kinds[kind]++
	}
	fmt.Fprintf(&b, "\n# open files: %d\n", len(fds))
	for _, kind := range sorted(kinds) {
		fmt.Fprintf(&b, "%s %d\n", kind, kinds[kind])
	}
	return b.String(), nil
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// section writes a small file, or why it can't be read.
func section(b *strings.Builder, name, path string) {
	fmt.Fprintf(b, "\n# %s\n", name)
	data, err := readKernel(path)
	if err != nil {
		fmt.Fprintf(b, "%v\n", err)
		return
	}
	b.Write(data)
}

// readKernel reads a file of /proc or /sys, whose size says nothing.
func readKernel(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if len(data) > 64<<10 {
		data = data[:64<<10]
	}
	return data, err
}

func host() string {
	var b strings.Builder
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		fmt.Fprintf(&b, "%s %s %s %s\n", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:]))
	}
	zone, _ := time.Now().Zone()
	fmt.Fprintf(&b, "clock %s, zone %s\nprocessors %d\n", time.Now().Format(time.RFC3339Nano), zone, runtime.NumCPU())
	lines := func(title, path string, prefixes ...string) {
		fmt.Fprintf(&b, "\n# %s\n", title)
		data, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			return
		}
		for line := range strings.Lines(string(data)) {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
				b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
			}
		}
	}
	lines("/etc/os-release", "/etc/os-release", "ID=", "VERSION_ID=", "PRETTY_NAME=", "ID_LIKE=")
	lines("/proc/meminfo", "/proc/meminfo", "MemTotal", "MemAvailable", "SwapTotal", "SwapFree", "HugePages_", "Hugepagesize")
	lines("modules", "/proc/modules", "ipmi_", "bonding", "openvswitch", "kvm", "vhost", "nvme", "dm_multipath", "edac_", "amd64_edac", "skx_edac", "i10nm_edac", "mce", "8021q", "tun ", "bridge ")
	for _, path := range []string{"/proc/loadavg", "/proc/uptime", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory"} {
		section(&b, path, path)
	}
	for _, path := range []string{
		"kernel/dmesg_restrict", "kernel/hung_task_timeout_secs", "kernel/panic", "kernel/tainted", "net/core/rmem_max", "net/ipv4/ping_group_range", "fs/file-nr", "vm/overcommit_memory",
	} {
		section(&b, "/proc/sys/"+path, "/proc/sys/"+path)
	}
	return b.String()
}

// links is each link with its state. Hardware addresses are not read.
func links() (string, error) {
	const dir = "/sys/class/net"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		if info, err := os.Stat(at); err != nil || !info.IsDir() {
			continue // bonding_masters
		}
		fmt.Fprintf(&b, "%s:", e.Name())
		for _, name := range []string{"operstate", "carrier", "carrier_changes", "mtu", "speed", "duplex", "flags", "type"} {
			if data, err := os.ReadFile(filepath.Join(at, name)); err == nil {
				fmt.Fprintf(&b, " %s=%s", name, strings.TrimSpace(string(data)))
			}
		}
		for _, name := range []string{"device/driver", "device/physfn", "master"} {
			if to, err := os.Readlink(filepath.Join(at, name)); err == nil {
				fmt.Fprintf(&b, " %s=%s", filepath.Base(name), filepath.Base(to))
			}
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// needed is what the sources read, and what the agent writes.
var needed = []string{
	"/dev/kmsg", "/dev/ipmi0", "/dev/ipmidev/0", "/dev/ipmi/0", "/dev/kvm", "/dev/mem", "/run/libvirt/libvirt-sock", "/run/libvirt/libvirt-sock-ro", "/run/libvirt/virtqemud-sock",
	"/run/libvirt/virtqemud-sock-ro", "/run/openvswitch/db.sock", "/run/dbus/system_bus_socket", "/run/systemd/system", "/run/paramedic", "/run/paramedic/api.sock", "/var/lib/paramedic",
	"/etc/paramedic", "/etc/paramedic/paramedic.yaml", "/sys/devices/system/edac/mc", "/sys/fs/pstore", "/proc/pressure", "/proc/mdstat", "/usr/bin/paramedic", "/usr/sbin/ovs-vswitchd", "/usr/sbin/libvirtd",
	"/usr/sbin/virtqemud",
}

func rights() string {
	var b strings.Builder
	for _, path := range needed {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s: %s\n", path, cause(err))
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", path, who(info))
	}
	return b.String()
}

// who may use a file.
func who(info fs.FileInfo) string {
	text := info.Mode().String()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner, group := strconv.Itoa(int(st.Uid)), strconv.Itoa(int(st.Gid))
		if u, err := user.LookupId(owner); err == nil {
			owner = u.Username
		}
		if g, err := user.LookupGroupId(group); err == nil {
			group = g.Name
		}
		text += " " + owner + ":" + group
	}
	return text
}

func state(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil {
		fmt.Fprintf(&b, "%s: %d of %d MiB free, %d of %d inodes free, type %#x\n", dir, st.Bavail*uint64(st.Bsize)>>20, st.Blocks*uint64(st.Bsize)>>20, st.Ffree, st.Files, st.Type)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			fmt.Fprintf(&b, "%s: %s\n", e.Name(), cause(err))
			continue
		}
		fmt.Fprintf(&b, "%s: %s %d bytes, %s\n", e.Name(), who(info), info.Size(), info.ModTime().UTC().Format(time.RFC3339))
	}
	return b.String(), nil
}
