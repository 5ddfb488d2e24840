package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// QEMU is the process id of a running domain's qemu, as this program's PID namespace counts.
func (lv *Libvirt) QEMU(name string) (pid int, err error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", lv.host.pid))
	if err != nil {
		return 0, fmt.Errorf("host %s: find qemu of %s: %w", lv.host.Name, name, err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, fmt.Errorf("host %s: find qemu of %s: %w", lv.host.Name, name, err)
	}
	for _, dir := range procs {
		// Processes come and go while we look: what can't be read is not it.
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err != nil || !strings.Contains(string(cmdline), "\x00guest="+name+",") { // libvirt's -name guest=…,debug-threads=on
			continue
		}
		if ns, err := os.Readlink(dir + "/ns/pid"); err == nil && ns == own {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, fmt.Errorf("host %s: domain %s has no qemu process", lv.host.Name, name)
}
