package gossip

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How tombstones end. In the space of a host by a floor: a record of KindFloor whose version says that everything in the
// space below it is void. Its host restates all that lives above that version first. So no clock and no count of peers is
// needed, and a peer that was away for a year is not misled. In the shared space, where nobody can restate for all, they
// end by age.

// compactAt is how many tombstones of our own there may be, when they are more than what lives.
const compactAt = 256

const sweepEvery = time.Minute

type pendingFloor struct {
	version Version // zero: none
	due     time.Time
}

// Tick does what time brings: it ends expired tombstones, and restates our own space when it holds more deleted than
// living. Changed is to be passed on. Call it about once a second.
func (r *Replica) Tick(now time.Time) Result {
	var res Result
	r.stepped(now)
	r.heal(now, &res)
	if f := r.floor; f.version != (Version{}) && !now.Before(f.due) {
		r.floor = pendingFloor{}
		rec := Record{Key: Key{r.self, KindFloor, ""}, Version: f.version}
		r.put(now, rec, r.lookup(rec.Key))
		res.Changed = append(res.Changed, r.lookup(rec.Key).Record)
		r.raiseFloor(r.self, f.version, &res)
	}
	if s := r.spaces[r.self]; s != nil && r.floor.version == (Version{}) && r.restated &&
		s.tombstones >= compactAt && s.tombstones > len(s.records)-s.tombstones {
		r.restate(now, &res)
	}
	if now.Sub(r.swept) >= sweepEvery {
		r.swept = now
		r.sweep(now)
	}
	return res
}

// Restated says that all of our own space that is still true has been Set in this term. FloorDelay later what former terms
// have left is void everywhere. Before it is called nothing of a former life is given up.
func (r *Replica) Restated(now time.Time) {
	if r.term == 0 || r.restated {
		return
	}
	r.restated = true
	r.floor = pendingFloor{version: Version{A: r.term, Node: r.self}, due: now.Add(FloorDelay)}
}

// SetTerm takes a higher term: what this life has written and not deleted is written again under it, and returned to be
// passed on. It fails on an odd term, and on one that is not above the present one. One that is not above SeenTerm is taken,
// and OwnTerm says so: take a higher one.
func (r *Replica) SetTerm(now time.Time, term uint64) (Result, error) {
	var res Result
	switch {
	case term%2 != 0 || term > MaxTerm:
		return res, fmt.Errorf("term %d: a host writes under even terms up to %d", term, uint64(MaxTerm))
	case term <= r.term:
		return res, fmt.Errorf("term %d is not above the present term %d", term, r.term)
	}
	old := Version{A: r.term}
	r.term, r.counter = term, 0
	if old.A != 0 {
		r.rewrite(now, old, Version{A: term}, &res)
		if s := r.spaces[r.self]; s != nil {
			for _, e := range sorted(s) {
				if r.void(s, &e.Record) { // what of the former term is left and was spared because it was ours: nobody else has it
					r.purge(s, e, &res)
				}
			}
		}
	} else if s := r.spaces[r.self]; s != nil {
		for _, e := range sorted(s) {
			if e.Version.A >= term { // not of this life, though it would look so
				r.purge(s, e, &res)
			}
		}
	}
	if r.restated {
		r.restated = false
		r.Restated(now)
	}
	if r.seenTerm >= term {
		res.OwnTerm = r.seenTerm
	}
	return res, nil
}

// restate writes all that lives in our space again and plans the floor below it.
func (r *Replica) restate(now time.Time, res *Result) {
	r.counter++
	floor := Version{A: r.term, B: r.counter, Node: r.self}
	r.rewrite(now, Version{}, floor, res)
	r.floor = pendingFloor{version: floor, due: now.Add(FloorDelay)}
}

// rewrite writes what lives in our space between two versions again.
func (r *Replica) rewrite(now time.Time, from, below Version, res *Result) {
	s := r.spaces[r.self]
	if s == nil {
		return
	}
	for _, e := range sorted(s) {
		if e.Deleted || e.Kind == KindFloor || lower(e.Version, from) || !lower(e.Version, below) {
			continue
		}
		r.counter++
		rec := e.Record
		rec.Version = Version{A: r.term, B: r.counter, Node: r.self}
		r.put(now, rec, e)
		res.Changed = append(res.Changed, e.Record)
	}
}

