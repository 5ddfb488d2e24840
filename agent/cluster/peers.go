package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

var _ notify.Peers = (*Cluster)(nil)

// durableWait is how long a call waits for its record to be on this host's disk. A disk that is slower, or broken, is
// logged, and holds nobody up: the peers have the record.
const durableWait = 2 * time.Second

// Standing implements notify.Peers.
func (c *Cluster) Standing() []*correlate.Alarm {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Standing()
}

// Publish implements notify.Peers. Many calls share one write to the disk.
func (c *Cluster) Publish(ctx context.Context, sub notify.Subscription, told map[string]correlate.Revision) error {
	var res result
	err := c.ask(time.Now(), &res, func(now time.Time, l *ledger.Ledger) (ledger.Orders, error) { return l.Publish(now, sub, told) })
	if err == nil {
		err = c.settle(ctx, &res)
	}
	if c.lost.Load() && errors.Is(err, gossip.ErrStopped) {
		err = nil // it works here, and the others hear of it when this host is among them again
	}
	if err != nil {
		return fmt.Errorf("make subscription %q known to the peers: %w", sub.Name, err)
	}
	return nil
}

// Withdraw implements notify.Peers.
func (c *Cluster) Withdraw(ctx context.Context, id string) error {
	var res result
	_ = c.ask(time.Now(), &res, func(now time.Time, l *ledger.Ledger) (ledger.Orders, error) { return l.Withdraw(now, id), nil })
	if err := c.settle(ctx, &res); err != nil {
		return fmt.Errorf("end subscription %q at the peers: %w", id, err)
	}
	return nil
}

// PublishMute implements notify.Peers.
func (c *Cluster) PublishMute(ctx context.Context, m notify.Mute) error {
	var res result
	err := c.ask(time.Now(), &res, func(now time.Time, l *ledger.Ledger) (ledger.Orders, error) { return l.PublishMute(now, m) })
	if err == nil {
		err = c.settle(ctx, &res)
	}
	if c.lost.Load() && errors.Is(err, gossip.ErrStopped) {
		err = nil // it holds here
	}
	return err
}

// WithdrawMute implements notify.Peers.
func (c *Cluster) WithdrawMute(ctx context.Context, id string) error {
	var res result
	_ = c.ask(time.Now(), &res, func(now time.Time, l *ledger.Ledger) (ledger.Orders, error) { return l.WithdrawMute(now, id), nil })
	return c.settle(ctx, &res)
}

// settle writes what was ordered to the replica, and to the disk.
func (c *Cluster) settle(ctx context.Context, res *result) error {
	c.flush()
	c.flushing.Lock() // another's flush may have had ours
	err := res.err
	c.flushing.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, durableWait)
	defer cancel()
	_ = c.store.save(ctx) // it is logged
	return nil
}

// Pairs implements notify.Peers.
func (c *Cluster) Pairs(changed []notify.Pair) { c.box.addPairs(changed) }

// Forgot implements notify.Peers.
func (c *Cluster) Forgot(alarmIDs []string) {
	c.box.add(func(m *mail) {
		for _, id := range alarmIDs {
			put(&m.forgot, id, true)
		}
	})
}

// Refused implements notify.Peers.
func (c *Cluster) Refused(subscription string, version uint64, reason string) {
	c.box.add(func(m *mail) { put(&m.refused, subscription, refusal{version, reason}) })
}

// Owing implements notify.Peers.
func (c *Cluster) Owing(subscription string) int {
	members := c.others()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Owing(subscription, members)
}

// Pulse implements notify.Peers.
func (c *Cluster) Pulse(subscription string) notify.Pulse {
	var members []string
	for _, m := range c.repl.Peer().Members() {
		if m.Node != c.node && m.Term != 0 { // else it is starting, and sends nothing yet
			members = append(members, m.Node)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Pulse(subscription, members)
}

// HandOver implements notify.Peers.
func (c *Cluster) HandOver(ctx context.Context, h notify.HandOver) (notify.Answer, error) {
	return c.relay.handOver(ctx, h)
}

// Effects takes what the engine has decided. It never blocks; called by the goroutine that owns the engine.
func (c *Cluster) Effects(eff correlate.Effects) { c.box.effects(eff) }

// Inventory takes what a source has said, after the engine. It never blocks.
func (c *Cluster) Inventory(d *correlate.Delta) { c.box.delta(*d) }

// Host takes what this host says of itself. It never blocks.
func (c *Cluster) Host(h ledger.Host) {
	c.self.Store(&h)
	c.box.add(func(m *mail) { m.host = &h })
}

// File takes the subscriptions of this host's file, as the notifier has them. It never blocks.
func (c *Cluster) File(subs []notify.Subscription) { c.box.add(func(m *mail) { m.file = &subs }) }

// Say notes a word about an alarm of another host, and returns it as it will be when that host has heard. The error is
// correlate.ErrNoAlarm when no such alarm of another host stands.
func (c *Cluster) Say(ctx context.Context, s ledger.Saying) (*correlate.Alarm, error) {
	var res result
	err := c.ask(time.Now(), &res, func(now time.Time, l *ledger.Ledger) (ledger.Orders, error) { return l.Say(now, s) })
	if err == nil {
		err = c.settle(ctx, &res)
	}
	if err != nil {
		return nil, fmt.Errorf("say a word about another host's alarm: %w", err)
	}
	c.mu.Lock()
	seen := c.ledger.Alarm(s.AlarmID)
	c.mu.Unlock()
	if seen == nil {
		return nil, fmt.Errorf("alarm %q: %w", s.AlarmID, correlate.ErrNoAlarm)
	}
	return s.Show(seen), nil
}
