package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// The periods of a replica.
const (
	// MaxAhead is how far ahead of our clock the version of a shared record may be.
	MaxAhead = time.Minute
	// TombstoneLife is how long a deleted shared record is remembered. An agent that was away for longer must drop what
	// it had of the shared space: it might bring back what was deleted meanwhile.
	TombstoneLife = 30 * 24 * time.Hour
	// FloorDelay is between the restatement of what lives and the floor that voids what was not restated: time for the
	// former to be everywhere, since nothing keeps the two in order.
	FloorDelay = 15 * time.Second
)

// MaxTerm is the highest term. No host comes near it by itself, but whoever has the key can write it in another's name.
const MaxTerm = 1 << 62

// Config is what a replica must know of its host.
type Config struct {
	Self string // the name of this host: the space that it writes
	// Term is the even term under which it writes, zero while it is not known: then Set and Delete refuse, until SetTerm.
	Term   uint64
	Limits Limits
}

// Errors of the writers.
var (
	ErrNoTerm = errors.New("the term of this host is not known yet")
	ErrFull   = errors.New("too many records")
	ErrClock  = errors.New("own clock is ahead of the peers'")
)

// Replica is what one agent knows of the whole cluster: the records of every host and the shared ones. It is a value
// machine: the same calls give the same answers. Time is an argument; there is no goroutine, no I/O, no randomness.
// Not safe for use by several goroutines at once.
//
// For each key the highest version wins, so that merging is commutative, associative and idempotent, and replicas that
// have seen the same records in any order hold the same. The space of a host is written by that host alone, under even
// terms; records under an odd term are accepted from anybody, because those are its speakers' when it is dead.
type Replica struct {
	self     string
	term     uint64
	counter  uint64
	seenTerm uint64 // the highest term of our own space that a peer has shown us
	limits   Limits

	spaces    map[string]*space
	index     index
	bytes     int    // of all payloads
	clock     uint64 // the highest version of a shared record, or of a write of ours
	merged    uint64 // the highest version of a shared record that came from others
	forgotten map[string]uint64
	peers     map[string]*peerState
	crowd     peerState // all those that found no place in peers

	floor    pendingFloor
	restated bool
	swept    time.Time
	looked   time.Time     // at the clock, see stepped
	behind   time.Duration // our clock, as most of the peers see it; see measure
	turn     uint32        // where the next repair begins, so that what cannot be repaired starves nothing else

	stats stats
}

// Result is what a call did.
type Result struct {
	// Changed are the records that are new here, in the order of arrival, each with the form that won. Pass them on.
	Changed []Record
	// Purged are records that vanished because a floor or a forgotten host voided them. They are not passed on: the floor is.
	Purged []Record
	// Rejected are records that were refused for cause. Stale and known ones are not among them.
	Rejected []Rejection
	// Own are records of our own space that we did not write in this life: of a former one or of a speaker. Those below our
	// term, or all while it is not known, are kept (and are in Changed too) until the floor of Restated ends them.
	Own []Record
	// OwnTerm, when not zero, is a term of our own space that a peer has shown us and that we cannot continue: it is
	// above ours, or ours with writes that are not ours. Take the next even number above it with SetTerm. (While our term is
	// not known, SeenTerm tells.)
	OwnTerm uint64

	// Replies go back to the sender of the message (Handle only), in order.
	Replies [][]byte
	// Repair says that the message answered a repair. When it also changed something there may be more to repair: exchange
	// digests again soon, not only in a second.
	Repair bool
	// InSync says that the message was a digest equal to ours.
	InSync bool
}

// New makes an empty replica. It fails on a name that cannot be a space and on an odd term.
func New(c Config) (*Replica, error) {
	if c.Self == "" || len(c.Self) > maxSpace {
		return nil, fmt.Errorf("replica of host %q: the name must have 1 to %d bytes", c.Self, maxSpace)
	}
	if c.Term%2 != 0 || c.Term > MaxTerm {
		return nil, fmt.Errorf("replica of host %q: term %d: a host writes under even terms up to %d", c.Self, c.Term, uint64(MaxTerm))
	}
	r := &Replica{
		self: c.Self, term: c.Term, limits: c.Limits.withDefaults(),
		spaces: map[string]*space{}, forgotten: map[string]uint64{}, peers: map[string]*peerState{},
	}
	r.stats.rejected = map[rejectionKey]*RejectionCount{}
	return r, nil
}

// Self is the name of this host, Term the term under which it writes.
func (r *Replica) Self() string { return r.self }

// Term is the term under which this host writes; zero while it is not known.
func (r *Replica) Term() uint64 { return r.term }

// SeenTerm is the highest term of this host that any peer has shown, forgotten ones included; zero when none has. A
// reimaged host waits until it is in sync with a peer and takes the next even number above.
func (r *Replica) SeenTerm() uint64 { return r.seenTerm }

