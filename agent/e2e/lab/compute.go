package lab

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Compute is a compute host that is a whole emulated machine, for the faults that need hardware and a kernel of its own. Its
// root is this machine's, read-only, below a layer of its own in memory: all that is installed here is there, libvirtd and qemu
// for domains too. Only StateDisk outlasts its reboots. Run has its shell.
//
// It has a BMC; four network cards: eth0 on the switch, eth1 and eth2, and eth3 in a PCI Express slot that reports errors; an NVMe
// drive in another one; two more disks, vdb and vdc; two processors; and a memory controller with four modules,
// DIMM_A1 to DIMM_B2.
type Compute struct {
	*Machine

	BMC *BMC

	monitor *monitor
	domains []Domain
	console string // path of what the kernel says, as the switch's host sees it
	host    *Host
}

// ComputeSpec says what to boot.
type ComputeSpec struct {
	Name    string
	Addr    string            // of eth0, with the prefix length
	Files   map[string][]byte // root's own and executable, each by its name in ComputeDir
	Domains []Domain          // tiny ones; StartDomains starts them
	BMC     string            // what the simulator of its BMC emulates
}

// Where a Compute has things.
const (
	ComputeDir = Dir + "/compute" // ComputeSpec.Files
	StateDisk  = "/dev/vda"       // keeps what is on it
)

