package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Bounds of free text in records, in bytes.
const (
	maxError   = 256
	maxComment = 4096
)

// ownAlarm is an alarm of this host, as its record says it.
type ownAlarm struct {
	change correlate.Change
	due    bool // it is cleared, and clearedFor is over
}

// Host takes what this host says of itself.
func (l *Ledger) Host(now time.Time, h Host) Orders {
	l.begin(now)
	l.me = h
	if l.set(gossip.KindHost, "", h) != nil { // facts and labels are free text
		h.Facts = nil
		if l.set(gossip.KindHost, "", h) != nil {
			_ = l.set(gossip.KindHost, "", Host{Zone: cut(h.Zone, maxError), Version: cut(h.Version, maxError), Started: h.Started})
		}
	}
	return l.finish()
}

// Effects takes what the engine decided; of Shared.Kept too, as Publish. What it has newer stays.
func (l *Ledger) Effects(now time.Time, eff correlate.Effects) Orders {
	l.begin(now)
	for _, c := range eff.Publish {
		l.keep(c)
	}
	for _, a := range eff.Save {
		c := correlate.Change{Alarm: a}
		if old := l.alarms[a.ID]; old != nil && old.change.Alarm.Revision == a.Revision {
			c = old.change
			c.Alarm = a
		}
		l.keep(c)
	}
	return l.finish()
}

func (l *Ledger) keep(c correlate.Change) {
	a := c.Alarm
	if a == nil || a.Key.Home != l.cfg.Node {
		return
	}
	o := l.alarms[a.ID]
	if o == nil {
		o = &ownAlarm{}
		l.alarms[a.ID] = o
	} else if old := o.change.Alarm; old == a || old.Revision.Compare(a.Revision) > 0 || old.Revision == a.Revision && saysMore(old, a) {
		return
	}
	was := o.change.Alarm
	o.change = c
	l.writeAlarm(o, false)
	if !a.Standing() && (was == nil || was.Standing() || was.Dismissed()) {
		l.cleared.add(l.now.Add(clearedFor), a.ID)
	}
	l.answer(a.ID)
}

func (l *Ledger) writeAlarm(o *ownAlarm, over bool) {
	a := o.change.Alarm
	if b, err := l.codec.encodeAlarm(o.change, over); err == nil {
		l.put(slot{gossip.KindAlarm, a.ID}, b)
	} else { // a time that JSON can't hold, say: it is told here, and unknown elsewhere
		l.say(writerResource(l.cfg.Node), correlate.CondUnshared, fmt.Sprintf("alarm %s can't be given to the other hosts: %v", a.ID, err))
	}
}

// expire drops a cleared alarm that was kept for long enough, unless somebody is owed it still. One that is dismissed stays, as
// nobody's business any more.
func (l *Ledger) expire(id string) {
	o := l.alarms[id]
	if o == nil || o.change.Alarm.Standing() {
		return
	}
	o.due = true
	switch {
	case l.owes[id] > 0:
		l.cleared.add(l.now.Add(clearedFor), id)
		return
	case o.change.Alarm.Dismissed():
		l.writeAlarm(o, true)
		return
	}
	delete(l.alarms, id)
	l.remove(gossip.KindAlarm, id)
}

// Forgot takes alarms that are cleared and that nobody is owed, of this host and of those for which it speaks; those that were kept for long enough go.
func (l *Ledger) Forgot(now time.Time, ids []string) Orders {
	l.begin(now)
	for _, id := range ids {
		l.forgotGuest(id)
		if o := l.alarms[id]; o != nil && o.due && l.owes[id] == 0 {
			l.expire(id)
		}
	}
	return l.finish()
}

// Pairs takes what became of pairs of this host's own alarms; they are written flushAfter later, in one go.
func (l *Ledger) Pairs(now time.Time, changed []notify.Pair) Orders {
	l.begin(now)
	for _, p := range changed {
		if home, guest := l.guests[p.AlarmID]; guest {
			l.guestPair(home, p)
			continue
		}
		id := pairID(p.Subscription, p.AlarmID)
		if l.pairs[id].Owed != (correlate.Revision{}) {
			if l.owes[p.AlarmID]--; l.owes[p.AlarmID] == 0 {
				delete(l.owes, p.AlarmID)
			}
		}
		if p.Removed {
			delete(l.pairs, id)
			delete(l.told, id)
		} else {
			l.pairs[id] = p
			if p.Owed != (correlate.Revision{}) {
				l.owes[p.AlarmID]++
			}
		}
		if len(l.unsaid) == 0 {
			l.flush.add(now.Add(flushAfter), "")
		}
		l.unsaid[id] = struct{}{}
	}
	return l.finish()
}

