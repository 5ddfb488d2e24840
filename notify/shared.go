package notify

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

var _ Shared = (*Notifier)(nil)

// SetTerm makes a higher term durable; see Shared.
func (n *Notifier) SetTerm(term uint64) error { return n.box.raise(term) }

// Kept is all that the outbox holds of this host's own alarms; see Shared.
func (n *Notifier) Kept() (alarms []correlate.Change, pairs []Pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	for _, c := range n.standing() {
		if !has(n.guests, c.newest.Alarm.ID) {
			alarms = append(alarms, c.newest)
		}
	}
	for _, w := range n.list() {
		w.mu.Lock()
		records, _ := w.machine.Records()
		for _, r := range records {
			pairs = append(pairs, w.pair(r))
		}
		w.mu.Unlock()
	}
	for id, left := range n.left {
		if id == anybody { // this host's own doubt
			continue
		}
		for _, p := range left {
			pairs = append(pairs, pairOf(id, delivery.Record(p)))
		}
	}
	pairs = slices.DeleteFunc(pairs, func(p Pair) bool { return has(n.guests, p.AlarmID) })
	slices.SortFunc(pairs, func(a, b Pair) int {
		if d := strings.Compare(a.Subscription, b.Subscription); d != 0 {
			return d
		}
		return strings.Compare(a.AlarmID, b.AlarmID)
	})
	return alarms, pairs
}

// Adopt takes a former life of this host back; see Shared.
func (n *Notifier) Adopt(alarms []correlate.Change, pairs []Pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	told := map[string]bool{}
	for _, p := range pairs {
		told[p.AlarmID] = true
	}
	var doubtful []string
	for _, c := range alarms {
		if c.Alarm == nil {
			continue
		}
		if _, ok := n.alarms[c.Alarm.ID]; !ok && c.Alarm.Standing() && !told[c.Alarm.ID] {
			doubtful = append(doubtful, c.Alarm.ID)
		}
	}
	now := n.cfg.Now()
	if slices.ContainsFunc(alarms, func(c correlate.Change) bool {
		return c.Alarm != nil && c.Alarm.Standing() && !n.ofUs(c.Alarm) && !has(n.alarms, c.Alarm.ID)
	}) {
		n.lose(now)
	}
	defer n.box.together()()
	n.takeAlarms(alarms)
	for _, id := range doubtful {
		n.leave(anybody, delivery.Record{AlarmID: id, Created: now})
		n.orphaned = now
	}
	n.takePairs(alarms, pairs, now)
}

// takeAlarms takes up alarms that this host has not raised in this run. What is another's rests in memory only: who speaks for it
// is found out anew after a restart. Under mu.
func (n *Notifier) takeAlarms(alarms []correlate.Change) {
	var writes []write
	for _, c := range alarms {
		if c.Alarm == nil {
			continue
		}
		if known, ok := n.alarms[c.Alarm.ID]; ok && known.Alarm.Revision.Compare(c.Alarm.Revision) >= 0 {
			continue
		}
		n.alarms[c.Alarm.ID] = alarmRecord(c)
		if !has(n.guests, c.Alarm.ID) {
			writes = append(writes, write{place{shelfAlarms, c.Alarm.ID}, alarmRecord(c)})
		}
	}
	n.box.stage(writes...)
}

// takePairs takes up what was told and is owed of such alarms, and owes them to whoever else wants them. Under mu.
func (n *Notifier) takePairs(alarms []correlate.Change, pairs []Pair, now time.Time) {
	for _, p := range pairs {
		known, ok := n.alarms[p.AlarmID]
		if p.Removed || !ok {
			continue
		}
		if ended(known, p.Told) {
			n.tellRemoved(p.Subscription, p.AlarmID)
			continue
		}
		if n.ofUs(known.Alarm) && known.Alarm.Standing() { // that we are lost is not ours to tell: that it is over is, and who was told of it hears that
			if p.Told == (correlate.Revision{}) {
				continue
			}
			p.Owed, p.Parked, p.Again = correlate.Revision{}, false, false
		}
		r := delivery.Record{
			AlarmID: p.AlarmID, Owed: p.Owed, Told: p.Told, Parts: p.Left, Parked: p.Parked, Again: p.Again, Attempts: p.Attempts, LastError: p.LastError, Created: now,
		}
		legs, named := n.heirs(p.Subscription)
		if !named {
			n.leave(p.Subscription, r)
		}
		for _, w := range legs {
			n.takePair(w, p, r, known, now)
		}
	}
	these := map[string]struct{}{} // alone: who was told that another is over must not hear it again
	for _, c := range alarms {
		if c.Alarm != nil {
			these[c.Alarm.ID] = struct{}{}
		}
	}
	batch := slices.DeleteFunc(n.standing(), func(c change) bool { return !has(these, c.newest.Alarm.ID) })
	for _, w := range n.list() {
		w.offer(batch, now)
	}
	n.box.flush()
	for _, c := range alarms { // cleared ones that nobody is owed
		if c.Alarm != nil {
			n.forgetSettled(c.Alarm.ID)
		}
	}
}