// computeBoot mounts the root and goes on with computeInit there.
const computeBoot = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in /modules/*.ko; do insmod $m; done
mkdir -p /below /layer /whole
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 root /below
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/below,upperdir=/layer/upper,workdir=/layer/work root /whole
cd /whole
for d in proc sys dev; do mount --move /$d $d; done
mount -t tmpfs tmp tmp
mkdir -p dev/shm dev/pts
mount -t tmpfs shm dev/shm
mount -t devpts pts dev/pts
mount -t debugfs debug sys/kernel/debug
exec chroot /whole /bin/bash %s/init
`

// computeInit does what comes in on the serial line, as machineInit does. The kernel talks on another.
const computeInit = `
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TERM=dumb LC_ALL=C
hostname %[1]s
modprobe() { command modprobe -d %[3]s "$@"; }
export -f modprobe
modprobe -a virtio_net virtio_blk
ip link set lo up
ip addr add %[2]s dev eth0
ip link set eth0 up
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr -opost
while read -r number command; do
	case $number in *[!0-9]*|"") continue;; esac
	(eval "$command") </dev/null
	echo "=$number $?"
done
`

// Compute boots such a host on the switch and returns when it obeys. A switch has one at most.
func (s *Switch) Compute(spec ComputeSpec) (*Compute, error) {
	c, err := s.compute(spec)
	if err != nil {
		return nil, fmt.Errorf("compute host %s: %w", spec.Name, err)
	}
	return c, nil
}

func (s *Switch) compute(spec ComputeSpec) (*Compute, error) {
	kernel, err := guestKernel()
	if err != nil {
		return nil, err
	}
	modules := filepath.Join(CacheDir(), "host")
	if _, err := os.Stat(modules); err != nil {
		return nil, fmt.Errorf("its modules are lacking (%w): run make deps", err)
	}
	initrd, err := buildInitrd(fmt.Sprintf(computeBoot, ComputeDir), "boot", nil)
	if err != nil {
		return nil, fmt.Errorf("build its first file system: %w", err)
	}
	c := &Compute{Machine: &Machine{Name: spec.Name}, domains: spec.Domains, host: s.host, console: Dir + "/" + spec.Name + ".console"}
	files := map[string]string{"init": fmt.Sprintf(computeInit, spec.Name, spec.Addr, modules), path.Base(tinyROM): string(tinyGuest()), "qemu.conf": qemuConf}
	for name, content := range spec.Files {
		files[name] = string(content)
	}
	for _, d := range spec.Domains {
		if files[d.Name+".xml"], err = d.xml(guestFiles{ROM: ComputeDir + "/" + path.Base(tinyROM)}); err != nil {
			return nil, err
		}
	}
	for name, content := range files {
		if err := s.host.WriteFile(ComputeDir+"/"+name, content, 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.host.WriteFile(Dir+"/"+spec.Name+".initrd", string(initrd), 0o600); err != nil {
		return nil, err
	}
	if c.BMC, err = s.host.bmc(spec.BMC); err != nil {
		return nil, err
	}
	args := []string{
		"-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-kernel", kernel, "-initrd", Dir + "/" + spec.Name + ".initrd",
		"-append", "console=ttyS1 panic=-1 quiet tsc=unstable nokaslr mitigations=off",
		"-chardev", "socket,id=line,server=on,wait=off,path=" + Dir + "/" + spec.Name + ".serial", "-serial", "chardev:line",
		"-serial", "file:" + c.console,
		"-qmp", "unix:" + Dir + "/" + spec.Name + ".qmp,server=on,wait=off",
		"-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
		"-chardev", "socket,id=bmc,host=127.0.0.1,port=" + bmcSystem + ",reconnect=1",
		"-device", "ipmi-bmc-extern,id=bmc0,chardev=bmc", "-device", "isa-ipmi-kcs,bmc=bmc0",
		"-device", "pcie-root-port,id=slot1,slot=1,chassis=1", "-device", "pcie-root-port,id=slot2,slot=2,chassis=2",
	}
	// dev-disk3 is the NVMe drive.
	for i, d := range []string{"virtio-blk-pci,", "virtio-blk-pci,", "virtio-blk-pci,", "nvme,serial=nvme0,bus=slot1,"} {
		id := fmt.Sprint("disk", i)
		file := Dir + "/" + spec.Name + "." + id
		if err := s.host.WriteFile(file, "", 0o600); err != nil {
			return nil, err
		}
		if err := os.Truncate(s.host.Path(file), 64<<20); err != nil {
			return nil, err
		}
		args = append(args, "-drive", "if=none,format=raw,id="+id+",file="+file, "-device", d+"id=dev-"+id+",drive="+id)
	}
	tap, err := s.tap()
	if err != nil {
		return nil, err
	}
	for i, backend := range []string{"tap,script=no,downscript=no,ifname=" + tap, "hubport,hubid=1", "hubport,hubid=2", "hubport,hubid=3"} {
		where := ""
		if i == 3 {
			where = ",bus=slot2,aer=on"
		}
		args = append(args, "-netdev", fmt.Sprintf("%s,id=net%d", backend, i),
			"-device", fmt.Sprintf("virtio-net-pci,romfile=,id=eth%[1]d,netdev=net%[1]d,mac=52:54:00:99:01:%02[1]x%[2]s", i, where))
	}
	if c.proc, err = s.host.Start("qemu-system-x86_64", args...); err != nil {
		return nil, err
	}
	if c.monitor, err = dialMonitor(s.host.Path(Dir+"/"+spec.Name+".qmp"), c.proc.Exited()); err == nil {
		err = c.connect(s.host.Path(Dir + "/" + spec.Name + ".serial"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s\n%s", err, c.proc.Log(), c.Console()), c.proc.Kill())
	}
	return c, nil
}

// Console is what the kernel has said, over every boot.
func (c *Compute) Console() string {
	b, _ := os.ReadFile(c.host.Path(c.console))
	return tail(string(b))
}

// Booted waits until the host obeys again, after it was told to go down or did so by itself.
func (c *Compute) Booted() error { return c.connect("") }

// SetCarrier plugs the cable of a card in, or pulls it.
func (c *Compute) SetCarrier(link string, up bool) error {
	return c.monitor.call("set_link", map[string]any{"name": link, "up": up}, nil)
}

// BusError makes the card in the PCI Express slot report an error to its root port: an uncorrected, non-fatal one.
func (c *Compute) BusError() error {
	said, err := c.monitor.human("pcie_aer_inject_error eth3 POISON_TLP")
	if err == nil && !strings.HasPrefix(said, "OK") {
		err = errors.New("qemu: " + said)
	}
	return err
}

// Warn sets the critical warnings of the NVMe drive's health log (NVM Express, Get Log Page 02h, byte 0).
func (c *Compute) Warn(warnings uint8) error {
	return c.monitor.call("qom-set", map[string]any{"path": "/machine/peripheral/dev-disk3", "property": "smart_critical_warning", "value": warnings}, nil)
}

// StartDomains starts libvirtd and the domains of the spec.
func (c *Compute) StartDomains() error {
	start := "rm -rf /run/libvirt; cp " + ComputeDir + "/qemu.conf /etc/libvirt/; printf 'auth_unix_ro = \"none\"\\nauth_unix_rw = \"none\"\\nunix_sock_group = \"root\"\\n' >/etc/libvirt/libvirtd.conf; " +
		"setsid libvirtd >/run/libvirtd.log 2>&1 &"
	if _, err := c.Run(start); err != nil {
		return err
	}
	// It asks qemu what it can, which takes long here.
	for deadline := time.Now().Add(2 * machinePatience); ; {
		_, err := c.Run("virsh -q version")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			log, _ := c.Run("cat /run/libvirtd.log")
			return fmt.Errorf("%w: %s", err, log)
		}
	}
	for _, d := range c.domains {
		if _, err := c.Run(fmt.Sprintf("virsh -q define %s/%s.xml && virsh -q start %s", ComputeDir, d.Name, d.Name)); err != nil {
			return err
		}
	}
	return nil
}

// Off is a power cut.
func (c *Compute) Off() error { return errors.Join(c.monitor.conn.Close(), c.Machine.Off()) }
