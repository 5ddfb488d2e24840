package disk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// hostPaths are the places whose file systems every host needs.
var hostPaths = []string{"/", "/var", "/var/lib/libvirt"}

// once told, a file system must fall this far below the limit, in percent, to be well again.
const hysteresis = 2

// imageTypes are file systems that are always full.
var imageTypes = []string{"squashfs", "erofs", "iso9660", "udf", "cramfs"}

// filesystem is one that is mounted, wherever and however often.
type filesystem struct {
	id     correlate.ID
	on     *device
	mounts []mount
}

// gather gives the file systems on the devices of this host, sorted by id.
func (s *stack) gather(mounts []mount) []*filesystem {
	all := make(map[correlate.ID]*filesystem)
	for _, m := range mounts {
		d := s.under(m)
		if d == nil || slices.Contains(imageTypes, m.kind) {
			continue
		}
		id := correlate.NewID(correlate.KindVolume, d.name)
		if all[id] == nil {
			all[id] = &filesystem{id: id, on: d}
		}
		all[id].mounts = append(all[id].mounts, m)
	}
	sorted := slices.Collect(maps.Values(all))
	slices.SortFunc(sorted, func(a, b *filesystem) int { return compareIDs(a.id, b.id) })
	return sorted
}

// important are the file systems that hold the host, the agent's state, disks of domains, or what the configuration names.
func (w *watch) important(mounts []mount, required []correlate.Requirement) map[correlate.ID]bool {
	ids := make(map[correlate.ID]bool)
	note := func(m *mount) {
		if m == nil {
			return
		}
		if d := w.stack.under(*m); d != nil {
			ids[correlate.NewID(correlate.KindVolume, d.name)] = true
		}
	}
	for _, p := range append(slices.Clone(hostPaths), w.config.Dir) {
		note(holder(mounts, p))
	}
	for i := range mounts {
		if slices.ContainsFunc(w.config.Filesystems, func(glob string) bool {
			ok, err := path.Match(glob, mounts[i].point)
			return ok && err == nil // the configuration has checked them
		}) {
			note(&mounts[i])
		}
	}
	for _, r := range required {
		for _, n := range r.Needs {
			for _, id := range n.Of {
				ids[id] = true
			}
		}
	}
	return ids
}

// usage is what a look at a mount point gives.
type usage struct{ space, inodes uint64 } // in percent

// measure looks how the file systems are.
func (w *watch) measure(ctx context.Context, mounts []mount, required []correlate.Requirement) []correlate.Event {
	var events []correlate.Event
	important := w.important(mounts, required)
	written := make(map[correlate.ID][]string)
	full := make(map[correlate.ID]bool)
	damages := make(map[correlate.ID]*damage)
	for _, f := range w.stack.gather(mounts) {
		damage := w.damage(f)
		if damage != nil {
			damages[f.id] = damage
		}
		used, at, err := w.usage(ctx, f)
		readOnly := w.readOnly(f, important[f.id], damage, err)
		if readOnly.Status == correlate.StatusOK && !f.mounts[0].readOnly || readOnly.Status != correlate.StatusOK {
			for _, m := range f.mounts {
				written[f.id] = append(written[f.id], m.id)
			}
		}
		events = append(events, readOnly)
		if !important[f.id] || f.mounts[0].readOnly {
			continue
		}
		event := correlate.Event{Resource: f.id, Condition: correlate.CondFilesystemFull}
		if err != nil {
			full[f.id] = w.full[f.id]
			event.Text = err.Error()
		} else {
			limit := w.config.Full
			if w.full[f.id] {
				limit -= min(limit, hysteresis)
			}
			full[f.id] = max(used.space, used.inodes) >= limit
			event.Status = status(full[f.id])
			event.Text = fmt.Sprintf("%s on %s: %d%% of the space and %d%% of the inodes are in use", at.point, f.on.name, used.space, used.inodes)
			event.Evidence = map[string]string{"mount": at.point, "type": at.kind}
		}
		events = append(events, event)
	}
	w.full, w.written, w.damages = full, written, damages
	return events
}

// damage is the errors that an ext4 has counted since it was checked.
type damage struct {
	errors  int64
	stopped bool // it writes no more because of one
	mounts  []mount
}

