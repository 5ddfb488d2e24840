package lab

import (
	"fmt"
	"strconv"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Migration is a live migration on its way.
type Migration struct {
	from *Libvirt
	name string
	proc *Process
}

// Migrate begins to move a running domain to the host that has the address, both ends managed by the libvirtd it
// leaves. mibs bounds its speed in MiB/s (0: none). With move the definition goes too; else one stays here, and there
// is none there once the domain ends. Nothing but memory is moved: the domain has no disk, and the other host has been
// made ready by Expect.
func (lv *Libvirt) Migrate(name, addr string, mibs int, move bool) (*Migration, error) {
	args := []string{"migrate", "--live", "--p2p", "--bandwidth", strconv.Itoa(mibs)}
	if move {
		args = append(args, "--persistent", "--undefinesource")
	}
	proc, err := lv.host.Start("virsh", append(args, name, "qemu+tcp://"+addr+"/system", "tcp://"+addr)...)
	if err != nil {
		return nil, fmt.Errorf("host %s: migrate domain %s: %w", lv.host.Name, name, err)
	}
	return &Migration{from: lv, name: name, proc: proc}, nil
}

// Wait returns how the migration ended.
func (m *Migration) Wait() error {
	if err := m.proc.Wait(60 * time.Second); err != nil {
		return fmt.Errorf("host %s: migrate domain %s: %w: %s", m.from.host.Name, m.name, err, m.proc.Log())
	}
	return nil
}

// Ended reports whether the migration is over.
func (m *Migration) Ended() bool {
	select {
	case <-m.proc.Exited():
		return true
	default:
		return false
	}
}

// Abort calls the migration off: the domain goes on where it was.
func (m *Migration) Abort() error {
	return m.from.with(m.name, "call off the migration of", func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainAbortJob(d)
	})
}

// Expect puts in place what a domain that is going to arrive needs here.
func (lv *Libvirt) Expect(d Domain) error {
	_, err := lv.prepare(d)
	return err
}
