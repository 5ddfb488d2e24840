package mem

import (
	"fmt"
	"strconv"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// module follows the counters of one module.
type module struct {
	seen   bool
	ce, ue uint64
	rate   hw.Tally // of corrected errors
}

// judge takes a reading and gives what it means.
func (m *module) judge(s *Source, r *reading, now time.Time) []correlate.Event {
	event := func(c correlate.Condition, status correlate.Status, text string) correlate.Event {
		return correlate.Event{
			Source: s.Name(), Resource: r.id, Condition: c, Status: status, Text: text, Occurred: now, Observed: now,
			Evidence: map[string]string{
				"corrected": strconv.FormatUint(m.ce, 10), "uncorrected": strconv.FormatUint(m.ue, 10), "path": r.path,
			},
		}
	}
	if r.err != nil { // the last known state stays
		return []correlate.Event{
			event(correlate.CondMemoryDegraded, correlate.StatusUnknown, r.err.Error()),
			event(correlate.CondMemoryUncorrected, correlate.StatusUnknown, r.err.Error()),
		}
	}
	newCE, newUE := hw.Grown(m.ce, r.ce), hw.Grown(m.ue, r.ue)
	if !m.seen { // how fast it came to what it counts now is not known
		newCE = 0
	}
	m.seen, m.ce, m.ue = true, r.ce, r.ue
	s.counters.corrected.Add(newCE)
	s.counters.uncorrected.Add(newUE)

	status := correlate.StatusOK
	total, fast := m.rate.Add(now, newCE)
	if fast {
		status = correlate.StatusFailed
	}
	events := []correlate.Event{event(correlate.CondMemoryDegraded, status,
		fmt.Sprintf("%s: %d corrected errors in the last %s", r.label, total, s.config.Window))}
	if newUE > 0 {
		events = append(events, event(correlate.CondMemoryUncorrected, correlate.StatusFailed,
			fmt.Sprintf("%s: %d uncorrected errors", r.label, newUE)))
	}
	return events
}
