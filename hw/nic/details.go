package nic

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"strconv"

	"github.com/prometheus/procfs/sysfs"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netns"

	"github.com/paramedic-ha/paramedic/hw"
)

// details are what the driver tells by ioctl, and sysfs, which asks it too. Not by link messages.
type details struct {
	driver, firmware string
	speed            int // Mb/s; 0: unknown, as while the link is down
	duplex           string
	carrierLosses    uint64 // since the link was made
	pcie             pcieErrors
}

// pcieErrors count what PCIe Advanced Error Reporting says of the adapter, since it was found.
type pcieErrors struct{ correctable, nonFatal, fatal uint64 }

func (d details) addTo(facts map[string]string) {
	if d.driver != "" {
		facts["driver"] = d.driver
	}
	if d.firmware != "" {
		facts["firmware"] = d.firmware
	}
	if d.speed > 0 {
		facts["speed_mbps"] = strconv.Itoa(d.speed)
	}
	if d.duplex != "" {
		facts["duplex"] = d.duplex
	}
	for key, n := range map[string]uint64{
		"carrier_losses": d.carrierLosses, "pcie_correctable_errors": d.pcie.correctable,
		"pcie_nonfatal_errors": d.pcie.nonFatal, "pcie_fatal_errors": d.pcie.fatal,
	} {
		if n > 0 {
			facts[key] = strconv.FormatUint(n, 10)
		}
	}
}

// asked names a link whose details are wanted.
type asked struct {
	index int
	name  string
}

type answered struct {
	asked
	details
}

// ask serves questions until ctx ends. It has a goroutine of its own because each answer takes the kernel's rtnl lock
// and asks the firmware: on a sick adapter that lasts seconds.
func ask(ctx context.Context, ns netns.NsHandle, root hw.Root, questions <-chan asked, answers chan<- answered) error {
	e, err := openEthtool(ns)
	if err != nil {
		return fmt.Errorf("open ethtool socket: %w", err)
	}
	defer e.Close()
	var sys *sysfs.FS // nil: not mounted
	if fs, err := sysfs.NewFS(root.SysPath()); err == nil {
		sys = &fs
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q := <-questions:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case answers <- answered{q, read(e, sys, q.name)}:
			}
		}
	}
}

// read asks the driver. What it doesn't answer stays unset: EINVAL for the speed of a link that is down, EOPNOTSUPP
// of a virtual one.
func read(e *ethtool.Ethtool, sys *sysfs.FS, name string) details {
	d := readClass(sys, name)
	if info, err := e.DriverInfo(name); err == nil {
		d.driver, d.firmware = info.Driver, info.FwVersion
		if d.firmware == "N/A" {
			d.firmware = ""
		}
	}
	// GetLinkSettings of the library prints to standard output on kernels with more link modes than it knows.
	var c ethtool.EthtoolCmd
	if speed, err := e.CmdGet(&c, name); err == nil {
		if speed != 0 && speed < 1<<31 { // SPEED_UNKNOWN is ^0, and ^uint16(0) of older drivers
			d.speed = int(speed)
		}
		switch c.Duplex {
		case 0:
			d.duplex = "half"
		case 1:
			d.duplex = "full"
		}
	}
	return d
}

// readClass reads what sysfs says of a link. Attributes that it doesn't have stay unset.
func readClass(sys *sysfs.FS, name string) (d details) {
	if sys == nil {
		return d
	}
	class, err := sys.NetClassByIface(name)
	if err != nil {
		return d
	}
	if n := class.CarrierDownCount; n != nil {
		d.carrierLosses = uint64(max(0, *n))
	}
	if aer, err := sys.AerCountersByIface(name); err == nil {
		d.pcie = pcieErrors{sum(aer.Correctable), sum(aer.NonFatal), sum(aer.Fatal)}
	}
	return d
}

// sum adds the fields of a struct of counters.
func sum(counters any) (n uint64) {
	v := reflect.ValueOf(counters)
	for i := range v.NumField() {
		n += v.Field(i).Uint()
	}
	return n
}

// openEthtool opens the library's socket in ns, which a socket then stays in.
func openEthtool(ns netns.NsHandle) (*ethtool.Ethtool, error) {
	if !ns.IsOpen() {
		return ethtool.NewEthtool()
	}
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer func() { _ = own.Close() }()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	e, err := ethtool.NewEthtool()
	if back := netns.Set(own); back != nil {
		// The thread stays locked, so that it ends with its goroutine and nobody else runs in that namespace.
		if e != nil {
			e.Close()
		}
		return nil, back
	}
	runtime.UnlockOSThread()
	return e, err
}
