package delivery

import (
	"container/heap"
	"slices"
	"time"
)

// hold is a pair that waits for a commit. It is over when the pair's own hold is another.
type hold struct {
	entry   *entry
	id, seq uint64
}

func (h hold) over() bool { return h.entry.hold != h.id }

// Hold keeps everything enqueued since the last Hold back until commit seq is reported or limit has passed.
func (m *Machine) Hold(seq uint64, limit time.Time) {
	for _, e := range m.fresh {
		if e.owed.Alarm == nil || !e.outbox.IsZero() || e.hold != 0 {
			continue
		}
		m.holds++
		e.hold, e.limit = m.holds, limit
		m.held = append(m.held, hold{e, m.holds, seq})
		if e.sent == nil {
			m.push(e)
		}
	}
	clear(m.fresh)
	m.fresh = m.fresh[:0]
	if len(m.held) > 2*m.owed+64 { // the commits don't come: forget holds that are over
		m.held = slices.DeleteFunc(m.held, hold.over)
	}
}

// Commit is when the disk was given what a commit holds, and when it had taken it.
type Commit struct{ Begun, Done time.Time }

// Committed reports that everything up to commit seq is durable.
func (m *Machine) Committed(seq uint64, c Commit, now time.Time) {
	n := 0
	for ; n < len(m.held) && m.held[n].seq <= seq; n++ {
		e := m.held[n].entry
		if m.held[n].over() { // its limit passed, or a newer revision came
			continue
		}
		e.commit = c
		m.release(e, now)
		if e.index >= 0 {
			e.at = e.due()
			heap.Fix(&m.waiting, e.index)
		}
	}
	m.held = slices.Delete(m.held, 0, n)
}

func (m *Machine) release(e *entry, now time.Time) {
	e.hold = 0
	if e.outbox.IsZero() {
		e.outbox = now
	}
}
