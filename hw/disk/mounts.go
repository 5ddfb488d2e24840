package disk

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/hw"
)

// mount is a file system at one place.
type mount struct {
	id       string // of the mount; the next one may have it again
	number   string // of the device: "8:1"
	point    string
	kind     string
	source   string
	readOnly bool // the file system itself, not only this mount of it
	// emergency: ext4 writes no more since an error (fs/ext4/super.c: _ext4_show_options, since Linux 6.15).
	emergency bool
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
		all = append(all, m)
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
	options := strings.Split(b[len(b)-1], ",")
	return mount{
		id: f[0], number: f[2], point: unescape(f[4]), kind: b[0], source: unescape(b[1]),
		readOnly: slices.Contains(options, "ro"), emergency: slices.Contains(options, "emergency_ro"),
	}, nil
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

// holder is the mount that a path is in, by their names; nil: none of those.
func holder(mounts []mount, path string) *mount {
	var best *mount
	for i := range mounts {
		m := &mounts[i]
		if m.point != "/" && path != m.point && !strings.HasPrefix(path, m.point+"/") {
			continue
		}
		if best == nil || len(m.point) >= len(best.point) { // of several on one another the last covers the others
			best = m
		}
	}
	return best
}

// readSwaps gives the devices that are swapped to, by name (proc_swaps(5)).
func readSwaps(root hw.Root) []string {
	table, err := hw.ReadAttr(root.ProcPath("swaps"))
	if err != nil {
		return nil // a kernel without swap
	}
	var all []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != "partition" {
			continue
		}
		if name, ok := strings.CutPrefix(unescape(f[0]), "/dev/"); ok {
			all = append(all, name)
		}
	}
	return all
}
