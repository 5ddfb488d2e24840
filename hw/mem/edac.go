package mem

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// reading is what the kernel says of one module, or of a controller that has no modules of its own
// (Documentation/admin-guide/RAS and Documentation/ABI/testing/sysfs-devices-edac).
type reading struct {
	id                                 correlate.ID
	path                               string // below mc/: mc0/dimm3
	label, location, size, mode, kinds string
	ce, ue                             uint64
	err                                error // the counters could not be read
}

func (r *reading) resource() correlate.Resource {
	facts := map[string]string{"path": r.path}
	for name, value := range map[string]string{"location": r.location, "size_mb": r.size, "edac_mode": r.mode, "type": r.kinds} {
		if value != "" {
			facts[name] = value
		}
	}
	return correlate.Resource{ID: r.id, Name: r.label, Facts: facts}
}

// read lists all modules, sorted by path. fs.ErrNotExist: there is no memory controller.
func read(root hw.Root) ([]reading, error) {
	dir := root.SysPath("devices", "system", "edac", "mc")
	controllers, err := list(dir, "mc")
	if err != nil {
		return nil, err
	}
	if len(controllers) == 0 {
		return nil, fmt.Errorf("list memory controllers: %w", fs.ErrNotExist)
	}
	var all []reading
	for _, mc := range controllers {
		modules, err := readController(dir, mc)
		if err != nil {
			return nil, err // a list with holes would take what it lacks for gone
		}
		all = append(all, modules...)
	}
	return all, nil
}

// list gives the directories that are called prefix and a number, by that number.
func list(dir, prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list memory controllers: %w", err)
	}
	var names []string
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), prefix); ok && n != "" && strings.Trim(n, "0123456789") == "" {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
	return names, nil
}

func readController(dir, mc string) ([]reading, error) {
	at := filepath.Join(dir, mc)
	var all []reading
	for _, kind := range []string{"dimm", "rank"} {
		names, err := list(at, kind)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			r := reading{
				path:  mc + "/" + name,
				label: text(at, name, "dimm_label"), location: text(at, name, "dimm_location"),
				size: text(at, name, "size"), mode: text(at, name, "dimm_edac_mode"), kinds: text(at, name, "dimm_mem_type"),
			}
			r.count(filepath.Join(at, name), "dimm_ce_count", "dimm_ue_count")
			all = append(all, r)
		}
	}
	counted := len(all) > 0 && !slices.ContainsFunc(all, func(r reading) bool { return errors.Is(r.err, fs.ErrNotExist) })
	if !counted { // older kernels count by row and channel only
		all = all[:0]
		rows, err := list(at, "csrow")
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			channels, err := filepath.Glob(filepath.Join(at, row, "ch*_ce_count"))
			if err != nil {
				return nil, fmt.Errorf("list the channels of %s: %w", row, err)
			}
			slices.Sort(channels)
			for _, file := range channels {
				ch := strings.TrimSuffix(filepath.Base(file), "_ce_count")
				r := reading{path: mc + "/" + row + "/" + ch, label: text(at, row, ch+"_dimm_label"), kinds: text(at, row, "mem_type")}
				r.count(filepath.Join(at, row), ch+"_ce_count", "ue_count") // which channel an uncorrected error was in is not told
				all = append(all, r)
			}
		}
	}
	// What the controller could not tell the module of.
	rest := reading{path: mc, label: mc + ", module unknown"}
	rest.count(at, "ce_noinfo_count", "ue_noinfo_count")
	if !errors.Is(rest.err, fs.ErrNotExist) {
		all = append(all, rest)
	}
	identify(all)
	return all, nil
}

// count reads the two counters.
func (r *reading) count(dir, ce, ue string) {
	var errs [2]error
	var n [2]int64
	n[0], errs[0] = hw.ReadIntAttr(filepath.Join(dir, ce))
	n[1], errs[1] = hw.ReadIntAttr(filepath.Join(dir, ue))
	r.err = errors.Join(errs[:]...)
	r.ce, r.ue = uint64(max(0, n[0])), uint64(max(0, n[1]))
}

// text is a description, which may be missing.
func text(elem ...string) string {
	s, err := hw.ReadAttr(filepath.Join(elem...))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(s, "?")
}

// identify names modules by their path: labels come from the firmware or a tool (ras-mc-ctl) and may change, or be the same
// for all.
func identify(all []reading) {
	for i := range all {
		all[i].id = correlate.NewID(correlate.KindDIMM, all[i].path)
		if all[i].label == "" {
			all[i].label = all[i].path
		}
	}
}