// Set writes a record of our own space, and says whether it changed: writing what stands in this term changes nothing. The
// payload is copied.
func (r *Replica) Set(now time.Time, kind Kind, id string, payload []byte) (Record, bool, error) {
	rec, changed, err := r.write(now, Key{r.self, kind, id}, payload, false)
	if err != nil {
		return Record{}, false, fmt.Errorf("write record %d %q: %w", kind, id, err)
	}
	return rec, changed, nil
}

// Delete deletes a record of our own space, and says whether there was one. It stays as a tombstone until a floor passes it.
func (r *Replica) Delete(now time.Time, kind Kind, id string) (Record, bool, error) {
	rec, changed, err := r.write(now, Key{r.self, kind, id}, nil, true)
	if err != nil {
		return Record{}, false, fmt.Errorf("delete record %d %q: %w", kind, id, err)
	}
	return rec, changed, nil
}

// SetShared writes a record that any host may write. Its version is a hybrid logical clock: now, or just above the highest
// seen. ErrClock says that the clocks of our peers are so far behind ours that they would refuse it.
func (r *Replica) SetShared(now time.Time, kind Kind, id string, payload []byte) (Record, bool, error) {
	rec, changed, err := r.writeShared(now, Key{Shared, kind, id}, payload, false)
	if err != nil {
		return Record{}, false, fmt.Errorf("write shared record %d %q: %w", kind, id, err)
	}
	return rec, changed, nil
}

// DeleteShared deletes a shared record; the tombstone stays for TombstoneLife. A record that is not known here is not
// deleted: changed is false.
func (r *Replica) DeleteShared(now time.Time, kind Kind, id string) (Record, bool, error) {
	rec, changed, err := r.writeShared(now, Key{Shared, kind, id}, nil, true)
	if err != nil {
		return Record{}, false, fmt.Errorf("delete shared record %d %q: %w", kind, id, err)
	}
	return rec, changed, nil
}

func (r *Replica) write(now time.Time, key Key, payload []byte, deleted bool) (Record, bool, error) {
	switch {
	case key.Kind == 0 || key.Kind >= KindFloor:
		return Record{}, false, fmt.Errorf("kind %d has not one writer", key.Kind)
	case r.term == 0:
		return Record{}, false, ErrNoTerm
	}
	cur := r.lookup(key)
	if same(cur, payload, deleted) && (cur == nil || deleted || cur.Version.A == r.term) {
		return recordOf(cur), false, nil
	}
	rec := Record{Key: key, Version: Version{A: r.term, B: r.counter + 1, Node: r.self}, Deleted: deleted, Payload: bytes.Clone(payload)}
	if err := checkSize(&rec); err != nil {
		return Record{}, false, err
	}
	if cur == nil || cur.Version.A != r.term {
		if most := r.limits.own(key.Kind); r.written(most) >= most {
			return Record{}, false, fmt.Errorf("%d records of this host: %w", most, ErrFull)
		}
	}
	r.counter++
	r.put(now, rec, cur)
	return rec, true, nil
}

// written is how many records of our space are of this term, when they may be as many as most: what former lives have left
// is still there until the floor, and does not count.
func (r *Replica) written(most int) int {
	s := r.spaces[r.self]
	if s == nil || len(s.records) < most {
		return 0
	}
	n := 0
	for _, e := range s.records {
		if e.Version.A == r.term {
			n++
		}
	}
	return n
}

func (r *Replica) writeShared(now time.Time, key Key, payload []byte, deleted bool) (Record, bool, error) {
	if key.Kind < KindShared || key.Kind == KindForget {
		return Record{}, false, fmt.Errorf("kind %d is not shared", key.Kind)
	}
	cur := r.lookup(key)
	if same(cur, payload, deleted) {
		return recordOf(cur), false, nil
	}
	return r.stamp(now, Record{Key: key, Deleted: deleted, Payload: bytes.Clone(payload)}, cur)
}

// stamp gives a shared record the next version and keeps it.
func (r *Replica) stamp(now time.Time, rec Record, cur *entry) (Record, bool, error) {
	if ahead := r.aheadOfPeers(); ahead > MaxAhead {
		return Record{}, false, &ClockError{ahead}
	}
	rec.Version = Version{A: max(nanos(now.Add(r.behind)), r.clock+1), Node: r.self}
	if err := checkSize(&rec); err != nil {
		return Record{}, false, err
	}
	if s := r.spaces[Shared]; cur == nil && s != nil && len(s.records) >= r.limits.Shared &&
		(s.writers[r.self].records+1)*len(s.writers) > r.limits.Shared {
		return Record{}, false, fmt.Errorf("%d shared records, %d of them written by this host: %w", len(s.records), s.writers[r.self].records, ErrFull)
	}
	r.clock = rec.Version.A
	r.put(now, rec, cur)
	return rec, true, nil
}

