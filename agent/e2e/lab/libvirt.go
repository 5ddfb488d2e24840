package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/google/uuid"
)

// LibvirtSocket is libvirtd's, as the host's processes see it.
const LibvirtSocket = "/run/libvirt/libvirt-sock"

// The daemon's own configuration: qemu as root with nothing between it and the lab's files, no cgroups and no mount
// namespaces (the lab's own do), logs in files (no virtlogd needed). Other hosts of the lab may migrate domains to it
// (TCP, port 16509); the machine's own identity would say that they are all the same one, hence host_uuid.
const (
	libvirtdConf = `
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0700"
max_clients = 100
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
host_uuid = "%s"
`
	qemuConf = `
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`
)

// Libvirt is a host's libvirtd. Its domains outlive it, as they do in life.
type Libvirt struct {
	host *Host

	mu   sync.Mutex
	proc *Process
}

// Libvirt writes the daemon's configuration and starts it.
func (h *Host) Libvirt() (*Libvirt, error) {
	for path, content := range map[string]string{
		"/etc/libvirt/libvirtd.conf": fmt.Sprintf(libvirtdConf, uuid.NewSHA1(uuid.Nil, []byte(h.Name))),
		"/etc/libvirt/qemu.conf":     qemuConf,
		tinyROM:                      string(tinyGuest()),
	} {
		if err := h.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	lv := &Libvirt{host: h}
	return lv, lv.Start()
}

// Start starts libvirtd, or starts it again, and waits until it answers.
func (lv *Libvirt) Start() error {
	// What a killed daemon leaves behind.
	for _, f := range []string{"/run/libvirtd.pid", LibvirtSocket, LibvirtSocket + "-ro"} {
		if err := os.Remove(lv.host.Path(f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("host %s: start libvirtd: %w", lv.host.Name, err)
		}
	}
	// A killed qemu is a child of nobody but the host's init (tini), which reaps it at once: its end is then seen
	// after milliseconds instead of a second or two.
	proc, err := lv.host.Start("libvirtd", "--listen")
	if err != nil {
		return err
	}
	lv.mu.Lock()
	lv.proc = proc
	lv.mu.Unlock()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := lv.do(func(*libvirt.Libvirt) error { return nil })
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("host %s: libvirtd does not answer: %w: %s", lv.host.Name, err, proc.Log())
		}
		select {
		case <-proc.Exited():
			return fmt.Errorf("host %s: libvirtd ended: %s", lv.host.Name, proc.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (lv *Libvirt) process() *Process {
	lv.mu.Lock()
	defer lv.mu.Unlock()
	return lv.proc
}

// Kill is kill -9 of libvirtd.
func (lv *Libvirt) Kill() error { return lv.process().Kill() }

// Stop ends libvirtd in order.
func (lv *Libvirt) Stop() error { return lv.process().Stop(20 * time.Second) }

// Freeze stops the daemon's clock: it holds its connections and answers nothing. Thaw lets it go on.
func (lv *Libvirt) Freeze() error { return lv.process().Signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (lv *Libvirt) Thaw() error { return lv.process().Signal(syscall.SIGCONT) }

// Log is what libvirtd wrote.
func (lv *Libvirt) Log() string { return lv.process().Log() }

// Dial connects to libvirtd's socket from outside the host.
func (lv *Libvirt) Dial() (net.Conn, error) {
	return (&net.Dialer{Timeout: 2 * time.Second}).Dial("unix", lv.host.Path(LibvirtSocket))
}

// do runs f with a connection of its own, and cuts it off after 30 s: go-libvirt has no deadlines.
func (lv *Libvirt) do(f func(c *libvirt.Libvirt) error) error {
	conn, err := lv.Dial()
	if err != nil {
		return fmt.Errorf("host %s: dial libvirtd: %w", lv.host.Name, err)
	}
	cut := time.AfterFunc(30*time.Second, func() { _ = conn.Close() })
	defer cut.Stop()
	c := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	if err := c.ConnectToURI(libvirt.QEMUSystem); err != nil {
		return errors.Join(fmt.Errorf("host %s: open libvirt: %w", lv.host.Name, err), conn.Close())
	}
	defer func() { _ = c.Disconnect() }()
	return f(c)
}

// with is do for one domain.
func (lv *Libvirt) with(name, what string, f func(c *libvirt.Libvirt, d libvirt.Domain) error) error {
	err := lv.do(func(c *libvirt.Libvirt) error {
		d, err := c.DomainLookupByName(name)
		if err != nil {
			return err
		}
		return f(c, d)
	})
	if err != nil {
		return fmt.Errorf("host %s: %s domain %s: %w", lv.host.Name, what, name, err)
	}
	return nil
}

// StartDomain defines the domain and starts it.
func (lv *Libvirt) StartDomain(s Domain) error {
	xml, err := lv.prepare(s)
	if err != nil {
		return err
	}
	err = lv.do(func(c *libvirt.Libvirt) error {
		d, err := c.DomainDefineXMLFlags(xml, 0)
		if err != nil {
			return err
		}
		_, err = c.DomainCreateWithFlags(d, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("host %s: start domain %s: %w", lv.host.Name, s.Name, err)
	}
	return nil
}

// StartAgain starts a domain that is defined and off.
func (lv *Libvirt) StartAgain(name string) error {
	return lv.with(name, "start", func(c *libvirt.Libvirt, d libvirt.Domain) error {
		_, err := c.DomainCreateWithFlags(d, 0)
		return err
	})
}

// Destroy is virsh destroy: the owner's wish.
func (lv *Libvirt) Destroy(name string) error {
	return lv.with(name, "destroy", func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainDestroyFlags(d, 0) })
}

// Undefine forgets a domain; with Destroy it is deleted.
func (lv *Libvirt) Undefine(name string) error {
	return lv.with(name, "undefine", func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainUndefineFlags(d, 0) })
}

// Resume goes on with a paused domain.
func (lv *Libvirt) Resume(name string) error {
	return lv.with(name, "resume", func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainResume(d) })
}

// Panic hits the guest with a non-maskable interrupt; the tiny guest's handler then tells the panic device.
func (lv *Libvirt) Panic(name string) error {
	return lv.with(name, "panic", func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainInjectNmi(d, 0) })
}

// DetachNIC unplugs a NIC. The guest must run Linux: it has to let go.
func (lv *Libvirt) DetachNIC(name string, nic NIC) error {
	xml := fmt.Sprintf("<interface type='bridge'><mac address='%s'/><source bridge='%s'/></interface>", nic.MAC, nic.Bridge)
	return lv.with(name, "detach a NIC from", func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainDetachDeviceFlags(d, xml, uint32(libvirt.DomainDeviceModifyLive))
	})
}

// State is the domain's state and reason as libvirt counts them.
func (lv *Libvirt) State(name string) (libvirt.DomainState, int32, error) {
	var state, reason int32
	err := lv.with(name, "read the state of", func(c *libvirt.Libvirt, d libvirt.Domain) (err error) {
		state, reason, err = c.DomainGetState(d, 0)
		return err
	})
	return libvirt.DomainState(state), reason, err
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
