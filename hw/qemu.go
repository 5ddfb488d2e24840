package hw

import (
	"bytes"
	"os"
	"path"
	"strings"
)

// DomainOf gives the UUID of the domain whose qemu has this process id; empty when it is none, or not known. The kernel looks
// the command line up in the process's memory: a process that is stuck may hold the caller up for as long.
func (r Root) DomainOf(pid string) string {
	b, err := os.ReadFile(r.ProcPath(pid, "cmdline"))
	if err != nil {
		return ""
	}
	args := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
	if name := path.Base(args[0]); !strings.Contains(name, "qemu") && !strings.Contains(name, "kvm") {
		return ""
	}
	for i := 1; i+1 < len(args); i++ {
		if args[i] == "-uuid" {
			return args[i+1]
		}
	}
	return ""
}
