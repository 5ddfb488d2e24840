package agent

import (
	"cmp"
	"sync"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
)

// What the agent holds for those who ask later. A follower that falls behind the feed is told so, and gets the present truth.
const (
	feedCapacity   = 4096
	eventsCapacity = 1000
)

// ring keeps the newest n values. The zero ring keeps none.
type ring[T any] struct {
	buf   []T
	n     int
	total uint64 // ever added
}

func newRing[T any](n int) *ring[T] { return &ring[T]{n: n} }

func (r *ring[T]) add(v T) {
	if len(r.buf) < r.n {
		r.buf = append(r.buf, v)
	} else if r.n > 0 {
		r.buf[r.total%uint64(r.n)] = v
	}
	r.total++
}

// last copies the newest n values, oldest first.
func (r *ring[T]) last(n int) []T {
	n = min(n, len(r.buf))
	out := make([]T, 0, n)
	for i := r.total - uint64(n); i < r.total; i++ {
		out = append(out, r.buf[i%uint64(r.n)])
	}
	return out
}

// feed is what happened lately: changes for streams, and events for people. It tells the history of the changes. Safe for
// concurrent use; the loop adds what is of this host, the cluster what is of the others.
type feed struct {
	past *history.Store

	mu       sync.Mutex
	changes  *ring[api.SeqChange]
	standing map[string]*correlate.Alarm // by id: the newest form that was told of
	events   *ring[correlate.Event]
	told     map[correlate.ID]*told // what was last told of each resource, so that restating is not news
	next     chan struct{}          // closed when a change was added
}

// told is what was last told of one resource.
type told struct {
	source string
	status map[correlate.Condition]correlate.Status
}

func newFeed(past *history.Store) *feed {
	return &feed{
		past:     past,
		changes:  newRing[api.SeqChange](feedCapacity),
		standing: make(map[string]*correlate.Alarm),
		events:   newRing[correlate.Event](eventsCapacity),
		told:     make(map[correlate.ID]*told),
		next:     make(chan struct{}),
	}
}

// know takes alarms that stood when this run began: they are no news.
func (f *feed) know(alarms []*correlate.Alarm) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range alarms {
		f.standing[a.ID] = a
		if !f.past.Stands(a.ID) {
			f.past.Note(a, string(a.Last))
		}
	}
}

// addChanges notes new revisions, and what was said of one that is known. What is older than what was told, or the same, is no
// news.
func (f *feed) addChanges(changes []correlate.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		was, what := f.standing[c.Alarm.ID], string(c.Alarm.Last)
		if was != nil {
			switch newer := c.Alarm.Revision.Compare(was.Revision); {
			case newer < 0:
				continue
			case newer == 0:
				if what = c.Alarm.Noted(was); what == "" {
					continue
				}
			}
		}
		f.add(api.SeqChange{Change: c, Was: was, What: what})
		f.past.Note(c.Alarm, what)
		if c.Alarm.Standing() {
			f.standing[c.Alarm.ID] = c.Alarm
		} else {
			delete(f.standing, c.Alarm.ID)
		}
	}
}

// addVanished notes alarms of which nobody has said that they ended, and that nobody says any more. A follower may know of one
// that was never told of here: it was in the present truth that he was given.
func (f *feed) addVanished(ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		was := f.standing[id]
		delete(f.standing, id)
		f.add(api.SeqChange{Change: correlate.Change{Alarm: cmp.Or(was, &correlate.Alarm{ID: id})}, Was: was, What: api.Vanished})
	}
}

// add needs mu.
func (f *feed) add(c api.SeqChange) {
	c.Seq = f.changes.total + 1
	f.changes.add(c)
	close(f.next)
	f.next = make(chan struct{})
}

// addDelta notes the events that say something new.
func (f *feed) addDelta(d *correlate.Delta) {
	if len(d.Events) == 0 && len(d.Gone) == 0 && !d.Full {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.Full {
		f.forgetUnstated(d)
	}
	for _, e := range d.Events {
		if e.Condition.Foreign() { // other monitors say only what is new, and of as many resources as they like
			f.events.add(e)
			continue
		}
		of := f.told[e.Resource]
		if of == nil {
			of = &told{status: make(map[correlate.Condition]correlate.Status, 1)}
			f.told[e.Resource] = of
		}
		of.source = d.Source
		was, known := of.status[e.Condition]
		of.status[e.Condition] = e.Status
		if known && was == e.Status || !known && e.Status != correlate.StatusFailed {
			continue // restated; or not failed from the start, which is no news
		}
		f.events.add(e)
	}
	for _, g := range d.Gone {
		delete(f.told, g.ID)
	}
}

// forgetUnstated drops what the source told of resources that its full truth no longer has.
func (f *feed) forgetUnstated(d *correlate.Delta) {
	stated := make(map[correlate.ID]bool, len(d.Set))
	for i := range d.Set {
		stated[d.Set[i].ID] = true
	}
	for i := range d.Events {
		stated[d.Events[i].Resource] = true
	}
	for id, of := range f.told {
		if of.source == d.Source && !stated[id] {
			delete(f.told, id)
		}
	}
}

func (f *feed) after(seq uint64) (changes []api.SeqChange, next <-chan struct{}, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	total := f.changes.total
	if seq > total { // of an earlier run of the agent
		return f.changes.last(feedCapacity), f.next, true
	}
	missing := total - seq
	lost = missing > uint64(len(f.changes.buf))
	return f.changes.last(int(min(missing, feedCapacity))), f.next, lost
}

func (f *feed) newest() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes.total
}

func (f *feed) recent(n int) []correlate.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events.last(n)
}
