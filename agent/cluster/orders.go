package cluster

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// step asks the ledger and keeps what it orders, in order.
func (c *Cluster) step(f func(time.Time, *ledger.Ledger) ledger.Orders) { c.stepAt(time.Now(), f) }

func (c *Cluster) stepAt(now time.Time, f func(time.Time, *ledger.Ledger) ledger.Orders) {
	_ = c.ask(now, nil, func(now time.Time, l *ledger.Ledger) (ledger.Orders, error) { return f(now, l), nil })
}

// ask is step for what can be refused. What becomes of the writes is noted in res, if not nil.
func (c *Cluster) ask(now time.Time, res *result, f func(time.Time, *ledger.Ledger) (ledger.Orders, error)) error {
	c.mu.Lock()
	o, err := f(now, c.ledger)
	for _, w := range o.Write {
		c.writes = append(c.writes, queued{w, res})
	}
	if !o.Wake.IsZero() && (c.wake.IsZero() || o.Wake.Before(c.wake)) {
		c.wake = o.Wake
	}
	o.Write = nil
	c.orders.Join(o)
	c.mu.Unlock()
	select {
	case c.todo <- struct{}{}:
	default:
	}
	return err
}

// flush writes what the ledger has ordered. The order of two flushes is that of the ledger's words.
func (c *Cluster) flush() {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	c.mu.Lock()
	writes := c.writes
	c.writes = nil
	c.mu.Unlock()
	c.write(writes)
}

// unsaidAtOnce bounds what is tried again at once: as long as there is no room each attempt is for nothing.
const unsaidAtOnce = 256

