package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// device is one block device, as sysfs shows it (Documentation/ABI/stable/sysfs-block).
type device struct {
	name     string
	id       correlate.ID
	number   string   // "8:1"
	parent   string   // of a partition
	slaves   []string // what a dm device or an array is made of; sorted
	below    []string // what it stands on, and what was pulled from under it
	absent   bool     // it was there, and a fault took what it stands on
	foreign  bool     // it comes and goes with those who use it: of a network, on USB, or made to be removed
	state    string   // of a SCSI device or an NVMe controller; empty: it has none
	stateErr error
	language language // that it can be asked in how it is
	asleep   bool     // the kernel has put it to sleep
	dmName   string
	dmUUID   string
	array    *array // of md; nil: it is none
	backing  string // the file of a loop device
	facts    map[string]string
}

// array is an md array (Documentation/admin-guide/md.rst).
type array struct {
	level    string
	state    string // array_state
	disks    int    // in a whole array
	degraded int    // how many of them are missing
	copies   int    // of raid10's data
	members  []member
	err      error // it could not be read in full
}

type member struct {
	name   string
	faulty bool // the kernel has put it out of use
	synced bool // it holds current data; a spare does not
}

// readStack lists the block devices, by name. A device that goes away meanwhile is left out.
func readStack(root hw.Root) (map[string]*device, error) {
	entries, err := os.ReadDir(root.SysPath("class", "block"))
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	all := make(map[string]*device, len(entries))
	for _, e := range entries {
		d, err := readDevice(root, e.Name())
		switch {
		case gone(err):
		case err != nil:
			return nil, err // a list with holes would take what it lacks for gone
		case d != nil:
			all[d.name] = d
		}
	}
	for _, d := range all {
		if d.parent != "" || d.id.Kind() != correlate.KindDisk && d.array == nil {
			continue
		}
		parts, err := filepath.Glob(filepath.Join(root.SysPath("class", "block", d.name), d.name+"*", "partition"))
		if err != nil {
			return nil, fmt.Errorf("list partitions of %s: %w", d.name, err)
		}
		for _, p := range parts {
			if part := all[filepath.Base(filepath.Dir(p))]; part != nil {
				part.parent = d.name
			}
		}
	}
	return all, nil
}

// gone: the file, or the device behind it, is not there any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)
}

// readDevice gives nil for what is none of our business: memory disks, drives whose medium is changed, paths of a
// multipath NVMe namespace, and devices that hold nothing.
func readDevice(root hw.Root, name string) (*device, error) {
	for _, prefix := range []string{"ram", "zram", "fd", "sr", "nbd", "mtdblock"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && strings.Trim(rest, "0123456789p") == "" {
			return nil, nil //nolint:nilnil // nothing to watch, and nothing wrong
		}
	}
	dir := root.SysPath("class", "block", name)
	number, err := hw.ReadAttr(filepath.Join(dir, "dev"))
	if err != nil {
		return nil, err
	}
	if text(dir, "hidden") == "1" || text(dir, "size") == "0" {
		return nil, nil //nolint:nilnil // as above
	}
	d := &device{
		id: root.OfBlock(name), name: name, number: number, foreign: text(dir, "removable") == "1" || foreign(dir),
		dmName: text(dir, "dm", "name"), dmUUID: text(dir, "dm", "uuid"), backing: text(dir, "loop", "backing_file"),
		facts: make(map[string]string),
	}
	if d.slaves, err = names(filepath.Join(dir, "slaves")); err != nil && !gone(err) {
		return nil, err
	}
	if exists(dir, "md") {
		if d.array, err = readArray(filepath.Join(dir, "md")); err != nil {
			return nil, err
		}
	}
	if d.id.Kind() == correlate.KindDisk {
		d.state, d.stateErr = hw.ReadAttr(filepath.Join(dir, "device", "state"))
		if errors.Is(d.stateErr, fs.ErrNotExist) { // virtio has none
			d.stateErr = nil
		}
	}
	if d.language = speech(dir, d); d.language != mute {
		d.asleep = text(dir, "device", "power", "runtime_status") == "suspended"
	}
	d.note(dir)
	return d, nil
}

