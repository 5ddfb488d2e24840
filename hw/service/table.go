package service

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

const suffix = ".service"

// Unit is a rule for units of systemd.
type Unit struct {
	// Name is the unit's name or a glob on it, with or without ".service".
	Name string
	// Network says that it is part of the virtual network: all domains are at risk when it fails.
	Network bool
	// Severity of its alarms; unset: the conditions'.
	Severity correlate.Severity
}

func (u *Unit) condition() correlate.Condition {
	if u.Network {
		return correlate.CondNetworkService
	}
	return correlate.CondServiceFailed
}

// pattern is the name as systemd has it.
func (u *Unit) pattern() string {
	if i := strings.LastIndexByte(u.Name, '.'); i >= 0 {
		switch u.Name[i+1:] {
		case "service", "socket", "target", "mount", "timer", "path", "device", "swap", "automount", "slice", "scope":
			return u.Name
		}
	}
	return u.Name + suffix
}

func (u *Unit) literal() bool { return !strings.ContainsAny(u.Name, `*?[\`) }

func (u *Unit) check() error {
	if u.Name == "" {
		return errors.New("a unit without a name")
	}
	if _, err := path.Match(u.Name, ""); err != nil {
		return fmt.Errorf("unit %q: %w", u.Name, err)
	}
	return nil
}

func (u *Unit) matches(name string) bool {
	ok, err := path.Match(u.pattern(), name)
	return ok && err == nil
}

// Standard is what is watched without any configuration: names of Debian, Ubuntu and the Red Hat family. A unit that is not
// there is none.
func Standard() []Unit {
	var units []Unit
	add := func(network bool, names ...string) {
		for _, n := range names {
			units = append(units, Unit{Name: n, Network: network})
		}
	}
	add(true,
		"openvswitch", "openvswitch-switch", "ovs-vswitchd", "ovsdb-server", "ovn-controller",
		"neutron-openvswitch-agent", "neutron-linuxbridge-agent", "neutron-sriov-agent", "neutron-sriov-nic-agent", "neutron-macvtap-agent",
		"neutron-ovn-metadata-agent", "neutron-ovn-agent", "neutron-metadata-agent", "neutron-dhcp-agent", "neutron-l3-agent", "ovn-bgp-agent",
	)
	add(false, hypervisors...)
	add(false,
		"virtlogd", "virtlockd", "nova-compute", "openstack-nova-compute",
		"chrony", "chronyd", "ntp", "ntpd", "ntpsec", "systemd-timesyncd", "ptp4l", "ptp4l@*", "phc2sys", "phc2sys@*", "timemaster",
		"multipathd", "iscsid",
	)
	return units
}

// hypervisors are the daemons that the hypervisor resource stands for.
var hypervisors = []string{"libvirtd", "virtqemud"}
