package disk

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// judge says what the states of devices and arrays mean.
func (w *watch) judge() []correlate.Event {
	var events []correlate.Event
	faulty := make(map[string]string) // member → its array
	for _, d := range w.stack.devices {
		if d.absent {
			continue
		}
		if d.array != nil {
			events = append(events, d.array.judge(d)...)
			for _, m := range d.array.members {
				if m.faulty {
					faulty[m.name] = d.name
				}
			}
		}
		switch {
		case d.stateErr != nil:
			w.counters.unreadable.Add(1)
			events = append(events, correlate.Event{Resource: d.id, Condition: correlate.CondDiskOffline, Text: d.stateErr.Error()})
		case d.state != "":
			events = append(events, correlate.Event{
				Resource: d.id, Condition: correlate.CondDiskOffline, Status: status(offline(d.state)),
				Text: fmt.Sprintf("%s: its state is %q", d.name, d.state), Evidence: map[string]string{"state": d.state},
			})
		}
	}
	for name, array := range faulty {
		if d := w.stack.devices[name]; d != nil {
			events = append(events, correlate.Event{
				Resource: d.id, Condition: correlate.CondMemberFailed, Status: correlate.StatusFailed,
				Text: fmt.Sprintf("%s: array %s has put it out of use", name, array), Evidence: map[string]string{"array": array},
			})
		}
	}
	return events
}

// offline reports whether the state of a SCSI device (drivers/scsi/scsi_sysfs.c) or of an NVMe controller
// (drivers/nvme/host/sysfs.c) is one that it does not leave by itself. One that is blocked, resetting or connecting may.
func offline(state string) bool {
	return slices.Contains([]string{"offline", "transport-offline", "dead"}, state)
}

func status(failed bool) correlate.Status {
	if failed {
		return correlate.StatusFailed
	}
	return correlate.StatusOK
}

func (a *array) judge(d *device) []correlate.Event {
	if a.err != nil {
		return []correlate.Event{
			{Resource: d.id, Condition: correlate.CondRAIDDegraded, Text: a.err.Error()},
			{Resource: d.id, Condition: correlate.CondRAIDFailed, Text: a.err.Error()},
		}
	}
	evidence := map[string]string{"level": a.level, "array_state": a.state, "degraded": fmt.Sprint(a.degraded), "raid_disks": fmt.Sprint(a.disks)}
	failed := a.state == "broken" || a.needed() > 0 && a.disks-a.degraded < a.needed()
	return []correlate.Event{
		{
			Resource: d.id, Condition: correlate.CondRAIDDegraded, Status: status(a.degraded > 0), Evidence: evidence,
			Text: fmt.Sprintf("%s (%s): %d of %d members are missing", d.name, a.level, a.degraded, a.disks),
		},
		{
			Resource: d.id, Condition: correlate.CondRAIDFailed, Status: status(failed), Evidence: evidence,
			Text: fmt.Sprintf("%s (%s): %d of %d members are missing, its state is %q", d.name, a.level, a.degraded, a.disks, a.state),
		},
	}
}

// once told, a file system must fall this far below the limit, in percent, to be well again.
const hysteresis = 2

// imageTypes are file systems that are always full.
var imageTypes = []string{"squashfs", "erofs", "iso9660", "udf", "cramfs"}

// measure looks how full the file systems are that can be written to.
func (w *watch) measure(ctx context.Context, mounts []mount) []correlate.Event {
	var events []correlate.Event
	seen := make(map[correlate.ID]bool)
	for _, m := range mounts {
		d := w.stack.numbers[m.number]
		if d == nil || d.absent || m.readOnly || slices.Contains(imageTypes, m.kind) {
			continue
		}
		id := correlate.NewID(correlate.KindVolume, d.name)
		if seen[id] { // mounted in several places
			continue
		}
		seen[id] = true
		var st unix.Statfs_t
		err := w.look(ctx, m.point, func() error {
			var got unix.Statfs_t
			if err := unix.Statfs(m.point, &got); err != nil {
				return fmt.Errorf("look how full %s is: %w", m.point, err)
			}
			st = got
			return nil
		})
		if err != nil {
			events = append(events, correlate.Event{Resource: id, Condition: correlate.CondFilesystemOut, Text: err.Error()})
			continue
		}
		space, inodes := percent(st.Blocks-st.Bfree, st.Blocks-st.Bfree+st.Bavail), percent(st.Files-st.Ffree, st.Files)
		limit := w.config.Full
		if w.full[id] {
			limit -= min(limit, hysteresis)
		}
		w.full[id] = max(space, inodes) >= limit
		events = append(events, correlate.Event{
			Resource: id, Condition: correlate.CondFilesystemOut, Status: status(w.full[id]),
			Text:     fmt.Sprintf("%s on %s: %d%% of the space and %d%% of the inodes are in use", m.point, d.name, space, inodes),
			Evidence: map[string]string{"mount": m.point, "type": m.kind},
		})
	}
	for id := range w.full {
		if !seen[id] {
			delete(w.full, id)
		}
	}
	return events
}

// percent is rounded up, as df does; 0 of nothing: some file systems count no inodes.
func percent(used, of uint64) uint64 {
	if of == 0 || used > of {
		return 0
	}
	return uint64((float64(used)*100 + float64(of) - 1) / float64(of))
}
