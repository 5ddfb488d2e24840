package notify

import (
	"sync"

	"github.com/paramedic-ha/paramedic/correlate"
)

// change is what waits of one alarm between Publish and dispatch.
type change struct {
	// newest is the latest revision. first is an earlier one that waits too: whoever wanted that one is owed the
	// newest, so that a fault which clears at once is not swallowed.
	first    *correlate.Alarm
	newest   correlate.Change
	saveOnly bool // acknowledged, for instance: kept, and told to nobody
	stood    bool // it was dispatched before, and is offered to who may want it only now
}

// inbox takes what the engine's goroutine publishes; it never blocks and coalesces per alarm. Bound: of each alarm key
// the occurrence that was dispatched last, and two that were not; a whole life (raised and cleared) in between that
// nobody has been told of is dropped.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []change
	at    map[string]int // alarm id → index in queue
	lives map[correlate.Key]string
}

func (b *inbox) init() {
	b.wake = make(chan struct{}, 1)
	b.at, b.lives = map[string]int{}, map[correlate.Key]string{}
}

func (b *inbox) add(eff correlate.Effects) {
	if len(eff.Save) == 0 && len(eff.Publish) == 0 {
		return
	}
	b.mu.Lock()
	for _, c := range eff.Publish {
		b.put(c, false)
	}
	for _, a := range eff.Save {
		b.put(correlate.Change{Alarm: a}, true)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) put(n correlate.Change, saveOnly bool) {
	a := n.Alarm
	if i, ok := b.at[a.ID]; ok {
		c := &b.queue[i]
		if saveOnly && a.Revision == c.newest.Alarm.Revision {
			c.newest.Alarm = a
			return
		}
		if a.Revision.Compare(c.newest.Alarm.Revision) <= 0 {
			return
		}
		if c.first == nil && !c.saveOnly {
			c.first = c.newest.Alarm
		}
		c.newest, c.saveOnly = n, saveOnly
		if !a.Standing() && c.first != nil && c.first.Last == correlate.Raised {
			if old, ok := b.lives[a.Key]; ok && old != a.ID {
				b.queue[b.at[old]].newest.Alarm = nil
				delete(b.at, old)
			}
			b.lives[a.Key] = a.ID
		}
		return
	}
	b.at[a.ID] = len(b.queue)
	b.queue = append(b.queue, change{newest: n, saveOnly: saveOnly})
	if n := len(b.queue); n >= 1024 && n > 2*len(b.at) { // mostly dropped lives: close the gaps
		b.compact()
	}
}

func (b *inbox) compact() {
	kept := b.queue[:0]
	for _, c := range b.queue {
		if c.newest.Alarm != nil {
			b.at[c.newest.Alarm.ID] = len(kept)
			kept = append(kept, c)
		}
	}
	clear(b.queue[len(kept):])
	b.queue = kept
}

func (b *inbox) take() []change {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.compact()
	out := b.queue
	b.queue = nil
	clear(b.at)
	clear(b.lives)
	return out
}

// waiting is how many alarms wait.
func (b *inbox) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}
