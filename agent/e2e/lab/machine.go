package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// Machine is a host that is a whole emulated machine with a kernel of its own: what namespaces share, the clock above
// all, is its own. It runs Debian's kernel with busybox, has eth0 on a switch and eth1 on nothing, and does what Run says.
type Machine struct {
	Name string

	proc *Process
	conn net.Conn
	line int // numbers the commands
}

// MachineSpec says what to boot.
type MachineSpec struct {
	Name  string
	Addr  string            // of eth0, with the prefix length
	Files map[string][]byte // executable, each at its path
}

// machineInit makes the network and runs what comes in on the serial line, a command a line, answering with its output and
// a line "=<number> <status>".
const machineInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /run /tmp
for m in /modules/*.ko; do
	case $m in *virtio*|*failover*) insmod $m;; esac
done
hostname %[1]s
ip link set lo up
ip addr add %[2]s dev eth0
ip link set eth0 up
ip link set eth1 up
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr -opost
while read -r number command; do
	case $number in *[!0-9]*|"") continue;; esac
	sh -c "$command"
	echo "=$number $?"
done
`

// Machine boots a machine on the switch and returns when it obeys.
func (s *Switch) Machine(spec MachineSpec) (*Machine, error) {
	m, err := s.boot(spec)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", spec.Name, err)
	}
	return m, nil
}

func (s *Switch) boot(spec MachineSpec) (*Machine, error) {
	kernel, err := guestKernel()
	if err != nil {
		return nil, err
	}
	initrd, err := buildInitrd(fmt.Sprintf(machineInit, spec.Name, spec.Addr), "modules", spec.Files)
	if err != nil {
		return nil, fmt.Errorf("build its file system: %w", err)
	}
	file, serial := Dir+"/"+spec.Name+".initrd", Dir+"/"+spec.Name+".serial"
	if err := s.host.WriteFile(file, string(initrd), 0o600); err != nil {
		return nil, err
	}
	tap, err := s.tap()
	if err != nil {
		return nil, err
	}
	mac := fmt.Sprintf("52:54:00:99:00:%02x", len(tap)) // there are few
	m := &Machine{Name: spec.Name}
	// Without rdrand nobody gets a random number in the first minutes: nothing happens in there to draw one from.
	m.proc, err = s.host.Start("qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc,accel=tcg", "-cpu", "qemu64,+rdrand", "-m", "256",
		"-kernel", kernel, "-initrd", file, "-append", "console=ttyS0 panic=-1 quiet tsc=unstable nokaslr mitigations=off",
		"-chardev", "socket,id=line,server=on,wait=off,path="+serial, "-serial", "chardev:line",
		"-netdev", "tap,id=n0,script=no,downscript=no,ifname="+tap, "-device", "virtio-net-pci,romfile=,netdev=n0,mac="+mac,
		"-netdev", "hubport,id=n1,hubid=1", "-device", "virtio-net-pci,romfile=,netdev=n1")
	if err != nil {
		return nil, err
	}
	if err := m.connect(s.host.Path(serial)); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, m.proc.Log()), m.proc.Kill())
	}
	return m, nil
}

// tap makes one on the switch.
func (s *Switch) tap() (name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taps++
	name = fmt.Sprint("tap", s.taps)
	return name, s.host.netlinkInside(func(nl *netlink.Handle) error {
		bridge, err := nl.LinkByName(switchBridge)
		if err != nil {
			return fmt.Errorf("find the bridge: %w", err)
		}
		// A tap is made through /dev/net/tun, by whoever is inside.
		if _, err := s.host.Run("ip", "tuntap", "add", "dev", name, "mode", "tap"); err != nil {
			return err
		}
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find the tap: %w", err)
		}
		return errors.Join(nl.LinkSetMaster(link, bridge), nl.LinkSetUp(link))
	})
}

const machinePatience = 60 * time.Second

// connect waits until the machine obeys.
func (m *Machine) connect(serial string) error { return m.connectWithin(serial, machinePatience) }

func (m *Machine) connectWithin(serial string, patience time.Duration) (err error) {
	deadline := time.Now().Add(patience)
	for {
		if m.conn == nil {
			m.conn, err = net.Dial("unix", serial)
		}
		if m.conn != nil {
			if _, err = m.run("true", 500*time.Millisecond); err == nil {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not obey: %w", err)
		}
		select {
		case <-m.proc.Exited():
			return errors.New("qemu ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Run has the machine's shell run a command (one line) and returns its output. Not for two goroutines at once.
func (m *Machine) Run(command string) (string, error) {
	out, err := m.run(command, machinePatience)
	if err != nil {
		return out, fmt.Errorf("machine %s: %s: %w: %s", m.Name, command, err, out)
	}
	return out, nil
}

func (m *Machine) run(command string, patience time.Duration) (string, error) {
	m.line++
	if err := m.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(m.conn, "\n%d %s\n", m.line, command); err != nil {
		return "", err
	}
	var heard bytes.Buffer
	buf := make([]byte, 4096)
	for end := fmt.Sprintf("=%d ", m.line); ; {
		out, rest, answered := strings.Cut(heard.String(), end)
		if status, _, whole := strings.Cut(rest, "\n"); answered && whole {
			if status != "0" {
				return out, fmt.Errorf("exit status %s", status)
			}
			return out, nil
		}
		n, err := m.conn.Read(buf)
		heard.Write(buf[:n])
		if err != nil {
			return heard.String(), err
		}
	}
}

// Off is a power cut.
func (m *Machine) Off() error { return errors.Join(m.conn.Close(), m.proc.Kill()) }