// foreign reports whether a drive is reached over a network (iSCSI, FC, RBD, NVMe over fabrics) or USB, by its place among the
// devices. Volumes of a cloud come and go there by the hour; a multipath NVMe drive has no place of its own.
func foreign(dir string) bool {
	place, err := os.Readlink(dir)
	return err == nil && slices.ContainsFunc([]string{"/session", "/rport-", "/usb", "/virtual/", "/rbd/"}, func(s string) bool {
		return strings.Contains(place, s)
	})
}

// note takes what the inventory shows.
func (d *device) note(dir string) {
	set := func(name, value string) {
		if value != "" {
			d.facts[name] = value
		}
	}
	if sectors, err := strconv.ParseUint(text(dir, "size"), 10, 54); err == nil {
		set("bytes", strconv.FormatUint(sectors*512, 10)) // the unit is 512 bytes whatever the device's own block
	}
	set("number", d.number)
	set("state", d.state)
	set("dm_name", d.dmName)
	set("backing_file", d.backing)
	for name, elem := range map[string][]string{
		"model": {"device", "model"}, "vendor": {"device", "vendor"}, "serial": {"device", "serial"},
		"firmware": {"device", "firmware_rev"}, "wwid": {"device", "wwid"},
	} {
		if d.id.Kind() == correlate.KindDisk {
			set(name, text(dir, elem...))
		}
	}
	set("wwid", text(dir, "wwid")) // of NVMe
	if a := d.array; a != nil {
		set("level", a.level)
		set("array_state", a.state)
	}
}

// readArray reads the md folder of an array.
func readArray(dir string) (*array, error) {
	a := &array{level: text(dir, "level"), state: text(dir, "array_state"), copies: 1}
	number := func(name string) int {
		s := text(dir, name)
		if s == "" || strings.HasPrefix(s, "none") { // not known yet, or no such thing at this level
			return 0
		}
		s, _, _ = strings.Cut(s, " ") // raid_disks says "4 (3)" while the array is reshaped
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			a.err = fmt.Errorf("%s of an array is %q", name, s)
			return 0
		}
		return n
	}
	a.disks, a.degraded = number("raid_disks"), number("degraded")
	if a.level == "raid10" { // drivers/md/raid10.c, setup_geo: near copies in the low byte, far ones in the next
		layout := number("layout")
		a.copies = max(1, layout&0xff) * max(1, layout>>8&0xff)
	}
	entries, err := names(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e, "dev-")
		if !ok {
			continue
		}
		state, err := hw.ReadAttr(filepath.Join(dir, e, "state"))
		if gone(err) {
			continue
		}
		if err != nil {
			a.err = err
			continue
		}
		words := strings.Split(state, ",")
		a.members = append(a.members, member{
			name: strings.ReplaceAll(name, "!", "/"), faulty: slices.Contains(words, "faulty"), synced: slices.Contains(words, "in_sync"),
		})
	}
	return a, nil
}

// needed is how many of its disks an array can't do without; 0 when that is not known.
func (a *array) needed() int {
	switch a.level {
	case "raid0", "linear":
		return a.disks
	case "raid1":
		return 1
	case "raid4", "raid5":
		return a.disks - 1
	case "raid6":
		return a.disks - 2
	case "raid10": // which of them matters, too: with fewer than this it has certainly failed
		return (a.disks + a.copies - 1) / a.copies
	}
	return 0
}

// multipath reports whether the slaves are ways to one and the same disk.
func (d *device) multipath() bool { return strings.HasPrefix(d.dmUUID, "mpath-") }

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list parts of a block device: %w", err)
	}
	all := make([]string, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all, nil
}

// text is an attribute; empty when there is none.
func text(dir string, elem ...string) string {
	s, err := hw.ReadAttr(filepath.Join(append([]string{dir}, elem...)...))
	if err != nil {
		return ""
	}
	return s
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