// raiseFloor voids what is below the floor of a space.
func (r *Replica) raiseFloor(name string, floor Version, res *Result) {
	s := r.spaces[name]
	if s == nil || !lower(s.floor, floor) {
		return
	}
	s.floor = floor
	for _, e := range sorted(s) {
		if e.Kind != KindFloor && lower(e.Version, floor) {
			r.purge(s, e, res)
		}
	}
}

// lower compares versions of one space without their writers: a floor voids its version's equals of no writer.
func lower(a, b Version) bool {
	return a.A < b.A || a.A == b.A && a.B < b.B
}

// void says that a floor or a forgotten host has ended a record.
func (r *Replica) void(s *space, rec *Record) bool {
	if rec.Space == Shared {
		return false
	}
	if rec.Version.A <= r.forgotten[rec.Space] && (rec.Space != r.self || rec.Version.A != r.term) {
		return true
	}
	return s != nil && rec.Kind != KindFloor && lower(rec.Version, s.floor)
}

// Forget removes a host with all its records, everywhere and for good: they are not taken again, unless the host comes back
// under a higher term than any that is known. A host of which nothing is known here can be forgotten: others may know it. For
// oneself it fails.
func (r *Replica) Forget(now time.Time, name string) (Result, error) {
	var res Result
	if name == r.self {
		return res, errors.New("forget host: it is this one")
	}
	if name == Shared || len(name) > maxSpace {
		return res, fmt.Errorf("forget host %q: no such host", name)
	}
	term := r.forgotten[name]
	if s := r.spaces[name]; s != nil {
		for _, e := range s.records {
			term = max(term, e.Version.A)
		}
	}
	term += term % 2 // its speakers' words go too
	rec := Record{Key: Key{Shared, KindForget, forgetID(term, name)}, Deleted: true}
	rec, _, err := r.stamp(now, rec, r.lookup(rec.Key))
	if err != nil {
		return res, fmt.Errorf("forget host %q: %w", name, err)
	}
	res.Changed = append(res.Changed, rec)
	r.applyForget(&rec, &res)
	return res, nil
}

func forgetID(term uint64, name string) string {
	return strconv.FormatUint(term, 10) + "/" + name
}

func parseForget(id string) (term uint64, name string, ok bool) {
	number, name, found := strings.Cut(id, "/")
	term, err := strconv.ParseUint(number, 10, 64)
	return term, name, found && err == nil && name != "" && term <= MaxTerm && forgetID(term, name) == id
}

func (r *Replica) applyForget(rec *Record, res *Result) {
	term, name, _ := parseForget(rec.ID)
	if name != r.self {
		delete(r.peers, name)
	}
	if term <= r.forgotten[name] {
		return
	}
	if name == r.self {
		// We live. Under a higher term we are heard again.
		r.seenTerm = max(r.seenTerm, term)
		if r.term != 0 && term >= r.term {
			res.OwnTerm = max(res.OwnTerm, term)
		}
	}
	r.forgotten[name] = term
	s := r.spaces[name]
	if s == nil {
		return
	}
	for _, e := range sorted(s) {
		if e.Version.A <= term && (name != r.self || e.Version.A != r.term) {
			r.purge(s, e, res)
		}
	}
}

// sweep ends the tombstones of the shared space that are too old, and with them what they have forgotten.
func (r *Replica) sweep(now time.Time) {
	clear(r.forgotten)
	s := r.spaces[Shared]
	if s == nil || s.tombstones == 0 {
		return
	}
	for _, e := range s.records {
		if e.Deleted && expired(now, e.Version) {
			r.drop(s, e)
			r.stats.purged++
		} else if e.Kind == KindForget {
			term, name, _ := parseForget(e.ID)
			r.forgotten[name] = max(r.forgotten[name], term)
		}
	}
}

func (r *Replica) purge(s *space, e *entry, res *Result) {
	r.drop(s, e)
	if !e.Deleted {
		res.Purged = append(res.Purged, e.Record)
	}
	r.stats.purged++
}

// sorted are the entries of a space in an order that does not depend on the map's.
func sorted(s *space) []*entry {
	return slices.SortedFunc(maps.Values(s.records), func(a, b *entry) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.ID, b.ID)
	})
}