// takePair gives a worker a pair of elsewhere. Under mu.
func (n *Notifier) takePair(w *worker, p Pair, r delivery.Record, known alarmRecord, now time.Time) {
	w.mu.Lock()
	_, _, held := w.machine.Pair(p.AlarmID)
	if !held {
		w.machine.Restore(r, correlate.Change(known), now)
		n.pairs[p.AlarmID]++
		r, _, _ := w.machine.Pair(p.AlarmID)
		n.box.stage(w.writes(delivery.Effects{Save: []delivery.Record{r}})...)
		w.pump(now)
	}
	w.mu.Unlock()
	if held && p.Told != (correlate.Revision{}) {
		n.know(w, p.AlarmID, p.Told)
	}
}

// anybody stands in left for each subscription that is not known yet: an alarm was adopted, its peers have not heard what became of
// it, and it may have been told.
const anybody = ""

// doubt gives a subscription that was not known here the adopted alarms that ended before it came and that it may have been told: it
// is owed their clears. What stands still it is owed in any case. Under mu, or before anybody else knows w.
func (n *Notifier) doubt(w *worker, now time.Time) {
	for _, r := range n.left[anybody] {
		if k, ok := n.alarms[r.AlarmID]; ok && w.told().mayKnow(k.Alarm, n.places) {
			w.inherit(r.AlarmID, now)
		}
	}
}

// ended reports whether somebody who was told r knows that the alarm is over: such a pair is at its end.
func ended(known alarmRecord, r correlate.Revision) bool {
	return !known.Alarm.Standing() && r.Compare(known.Alarm.Revision) >= 0
}

// leave keeps a pair for a leg of a subscription that is not known yet. Under mu.
func (n *Notifier) leave(subscription string, r delivery.Record) {
	left := n.left[subscription]
	if i := slices.IndexFunc(left, func(p pairRecord) bool { return p.AlarmID == r.AlarmID }); i >= 0 {
		if r.Told.Compare(left[i].Told) > 0 {
			left[i].View = 0 // what that showed is not known
			if left[i].Told = r.Told; left[i].Owed.Compare(r.Told) <= 0 {
				left[i].Owed, left[i].Parked, left[i].Again = correlate.Revision{}, false, false
			}
		}
		r = delivery.Record(left[i])
		if k, ok := n.alarms[r.AlarmID]; ok && ended(k, r.Told) {
			n.left[subscription] = slices.Delete(left, i, i+1)
			n.box.stage(write{pairPlace(subscription, r.AlarmID), nil})
			n.tellRemoved(subscription, r.AlarmID)
			n.release([]string{r.AlarmID})
			return
		}
	} else {
		n.left[subscription] = append(left, pairRecord(r))
		n.pairs[r.AlarmID]++
	}
	n.box.stage(write{pairPlace(subscription, r.AlarmID), pairRecord(r)})
}

