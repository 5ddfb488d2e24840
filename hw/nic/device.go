package nic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/paramedic-ha/paramedic/hw"
)

// device is what sysfs says of the device behind a link. Only the device tree is read, never /sys/class/net of a
// link when the kernel names the device itself (since 5.14): /sys/class/net shows the namespace in which it was mounted.
type device struct {
	path   string // in sysfs; empty: no device, so not hardware
	driver string
	pci    string // address of the PCI function, also of the one behind virtio
	physfn string // PCI address of the physical function that this one is virtual of
	numVFs int    // SR-IOV functions that are switched on
}

// function is a virtual function as its physical one lists it.
type function struct {
	number int
	pci    string
	driver string // vfio-pci while a domain has it
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// readDevice finds the device of a link. A link without one gives the zero value; what can't be read stays as in prev.
func readDevice(root hw.Root, from netlink.Link, prev device) device {
	a := from.Attrs()
	if from.Type() != "device" {
		return device{}
	}
	dir := root.SysPath("class", "net", filepath.Base(a.Name), "device")
	if a.ParentDev != "" && a.ParentDevBus != "" {
		dir = root.SysPath("bus", filepath.Base(a.ParentDevBus), "devices", filepath.Base(a.ParentDev))
	}
	path, err := filepath.EvalSymlinks(dir)
	switch {
	case err == nil:
	case prev.path != "":
		return prev
	case a.ParentDev == "":
		return device{}
	default: // the kernel named a device that sysfs doesn't show (no sysfs mounted): still hardware
		path = dir
	}
	d := device{path: path, driver: linkBase(filepath.Join(path, "driver"))}
	for p := path; len(p) > len(root.SysPath()); p = filepath.Dir(p) {
		if base := filepath.Base(p); pciAddress.MatchString(base) {
			d.pci = base
			break
		}
	}
	d.physfn = linkBase(filepath.Join(path, "physfn"))
	n, err := hw.ReadIntAttr(filepath.Join(path, "sriov_numvfs"))
	switch {
	case err == nil:
		d.numVFs = int(n)
	case !errors.Is(err, fs.ErrNotExist): // without the file it is no SR-IOV device
		d.numVFs = prev.numVFs
	}
	return d
}

// functions lists the virtual functions of a physical one, by number.
func (d device) functions() ([]function, error) {
	if d.numVFs == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list virtual functions: %w", err)
	}
	var vfs []function
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "virtfn")
		n, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		at := filepath.Join(d.path, e.Name())
		if address := linkBase(at); pciAddress.MatchString(address) {
			vfs = append(vfs, function{n, address, linkBase(filepath.Join(at, "driver"))})
		}
	}
	slices.SortFunc(vfs, func(a, b function) int { return a.number - b.number })
	return vfs, nil
}

// linkBase is the last element of a symbolic link's target; empty when there is none.
func linkBase(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}
