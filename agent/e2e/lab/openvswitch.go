package lab

import (
	"fmt"
	"os"
	"time"
)

// OpenVSwitch is a host's Open vSwitch: its datapath is in user space, the kernel needs no module for it.
type OpenVSwitch struct {
	host             *Host
	server, vswitchd *Process
}

// OpenVSwitch starts both daemons, with their sockets where packages have them.
func (h *Host) OpenVSwitch() (*OpenVSwitch, error) {
	const database = Dir + "/ovs.db"
	if err := os.MkdirAll(h.Path("/run/openvswitch"), 0o755); err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	if _, err := h.Run("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return nil, err
	}
	o := &OpenVSwitch{host: h}
	var err error
	if o.server, err = h.Start("ovsdb-server", database, "--remote=punix:/run/openvswitch/db.sock", "--pidfile"); err != nil {
		return nil, err
	}
	// Listening comes a moment after the start.
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		_, err := h.Run("ovs-vsctl", "--no-wait", "--timeout=10", "init")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
	return o, o.Start()
}

// Start starts ovs-vswitchd.
func (o *OpenVSwitch) Start() (err error) {
	o.vswitchd, err = o.host.Start("ovs-vswitchd", "--pidfile", "--disable-system")
	return err
}

// Configure runs ovs-vsctl and waits until ovs-vswitchd has done what it says.
func (o *OpenVSwitch) Configure(args ...string) error {
	_, err := o.host.Run("ovs-vsctl", append([]string{"--timeout=30"}, args...)...)
	return err
}

// Kill ends ovs-vswitchd as a crash would.
func (o *OpenVSwitch) Kill() error { return o.vswitchd.Kill() }
