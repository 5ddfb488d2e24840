package lab

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// linuxInit is the Linux guest's only program: it loads the drivers and does what the serial line says, a command a
// line, answering "ok <command>".
const linuxInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in /modules/*.ko; do
	case $m in *i6300esb*) insmod $m heartbeat=2;; *) insmod $m;; esac
done
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
echo lab-ready
while read -r command; do
	case $command in
	ping) ;;
	panic) echo c >/proc/sysrq-trigger;;
	agent-open) set -- /dev/vport*p1; exec 3<>$1;; # a redirection expands no pattern
	agent-close) exec 3>&-;;
	fill) dd if=/dev/zero of=/dev/vda bs=64k count=256 conv=fsync & ;;
	watchdog) echo 1 >/dev/watchdog;;
	poweroff) poweroff -f;;
	esac
	echo "ok $command"
done
`

// guestKernel is where make deps put the kernel that guests boot.
func guestKernel() (string, error) {
	kernel := filepath.Join(CacheDir(), "vmlinux")
	if _, err := os.Stat(kernel); err != nil {
		return "", fmt.Errorf("the guest's kernel is lacking (%w): run make deps", err)
	}
	return kernel, nil
}

// linuxGuest returns the kernel and the initial file system, as the host's processes see them.
func (lv *Libvirt) linuxGuest() (kernel, initrd string, err error) {
	if kernel, err = guestKernel(); err != nil {
		return "", "", err
	}
	initrd = Dir + "/initrd"
	if _, err := os.Stat(lv.host.Path(initrd)); err == nil {
		return kernel, initrd, nil
	}
	archive, err := buildInitrd(linuxInit, "modules", nil)
	if err != nil {
		return "", "", fmt.Errorf("build the guest's file system: %w", err)
	}
	return kernel, initrd, lv.host.WriteFile(initrd, string(archive), 0o644)
}

// buildInitrd packs busybox, the modules of a folder of the cache, init and more files with cpio, in the kernel's "newc" format.
func buildInitrd(init, folder string, more map[string][]byte) ([]byte, error) {
	root, err := os.MkdirTemp("", "pm-initrd-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	for _, dir := range []string{"bin", "dev", "proc", "sys", "modules"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return nil, err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	modules, err := filepath.Glob(filepath.Join(CacheDir(), folder, "*.ko"))
	if err != nil || len(modules) == 0 {
		return nil, errors.Join(errors.New("no kernel modules: run make deps"), err)
	}
	files := map[string]string{busybox: "bin/busybox"}
	for _, m := range modules {
		files[m] = "modules/" + filepath.Base(m)
	}
	contents := map[string][]byte{"init": []byte(init)}
	for from, to := range files {
		if contents[to], err = os.ReadFile(from); err != nil {
			return nil, err
		}
	}
	maps.Copy(contents, more)
	for to, content := range contents {
		path := filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			return nil, err
		}
	}
	var names strings.Builder
	err = filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		names.WriteString(rel + "\n")
		return err
	})
	if err != nil {
		return nil, err
	}
	cpio := exec.Command("cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0")
	cpio.Dir = root
	cpio.Stdin = strings.NewReader(names.String())
	var out, stderr bytes.Buffer
	cpio.Stdout, cpio.Stderr = &out, &stderr
	if err := cpio.Run(); err != nil {
		return nil, fmt.Errorf("cpio: %w: %s", err, stderr.String())
	}
	return out.Bytes(), nil
}

// Console is all that the Linux guest's serial line has said, over every boot.
func (lv *Libvirt) Console(name string) string {
	b, _ := os.ReadFile(lv.host.Path(consolePath(name)))
	return string(b)
}

// Tell gives the Linux guest commands, one after the other, each after the answer to the one before. It waits for a
// guest that is still booting. The commands are those of linuxInit; "panic" and "watchdog" may stay unanswered.
func (lv *Libvirt) Tell(name string, commands ...string) error {
	const patience = 60 * time.Second
	deadline := time.Now().Add(patience)
	conn, err := net.DialTimeout("unix", lv.host.Path(serialPath(name)), 2*time.Second)
	if err != nil {
		return fmt.Errorf("host %s: serial line of %s: %w", lv.host.Name, name, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	var heard strings.Builder
	answered := func(answer string, until time.Time) bool {
		buf := make([]byte, 4096)
		for !strings.Contains(heard.String(), answer) {
			_ = conn.SetReadDeadline(until)
			n, err := conn.Read(buf)
			heard.Write(buf[:n])
			if err != nil {
				break
			}
		}
		return strings.Contains(heard.String(), answer)
	}
	// The guest may be booting or not: ask until it answers.
	for {
		if _, err := conn.Write([]byte("\nping\n")); err != nil {
			return fmt.Errorf("host %s: ask guest %s: %w", lv.host.Name, name, err)
		}
		if answered("ok ping", time.Now().Add(300*time.Millisecond)) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("host %s: guest %s does not answer; its console ends: %s", lv.host.Name, name, tail(lv.Console(name)))
		}
	}
	for _, command := range commands {
		heard.Reset()
		if _, err := conn.Write([]byte(command + "\n")); err != nil {
			return fmt.Errorf("host %s: tell guest %s to %s: %w", lv.host.Name, name, command, err)
		}
		if command == "panic" {
			return nil
		}
		if !answered("ok "+command, deadline) {
			return fmt.Errorf("host %s: guest %s does not %s; its console ends: %s", lv.host.Name, name, command, tail(lv.Console(name)))
		}
	}
	return nil
}

func tail(s string) string {
	const most = 2000
	if len(s) > most {
		s = s[len(s)-most:]
	}
	return s
}
