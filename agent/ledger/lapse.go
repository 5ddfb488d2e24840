package ledger

import (
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// A subscription that was not renewed ends by its record, everywhere by itself: each host drops it notify.RenewFor after its end.
// The record is deleted only forgetAfter later. To delete it at once would be a word against a renewal that this host has not heard
// of, and the end of a subscription is final.

// forgetAfter is how long the record of a subscription that is over is kept: a host that was cut off for as long deletes one
// that was renewed behind its back.
const forgetAfter = 24 * time.Hour

// lapses notes when a subscription has to be looked at because of its end.
func (l *Ledger) lapses(w *wish) {
	if w.pauseOnly() || w.sub.Expires.IsZero() {
		return
	}
	at := w.sub.Expires.Add(notify.RenewFor)
	if w.sub.Over(l.now) {
		at = at.Add(forgetAfter)
	}
	if l.lapse.IsZero() || at.Before(l.lapse) {
		l.lapse = at
	}
}

// endLapsed looks at those that are over, and forgets those that have been for long.
func (l *Ledger) endLapsed() {
	l.lapse = time.Time{}
	for id, w := range l.shared {
		if w.pauseOnly() || !w.sub.Over(l.now) {
			l.lapses(w)
			continue
		}
		l.dirty[id] = struct{}{}
		if l.now.Before(w.sub.Expires.Add(notify.RenewFor + forgetAfter)) {
			l.lapses(w)
		} else if l.settled && !has(l.insisted, gossip.Key{Kind: gossip.KindSubscription, ID: id}) {
			l.insist(Write{Kind: gossip.KindSubscription, ID: id, Delete: true})
		}
	}
}
