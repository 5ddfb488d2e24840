package notify

import (
	"fmt"
	"time"
)

// RenewFor is how long after its end a subscription can still be renewed: it rests, and nothing of it is forgotten. The clocks
// of hosts may differ by less, and so may who hears of a renewal first.
const RenewFor = 10 * time.Minute

// lapsed reports whether a subscription has come to its end.
func (s Subscription) lapsed(now time.Time) bool {
	return !s.Expires.IsZero() && !now.Before(s.Expires)
}

// Over reports whether a subscription has come to its end for good.
func (s Subscription) Over(now time.Time) bool {
	return !s.Expires.IsZero() && !now.Before(s.Expires.Add(RenewFor))
}

// begins refuses an end that is there already.
func (s Subscription) begins(now time.Time) error {
	if s.lapsed(now) {
		return fmt.Errorf("%w: expires: %s is over: name a time to come", ErrInvalid, s.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// endLapsed ends the subscriptions that were not renewed. With Peers it is for them to say (Shared.Drop). Under mu.
func (n *Notifier) endLapsed(now time.Time) {
	if n.cfg.Peers != nil {
		return
	}
	for _, w := range n.leads() {
		if s := w.subscription(); s.Over(now) {
			n.sayOver(s)
			n.drop(n.legsOf(s.ID))
		}
	}
}

func (n *Notifier) sayOver(s Subscription) {
	n.log.Info("a subscription has ended: it was not renewed", "subscription", s.Name, "subscription_id", s.ID, "owner", s.Owner, "expired", s.Expires)
}

// refusedHere reports whether it is paused because its consumer has answered this host with 410.
func (w *worker) refusedHere() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused != 0
}

// sharersFor is how long a count of those who send to a consumer is good for.
const sharersFor = time.Second

// spacing is the least time between two requests of this host that keeps all hosts together within what the consumer allows:
// those that owe it something share its rate. Under mu.
func (w *worker) spacing(now time.Time) time.Duration {
	rate := w.sub.Rate
	if w.sub.MaxRate > 0 && (rate <= 0 || w.sub.MaxRate < rate) {
		rate = w.sub.MaxRate
	}
	if rate <= 0 {
		return 0
	}
	if since := now.Sub(w.sharedAt); w.n.cfg.Peers != nil && (w.sharedAt.IsZero() || since < 0 || since >= sharersFor) {
		w.sharers, w.sharedAt = w.n.cfg.Peers.Owing(w.sub.ID), now
	}
	return time.Minute * time.Duration(1+w.sharers) / time.Duration(rate)
}
