package disk

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	lookTime = 200 * time.Millisecond // how long a look at a file system may take
	maxHung  = 8                      // looks that hang at a time; more are not begun
)

var (
	errHangs = errors.New("it does not answer")
	errMany  = errors.New("too many file systems do not answer")
)

// prober takes looks that the kernel may never come back from. One hangs at most for each mount point.
type prober struct {
	limit time.Duration // of a look

	mu   sync.Mutex
	hung map[string]struct{}
}

func newProber() *prober { return &prober{limit: lookTime, hung: make(map[string]struct{})} }

// stuck is a path whose look hangs; empty: none does.
func (p *prober) stuck() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := ""
	for path := range p.hung {
		if first == "" || path < first {
			first = path
		}
	}
	return first
}

// look runs f with a deadline. After an error f may still run, and what it writes must not be read.
func (w *watch) look(ctx context.Context, path string, f func() error) error {
	p := w.probe
	p.mu.Lock()
	if _, hangs := p.hung[path]; hangs {
		p.mu.Unlock()
		return fmt.Errorf("%s: %w", path, errHangs)
	}
	if len(p.hung) >= maxHung {
		p.mu.Unlock()
		return errMany
	}
	p.hung[path] = struct{}{}
	p.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		err := hw.Contain(f)
		p.mu.Lock()
		delete(p.hung, path)
		p.mu.Unlock()
		done <- err
	}()
	limit := time.NewTimer(p.limit)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		w.counters.hung.Add(1)
		return fmt.Errorf("%s: %w", path, errHangs)
	}
}

// require says which volumes the disks of the domains stand on. A path that leads nowhere now keeps the place that it had: the
// device node goes with the device.
func (w *watch) require(ctx context.Context, mounts []mount, vdisks []VDisk) []correlate.Requirement {
	var all []correlate.Requirement
	places := make(map[string]string, len(vdisks))
	for _, v := range vdisks {
		at, known := places[v.Path]
		if !known {
			found, err := w.find(ctx, v.Path, mounts)
			if at = found; err != nil {
				at = w.places[v.Path]
			}
			places[v.Path] = at
		}
		d := w.stack.at(at, mounts)
		if d == nil { // a network file system, or none of this host's devices
			continue
		}
		id := d.id
		if volume := correlate.NewID(correlate.KindVolume, d.name); w.mounted[volume] != nil {
			id = volume
		}
		all = append(all, correlate.Requirement{ID: v.ID, Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{id}}}})
	}
	w.places = places
	return all
}

// find gives the number of the device that holds the file, or that the path is.
func (w *watch) find(ctx context.Context, file string, mounts []mount) (string, error) {
	var at string
	key := file
	if m := holder(mounts, file); m != nil {
		key = m.point
	}
	err := w.look(ctx, key, func() error {
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			return fmt.Errorf("look where %s is: %w", file, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			at = number(st.Rdev)
			return nil
		}
		at = number(st.Dev)
		if unix.Major(st.Dev) != 0 {
			return nil
		}
		target, err := filepath.EvalSymlinks(file) // btrfs numbers each subvolume; its mount tells the device
		if err != nil {
			return fmt.Errorf("look where %s is: %w", file, err)
		}
		if m := holder(mounts, target); m != nil && m.kind == "btrfs" {
			at = m.number
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return at, nil
}

// number of a device, as sysfs and the mount table write it.
func number(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }
