package gossip

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reason is why a record was refused.
type Reason uint8

// The reasons.
const (
	Malformed     Reason = iota + 1 // a space, kind, version or size that cannot be
	TooBig                          // a payload above the bound
	Foreign                         // a host's record under an even term, written by another
	Ahead                           // the version of a shared record is more than MaxAhead ahead of our clock
	Expired                         // a tombstone older than TombstoneLife
	Full                            // the space holds as much as it may
	Contradiction                   // two different records of one version; the greater content was kept
	Undecodable                     // a message that could not be read
	Excess                          // a message that asks for more than a peer may be told
)

var reasonNames = [...]string{"", "malformed", "too-big", "foreign", "ahead-of-clock", "expired", "full", "contradiction", "undecodable", "excess"}

// Reasons are all of them.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasonNames)-1)
	for r := 1; r < len(reasonNames); r++ {
		all = append(all, Reason(r))
	}
	return all
}

func (r Reason) String() string {
	if int(r) < len(reasonNames) && r > 0 {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Rejection is one refused record.
type Rejection struct {
	Key     Key
	Version Version
	Reason  Reason
}

// RejectionCount counts refusals of one reason by whose they were: the space of the record, the node that wrote it when it
// is shared, the sender when it could not be read.
type RejectionCount struct {
	Host   string
	Reason Reason
	Count  uint64
	Last   time.Time
}

// Status is what an operator sees of a replica.
type Status struct {
	Spaces     int // the shared one included
	Hosts      int // that have records
	Records    int // tombstones included
	Tombstones int
	Bytes      int // of payloads
	Known      uint64
	Stale      uint64 // records that came late: normal
	Purged     uint64
	Rejected   []RejectionCount // by host and reason
	// RejectedElse counts what found no place in Rejected.
	RejectedElse uint64
	Clocks       []ClockOffset // peers whose clock differs from ours by more than MaxAhead/2, by name
}

// ClockOffset is how far a peer's clock was ahead of ours when it last said, less the time that took.
type ClockOffset struct {
	Host   string
	Offset time.Duration
	Last   time.Time // the peer was heard
}

// maxRejected bounds the names kept: a flood under invented names must not grow us.
const maxRejected = 256

type rejectionKey struct {
	host   string
	reason Reason
}

type stats struct {
	known, stale, purged, rejectedElse uint64
	rejected                           map[rejectionKey]*RejectionCount
}

type peerState struct {
	heard  time.Time
	offset time.Duration
	clock  bool // offset is known

	allowance int // bytes of replies, see spend
	refilled  time.Time
}

func (r *Replica) reject(now time.Time, rec *Record, reason Reason, res *Result) {
	res.Rejected = append(res.Rejected, Rejection{rec.Key, rec.Version, reason})
	host := rec.Space
	if host == Shared {
		host = rec.Version.Node
	}
	r.countRejection(now, host, reason)
}

func (r *Replica) countRejection(now time.Time, host string, reason Reason) {
	k := rejectionKey{host, reason}
	c := r.stats.rejected[k]
	if c == nil {
		if len(r.stats.rejected) >= maxRejected {
			r.stats.rejectedElse++
			return
		}
		c = &RejectionCount{Host: strings.Clone(host), Reason: reason}
		k.host = c.Host
		r.stats.rejected[k] = c
	}
	c.Count++
	c.Last = now
}

// Heard says that a host was heard by other means than a message to Handle: it answered a probe.
func (r *Replica) Heard(now time.Time, host string) {
	if p := r.peer(host); p != nil && now.After(p.heard) {
		p.heard = now
	}
}

// LastHeard is when a host was last heard by us itself; what we know of it is at most that old. False when never.
func (r *Replica) LastHeard(host string) (time.Time, bool) {
	p := r.peers[host]
	if p == nil {
		return time.Time{}, false
	}
	return p.heard, true
}

// LastChange is when a record of a space last changed here, whoever brought it. False when it holds none.
func (r *Replica) LastChange(space string) (time.Time, bool) {
	s := r.spaces[space]
	if s == nil {
		return time.Time{}, false
	}
	return s.changed, true
}

// peer is what we know of a peer; nil for ourselves and when there are too many.
func (r *Replica) peer(host string) *peerState {
	if host == r.self || host == "" {
		return nil
	}
	p := r.peers[host]
	if p == nil && len(r.peers) < r.limits.Spaces {
		p = &peerState{}
		r.peers[strings.Clone(host)] = p
	}
	return p
}

// Status is the present state. It costs the number of spaces.
func (r *Replica) Status() Status {
	st := Status{
		Spaces: len(r.spaces), Records: r.index.n,
		Known: r.stats.known, Stale: r.stats.stale, Purged: r.stats.purged, RejectedElse: r.stats.rejectedElse,
	}
	for _, s := range r.spaces {
		st.Tombstones += s.tombstones
		st.Bytes += s.bytes
		if s.name != Shared {
			st.Hosts++
		}
	}
	for _, c := range r.stats.rejected {
		st.Rejected = append(st.Rejected, *c)
	}
	slices.SortFunc(st.Rejected, func(a, b RejectionCount) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Reason, b.Reason))
	})
	for host, p := range r.peers {
		if p.clock && p.offset.Abs() > MaxAhead/2 {
			st.Clocks = append(st.Clocks, ClockOffset{host, p.offset, p.heard})
		}
	}
	slices.SortFunc(st.Clocks, func(a, b ClockOffset) int { return cmp.Compare(a.Host, b.Host) })
	return st
}
