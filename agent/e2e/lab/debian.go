package lab

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Debian is an emulated machine that runs a Debian of its own from a disk, with systemd as its first process, libvirtd and a
// BMC. What is written lasts over its reboots and ends with it. Run has its shell, in /root.
type Debian struct {
	*Machine

	console string
	host    *Host
}

// debianBoot mounts the disk and goes on with systemd there.
const debianBoot = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in /modules/*.ko; do insmod $m; done
mount -t ext4 /dev/vda /root || exec sh
for d in proc sys dev; do mount --move /$d /root/$d; done
exec switch_root /root /sbin/init
`

// debianPatience is for a boot of all of it on a machine that is busy.
const debianPatience = 5 * time.Minute

// Debian boots one, with files in its /root, and returns when its shell obeys: that is before all services run.
func (h *Host) Debian(files map[string][]byte) (*Debian, error) {
	d, err := h.debian(files)
	if err != nil {
		return nil, fmt.Errorf("boot a Debian with systemd: %w", err)
	}
	return d, nil
}

func (h *Host) debian(files map[string][]byte) (*Debian, error) {
	kernel, err := guestKernel()
	if err != nil {
		return nil, err
	}
	image := filepath.Join(CacheDir(), "debian.img")
	if _, err := os.Stat(image); err != nil {
		return nil, fmt.Errorf("its disk is lacking (%w): run make vm", err)
	}
	initrd, err := buildInitrd(debianBoot, "disk", nil)
	if err != nil {
		return nil, fmt.Errorf("build its first file system: %w", err)
	}
	brought, err := archive(files)
	if err != nil {
		return nil, err
	}
	const base = Dir + "/debian"
	for file, content := range map[string]string{".initrd": string(initrd), ".tar": string(brought)} {
		if err := h.WriteFile(base+file, content, 0o600); err != nil {
			return nil, err
		}
	}
	d := &Debian{Machine: &Machine{Name: "debian"}, host: h, console: base + ".console"}
	d.proc, err = h.Start("qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-kernel", kernel, "-initrd", base+".initrd",
		"-append", "console=ttyS1 panic=-1 quiet psi=1 net.ifnames=0 tsc=unstable nokaslr mitigations=off",
		"-chardev", "socket,id=line,server=on,wait=off,path="+base+".serial", "-serial", "chardev:line", "-serial", "file:"+d.console,
		"-drive", "if=none,id=root,format=raw,snapshot=on,file="+image, "-device", "virtio-blk-pci,drive=root",
		"-drive", "if=none,id=brought,format=raw,readonly=on,file="+base+".tar", "-device", "virtio-blk-pci,drive=brought",
		"-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-kcs,bmc=bmc",
		"-netdev", "hubport,id=net0,hubid=0", "-device", "virtio-net-pci,romfile=,netdev=net0")
	if err != nil {
		return nil, err
	}
	if err = d.connectWithin(h.Path(base+".serial"), debianPatience); err == nil {
		_, err = d.Run("tar -C /root -xf /dev/vdb")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s\n%s", err, d.proc.Log(), d.Console()), d.proc.Kill())
	}
	return d, nil
}

// Run has its shell run a command (one line) and returns what it says. Not for two goroutines at once.
func (d *Debian) Run(command string) (string, error) {
	out, err := d.run(command, debianPatience)
	if err != nil {
		return out, fmt.Errorf("Debian: %s: %w: %s", command, err, out)
	}
	return out, nil
}

// archive is a tar of files, which are root's and executable; whole blocks, as a disk is.
func archive(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// Console is what the kernel and systemd have said, over every boot.
func (d *Debian) Console() string {
	b, _ := os.ReadFile(d.host.Path(d.console))
	return tail(string(b))
}

// Reboot restarts it as its administrator does, and returns when its shell obeys again.
func (d *Debian) Reboot() error {
	before, err := d.Run("cat /proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	// It may go down before it answers.
	if out, err := d.run("systemctl start --no-block reboot.target", 5*time.Second); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("reboot Debian: %w: %s", err, out)
	}
	for deadline := time.Now().Add(debianPatience); ; {
		now, err := d.run("cat /proc/sys/kernel/random/boot_id", time.Second)
		if err == nil && now != before {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("reboot Debian: it is not back: %w\n%s", err, d.Console())
		}
		select {
		case <-d.proc.Exited():
			return fmt.Errorf("reboot Debian: qemu ended: %s", d.proc.Log())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
