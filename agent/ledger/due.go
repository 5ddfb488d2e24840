package ledger

import (
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// queue holds what is due, all after the same delay, so in the order of its arrival.
type queue struct{ items []dueItem }

type dueItem struct {
	at time.Time
	id string
}

func (q *queue) add(at time.Time, id string) { q.items = append(q.items, dueItem{at, id}) }

func (q *queue) next() (time.Time, bool) {
	if len(q.items) == 0 {
		return time.Time{}, false
	}
	return q.items[0].at, true
}

func (q *queue) pop(now time.Time) (string, bool) {
	if len(q.items) == 0 || q.items[0].at.After(now) {
		return "", false
	}
	id := q.items[0].id
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil // what is popped is held by what is left
	}
	return id, true
}

func (q *queue) shift(by time.Duration) {
	for i := range q.items {
		q.items[i].at = q.items[i].at.Add(by)
	}
}

func (l *Ledger) queues() []*queue {
	return []*queue{&l.flush, &l.cleared, &l.takes, &l.settle, &l.waiting, &l.retry}
}

// due does what is due, and says whether anything was.
func (l *Ledger) due() bool {
	did := false
	if _, ok := l.flush.pop(l.now); ok {
		did = true
		l.writePairs()
	}
	for id, ok := l.cleared.pop(l.now); ok; id, ok = l.cleared.pop(l.now) {
		did = true
		l.expire(id)
	}
	for id, ok := l.takes.pop(l.now); ok; id, ok = l.takes.pop(l.now) {
		did = true
		l.markTaken(id)
	}
	for id, ok := l.retry.pop(l.now); ok; id, ok = l.retry.pop(l.now) {
		did = true
		l.writeAgain(id)
	}
	for id, ok := l.waiting.pop(l.now); ok; id, ok = l.waiting.pop(l.now) {
		did = true
		if r, held := l.receipts[id]; held && !l.checkReceipt(id) {
			if _, alarm := splitPair(id); l.hosts[r.home] == nil || l.hosts[r.home].alarms[alarm] == nil {
				l.dropReceipt(id)
				continue
			}
			l.waiting.add(l.now.Add(receiptFor), id)
		}
	}
	if _, ok := l.settle.pop(l.now); ok {
		did = true
		l.conclude()
	}
	if !l.lapse.IsZero() && !l.now.Before(l.lapse) {
		did = true
		l.endLapsed()
	}
	if !l.muteOver.IsZero() && !l.now.Before(l.muteOver) {
		did = true
		l.forgetMutes()
	}
	return did
}

// conclude: all peers have had the time to say what they have. Those that could not be heard have had none: while a host is cut off
// from all others, what their files named goes on, and conclude comes again.
func (l *Ledger) conclude() {
	l.settled = true
	clear(l.former.domains)
	silent := l.heard.IsZero() || l.now.Sub(l.heard) < settleAfter/2
	for _, id := range slices.Sorted(maps.Keys(l.known)) {
		s := l.known[id]
		if silent && s.Origin == notify.OriginPeer { // nobody could name it: it is owed what it is owed
			continue
		}
		delete(l.known, id)
		if w := l.shared[id]; s.Origin != notify.OriginAPI || w != nil || has(l.ended, id) {
			l.dirty[id] = struct{}{}
			if w != nil && s.Version >= w.payload.SnapshotOf { // it was taken by an earlier run
				l.markTaken(id)
			}
			continue
		}
		if s.Over(l.now) {
			l.dirty[id] = struct{}{}
			continue
		}
		b, err := l.codec.encode(l.seal(s)) // it was made when this host was alone
		if err != nil {
			l.say(subscriptionResource(s), correlate.CondUnusable, tooBig(err))
			continue
		}
		l.insist(Write{Kind: gossip.KindSubscription, ID: id, Payload: b})
		l.await(id)
	}
	if len(l.known) > 0 {
		l.settle.add(l.now.Add(settleAfter), "")
	}
	l.reseal()
	l.nameMutes()
	l.endLapsed()
	for id := range l.halted {
		l.dirty[id] = struct{}{}
	}
	clear(l.halted)
	for id := range l.refusals {
		l.dirty[id] = struct{}{}
	}
	for id := range l.taken {
		l.dirty[id] = struct{}{}
	}
	for _, id := range slices.Sorted(maps.Keys(l.alarms)) { // of the last run, about what is well now
		a := l.alarms[id].change.Alarm
		if p := (problem{a.Key.Resource, a.Key.Condition}); a.Standing() && a.Source == Source && !has(l.problems, p) {
			l.report(p, "")
		}
	}
}
