package gossip

import (
	"cmp"
	"time"
)

// Limits bound what others can make us hold. The zero value means the defaults. A writer that overflows a space, or a space
// that overflows the replica, is held to its fair share: those that hold less than an equal part are still served, so that
// one mad host starves nobody (and what is held is twice the limit at most).
type Limits struct {
	Records int // of a host's space, deleted ones included; 16384; of its own half of that, so that a peer never has to refuse it
	Shared  int // records of the shared space; 65536
	Bytes   int // of the payloads of a space; 32 MiB
	Spaces  int // 4096
	Total   int // bytes of everything, with recordCost for each record; 256 MiB
}

// recordCost is what a record takes in memory beside its payload, measured.
const recordCost = 320

func (l Limits) withDefaults() Limits {
	l.Records = max(cmp.Or(l.Records, 16384), 4)
	l.Shared = max(cmp.Or(l.Shared, 65536), 4)
	l.Bytes = cmp.Or(l.Bytes, 32<<20)
	l.Spaces = cmp.Or(l.Spaces, 4096)
	l.Total = cmp.Or(l.Total, 256<<20)
	return l
}

// records is how many records a space may hold.
func (l Limits) records(space string) int {
	if space == Shared {
		return l.Shared
	}
	return l.Records
}

// own is how many records this host may have in its own space when it adds one of a kind. There is one delivery for each
// pair of an alarm and a subscription: a quarter is kept for all else, so that old news never takes the place of a new alarm.
func (l Limits) own(kind Kind) int {
	most := l.Records / 2
	if kind == KindDelivery || kind == KindReceipt {
		return most - most/4
	}
	return most
}

// share is what one writer has in a space.
type share struct{ records, bytes int }

// room makes room for a record, and says whether there is. In a space with too many keys those with the highest hashes
// give way, of the writer that has the most: the same ones at every replica whatever the order of arrival, so that a flood
// does not keep them repairing each other for ever. Floors always find room, because they make some.
func (r *Replica) room(now time.Time, rec *Record, cur *entry, res *Result) bool {
	s := r.spaces[rec.Space]
	if s == nil {
		if len(r.spaces) >= r.limits.Spaces && rec.Space != Shared && rec.Space != r.self || r.overTotal(0, len(rec.Payload)+recordCost) {
			r.reject(now, rec, Full, res)
			return false
		}
		return true
	}
	grown := len(rec.Payload)
	if cur != nil {
		grown -= len(cur.Payload)
	}
	mine := s.writers[rec.Version.Node].bytes
	if grown > 0 && s.bytes+grown > r.limits.Bytes && (mine+grown)*max(len(s.writers), 1) > r.limits.Bytes ||
		cur == nil && r.overTotal(s.cost(), grown+recordCost) ||
		cur == nil && rec.Kind != KindFloor && !r.displace(now, s, rec, res) {
		r.reject(now, rec, Full, res)
		return false
	}
	return true
}

// overTotal says that a space of this cost may not grow, because everything has and this is no smaller than the others.
func (r *Replica) overTotal(space, grown int) bool {
	return r.bytes+r.index.n*recordCost+grown > r.limits.Total && (space+grown)*(len(r.spaces)+1) > r.limits.Total
}

func (s *space) cost() int { return s.bytes + len(s.records)*recordCost }

// displace makes room for one more key in a space, and says whether there is.
func (r *Replica) displace(now time.Time, s *space, rec *Record, res *Result) bool {
	limit := r.limits.records(s.name)
	if s.records[localKey{kind: KindFloor}] != nil {
		limit++ // it has a place of its own
	}
	for len(s.records) >= limit {
		if s.name == r.self { // what we say now is not to go for what we said once
			return false
		}
		most, writer := s.writers[rec.Version.Node].records+1, rec.Version.Node
		for w, has := range s.writers {
			if has.records > most || has.records == most && w > writer {
				most, writer = has.records, w
			}
		}
		last := r.index.last(func(e *entry) bool {
			return e.Space == s.name && e.Version.Node == writer && e.Kind != KindFloor
		})
		if last == nil || writer == rec.Version.Node && keyHash(rec.Key) >= last.key {
			return false
		}
		displaced := last.Record
		r.drop(s, last)
		r.reject(now, &displaced, Full, res)
		if !displaced.Deleted {
			res.Purged = append(res.Purged, displaced)
		}
	}
	return true
}
