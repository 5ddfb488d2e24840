// Package fleet is many agents on one switch of the lab, for the tests of what hosts do together.
package fleet

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// Fleet is the lab that all tests of a package share. They run one after the other.
type Fleet struct {
	Lab       *lab.Lab
	LAN       *lab.Switch
	Machines  []*Machine
	Consumers *lab.Host // ConsumerAddr, on the switch too
	Bin       string
	GossipKey string // the content of cluster.key_file
	SecretKey string // of cluster.secrets_key_file
	Inflated  int    // how much more memory the binary needs than one without the race detector
}

// Machine is a host for an agent, with an uplink whose cable can be pulled.
type Machine struct {
	*lab.Host
	N       int
	Port    *lab.Port
	Uplink  *lab.Cable
	Libvirt *lab.Libvirt // nil unless the tests have started one
}

// Addr is the machine's address on the switch.
func (m *Machine) Addr() string { return fmt.Sprintf("10.99.0.%d", m.N) }

// ConsumerAddr is where the consumers are.
const ConsumerAddr = "10.99.0.200"

// Run builds a fleet of so many machines, does the rest of the building, runs the tests and tears it down. It returns the
// status to exit with.
func (f *Fleet) Run(m *testing.M, size int, more ...func() error) int {
	err := f.build(size)
	for _, do := range more {
		if err == nil {
			err = do()
		}
	}
	status := 1
	if err == nil {
		status = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "the lab can't be built:", err)
	}
	if err := f.Lab.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "the lab was not left clean:", err)
		status = 1
	}
	return status
}

func (f *Fleet) build(size int) (err error) {
	if f.Lab, err = lab.New(); err != nil {
		f.Lab = &lab.Lab{}
		return err
	}
	if f.Bin, err = f.Lab.Build("."); err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(f.Bin)
	if err != nil {
		return err
	}
	f.Inflated = 1
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		f.Inflated = 10 // https://go.dev/doc/articles/race_detector: five to ten times
	}
	if f.LAN, err = f.Lab.Switch("switch"); err != nil {
		return err
	}
	if f.Consumers, err = f.Lab.Host("consumers"); err != nil {
		return err
	}
	if _, err = f.LAN.Attach(f.Consumers, "mgmt0", ConsumerAddr+"/24"); err != nil {
		return err
	}
	for n := 1; n <= size; n++ {
		m := &Machine{N: n}
		if m.Host, err = f.Lab.Host(fmt.Sprintf("cmp-%02d", n)); err != nil {
			return err
		}
		if m.Port, err = f.LAN.Attach(m.Host, "mgmt0", m.Addr()+"/24"); err != nil {
			return err
		}
		m.Uplink, err = f.Lab.Connect(lab.End{Host: m.Host, Link: "uplink0"}, lab.End{Host: f.Consumers, Link: fmt.Sprint("far", n)})
		if err != nil {
			return err
		}
		f.Machines = append(f.Machines, m)
	}
	var errs [2]error
	f.GossipKey, errs[0] = f.Consumers.Output(f.Bin, "keygen", "--gossip")
	f.SecretKey, errs[1] = f.Consumers.Output(f.Bin, "keygen", "--secrets")
	return errors.Join(errs[:]...)
}

// NewKey is what keygen prints.
func (f *Fleet) NewKey(t *testing.T, kind string) string {
	t.Helper()
	out, err := f.Consumers.Output(f.Bin, "keygen", kind)
	Must(t, err)
	return out
}

// Heal puts back what an earlier test broke.
func (f *Fleet) Heal(t *testing.T) {
	t.Helper()
	Must(t, f.LAN.Heal())
	for _, m := range f.Machines {
		Must(t, m.Uplink.Plug())
		Must(t, m.Port.Plug())
	}
}
