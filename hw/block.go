package hw

import (
	"os"
	"regexp"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// made is how block devices are called that are made of others, or are a part of one.
var made = regexp.MustCompile(`^(?:(?:dm-|md|md_d|loop|drbd|zd|bcache|nbd|ram|zram)\d|(?:sd|vd|xvd|hd)[a-z]+\d+$|(?:nvme\d+n\d+|mmcblk\d+|rbd\d+|pmem\d+)p\d+$)`)

// OfBlock names the block device that the kernel calls so: disk/ is a drive, volume/ what is made of drives or is a part of one.
// One that is not there any more is judged by its name.
func (r Root) OfBlock(name string) correlate.ID {
	name = strings.ReplaceAll(name, "/", "!") // as sysfs writes it
	kind := correlate.KindDisk
	there := func(elem ...string) bool {
		_, err := os.Stat(r.SysPath(append([]string{"class", "block", name}, elem...)...))
		return err == nil
	}
	switch {
	case !there("dev"):
		if made.MatchString(name) {
			kind = correlate.KindVolume
		}
	case there("partition"), !there("device"):
		kind = correlate.KindVolume
	}
	return correlate.NewID(kind, name)
}