// damage reads them; nil: it is no ext4. One that is mounted with errors=remount-ro writes no more after any error (fs/ext4/super.c:
// ext4_handle_error) until it is mounted anew. From Linux 6.12 to 6.14, and in the stable kernels of that time, nothing else
// shows it, for it is not marked read-only any more.
func (w *watch) damage(f *filesystem) *damage {
	n, err := hw.ReadIntAttr(w.config.Root.SysPath("fs", "ext4", f.on.name, "errors_count"))
	if err != nil {
		return nil
	}
	d := &damage{errors: n, mounts: f.mounts}
	before := w.damages[f.id]
	ids, known := w.written[f.id]
	switch {
	case n == 0:
	case before == nil: // the alarm of the last run says so
		d.stopped = known && len(ids) == 0
	case n >= before.errors && slices.ContainsFunc(f.mounts, func(m mount) bool { return slices.ContainsFunc(before.mounts, m.same) }):
		d.stopped = before.stopped || n > before.errors
	}
	if d.stopped {
		options, err := hw.ReadAttr(w.config.Root.ProcPath("fs", "ext4", f.on.name, "options"))
		d.stopped = err == nil && slices.Contains(strings.Fields(options), "errors=remount-ro")
	}
	return d
}

// same reports whether both are one mount, as far as their numbers tell.
func (m mount) same(other mount) bool { return m.id == other.id && m.point == other.point }

// readOnly judges whether the kernel has stopped writing. That a file system is read-only is a fault when the kernel shows its
// reason, or when it was written to before and the host needs it; else somebody wants it so.
func (w *watch) readOnly(f *filesystem, important bool, d *damage, err error) correlate.Event {
	m := f.mounts[0]
	e := correlate.Event{
		Resource: f.id, Condition: correlate.CondReadOnly, Status: correlate.StatusOK,
		Text: fmt.Sprintf("%s on %s is written to", m.point, f.on.name), Evidence: map[string]string{"mount": m.point, "type": m.kind},
	}
	if d == nil {
		d = new(damage)
	}
	if d.errors > 0 {
		e.Evidence["errors_count"] = fmt.Sprint(d.errors)
	}
	ids, known := w.written[f.id]
	before := known && (len(ids) == 0 || slices.ContainsFunc(f.mounts, func(m mount) bool { return slices.Contains(ids, m.id) }))
	switch {
	case errors.Is(err, unix.EIO):
		e.Status, e.Text = correlate.StatusFailed, fmt.Sprintf("%s on %s was shut down after an error: %s", m.point, f.on.name, err)
	case m.emergency, d.stopped, m.readOnly && d.errors > 0:
		e.Status, e.Text = correlate.StatusFailed, fmt.Sprintf("%s on %s is read-only after an error", m.point, f.on.name)
	case m.readOnly && before && important:
		e.Status, e.Text = correlate.StatusFailed, fmt.Sprintf("%s on %s has become read-only", m.point, f.on.name)
	case errors.Is(err, errHangs), errors.Is(err, errMany):
		e.Status, e.Text = correlate.StatusUnknown, err.Error()
	case m.readOnly:
		e.Text = fmt.Sprintf("%s on %s is mounted to be read", m.point, f.on.name)
	}
	return e
}

// errCovered: another file system is mounted over it.
var errCovered = errors.New("what is mounted there is covered by another file system")

// usage looks at a mount point of the file system that is not covered by another one. XFS answers with EIO once it was shut down
// (fs/xfs/xfs_iops.c: xfs_vn_getattr).
func (w *watch) usage(ctx context.Context, f *filesystem) (usage, mount, error) {
	err := errCovered
	for _, m := range f.mounts {
		var used usage
		err = w.look(ctx, m.point, func() error {
			var at unix.Stat_t
			if err := unix.Stat(m.point, &at); err != nil {
				return fmt.Errorf("look at %s: %w", m.point, err)
			}
			if m.kind != "btrfs" && number(at.Dev) != m.number {
				return errCovered
			}
			var st unix.Statfs_t
			if err := unix.Statfs(m.point, &st); err != nil {
				return fmt.Errorf("look how full %s is: %w", m.point, err)
			}
			used = usage{percent(st.Blocks-st.Bfree, st.Blocks-st.Bfree+st.Bavail), percent(st.Files-st.Ffree, st.Files)}
			return nil
		})
		if err == nil {
			return used, m, nil
		}
		if !errors.Is(err, errCovered) {
			break
		}
	}
	return usage{}, mount{}, err
}

// percent is rounded up, as df does; 0 of nothing: some file systems count no inodes.
func percent(used, of uint64) uint64 {
	if of == 0 || used > of {
		return 0
	}
	return uint64((float64(used)*100 + float64(of) - 1) / float64(of))
}
