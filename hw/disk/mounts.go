package disk

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/hw"
)

// mount is a mounted file system that stands on a block device.
type mount struct {
	number   string // of the device: "8:1"
	point    string
	kind     string
	readOnly bool // the file system itself, not only this mount of it
}

var errMount = errors.New("not a line of mountinfo")

// readMounts reads the mount table of this process (proc_pid_mountinfo(5)).
func readMounts(root hw.Root) ([]mount, error) {
	table, err := hw.ReadAttr(root.ProcPath("self", "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var all []mount
	for line := range strings.Lines(table) {
		m, err := parseMount(strings.TrimRight(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("read mounts: %w", err)
		}
		if !strings.HasPrefix(m.number, "0:") { // of no device: memory, network, and the like
			all = append(all, m)
		}
	}
	return all, nil
}

// parseMount reads one line: id, parent, device, root, mount point, options, optional fields, "-", type, source, options of the
// file system.
func parseMount(line string) (mount, error) {
	front, back, ok := strings.Cut(line, " - ")
	f, b := strings.Fields(front), strings.Fields(back)
	if !ok || len(f) < 6 || len(b) < 2 {
		return mount{}, fmt.Errorf("%w: %q", errMount, line)
	}
	m := mount{number: f[2], point: unescape(f[4]), kind: b[0]}
	m.readOnly = slices.Contains(strings.Split(b[len(b)-1], ","), "ro")
	return m, nil
}

// unescape undoes the kernel's three octal digits for space, tab, newline and backslash (fs/seq_file.c: mangle_path).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
