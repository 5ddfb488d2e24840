package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// How long a host waits for its peers to tell it its own term.
const (
	settleWait      = time.Second     // when it has one on disk
	settleWaitFresh = 5 * time.Second // when it has nothing: a new host, or one that was imaged anew
	callLimit       = 5 * time.Second
	heardWithin     = time.Hour
)

// Former is what the peers know of this host from before.
type Former struct {
	Term   uint64 // even, and not below the own one nor any that a peer has shown
	Alarms []correlate.Change
	Pairs  []notify.Pair
	InSync bool // a peer was found that knows nothing of this host that is not known here
}

// Settle waits until this host has heard from a peer what it was before, or the time for that is over: own is the term that
// it would take alone, fresh says that nothing was on its disk. Without anybody to wait for it does not wait.
func (c *Cluster) Settle(ctx context.Context, own uint64, fresh bool) (Former, error) {
	limit := settleWait
	if fresh {
		limit = settleWaitFresh
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	poll := time.NewTicker(knownEvery)
	defer poll.Stop()
	select {
	case <-c.started:
	case <-c.ended:
		return Former{}, gossip.ErrStopped
	case <-ctx.Done():
		return Former{}, ctx.Err()
	}
	f := Former{Term: own}
	level := make(map[string]bool) // members that know nothing of us that is not known here
wait:
	for {
		select {
		case k := <-c.knowns:
			var own knowledge
			if err := c.repl.View(ctx, func(r *gossip.Replica) { own = knowledgeOf(r, c.node) }); err != nil {
				return Former{}, fmt.Errorf("ask the replica for the term: %w", err)
			}
			level[k.by] = own.covers(k.knowledge)
			// One may itself have begun a moment ago, and have little of the others yet.
			if f.InSync = enough(level, c.begunMembers()); f.InSync {
				break wait
			}
		case <-poll.C:
			others := c.begunMembers()
			if len(others) == 0 { // all begin together: nobody knows more than the one that we were found level with
				f.InSync = !c.repl.Stats().LastInSync.IsZero()
				if f.InSync || c.alone() {
					break wait // alone: the first of its cluster
				}
			}
			c.askKnown(others)
		case <-deadline.C:
			break wait
		case <-c.ended:
			return Former{}, gossip.ErrStopped
		case <-ctx.Done():
			return Former{}, ctx.Err()
		}
	}
	var seen uint64
	if err := c.repl.View(ctx, func(r *gossip.Replica) { seen = r.SeenTerm() }); err != nil {
		return Former{}, fmt.Errorf("ask the replica for the term: %w", err)
	}
	f.Term = Above(own, seen)
	c.drain()
	c.mu.Lock()
	f.Alarms, f.Pairs = c.ledger.Former()
	c.mu.Unlock()
	return f, nil
}

func enough(level map[string]bool, members []string) bool {
	n := 0
	for _, name := range members {
		if level[name] {
			n++
		}
	}
	return n > 0 && n >= min(knownPeers, len(members))
}

// alone says that there is nobody to wait for: none to join, none there, and none from before who may yet come.
func (c *Cluster) alone() bool {
	select {
	case <-c.repl.Peer().Ready():
		return len(c.cfg.Peer.Join) == 0 && len(c.repl.Peer().Hosts()) <= 1
	default:
		return false
	}
}

// Above is own, or the next even term above the one that was seen. Above gossip.MaxTerm there is none, and own is all that is
// left: see UsedUp.
func Above(own, seen uint64) uint64 {
	if seen < own || UsedUp(seen) {
		return own
	}
	return seen + 2 - seen%2
}

// UsedUp reports that somebody has written under the highest term there is in this host's name. Then nothing that the host says
// can win over that at the peers, and it must not keep the host from speaking for itself.
func UsedUp(seen uint64) bool { return seen >= gossip.MaxTerm }

// Begin takes the term of this run, and what the notifier has kept: from here on this host writes. Call it once, before any
// effects of this run.
func (c *Cluster) Begin(ctx context.Context, term uint64, alarms []correlate.Change, pairs []notify.Pair) error {
	if err := c.SetTerm(ctx, term); err != nil {
		return err
	}
	var eff correlate.Effects
	for _, a := range alarms {
		eff.Save, eff.Publish = append(eff.Save, a.Alarm), append(eff.Publish, a)
	}
	c.pumping.Lock()
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Effects(now, eff) })
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Pairs(now, pairs) })
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Begin(now) })
	c.pumping.Unlock()
	c.begun.Store(true)
	return nil
}

// SetTerm takes a higher term: what this host has written is written anew under it. The peers hear of it.
func (c *Cluster) SetTerm(ctx context.Context, term uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := c.repl.Update(ctx, func(_ time.Time, w *gossip.Writer) error { return w.SetTerm(term) }); err != nil {
		return fmt.Errorf("take term %d: %w", term, err)
	}
	c.term.Store(term)
	return nil
}

// Restated says that all sources have stated their full truth: what a former life of this host has left with the peers, and
// was not said again, is void a little later. Before that it waits until a peer was level with this host, for heardWithin at
// most: what nobody could tell us of a former life would be given up unheard.
func (c *Cluster) Restated(ctx context.Context) error {
	limit := time.NewTimer(heardWithin)
	defer limit.Stop()
	poll := time.NewTicker(time.Second)
	defer poll.Stop()
	for waits := true; waits && c.repl.Stats().LastInSync.IsZero() && !c.alone(); {
		select {
		case <-poll.C:
		case <-limit.C:
			waits = false
		case <-c.ended:
			return gossip.ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.drain()
	c.flush()
	err := c.repl.Update(ctx, func(_ time.Time, w *gossip.Writer) error { w.Restated(); return nil })
	if err != nil {
		return fmt.Errorf("give up what was not restated: %w", err)
	}
	c.dropExpired()
	return nil
}