func (l *Ledger) writePairs() {
	for _, id := range slices.Sorted(maps.Keys(l.unsaid)) {
		p, ok := l.pairs[id]
		if !ok {
			l.remove(gossip.KindDelivery, id)
			continue
		}
		d := Delivery{Parked: p.Parked, Again: p.Again, Attempts: p.Attempts, LastError: cut(p.LastError, maxError), Left: p.Left[:min(len(p.Left), maxLeft)]}
		if p.Told != (correlate.Revision{}) {
			d.Told = p.Told.String()
		}
		if p.Owed != (correlate.Revision{}) {
			d.Owed = p.Owed.String()
		}
		_ = l.set(gossip.KindDelivery, id, d) // small, and without times
	}
	clear(l.unsaid)
}

// Handed takes the answer to a request that this host made for another, which is the alarm's home or speaks for it; when settled,
// a receipt for the home is written.
func (l *Ledger) Handed(now time.Time, h notify.HandOver, asked string, a notify.Answer) Orders {
	l.begin(now)
	home := asked
	if h.Change.Alarm != nil && h.Change.Alarm.Key.Home != "" {
		home = h.Change.Alarm.Key.Home
	}
	if a.Outcome.Verdict == delivery.Settled && h.Asks == nil && h.Change.Alarm != nil && home != "" && home != l.cfg.Node {
		id := pairID(h.Subscription, h.Change.Alarm.ID)
		r := receipt{home, h.Change.Alarm.Revision}
		if old, ok := l.receipts[id]; !ok || old.told.Compare(r.told) < 0 {
			l.hold(id, r)
			l.checkReceipt(id)
		}
	}
	return l.finish()
}

func (l *Ledger) hold(id string, r receipt) {
	if _, ok := l.receipts[id]; !ok {
		l.waiting.add(l.now.Add(receiptFor), id)
	}
	l.receipts[id] = r
	subscription, _ := splitPair(id)
	l.dirty[notify.OwnerOf(subscription)] = struct{}{}
	_ = l.set(gossip.KindReceipt, id, Receipt{Home: r.home, Told: r.told.String()}) // small
}

// checkReceipt drops a receipt that its home knows of, and says whether it did.
func (l *Ledger) checkReceipt(id string) bool {
	r, ok := l.receipts[id]
	if !ok {
		return false
	}
	home := l.hosts[r.home]
	if home == nil {
		return false
	}
	if p, ok := home.deliveries[id]; !ok || p.told.Compare(r.told) < 0 {
		return false
	}
	l.dropReceipt(id)
	return true
}

func (l *Ledger) dropReceipt(id string) {
	delete(l.receipts, id)
	l.remove(gossip.KindReceipt, id)
}

// Settled reports whether any host is known to have told a subscription this revision of an alarm, or a newer one. Who claims
// more than there is, or speaks for an alarm that is not his, is not believed: what is told twice does less harm than what is
// never told.
func (l *Ledger) Settled(subscription, alarmID string, r correlate.Revision) bool {
	id := pairID(subscription, alarmID)
	newest := r
	if a := l.foreign(alarmID); a != nil && a.Alarm.Revision.Compare(r) > 0 {
		newest = a.Alarm.Revision
	}
	enough := func(told correlate.Revision) bool { return told.Compare(r) >= 0 && told.Compare(newest) <= 0 }
	if enough(l.pairs[id].Told) || enough(l.receipts[id].told) {
		return true
	}
	for _, h := range l.hosts {
		if h.alarms[alarmID] != nil && enough(h.deliveries[id].told) || enough(h.receipts[id].told) {
			return true
		}
	}
	return false
}

// unsaidYet says that a revision of an alarm of this host is one that it has not come to: nobody can have told it to anybody,
// and to believe it would keep from a consumer what is yet to come.
func (l *Ledger) unsaidYet(alarm string, r correlate.Revision) bool {
	o := l.alarms[alarm]
	return o != nil && o.change.Alarm.Revision.Compare(r) < 0
}

