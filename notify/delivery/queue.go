package delivery

import (
	"container/heap"
	"time"
)

func (m *Machine) push(e *entry) {
	e.at = e.due()
	if e.index >= 0 {
		heap.Fix(&m.waiting, e.index)
		return
	}
	m.order++
	e.order = m.order
	heap.Push(&m.waiting, e)
}

// due is the earliest start. The outbox's time puts what is new behind what has waited.
func (e *entry) due() time.Time {
	if e.hold != 0 {
		return later(e.limit, e.Next)
	}
	return later(e.outbox, e.Next)
}

// drop takes a pair out of the waiting ones.
func (m *Machine) drop(e *entry) {
	switch {
	case e.index < 0:
	case e.resting:
		heap.Remove(&m.resting, e.index)
		e.resting = false
	default:
		heap.Remove(&m.waiting, e.index)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// queue is a heap of pairs by earliest start.
type queue []*entry

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].order < q[j].order
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
