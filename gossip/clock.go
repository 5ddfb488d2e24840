package gossip

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// How a replica lives with clocks that are wrong, its own included. The versions of shared records are times, so one from
// the future would win over everything until then. It is refused (Ahead), and nobody writes one: a host that is ahead of its
// peers is told so (ErrClock). What was written before any peer was known is written again once the clock is right (heal).

// offsets are how far the clocks of the peers were ahead of ours when they last said, in order.
func (r *Replica) offsets() []time.Duration {
	var all []time.Duration
	for _, p := range r.peers {
		if p.clock {
			all = append(all, p.offset)
		}
	}
	slices.Sort(all)
	return all
}

// aheadOfPeers is how far we are ahead of the peers whose clocks we know: the median, of an even number the lower of two.
func (r *Replica) aheadOfPeers() time.Duration {
	all := r.offsets()
	if len(all) == 0 {
		return 0
	}
	return -all[len(all)/2]
}

// ClockError is ErrClock with the figure.
type ClockError struct {
	Ahead time.Duration // of the peers' median
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("%v by %v (median), they would refuse it: set the clock", ErrClock, e.Ahead.Round(time.Second))
}

// Unwrap makes it ErrClock.
func (e *ClockError) Unwrap() error { return ErrClock }

// PeersClock is what the clocks of the peers say about ours, as far as they are known.
type PeersClock struct {
	Peers int           // whose clocks are known; 0: nothing can be said
	Ahead time.Duration // how far ours is ahead of the median of all, ours included; negative: behind
	// Disputed says that as many clocks are on the one side as on the other, as of two hosts: ours may be the right one. Ahead
	// is the difference then.
	Disputed bool
}

// PeersClock compares our clock with those of the peers that were heard since it was set last.
func (r *Replica) PeersClock() PeersClock {
	all := append(r.offsets(), 0)
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	c := PeersClock{Peers: len(all) - 1, Ahead: -low, Disputed: high-low > MaxAhead}
	if high.Abs() > low.Abs() {
		c.Ahead = -high
	}
	return c
}

// measure takes a peer's clock. A host whose own clock is behind that of most, as one that boots without a battery is,
// believes the others: or no subscription would be known there.
func (r *Replica) measure(p *peerState, now time.Time, clock uint64) {
	r.stepped(now)
	p.offset, p.clock = time.Duration(int64(min(clock, MaxTerm))-now.UnixNano()), true
	all := r.offsets()
	// The median of all and ourselves; of an even number the lower. So of two hosts neither believes the other.
	all = append(all, 0)
	slices.Sort(all)
	r.behind = max(all[(len(all)-1)/2], 0)
}

// epoch is before the first version of this format was ever written: a clock that says less has not been set since the
// host was switched on.
var epoch = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// ahead says that a shared record can't have been written yet. A clock that is not set can't judge.
func (r *Replica) ahead(now time.Time, v Version) bool {
	return v.A > nanos(now.Add(r.behind+MaxAhead)) && !now.Before(epoch)
}

// stepped notices that our clock was set since we last looked (or that we slept): what we measured by it is void.
func (r *Replica) stepped(now time.Time) {
	step := now.Sub(r.looked)
	first := r.looked.IsZero()
	r.looked = now
	r.floor.due = earlier(r.floor.due, now.Add(FloorDelay))
	if first || step > -MaxAhead/2 && step < MaxAhead {
		return
	}
	r.behind = 0
	r.floor.due = now.Add(FloorDelay) // set ahead, the clock would have it due at once
	for _, p := range r.peers {
		p.clock = false
		p.heard = earlier(p.heard, now)
	}
	for _, s := range r.spaces {
		s.changed = earlier(s.changed, now)
	}
	r.swept = earlier(r.swept, now)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// heal writes again, under the present time, what we wrote when our clock was ahead: the peers refuse it, and would refuse
// all that we write after it. What others wrote and can't be yet, which we took then, gets no weight. Only the peers' clocks
// can tell that it was ours that was wrong, and not that it is now.
func (r *Replica) heal(now time.Time, res *Result) {
	all := r.offsets()
	s := r.spaces[Shared]
	if r.clock <= nanos(now.Add(MaxAhead)) || s == nil || len(all) == 0 || now.Before(epoch) {
		return
	}
	theirs := now.Add(max(all[len(all)/2], 0))
	limit := nanos(theirs.Add(MaxAhead))
	r.clock = 0
	if r.merged <= limit {
		r.clock = r.merged // what we wrote over it comes after it still
	}
	var again []*entry
	for _, e := range sorted(s) {
		switch {
		case e.Version.A <= limit:
			r.clock = max(r.clock, e.Version.A)
		case e.Version.Node == r.self:
			again = append(again, e)
		case e.Deleted: // taken when our clock was ahead, too; the others don't take it from us
			r.purge(s, e, res)
		default: // likewise; it gives way to whatever the others have
			rec := e.Record
			rec.Version.A = 1
			r.put(now, rec, e)
			res.Changed = append(res.Changed, e.Record)
		}
	}
	slices.SortFunc(again, func(a, b *entry) int { return cmp.Or(a.Version.Compare(b.Version), cmp.Compare(a.key, b.key)) })
	for _, e := range again {
		r.clock = max(nanos(theirs), r.clock+1)
		rec := e.Record
		rec.Version.A = r.clock
		r.put(now, rec, e)
		res.Changed = append(res.Changed, e.Record)
	}
}

// Restore takes what this host has kept on disk, as Merge does, but for shared records that were saved more than TombstoneLife
// ago: what was deleted meanwhile would come back. It was taken once: a clock that is behind now, as one may be that was not set
// yet after the power was off, is no reason to refuse it. What can't be yet indeed is healed when the peers' clocks are known.
func (r *Replica) Restore(now, saved time.Time, records []Record) Result {
	var res Result
	for _, rec := range records {
		if rec.Space == Shared && now.Sub(saved) > TombstoneLife {
			r.stats.stale++
			continue
		}
		at := now
		if written := time.Unix(0, int64(min(rec.Version.A, MaxTerm))); rec.Space == Shared && written.After(now) {
			at = written
		}
		r.merge(at, rec, &res)
	}
	return res
}

// nanos is a time as a version; before 1970 it is zero.
func nanos(t time.Time) uint64 {
	return uint64(max(t.UnixNano(), 0))
}

func expired(now time.Time, v Version) bool {
	return v.A+uint64(TombstoneLife) < nanos(now)
}
