package hw

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// OfPCI names what hangs on a PCI function: its links, and the disks of its NVMe or SCSI controller; on a bridge or port, what
// hangs on the functions behind it. Sorted; none when sysfs shows none.
func (r Root) OfPCI(address string) []correlate.ID {
	if !pciAddress.MatchString(address) {
		return nil
	}
	ids := ofFunction(r.SysPath("bus", "pci", "devices", address), 0)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// maxBridges bounds how many bridges may be in a row: PCI has 256 buses, hosts have a few.
const maxBridges = 16

func ofFunction(dir string, depth int) []correlate.ID {
	if depth > maxBridges {
		return nil
	}
	var ids []correlate.ID
	for _, found := range []struct {
		kind    correlate.Kind
		pattern string
	}{
		{correlate.KindNIC, "net/*"},
		{correlate.KindNIC, "virtio*/net/*"},
		{correlate.KindDisk, "nvme/nvme*/nvme*n*"},
		{correlate.KindDisk, "virtio*/block/*"},
		{correlate.KindDisk, "host*/target*/*/block/*"},
		{correlate.KindDisk, "ata*/host*/target*/*/block/*"},
		{correlate.KindDisk, "host*/port-*/end_device-*/target*/*/block/*"},
		{correlate.KindDisk, "host*/port-*/expander-*/port-*/end_device-*/target*/*/block/*"},
	} {
		matches, err := filepath.Glob(filepath.Join(dir, found.pattern))
		if err != nil {
			continue // the patterns are constant; only the root could spoil one
		}
		for _, m := range matches {
			name := filepath.Base(m)
			if strings.Contains(name, "c") && strings.HasPrefix(name, "nvme") { // a path of a multipath controller
				continue
			}
			if _, err := os.Stat(m); err == nil {
				ids = append(ids, correlate.NewID(found.kind, name))
			}
		}
	}
	behind, err := filepath.Glob(filepath.Join(dir, "*:*:*.?"))
	if err != nil {
		return ids
	}
	for _, b := range behind {
		if pciAddress.MatchString(filepath.Base(b)) {
			ids = append(ids, ofFunction(b, depth+1)...)
		}
	}
	return ids
}
