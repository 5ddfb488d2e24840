// Package lab is a compute host in a box: network namespaces as hosts, a real libvirtd with real qemu domains in
// one of them, consumers in another, and every fault that can be had on one small machine.
//
// Each host is a set of namespaces (mount, network, PID, UTS, IPC) with one process, tini, that holds them and is
// their init. Its standard input is a pipe from this process: when this process ends, however it ends, the pipe
// closes, init exits, the kernel kills all that runs in its PID namespace, and mounts, links and files go with the
// namespaces. Nothing has a name outside them, so nothing can be left behind.
//
// It is for tests and the demo, needs root, and is never part of the agent.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Lab holds hosts and tears them down, last in, first out.
type Lab struct {
	name string // prefix of host names and of the holders' command lines: pm-<pid>

	mu      sync.Mutex
	closers []func() error
}

// New checks what the lab stands on. The error names everything that is lacking, and the remedy.
func New() (*Lab, error) {
	var lacking []string
	if os.Geteuid() != 0 {
		lacking = append(lacking, "root (namespaces, taps)")
	}
	for _, tool := range []string{"tini", "libvirtd", "qemu-system-x86_64", "busybox", "mount", "nft", "dbus-daemon", "mdadm", "ipmi_sim", "ipmitool"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking = append(lacking, tool)
		}
	}
	if len(lacking) > 0 {
		return nil, fmt.Errorf("the lab lacks %s: run make deps, as root", strings.Join(lacking, ", "))
	}
	return &Lab{name: fmt.Sprintf("pm-%d", os.Getpid())}, nil
}

// Close tears everything down; it goes on after an error and returns all of them.
func (l *Lab) Close() error {
	l.mu.Lock()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func (l *Lab) onClose(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// CacheDir is where make deps puts the guests' kernel.
func CacheDir() string {
	dir := os.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return filepath.Join(dir, "paramedic-lab")
}
