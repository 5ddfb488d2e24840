package disk

import (
	"fmt"
	"slices"

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