// tell orders that another host's receipt be minded, unless that is known.
func (l *Ledger) tell(id string, r receipt) {
	subscription, alarm := splitPair(id)
	if home, guest := l.guests[alarm]; guest && home == r.home {
		l.out.Told = append(l.out.Told, Told{Subscription: subscription, AlarmID: alarm, Revision: r.told})
		return
	}
	if r.home != l.cfg.Node || l.pairs[id].Told.Compare(r.told) >= 0 || l.told[id].Compare(r.told) >= 0 || l.alarms[alarm] == nil || l.unsaidYet(alarm, r.told) {
		return
	}
	l.told[id] = r.told
	l.out.Told = append(l.out.Told, Told{Subscription: subscription, AlarmID: alarm, Revision: r.told})
}

// Former is what a former life of this host left with its peers: its alarms, and what was told of them.
func (l *Ledger) Former() ([]correlate.Change, []notify.Pair) {
	var changes []correlate.Change
	for _, id := range slices.Sorted(maps.Keys(l.former.alarms)) {
		changes = append(changes, l.former.alarms[id].Change)
	}
	slices.SortStableFunc(changes, func(a, b correlate.Change) int { return a.Alarm.Revision.Compare(b.Alarm.Revision) })
	clear(l.late)
	return changes, l.formerPairs(func(alarm string) bool { return alarm != "" })
}

func (l *Ledger) formerPairs(of func(alarm string) bool) []notify.Pair {
	var pairs []notify.Pair
	for _, id := range slices.Sorted(maps.Keys(l.former.deliveries)) {
		subscription, alarm := splitPair(id)
		if p := l.former.deliveries[id]; of(alarm) {
			pairs = append(pairs, notify.Pair{
				Subscription: subscription, AlarmID: alarm, Told: p.told, Owed: p.owed, Parked: p.Parked, Again: p.Again, Attempts: p.Attempts, LastError: p.LastError, Left: p.Left,
			})
		}
	}
	return pairs
}

// adopt orders that what is heard late of a former life be taken up.
func (l *Ledger) adopt() {
	for _, id := range slices.Sorted(maps.Keys(l.late)) {
		was, own := l.former.alarms[id], l.alarms[id]
		if id == "" || was == nil && own == nil {
			continue // its pairs came first
		}
		f := FormerAlarm{Pairs: l.formerPairs(func(alarm string) bool { return alarm == id })}
		if own == nil || was != nil && own.change.Alarm.Revision.Compare(was.Alarm.Revision) < 0 {
			f.Change = was.Change
		} else if f.Change = own.change; len(f.Pairs) == 0 {
			continue
		}
		l.out.Former = append(l.out.Former, f)
	}
	clear(l.late)
}

// inherit takes up what nobody else keeps of a former life: receipts for others, refusals, which snapshots were taken,
// and since when the domains are here.
func (l *Ledger) inherit() {
	for id, r := range l.former.receipts {
		if old, ok := l.receipts[id]; !ok || old.told.Compare(r.told) < 0 {
			l.hold(id, r)
			l.checkReceipt(id)
		}
	}
	for id, r := range l.former.refusals {
		if said, ok := l.refusals[id]; ok && (said.Version != r.Version || !has(l.again, id)) {
			continue
		}
		delete(l.again, id)
		l.refusals[id] = r // if it was said again after the restart, it is this one
		_ = l.set(gossip.KindRefusal, id, r)
		l.dirty[id] = struct{}{}
	}
	for id, p := range l.former.deliveries {
		subscription, alarm := splitPair(id)
		if alarm == "" && l.taken[subscription] < p.Taken {
			l.taken[subscription] = p.Taken
			_ = l.set(gossip.KindDelivery, id, Delivery{Taken: p.Taken})
		}
	}
	for uuid, d := range l.domains {
		if was := l.formerSince(uuid, d.Inactive); was.Before(d.Since) && !was.IsZero() {
			d.Since = was
			l.setDomain(uuid, d)
		}
	}
	// Alarms and deliveries stay for Former; the rest is taken up, and must not come back when it was given up since.
	clear(l.former.receipts)
	clear(l.former.refusals)
}

// cut shortens text to at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func tooBig(err error) string {
	if errors.Is(err, errTooBig) {
		return fmt.Sprintf("it works at this host only: %v: shorten its filter, or make several of it", err)
	}
	return strings.TrimSpace(fmt.Sprintf("it works at this host only: %v", err))
}