// same says that a write would change nothing: it stands already, or nothing is there to delete.
func same(cur *entry, payload []byte, deleted bool) bool {
	if cur == nil {
		return deleted
	}
	return cur.Deleted == deleted && bytes.Equal(cur.Payload, payload)
}

func checkSize(rec *Record) error {
	if len(rec.ID) > maxID {
		return fmt.Errorf("id of %d bytes, at most %d are allowed", len(rec.ID), maxID)
	}
	if n := recordLen(rec); n > MaxRecord {
		return fmt.Errorf("record of %d bytes, at most %d are allowed", n, MaxRecord)
	}
	return nil
}

// Merge takes records from anywhere, each judged alone. Payloads that are kept are copied.
func (r *Replica) Merge(now time.Time, records []Record) Result {
	var res Result
	for i := range records {
		r.merge(now, records[i], &res)
	}
	return res
}

func (r *Replica) merge(now time.Time, rec Record, res *Result) {
	if reason := r.judge(now, &rec); reason != 0 {
		r.reject(now, &rec, reason, res)
		return
	}
	if rec.Space == r.self && r.foreignOwn(&rec, res) {
		return
	}
	s := r.spaces[rec.Space]
	if r.void(s, &rec) {
		r.stats.stale++
		return
	}
	cur := r.lookup(rec.Key)
	if cur != nil {
		switch order := compare(&rec, &cur.Record); {
		case order == 0:
			r.stats.known++
			return
		case rec.Version == cur.Version:
			r.reject(now, &rec, Contradiction, res) // one of the two: the order of the content decides, the same everywhere
			if order < 0 {
				return
			}
		case order < 0 && (rec.Space != Shared || !r.ahead(now, cur.Version)): // one that can't be is worth nothing, see heal
			r.stats.stale++
			return
		}
	}
	if !r.room(now, &rec, cur, res) {
		return
	}
	rec = cloned(&rec)
	if rec.Space == Shared {
		r.clock = max(r.clock, rec.Version.A)
		r.merged = max(r.merged, rec.Version.A)
	}
	r.put(now, rec, cur)
	res.Changed = append(res.Changed, rec)
	if rec.Space == r.self {
		res.Own = append(res.Own, rec)
	}
	if rec.Kind == KindFloor {
		r.raiseFloor(rec.Space, rec.Version, res)
	}
	if rec.Kind == KindForget {
		r.applyForget(&rec, res)
	}
}

// compare orders records of one key. Two that claim one version are ordered by what they say, so that every replica keeps
// the same one.
func compare(a, b *Record) int {
	if c := a.Version.Compare(b.Version); c != 0 {
		return c
	}
	if a.Deleted != b.Deleted {
		if a.Deleted {
			return 1
		}
		return -1
	}
	return bytes.Compare(a.Payload, b.Payload)
}

// judge looks at a record by itself.
func (r *Replica) judge(now time.Time, rec *Record) Reason {
	shared := rec.Kind >= KindShared
	v := rec.Version
	switch {
	case rec.Kind == 0, shared != (rec.Space == Shared), rec.Deleted && len(rec.Payload) > 0,
		len(rec.Space) > maxSpace, len(rec.ID) > maxID, len(v.Node) > maxSpace:
		return Malformed
	case recordLen(rec) > MaxRecord:
		return TooBig
	case shared:
		switch {
		case v.A == 0 || v.B != 0:
			return Malformed
		case r.ahead(now, v):
			return Ahead
		case rec.Deleted && expired(now, v):
			return Expired
		case rec.Kind == KindForget:
			if _, _, ok := parseForget(rec.ID); !ok || !rec.Deleted {
				return Malformed
			}
		}
	case v.A == 0 || v.A > MaxTerm:
		return Malformed
	case v.A%2 == 0 && v.Node != rec.Space:
		return Foreign
	case rec.Kind == KindFloor && (v.A%2 != 0 || rec.ID != "" || rec.Deleted || len(rec.Payload) > 0):
		return Malformed
	}
	return 0
}

// foreignOwn says that a record of our own space is not ours to hold: it is of our term or a higher one. What a former life
// of this host has written, and its speakers, we hold like any peer, until our floor ends it.
func (r *Replica) foreignOwn(rec *Record, res *Result) bool {
	r.seenTerm = max(r.seenTerm, rec.Version.A)
	if r.term == 0 || rec.Version.A < r.term {
		return false
	}
	if rec.Version.A == r.term && rec.Version.B <= r.counter {
		cur := r.lookup(rec.Key)
		if cur != nil && compare(rec, &cur.Record) <= 0 || cur == nil && r.void(r.spaces[r.self], rec) {
			r.stats.known++ // our own word comes back
			return true
		}
	}
	res.Own = append(res.Own, cloned(rec))
	res.OwnTerm = max(res.OwnTerm, rec.Version.A)
	return true
}

func cloned(rec *Record) Record {
	c := *rec
	c.Payload = bytes.Clone(rec.Payload)
	return c
}
