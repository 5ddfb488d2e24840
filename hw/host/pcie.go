package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// functions are the PCI functions by address; nil: one that counts no errors.
type functions map[string]*function

// function is one that counts (Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats).
type function struct {
	is    [3]uint64 // by severity: corrected, not fatal, fatal
	rate  hw.Tally  // of corrected ones
	fast  bool      // told so, of on
	on    []correlate.ID
	text  string // of the rate
	known bool   // is was read
}

// files are the attributes in the order of function.is.
var files = [3]string{"aer_dev_correctable", "aer_dev_nonfatal", "aer_dev_fatal"}

// lookFunctions reads the error counters. What a function had counted when it was seen first is not told: the kernel's log
// was there, and finding devices makes errors.
func (w *watch) lookFunctions(_ context.Context, d *correlate.Delta, now time.Time) error {
	entries, err := list(w.config.Root.SysPath("bus", "pci", "devices"))
	if err != nil {
		return fmt.Errorf("list PCI devices: %w", err)
	}
	seen := make(map[string]bool, len(entries))
	var errs []error
	for _, e := range entries {
		address := e.Name()
		seen[address] = true
		f, ok := w.functions[address]
		if !ok {
			if _, err := w.tally(address, 0); err == nil {
				f = &function{rate: hw.Tally{Limit: w.config.Corrected, Window: w.config.Window}}
				w.take(address, f)
			}
			w.functions[address] = f
		}
		if f == nil {
			continue
		}
		if err := w.judgeFunction(d, address, f, now); err != nil {
			errs = append(errs, err)
		}
	}
	for address := range w.functions {
		if !seen[address] {
			delete(w.functions, address) // its NIC or disk says that it is gone
		}
	}
	w.judgeRates(d, now)
	return errors.Join(errs...)
}

// take goes on where the last run was: an alarm that stands was of too many corrected errors.
func (w *watch) take(address string, f *function) {
	if len(w.standing) == 0 {
		return
	}
	for _, id := range w.belongs(address) {
		if w.standing[correlate.Key{Resource: id, Condition: correlate.CondPCIeCorrected}] {
			f.rate.Hold()
		}
	}
}

// belongs names what a function is to others; the host when it is nothing to them.
func (w *watch) belongs(address string) []correlate.ID {
	if ids := w.config.Root.OfPCI(address); len(ids) > 0 {
		return ids
	}
	return []correlate.ID{w.config.Host}
}

func (w *watch) judgeFunction(d *correlate.Delta, address string, f *function, now time.Time) error {
	var grown [3]uint64
	for i := range files {
		n, err := w.tally(address, i)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is going
		}
		if err != nil {
			return err
		}
		if f.known {
			grown[i] = hw.Grown(f.is[i], n)
		}
		f.is[i] = n
	}
	f.known = true
	w.counters.corrected.Add(grown[0])
	w.counters.uncorrected.Add(grown[1] + grown[2])
	for i, c := range map[int]correlate.Condition{1: correlate.CondPCIeNonFatal, 2: correlate.CondPCIeFatal} {
		if grown[i] == 0 {
			continue
		}
		for _, id := range w.belongs(address) {
			e := w.event(id, c, correlate.StatusFailed, now, fmt.Sprintf("PCI device %s counts %d more errors that were not corrected", address, grown[i]))
			e.Evidence = map[string]string{"pci": address, "counter": files[i], "total": strconv.FormatUint(f.is[i], 10)}
			d.Events = append(d.Events, e)
		}
	}
	total, fast := f.rate.Add(now, grown[0])
	if fast && !f.fast {
		f.on = w.belongs(address)
	}
	f.fast = fast
	f.text = fmt.Sprintf("PCI device %s: %d corrected errors in the last %s", address, total, w.config.Window)
	return nil
}

// judgeRates tells of the resources of which a function corrects too often; several may be one's.
func (w *watch) judgeRates(d *correlate.Delta, now time.Time) {
	texts := make(map[correlate.ID][]string)
	for _, f := range w.functions {
		if f == nil || !f.fast {
			continue
		}
		for _, id := range f.on {
			texts[id] = append(texts[id], f.text)
		}
	}
	for id, text := range texts {
		if !w.correcting[id] {
			w.correcting[id] = true
			slices.Sort(text)
			d.Events = append(d.Events, w.event(id, correlate.CondPCIeCorrected, correlate.StatusFailed, now, strings.Join(text, "; ")))
		}
	}
	for id := range w.correcting {
		if texts[id] == nil {
			delete(w.correcting, id)
			d.Events = append(d.Events, w.event(id, correlate.CondPCIeCorrected, correlate.StatusOK, now, "few corrected errors any more"))
		}
	}
}

// tally reads the sum of one of the counters of a function.
func (w *watch) tally(address string, file int) (uint64, error) {
	text, err := hw.ReadAttr(w.config.Root.SysPath("bus", "pci", "devices", address, files[file]))
	if err != nil {
		return 0, err
	}
	n, err := parseTally(text)
	if err != nil {
		return 0, fmt.Errorf("PCI device %s: %s: %w", address, files[file], err)
	}
	return n, nil
}

var errTally = errors.New(`want a line "TOTAL_ERR_… number"`)

// parseTally finds the sum in lines of a name and a number each.
func parseTally(text string) (uint64, error) {
	for line := range strings.Lines(text) {
		if name, n, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "TOTAL_ERR_") {
			total, err := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			if err != nil {
				return 0, errTally
			}
			return total, nil
		}
	}
	return 0, errTally
}
