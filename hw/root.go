package hw

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Root is where a source finds the kernel's file systems, and /var. Tests point it at fixtures; the zero value is the real
// host. It is a value and safe for concurrent use.
type Root struct {
	Proc string // default /proc
	Sys  string // default /sys
	Var  string // default /var
}

// ProcPath joins elements below /proc.
func (r Root) ProcPath(elem ...string) string { return below(r.Proc, "/proc", elem) }

// SysPath joins elements below /sys.
func (r Root) SysPath(elem ...string) string { return below(r.Sys, "/sys", elem) }

// VarPath joins elements below /var, which may be on a file system that hangs.
func (r Root) VarPath(elem ...string) string { return below(r.Var, "/var", elem) }

func below(root, standard string, elem []string) string {
	if root == "" {
		root = standard
	}
	return filepath.Join(append([]string{root}, elem...)...)
}

// BootTime is when the kernel's clock was zero, by proc_uptime(5), which counts suspends too; hosts don't do those.
func (r Root) BootTime(now time.Time) (time.Time, error) {
	text, err := ReadAttr(r.ProcPath("uptime"))
	if err != nil {
		return time.Time{}, err
	}
	up, _, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the uptime: %w", err)
	}
	return now.Add(-time.Duration(seconds * float64(time.Second))), nil
}

// ReadAttr reads a small attribute file (sysfs: one value, at most a page) without the white space around it.
// The path comes from SysPath or ProcPath.
func ReadAttr(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read attribute: %w", err)
	}
	return string(bytes.TrimSpace(b)), nil
}

// ReadIntAttr reads an attribute that holds one decimal number.
func ReadIntAttr(path string) (int64, error) {
	s, err := ReadAttr(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read attribute %s: %w", path, err)
	}
	return n, nil
}
