package hostloss

import (
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// trouble is a time in which a host was not what it should be, and why.
type trouble struct {
	from, to time.Duration
	kind     string
}

// The kinds of trouble.
const (
	tDead      = "death"
	tKernel    = "kernel stall"
	tLink      = "bond failover"
	tBrown     = "brown-out"
	tRelearn   = "switch that relearns"
	tPartition = "partition"
	tFrozen    = "frozen process" // it keeps no kernel from answering
	tAgent     = "agent that does not run"
)

// note adds a time of trouble to a host.
func (h *host) note(kind string, from, to time.Duration) {
	if len(h.troubles) == cap(h.troubles) { // only the last seconds matter
		h.troubles = slices.DeleteFunc(h.troubles, func(t trouble) bool { return t.to < h.s.now-30*time.Second })
	}
	h.troubles = append(h.troubles, trouble{from, to, kind})
}

// stretch is how long a host has lately been in trouble without a pause that deserves the name, and the kind that took the
// most of it. counts says which kinds matter. Zero: not within lag.
func (h *host) stretch(lag time.Duration, counts func(kind string) bool) (length time.Duration, kind string) {
	const pause = 120 * time.Millisecond
	now := h.s.now
	begin, end, reach := now, time.Duration(0), lag
	var most time.Duration
	for grown := true; grown; {
		grown = false
		for _, t := range h.troubles {
			to := min(t.to, now)
			if !counts(t.kind) || t.from >= now || to < begin-reach || t.from >= begin && to <= end {
				continue
			}
			if d := to - t.from; d > most {
				most, kind = d, t.kind
			}
			begin, end, grown = min(begin, t.from), max(end, to), true
			reach = pause
		}
	}
	if end == 0 {
		return 0, ""
	}
	return end - begin, kind
}

// excused says which trouble makes a verdict about a living host understandable: its kernel could not be heard for about as
// long as the level's deadline. From that go the vote's lead, the time since the last heartbeat, and one that was lost.
func (h *host) excused(l watch.Level) (kind string, ok bool) {
	need := 200 * time.Millisecond
	if l == watch.LevelConfirmed {
		need = 580 * time.Millisecond
	}
	if h.unheard() > 0 && first(h.stretch(time.Second, func(k string) bool { return k == tFrozen || k == tAgent })) > 0 {
		need -= 180 * time.Millisecond // its kernel is all that was heard of it, and not so often
	}
	silent := h.noEcho || h.s.cfg.NoEcho
	got, kind := h.stretch(250*time.Millisecond, func(k string) bool { return k != tFrozen && k != tAgent || silent })
	return kind, got >= need
}

// unheard is how long its agent could not be heard, for whatever reason.
func (h *host) unheard() time.Duration {
	d, _ := h.stretch(400*time.Millisecond, func(string) bool { return true })
	return d
}

// connected reports whether packets between two come through, but for loss.
func (s *simulation) connected(a, b *host) bool {
	return a == b || a.up && b.up && !s.net.apart(a.id, b.id)
}

// reach is how many of its roster a host could reach now, itself included, and how many there are: what majorities are of.
func (s *simulation) reach(o *host) (reached, roster int) {
	for i := range o.view {
		x := s.hosts[i]
		if !o.view[i].known || (x.left == watch.LeftShutdown || o.view[i].left == watch.LeftShutdown) && x != o { // the goodbye itself is quicker than the membership
			continue
		}
		roster++
		if s.connected(o, x) {
			reached++
		}
	}
	if s.cfg.Witness && roster%2 == 0 {
		roster++
		if !s.net.parts || s.net.side[o.id] == s.net.witnessSide {
			reached++
		}
	}
	return reached, roster
}

// majority reports whether a host is with more than half.
func (s *simulation) majority(o *host) bool {
	reached, roster := s.reach(o)
	return 2*reached > roster
}
