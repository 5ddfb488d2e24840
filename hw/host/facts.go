package host

import (
	"os"
	"strings"

	"github.com/paramedic-ha/paramedic/hw"
)

// model is what /proc/cpuinfo says of the processors; they are all the same.
func model(root hw.Root) (name, microcode string) {
	b, err := os.ReadFile(root.ProcPath("cpuinfo"))
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name":
			name = strings.TrimSpace(value)
		case "microcode":
			microcode = strings.TrimSpace(value)
		case "": // the first one is told
			return name, microcode
		}
	}
	return name, microcode
}

// Facts are what the host is: its kernel, and what its firmware says of it (SMBIOS), as far as that may be read.
func Facts(root hw.Root) map[string]string {
	facts := make(map[string]string)
	for name, path := range map[string]string{
		"kernel":   root.ProcPath("sys", "kernel", "osrelease"),
		"vendor":   root.SysPath("class", "dmi", "id", "sys_vendor"),
		"product":  root.SysPath("class", "dmi", "id", "product_name"),
		"serial":   root.SysPath("class", "dmi", "id", "product_serial"),
		"firmware": root.SysPath("class", "dmi", "id", "bios_version"),
	} {
		if value, err := hw.ReadAttr(path); err == nil && value != "" {
			facts[name] = strings.ToValidUTF8(value, "?")
		}
	}
	return facts
}
