package gossip

import (
	"crypto/sha256"
	"encoding/binary"
)

// Replicas compare themselves by hashes over sets of records: a root, 32 groups of 32 buckets, and the records of a bucket.
// The hash of a set is the XOR of those of its records, so that a change costs the same however many there are. Those who
// hold the cluster's key are trusted not to forge collisions (they could as well write the records); SHA-256 makes
// accidental ones impossible.
const (
	fanout      = 32
	bucketCount = fanout * fanout
)

type entry struct {
	Record
	key  uint64    // hash of Key
	hash [2]uint64 // of the whole record; zero before the first
	pos  uint32    // in its bucket
}

func (e *entry) bucket() uint32 { return bucketOf(e.key) }

func (e *entry) item() item {
	return item{key: e.key, a: e.Version.A, b: e.Version.B, tag: uint32(e.hash[1])}
}

func bucketOf(key uint64) uint32 { return uint32(key >> 54) } // 10 bits

type index struct {
	root    [2]uint64
	groups  [fanout]uint64
	sums    [bucketCount]uint64
	buckets [bucketCount][]*entry
	n       int
	scratch []byte
}

func (x *index) add(e *entry, key uint64) {
	e.key = key
	b := e.bucket()
	e.pos = uint32(len(x.buckets[b]))
	x.buckets[b] = append(x.buckets[b], e)
	x.n++
}

func (x *index) remove(e *entry) {
	x.toggle(e)
	b := x.buckets[e.bucket()]
	last := len(b) - 1
	b[e.pos] = b[last]
	b[e.pos].pos = e.pos
	b[last] = nil
	x.buckets[e.bucket()] = b[:last]
	x.n--
}

// sum takes the hash of what the entry holds now in place of what it held.
func (x *index) sum(e *entry) {
	x.toggle(e)
	x.scratch = appendRecord(x.scratch[:0], &e.Record)
	h := sha256.Sum256(x.scratch)
	e.hash = [2]uint64{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:16])}
	x.toggle(e)
}

func (x *index) toggle(e *entry) {
	b := e.bucket()
	x.root[0] ^= e.hash[0]
	x.root[1] ^= e.hash[1]
	x.groups[b/fanout] ^= e.hash[0]
	x.sums[b] ^= e.hash[0]
}

// find is the entry of a key hash; nil when there is none.
func (x *index) find(key uint64) *entry {
	for _, e := range x.buckets[bucketOf(key)] {
		if e.key == key {
			return e
		}
	}
	return nil
}

// last is the entry with the highest hash of its key among those that match; nil when none does.
func (x *index) last(match func(*entry) bool) *entry {
	for b := bucketCount - 1; b >= 0; b-- {
		var last *entry
		for _, e := range x.buckets[b] {
			if (last == nil || e.key > last.key) && match(e) {
				last = e
			}
		}
		if last != nil {
			return last
		}
	}
	return nil
}

func keyHash(k Key) uint64 {
	b := make([]byte, 0, 64)
	b = append(b, byte(k.Kind))
	b = appendString(b, k.Space)
	b = append(b, k.ID...)
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:8])
}
