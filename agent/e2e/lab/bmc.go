package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// BMC is the management controller of a Compute: Debian's simulator, behind the machine's own port and the kernel's own driver.
// Its configuration is that of hw/ipmi's tests (testdata/sim/bmc.emu), which says what sensors there are.
type BMC struct {
	host    *Host
	proc    *Process
	console net.Conn
}

// Where the simulator listens, on the loopback of the switch's host, and its files.
const (
	bmcLAN     = "9723"
	bmcSystem  = "9724" // the machine's own port
	bmcConsole = "9725"
	bmcDir     = Dir + "/bmc"
)

const bmcConf = `name "lab"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 ` + bmcLAN + `
  priv_limit admin
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
serial 15 127.0.0.1 ` + bmcSystem + ` codec VM
console 127.0.0.1 ` + bmcConsole + `
user 2 true "paramedic" "lab" admin 10 none md2 md5 straight
`

// bmcNormal is what the threshold sensors measure when all is well, raw.
var bmcNormal = map[string]int{"ambient": 25, "cputemp": 45, "p12v": 200, "fan1": 70, "fan2": 70}

// bmc starts the simulator with what it emulates, and waits until it listens.
func (h *Host) bmc(emulated string) (*BMC, error) {
	b := &BMC{host: h}
	for path, content := range map[string]string{
		"/lan.conf": bmcConf, "/bmc.emu": emulated, "/commands": fmt.Sprintf("define DIR %q\ninclude %q\n", bmcDir, bmcDir+"/bmc.emu"), "/state/.keep": "",
	} {
		if err := h.WriteFile(bmcDir+path, content, 0o600); err != nil {
			return nil, err
		}
	}
	for name := range bmcNormal {
		if err := b.Reset(name); err != nil {
			return nil, err
		}
	}
	var err error
	if b.proc, err = h.Start("ipmi_sim", "-n", "-c", bmcDir+"/lan.conf", "-f", bmcDir+"/commands", "-s", bmcDir+"/state"); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if b.console, err = h.Dial("127.0.0.1:" + bmcConsole); err == nil {
			return b, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("the BMC does not listen: %w: %s", err, b.proc.Log()), b.proc.Kill())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Measure sets what a threshold sensor measures, raw.
func (b *BMC) Measure(sensor string, raw int) error {
	if err := b.host.WriteFile(bmcDir+"/"+sensor+".new", fmt.Sprintln(raw), 0o600); err != nil {
		return err
	}
	return os.Rename(b.host.Path(bmcDir+"/"+sensor+".new"), b.host.Path(bmcDir+"/"+sensor))
}

// Reset has it measure what is normal.
func (b *BMC) Reset(sensor string) error { return b.Measure(sensor, bmcNormal[sensor]) }

// Bit sets a state of a discrete sensor, with an event.
func (b *BMC) Bit(sensor, offset byte, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return b.say(fmt.Sprintf("sensor_set_bit 0x20 0 %#x %d %d 1", sensor, offset, value))
}

// Log adds records to the event log as the BMC itself does, all at once, each the last eight bytes of a system event record:
// version, sensor's type and number, event's type, and three of data.
func (b *BMC) Log(records ...[7]byte) error {
	var lines []string
	for _, r := range records {
		lines = append(lines, strings.ReplaceAll(fmt.Sprintf("sel_add 0x20 0x02 0 0 0 0 0x20 0x00 % #x", r[:]), "  ", " "))
	}
	return b.say(lines...)
}

func (b *BMC) say(commands ...string) error {
	_, err := b.console.Write([]byte(strings.Join(commands, "\r\n") + "\r\n"))
	return err
}

// Tool is an operator with ipmitool, over the network.
func (b *BMC) Tool(args ...string) error {
	all := append([]string{"-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", bmcLAN, "-U", "paramedic", "-P", "lab"}, args...)
	_, err := b.host.Run("ipmitool", all...)
	return err
}

// Freeze hangs it. Thaw lets it go on.
func (b *BMC) Freeze() error { return b.proc.Signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (b *BMC) Thaw() error { return b.proc.Signal(syscall.SIGCONT) }
