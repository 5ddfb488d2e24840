package notify

import (
	"context"
	"fmt"

	"github.com/paramedic-ha/paramedic/correlate"
)

var _ Shared = (*Notifier)(nil)

// SetTerm makes a higher term durable; see Shared.
func (n *Notifier) SetTerm(term uint64) error { return n.box.raise(term) }

// Adopt takes a former life back; see Shared.
func (n *Notifier) Adopt(alarms []correlate.Change, pairs []Pair) {}

// Kept is all that the outbox holds; see Shared.
func (n *Notifier) Kept() (alarms []correlate.Change, pairs []Pair) { return nil, nil }

// Put takes a subscription of elsewhere; see Shared.
func (n *Notifier) Put(sub Subscription, told map[string]correlate.Revision) (unknown []string, err error) {
	return nil, nil
}

// Drop ends a subscription that ended elsewhere; see Shared.
func (n *Notifier) Drop(id string) {}

// Told takes another host's receipt; see Shared.
func (n *Notifier) Told(subscription, alarmID string, r correlate.Revision) {}

// Deliver makes one request for the home of an alarm; see Shared.
func (n *Notifier) Deliver(ctx context.Context, h HandOver) (Answer, error) {
	return Answer{}, fmt.Errorf("subscription %q: %w", h.Subscription, ErrNotFound)
}
