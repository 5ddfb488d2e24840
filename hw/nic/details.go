package nic

import (
	"context"
	"fmt"
	"runtime"
	"strconv"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netns"
)

// details are what only the driver tells, by ioctl.
type details struct {
	driver, firmware string
	speed            int // Mb/s; 0: unknown, as while the link is down
	duplex           string
}

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

// ask serves questions until ctx ends. It has a goroutine of its own because each ioctl takes the kernel's rtnl lock
// and asks the firmware: on a sick adapter that lasts seconds.
func ask(ctx context.Context, ns netns.NsHandle, questions <-chan asked, answers chan<- answered) error {
	e, err := openEthtool(ns)
	if err != nil {
		return fmt.Errorf("open ethtool socket: %w", err)
	}
	defer e.Close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q := <-questions:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case answers <- answered{q, read(e, q.name)}:
			}
		}
	}
}

// read asks the driver. What it doesn't answer stays unset: EINVAL for the speed of a link that is down, EOPNOTSUPP
// of a virtual one.
func read(e *ethtool.Ethtool, name string) details {
	var d details
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