// sayAgain writes what the replica had no room for. What was told of alarms comes last: there is less room for it.
func (c *Cluster) sayAgain() {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	if len(c.unsaid) == 0 {
		return
	}
	again := slices.SortedFunc(maps.Values(c.unsaid), func(a, b ledger.Write) int {
		return cmp.Or(cmp.Compare(lastly(a.Kind), lastly(b.Kind)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	again = again[:min(len(again), unsaidAtOnce)]
	writes := make([]queued, len(again))
	for i := range again {
		writes[i].Write = again[i]
	}
	c.write(writes)
}

func lastly(k gossip.Kind) int {
	if k == gossip.KindDelivery || k == gossip.KindReceipt {
		return 1
	}
	return 0
}

// write needs flushing.
func (c *Cluster) write(writes []queued) {
	if len(writes) == 0 {
		return
	}
	shared := false
	err := c.repl.Update(context.Background(), func(_ time.Time, w *gossip.Writer) error { // ends with the replicator
		for i := range writes {
			q := &writes[i]
			if err := write(w, &q.Write); err != nil {
				c.unwritten(q, err)
				continue
			}
			c.written.Add(1)
			delete(c.unsaid, gossip.Key{Kind: q.Kind, ID: q.ID})
			shared = shared || q.Kind >= gossip.KindShared
		}
		return nil
	})
	if err != nil {
		for i := range writes {
			c.unwritten(&writes[i], err)
		}
	}
	if shared {
		c.store.touch()
	}
	c.judgeUnsaid()
}

// judgeUnsaid raises an alarm when the replica has no room for what this host says, and ends it. Needs flushing.
func (c *Cluster) judgeUnsaid() {
	if full := len(c.unsaid) > 0; full != c.full {
		c.full = full
		text := ""
		if full {
			text = "the peers are not told everything: " + c.refusal + ". Alarms that nobody clears, or subscriptions that nobody needs, make too many"
		}
		c.unshared(text)
	}
}

// unshared says what keeps the peers from knowing what this host knows; with no text, that nothing does. It is no word of the
// ledger, which would take it back: it ends with this run.
func (c *Cluster) unshared(text string) {
	e := correlate.Event{
		Resource: correlate.NewID(correlate.KindService, "paramedic/cluster"), Condition: correlate.CondUnshared,
		Status: correlate.StatusFailed, Observed: time.Now(), Text: text,
	}
	if text == "" {
		e.Status = correlate.StatusOK
	}
	c.cfg.Home.Report(e)
}

func write(w *gossip.Writer, o *ledger.Write) error {
	switch shared := o.Kind >= gossip.KindShared; {
	case shared && o.Delete:
		return w.DeleteShared(o.Kind, o.ID)
	case shared:
		return w.SetShared(o.Kind, o.ID, o.Payload)
	case o.Delete:
		return w.Delete(o.Kind, o.ID)
	}
	return w.Set(o.Kind, o.ID, o.Payload)
}

func (c *Cluster) unwritten(q *queued, err error) {
	c.failed.Add(1)
	if errors.Is(err, gossip.ErrFull) && q.Kind < gossip.KindShared { // one of all hosts' may be another's by then
		c.unsaid[gossip.Key{Kind: q.Kind, ID: q.ID}], c.refusal = q.Write, err.Error()
	}
	if q.result != nil {
		q.result.err = errors.Join(q.result.err, err)
		return
	}
	if !errors.Is(err, gossip.ErrStopped) && c.complain.Allow() {
		c.log.Error("a record for the peers could not be written", "error", err)
	}
}

// carryOut does what the ledger has ordered. Only the pump calls it, so that nothing is overtaken.
func (c *Cluster) carryOut() {
	c.mu.Lock()
	o := c.orders
	c.orders = ledger.Orders{}
	c.mu.Unlock()
	if o.Claim != 0 {
		c.cfg.Home.Claim(o.Claim)
	}
	for _, p := range o.Places {
		c.shared.SetPlace(p.Host, p.Place)
	}
	for _, id := range o.Unmute {
		c.shared.Unmute(id)
	}
	for _, m := range o.Mute {
		c.shared.Mute(m)
	}
	c.speak(&o)
	for _, id := range o.Drop {
		c.shared.Drop(id)
	}
	for i := range o.Put {
		c.put(&o.Put[i])
	}
	if len(o.Former) > 0 {
		c.adopt(o.Former)
	}
	for _, t := range o.Told {
		c.shared.Told(t.Subscription, t.AlarmID, t.Revision)
	}
	for _, s := range o.Said {
		c.cfg.Home.Say(s)
	}
	for _, e := range o.Report {
		c.cfg.Home.Report(e)
	}
	if len(o.Seen)+len(o.Vanished) > 0 {
		c.cfg.Home.Seen(o.Seen, o.Vanished)
	}
}

// adopt takes up what was heard late of a former life, and has cleared what of it does not stand any more.
func (c *Cluster) adopt(former []ledger.FormerAlarm) {
	c.log.Info("peers know more of a former life of this host: it is taken up", "alarms", len(former))
	var alarms []correlate.Change
	var pairs []notify.Pair
	var standing []*correlate.Alarm
	for _, f := range former {
		alarms, pairs = append(alarms, f.Change), append(pairs, f.Pairs...)
		if f.Change.Alarm.Standing() {
			standing = append(standing, f.Change.Alarm)
		}
	}
	c.shared.Adopt(alarms, pairs)
	if len(standing) > 0 {
		c.cfg.Home.Close(nil, standing)
	}
}

// put gives the notifier a subscription, and has cleared what its consumer was told and stands no more.
func (c *Cluster) put(p *ledger.Put) {
	unknown, err := c.shared.Put(p.Subscription, p.Told)
	if err != nil {
		c.log.Error("a subscription of the cluster does not work here", "subscription", p.Subscription.Name, "subscription_id", p.Subscription.ID, "error", err)
		return
	}
	var known []correlate.Change
	var closed []*correlate.Alarm
	c.mu.Lock()
	for _, id := range unknown {
		if own, ok := c.ledger.Own(id); ok && !own.Alarm.Standing() {
			known = append(known, own)
			continue
		}
		given, ok := p.Given[id]
		if !ok || given.Home != c.node {
			continue
		}
		closed = append(closed, &correlate.Alarm{
			ID: id, Key: correlate.Key{Home: c.node, Resource: given.Resource, Condition: given.Condition}, Revision: p.Told[id],
		})
	}
	c.mu.Unlock()
	if len(known)+len(closed) > 0 {
		c.cfg.Home.Close(known, closed)
	}
}