// Put takes a subscription of elsewhere; see Shared.
func (n *Notifier) Put(sub Subscription, told map[string]correlate.Revision) (unknown []string, err error) {
	s := sub.normal()
	if err = s.Validate(); err == nil && (s.ID == "" || s.Version == 0) {
		err = errors.New("id and version are needed")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: subscription %q of the peers: %w", ErrInvalid, sub.ID, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	legs := n.legsOf(s.ID)
	switch {
	case s.Origin == OriginFile && (len(legs) == 0 || legs[0].subscription().Origin != OriginFile):
		return nil, nil // the file names it no more
	case len(legs) == 0:
		past := n.past[s.ID] // our own file named it
		delete(n.past, s.ID)
		legs = n.prepare(s, past)
		for _, w := range legs {
			n.give(w, told)
			n.join(w)
		}
		legs[0].mu.Lock()
		n.box.put(legs[0].record())
		legs[0].mu.Unlock()
	default:
		if old := legs[0].subscription(); old.Origin == OriginFile {
			if s.Version != old.Version { // they differ; which is right is not ours to say
				return nil, nil
			}
			old.Paused = s.Paused
			s = old
		}
		n.change(legs, s, n.cfg.Now())
		legs = n.legsOf(s.ID)
		for _, w := range legs {
			n.give(w, told)
			w.offer(n.standing(), n.cfg.Now())
		}
		n.box.flush()
	}
	for _, w := range legs {
		unknown = append(unknown, w.awaits()...)
	}
	slices.Sort(unknown)
	return slices.Compact(unknown), nil
}

// give notes the snapshot that a consumer was given elsewhere, once a run, so that nothing of it is sent again. Under mu.
func (n *Notifier) give(w *worker, told map[string]correlate.Revision) {
	if w.awaited != nil || len(told) == 0 {
		return
	}
	w.mu.Lock()
	w.awaited = map[string]correlate.Revision{}
	w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(told)) {
		if _, ok := n.alarms[id]; ok {
			n.know(w, id, told[id])
			continue
		}
		w.mu.Lock()
		w.awaited[id] = told[id]
		w.mu.Unlock()
	}
}

// know notes that the consumer knows a revision by another way than this host. Under mu.
func (n *Notifier) know(w *worker, alarmID string, r correlate.Revision) {
	now := n.cfg.Now()
	known, ok := n.alarms[alarmID]
	cleared := ok && !known.Alarm.Standing() && known.Alarm.Revision.Compare(r) <= 0
	w.mu.Lock()
	_, _, held := w.machine.Pair(alarmID)
	if !held {
		if !cleared {
			n.box.put(w.note(alarmID, r, known.Alarm))
			w.pump(now)
		}
		w.mu.Unlock()
		return
	}
	failing := !w.machine.FailingSince().IsZero()
	eff := w.machine.Settle(alarmID, r, cleared, now)
	w.worked = w.worked || failing && w.machine.FailingSince().IsZero()
	if writes := w.writes(eff); len(writes) > 0 {
		n.box.put(writes...)
	}
	w.pump(now)
	w.mu.Unlock()
	n.release(eff.Remove)
}

// Told takes another host's receipt; see Shared.
func (n *Notifier) Told(subscription, alarmID string, r correlate.Revision) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	known, ok := n.alarms[alarmID]
	if !ok {
		return // it is over for all
	}
	w := n.legNamed(subscription)
	if w == nil {
		if len(n.left[subscription]) > 0 { // else of a leg that is no more: what another endpoint was told says nothing of these
			n.leave(subscription, delivery.Record{AlarmID: alarmID, Told: r})
			n.box.flush()
		}
		return
	}
	if n.ofUs(known.Alarm) { // who may know that we were lost is owed the end of it when that comes: a receipt after it leaves nothing behind
		if known.Alarm.Standing() {
			n.know(w, alarmID, r)
			n.box.flush()
		}
		return
	}
	n.know(w, alarmID, r)
	w.offer([]change{{newest: correlate.Change(known)}}, n.cfg.Now()) // should the pair itself have been lost
	n.box.flush()
}

// Drop ends a subscription that ended elsewhere; see Shared.
func (n *Notifier) Drop(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	if legs := n.legsOf(id); len(legs) > 0 {
		if s := legs[0].subscription(); s.Origin != OriginFile {
			if s.Over(n.cfg.Now()) {
				n.sayOver(s)
			}
			n.drop(legs)
		}
		return
	}
	if _, ok := n.past[id]; ok {
		if !n.filed {
			return // our own file may name it
		}
		delete(n.past, id)
		n.box.put(write{place{shelfSubscriptions, id}, nil})
	}
	for leg := range n.left {
		if leg != anybody && OwnerOf(leg) == id {
			n.disown(leg)
		}
	}
}
