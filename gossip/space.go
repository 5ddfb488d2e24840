package gossip

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"
)

type space struct {
	name       string
	records    map[localKey]*entry
	floor      Version
	tombstones int
	bytes      int              // of payloads
	writers    map[string]share // by the node of the version
	changed    time.Time
}

type localKey struct {
	kind Kind
	id   string
}

// Get is the record of a key, when there is one that is not deleted.
func (r *Replica) Get(key Key) (Record, bool) {
	e := r.lookup(key)
	if e == nil || e.Deleted {
		return Record{}, false
	}
	return e.Record, true
}

// Space yields the records of a kind in a space that are not deleted, in the order of their IDs. The replica must not be
// changed meanwhile.
func (r *Replica) Space(name string, kind Kind) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		s := r.spaces[name]
		if s == nil {
			return
		}
		var found []*entry
		for k, e := range s.records {
			if k.kind == kind && !e.Deleted {
				found = append(found, e)
			}
		}
		slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(a.ID, b.ID) })
		for _, e := range found {
			if !yield(e.Record) {
				return
			}
		}
	}
}

// All yields the records of a kind in all spaces that are not deleted, in the order of spaces and IDs. The replica must
// not be changed meanwhile.
func (r *Replica) All(kind Kind) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for _, name := range r.Spaces() {
			for rec := range r.Space(name, kind) {
				if !yield(rec) {
					return
				}
			}
		}
	}
}

// Records yields every record, deleted ones and the replica's own included, in no order: what a snapshot on disk holds.
func (r *Replica) Records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for _, b := range r.index.buckets {
			for _, e := range b {
				if !yield(e.Record) {
					return
				}
			}
		}
	}
}

// Extent is how many records a space holds, deleted ones and its floor included, and the newest version among them. It costs
// the size of the space.
func (r *Replica) Extent(space string) (records int, newest Version) {
	s := r.spaces[space]
	if s == nil {
		return 0, Version{}
	}
	for _, e := range s.records {
		if e.Version.Compare(newest) > 0 {
			newest = e.Version
		}
	}
	return len(s.records), newest
}

// Spaces are the names of the spaces that hold something, in order; the shared one has the empty name.
func (r *Replica) Spaces() []string {
	return slices.Sorted(maps.Keys(r.spaces))
}

func (r *Replica) lookup(key Key) *entry {
	s := r.spaces[key.Space]
	if s == nil {
		return nil
	}
	return s.records[localKey{key.Kind, key.ID}]
}

// put keeps a record in place of cur. The payload is ours.
func (r *Replica) put(now time.Time, rec Record, cur *entry) {
	s := r.spaces[rec.Space]
	if s == nil {
		s = &space{name: rec.Space, records: map[localKey]*entry{}, writers: map[string]share{}}
		r.spaces[rec.Space] = s
	}
	rec.Space = s.name // one string for all
	if rec.Version.Node == s.name {
		rec.Version.Node = s.name
	}
	s.changed = now
	if cur == nil {
		cur = &entry{Record: Record{Key: rec.Key}}
		s.records[localKey{rec.Kind, rec.ID}] = cur
		r.index.add(cur, keyHash(rec.Key))
	} else {
		r.count(s, cur, -1)
		rec.Key = cur.Key
	}
	cur.Record = rec
	r.count(s, cur, +1)
	r.index.sum(cur)
}

func (r *Replica) drop(s *space, e *entry) {
	r.count(s, e, -1)
	r.index.remove(e)
	delete(s.records, localKey{e.Kind, e.ID})
	if len(s.records) == 0 {
		delete(r.spaces, s.name)
	}
}

// count takes an entry into the sums, or out of them.
func (r *Replica) count(s *space, e *entry, sign int) {
	size := sign * len(e.Payload)
	r.bytes += size
	s.bytes += size
	if e.Deleted {
		s.tombstones += sign
	}
	has := s.writers[e.Version.Node]
	has.records += sign
	has.bytes += size
	if has.records == 0 {
		delete(s.writers, e.Version.Node)
		return
	}
	s.writers[e.Version.Node] = has
}

func recordOf(e *entry) Record {
	if e == nil {
		return Record{}
	}
	return e.Record
}
