package mem

import (
	"fmt"
	"strconv"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// module follows the counters of one module.
type module struct {
	seen      bool
	ce, ue    uint64
	status    correlate.Status // of the rate of corrected errors
	increases []increase       // within the window, oldest first; at most one a poll
	goodSince time.Time        // when the rate fell
}

type increase struct {
	at time.Time
	n  uint64
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
	newCE, newUE := grown(m.ce, r.ce), grown(m.ue, r.ue)
	if !m.seen { // how fast it came to what it counts now is not known
		newCE = 0
	}
	m.seen, m.ce, m.ue = true, r.ce, r.ue
	s.counters.corrected.Add(newCE)
	s.counters.uncorrected.Add(newUE)

	total := m.window(now, newCE, s.config.Window)
	switch {
	case total >= s.config.Corrected:
		m.status, m.goodSince = correlate.StatusFailed, time.Time{}
	case m.status != correlate.StatusFailed || total > s.config.Corrected/10:
		m.goodSince = time.Time{}
	case m.goodSince.IsZero():
		m.goodSince = now
	case now.Sub(m.goodSince) >= s.config.Window:
		m.status, m.goodSince = correlate.StatusOK, time.Time{}
	}
	events := []correlate.Event{event(correlate.CondMemoryDegraded, m.status,
		fmt.Sprintf("%s: %d corrected errors in the last %s", r.label, total, s.config.Window))}
	if newUE > 0 {
		events = append(events, event(correlate.CondMemoryUncorrected, correlate.StatusFailed,
			fmt.Sprintf("%s: %d uncorrected errors", r.label, newUE)))
	}
	return events
}

// grown is by how much a counter grew; one that was reset (EDAC's reset_counters, a driver loaded anew) counts from zero.
func grown(was, is uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

// window adds n and gives the sum of what came within the window.
func (m *module) window(now time.Time, n uint64, window time.Duration) uint64 {
	if n > 0 {
		m.increases = append(m.increases, increase{now, n})
	}
	var total uint64
	kept := m.increases[:0]
	for _, i := range m.increases {
		if now.Sub(i.at) < window {
			kept = append(kept, i)
			total += i.n
		}
	}
	m.increases = kept
	return total
}
