package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// QEMU is the process id of a running domain's qemu, as this program's PID namespace counts.
func (lv *Libvirt) QEMU(name string) (int, error) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", lv.host.pid))
	if err != nil {
		return 0, fmt.Errorf("host %s: find qemu of %s: %w", lv.host.Name, name, err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, fmt.Errorf("host %s: find qemu of %s: %w", lv.host.Name, name, err)
	}
	for _, proc := range all {
		// Processes come and go while we look: what can't be read is not it. Libvirt starts qemu with
		// "-name guest=NAME,debug-threads=on".
		cmdline, err := os.ReadFile(proc + "/cmdline")
		if err != nil || !strings.Contains(string(cmdline), "\x00guest="+name+",") {
			continue
		}
		if s, err := os.Readlink(proc + "/ns/pid"); err == nil && s == space {
			return strconv.Atoi(filepath.Base(proc))
		}
	}
	return 0, fmt.Errorf("host %s: qemu of %s does not run", lv.host.Name, name)
}

// KillQEMU is kill -9 of the domain's process.
func (lv *Libvirt) KillQEMU(name string) error {
	pid, err := lv.QEMU(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("host %s: kill qemu of %s: %w", lv.host.Name, name, err)
	}
	return nil
}
