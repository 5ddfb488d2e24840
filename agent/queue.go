package agent

import (
	"context"
	"slices"
	"sync"

	"github.com/paramedic-ha/paramedic/correlate"
)

// queueCapacity bounds what one source may have waiting, counted in resources, requirements, removals and events. A
// full statement of 1 000 domains with four vnics and vdisks each fits.
const queueCapacity = 16384

// queue holds what one source has said and the loop has not yet taken. What is said again before it was taken replaces
// what was said before, per resource and per condition; when the queue is full nevertheless, the source waits.
//
// Coalescing never merges across a removal: a domain's crash, its removal and its return stay three steps.
type queue struct {
	source string
	wake   func() // tells the loop; never blocks

	mu        sync.Mutex
	pending   []*pending
	items     int
	space     chan struct{} // closed and replaced when items were taken
	coalesced uint64
	dropped   uint64
}

// pending is a delta under construction, indexed so that merging costs what is new and not what is there.
type pending struct {
	delta     correlate.Delta
	set       map[correlate.ID]int
	require   map[correlate.ID]int
	events    map[eventKey]int
	mentioned map[correlate.ID]bool // by events
	gone      map[correlate.ID]bool
}

type eventKey struct {
	resource  correlate.ID
	condition correlate.Condition
}

func newQueue(source string, wake func()) *queue {
	return &queue{source: source, wake: wake, space: make(chan struct{})}
}

func size(d *correlate.Delta) int { return len(d.Set) + len(d.Require) + len(d.Gone) + len(d.Events) }

// put queues d, and waits for space when the queue is full. A delta larger than the queue is taken when it is empty.
func (q *queue) put(ctx context.Context, d correlate.Delta) error {
	for {
		q.mu.Lock()
		if q.items == 0 || q.items+size(&d) <= queueCapacity {
			q.merge(d)
			q.mu.Unlock()
			q.wake()
			return nil
		}
		space := q.space
		q.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer queues d, or drops and counts it when the queue is full: for callers that must not wait.
func (q *queue) offer(d correlate.Delta) {
	q.mu.Lock()
	if q.items > 0 && q.items+size(&d) > queueCapacity {
		q.dropped++
		q.mu.Unlock()
		return
	}
	q.merge(d)
	q.mu.Unlock()
	q.wake()
}

// take returns the oldest delta that waits.
func (q *queue) take() (correlate.Delta, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 {
		return correlate.Delta{}, false
	}
	d := q.pending[0].delta
	q.pending = slices.Delete(q.pending, 0, 1)
	q.items -= size(&d)
	close(q.space)
	q.space = make(chan struct{})
	return d, true
}

// depth returns what waits, what was coalesced and what was dropped so far.
func (q *queue) depth() (items int, coalesced, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items, q.coalesced, q.dropped
}

func (q *queue) merge(d correlate.Delta) {
	d.Source = q.source
	for i := range d.Events {
		d.Events[i].Source = q.source
	}
	if len(q.pending) == 0 || q.pending[len(q.pending)-1].conflicts(&d) {
		p := &pending{
			delta:     correlate.Delta{Source: q.source},
			set:       make(map[correlate.ID]int, len(d.Set)),
			require:   make(map[correlate.ID]int, len(d.Require)),
			events:    make(map[eventKey]int, len(d.Events)),
			mentioned: make(map[correlate.ID]bool, len(d.Events)),
			gone:      make(map[correlate.ID]bool, len(d.Gone)),
		}
		q.pending = append(q.pending, p)
	}
	p := q.pending[len(q.pending)-1]
	before := size(&p.delta)
	p.add(&d)
	grown := size(&p.delta) - before
	q.items += grown
	q.coalesced += uint64(size(&d) - min(grown, size(&d)))
}

// conflicts reports whether d can't be merged without losing a step: it removes what is still to be stated or reported,
// states what is still to be removed, is a full statement behind removals or reports that it would swallow, or comes from before or
// after a change of the configuration.
func (p *pending) conflicts(d *correlate.Delta) bool {
	if d.Renewed || p.delta.Renewed || d.Full && size(&p.delta) > 0 || len(d.Require) > 0 && len(p.gone) > 0 { // what is required is looked at before removals
		return true
	}
	for _, g := range d.Gone {
		if _, ok := p.set[g.ID]; ok || p.mentioned[g.ID] {
			return true
		}
	}
	for i := range d.Set {
		if p.gone[d.Set[i].ID] {
			return true
		}
	}
	for i := range d.Events {
		if p.gone[d.Events[i].Resource] {
			return true
		}
	}
	return false
}

func (p *pending) add(d *correlate.Delta) {
	p.delta.Full, p.delta.Renewed = p.delta.Full || d.Full, d.Renewed
	for _, r := range d.Set {
		if i, ok := p.set[r.ID]; ok {
			p.delta.Set[i] = r
			continue
		}
		p.set[r.ID] = len(p.delta.Set)
		p.delta.Set = append(p.delta.Set, r)
	}
	for _, r := range d.Require {
		if i, ok := p.require[r.ID]; ok {
			p.delta.Require[i] = r
			continue
		}
		p.require[r.ID] = len(p.delta.Require)
		p.delta.Require = append(p.delta.Require, r)
	}
	for _, g := range d.Gone {
		if !p.gone[g.ID] {
			p.gone[g.ID] = true
			p.delta.Gone = append(p.delta.Gone, g)
		}
	}
	for _, e := range d.Events {
		key := eventKey{e.Resource, e.Condition}
		i, ok := p.events[key]
		if !ok {
			p.events[key] = len(p.delta.Events)
			p.mentioned[e.Resource] = true
			p.delta.Events = append(p.delta.Events, e)
			continue
		}
		if supersedes(e, p.delta.Events[i]) {
			p.delta.Events[i] = e
		}
	}
}

// supersedes reports whether e says all that the waiting event of the same resource and condition said. Unknown says
// nothing, and the end of an impulse does not unsay the impulse.
func supersedes(e, waiting correlate.Event) bool {
	switch {
	case e.Status == correlate.StatusUnknown:
		return false
	case e.Status == correlate.StatusOK && waiting.Status == correlate.StatusFailed:
		return correlate.RuleOf(e.Condition).Mode == correlate.Level
	}
	return true
}
