package api

import (
	"sync"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Feed keeps the newest changes for those who watch. When it is full the oldest goes, and whoever had not read it is
// told so. Safe for concurrent use; nothing blocks.
type Feed struct {
	mu   sync.Mutex
	ring []SeqChange // [head % len]: the newest; zero Seq: never filled
	head uint64
	next chan struct{}
}

// NewFeed holds size changes. Numbers start behind term << 32: a term is used once, so numbers are too, and a watcher
// that resumes with a number of an earlier run is told that it lost something instead of being given other changes.
func NewFeed(size int, term uint64) *Feed {
	return &Feed{ring: make([]SeqChange, max(size, 1)), head: term << 32, next: make(chan struct{})}
}

// Append adds changes, oldest first, and wakes those who wait.
func (f *Feed) Append(changes ...correlate.Change) {
	if len(changes) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		f.head++
		f.ring[f.head%uint64(len(f.ring))] = SeqChange{Seq: f.head, Change: c}
	}
	close(f.next)
	f.next = make(chan struct{})
}

// Changes returns what came after the change numbered after, oldest first, the number of the newest, and a channel
// that is closed when there is a newer one. After zero means "from now on": no changes, only head and next. When some
// that came after are no longer held, or after was never given out in this run, lost is true and changes is all that
// is held.
func (f *Feed) Changes(after uint64) (changes []SeqChange, head uint64, next <-chan struct{}, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if after == 0 || after == f.head {
		return nil, f.head, f.next, false
	}
	for i := range uint64(len(f.ring)) {
		// The slot behind the newest holds the oldest.
		if c := f.ring[(f.head+1+i)%uint64(len(f.ring))]; c.Seq != 0 {
			changes = append(changes, c)
		}
	}
	if after > f.head || len(changes) == 0 || after+1 < changes[0].Seq {
		return changes, f.head, f.next, true
	}
	return changes[after+1-changes[0].Seq:], f.head, f.next, false
}
