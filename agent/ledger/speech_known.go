package ledger

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify"
)

// Back says that a host speaks for itself under a term, or that what was said for it is void (takeover.Forgotten).
type Back struct {
	Host string
	Term uint64
}

// addKnown says what is known to be told and owed of the alarms of a speech.
func (l *Ledger) addKnown(home string, sp *speech, g *Guests) {
	pairs := map[string]notify.Pair{}
	if h := l.hosts[home]; h != nil {
		for id, d := range h.deliveries {
			if subscription, alarm := splitPair(id); has(sp.alarms, alarm) {
				pairs[id] = notify.Pair{Subscription: subscription, AlarmID: alarm, Told: d.told, Owed: d.owed, Parked: d.Parked, Again: d.Again, Left: d.Left}
			}
		}
	}
	told := func(subscription, alarm, of string, r correlate.Revision) {
		a := sp.alarms[alarm]
		if a == nil || of != home || r.Compare(a.Revision) > 0 {
			return
		}
		id := pairID(subscription, alarm)
		p := pairs[id]
		p.Subscription, p.AlarmID = subscription, alarm
		if r.Compare(p.Told) > 0 {
			p.Told = r
		}
		pairs[id] = p
	}
	l.eachReceipt(func(id string, r receipt) {
		if subscription, alarm := splitPair(id); has(pairs, id) || !l.endedByHome(home, alarm) {
			told(subscription, alarm, r.home, r.told)
		}
	})
	for subscription, w := range l.shared { // what the home has not taken yet
		for alarm, g := range w.payload.Snapshot {
			if !has(sp.alarms, alarm) {
				continue
			}
			if r, err := correlate.ParseRevision(g.Revision); err == nil {
				told(subscription, alarm, g.Home, r)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(pairs)) {
		p := pairs[id]
		if p.Owed.Compare(p.Told) <= 0 {
			p.Owed, p.Parked, p.Again = correlate.Revision{}, false, false
		}
		g.Pairs = append(g.Pairs, p)
	}
}

// ownSaid is between a host's word that an alarm is over and its word about whom it owes that; the latter is late by flushAfter.
const ownSaid = 5 * time.Second

// endedByHome says that a home has itself ended an alarm, and had the time to say whom it owes that: those of whom it says nothing know it.
func (l *Ledger) endedByHome(home, id string) bool {
	h := l.hosts[home]
	if h == nil || h.alarms[id] == nil {
		return false
	}
	a := h.alarms[id].Alarm
	return !a.Standing() && a.Revision.Term%2 == 0 && l.now.Sub(h.alarms[id].learned) > ownSaid
}

// eachReceipt goes over all receipts, ours too.
func (l *Ledger) eachReceipt(f func(id string, r receipt)) {
	for id, r := range l.receipts {
		f(id, r)
	}
	for _, h := range l.hosts {
		for id, r := range h.receipts {
			f(id, r)
		}
	}
}

// guestPair notes what became of a delivery for another host: a receipt, for its home and for who speaks after us.
func (l *Ledger) guestPair(home string, p notify.Pair) {
	id := pairID(p.Subscription, p.AlarmID)
	sp := l.speeches[home]
	if sp != nil {
		if p.Removed || p.Owed == (correlate.Revision{}) || p.Parked || p.Attempts > 0 { // what failed is tried again for long: that is told
			delete(sp.owes, id)
		} else {
			sp.owes[id] = struct{}{}
		}
		if len(sp.owes) == 0 {
			l.out.Finished = append(l.out.Finished, home)
		}
	}
	r := receipt{home, p.Told}
	if p.Removed {
		a := l.recorded(home, p.AlarmID)
		if sp != nil && sp.alarms[p.AlarmID] != nil { // it may not be in the replica yet
			a = newer(a, sp.alarms[p.AlarmID])
		}
		if a != nil && !a.Standing() {
			r.told = a.Revision
		}
	}
	if r.told == (correlate.Revision{}) || l.recorded(home, p.AlarmID) == nil && (sp == nil || sp.alarms[p.AlarmID] == nil) {
		return
	}
	if old, ok := l.receipts[id]; ok && old.told.Compare(r.told) >= 0 {
		return
	}
	if h := l.hosts[home]; h != nil && h.deliveries[id].told.Compare(r.told) >= 0 {
		return
	}
	l.hold(id, r)
}

// spokenFor tells who watches that a record is what a speaker has said of a host, and under which zone's alarm.
func (l *Ledger) spokenFor(h *host, rec gossip.Record, a *correlate.Alarm) {
	if r, ok := lossOf(h, rec, a); ok {
		h.lost[a.ID] = r
		l.out.Recorded = append(l.out.Recorded, r)
	} else {
		delete(h.lost, a.ID)
	}
}

// Lost is what is recorded of all hosts that can't speak for themselves, for a host that has forgotten it.
func (l *Ledger) Lost() []takeover.Record {
	var all []takeover.Record
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		h := l.hosts[name]
		for _, id := range slices.Sorted(maps.Keys(h.lost)) {
			if h.alarms[id] != nil && h.lost[id].Term >= h.term {
				all = append(all, h.lost[id])
			}
		}
	}
	return all
}

func lossOf(h *host, rec gossip.Record, a *correlate.Alarm) (r takeover.Record, ok bool) {
	if rec.Version.A%2 == 0 || rec.Version.A < h.term || !a.Standing() || strings.HasPrefix(rec.Space, ZoneSpace) {
		return r, false
	}
	r = takeover.Record{Host: rec.Space, Term: rec.Version.A - 1, Writer: rec.Version.Node}
	switch a.Key.Condition {
	case correlate.CondHostLost:
		r.Level = watch.LevelConfirmed
		if a.Confidence == correlate.ConfidenceProbable {
			r.Level = watch.LevelProbable
		}
	case correlate.CondAgentSilent:
		r.Level = watch.LevelSilent
	case correlate.CondHostHung:
		r.Level = watch.LevelHung
	default:
		return r, false
	}
	if a.Under != "" {
		r.Zone = a.Evidence[evidenceZone]
		r.ZTerm, _ = strconv.ParseUint(a.Evidence[evidenceZoneTerm], 10, 64)
		if r.ZTerm%2 == 0 {
			return r, false // it is not from one of us
		}
	}
	return r, true
}

// heardOf notes the term under which a host speaks for itself.
func (l *Ledger) heardOf(h *host, rec gossip.Record) {
	if a := rec.Version.A; a%2 == 0 && a > h.term && rec.Version.Node == rec.Space {
		h.term = a
		l.out.Back = append(l.out.Back, Back{Host: rec.Space, Term: a})
	}
}

// purged says that what was said of hosts is void: they are back under a higher term than what it was said under, or forgotten, and
// then nothing of them is left. Which of the two shows when all that goes is gone.
func (l *Ledger) purged(records []gossip.Record) {
	void := map[string]uint64{}
	for _, rec := range records {
		if rec.Space == gossip.Shared || rec.Space == l.cfg.Node {
			continue
		}
		above := void[rec.Space]
		if rec.Version.A%2 == 1 && rec.Kind == gossip.KindAlarm {
			above = max(above, rec.Version.A+1)
		}
		void[rec.Space] = above
	}
	for _, home := range slices.Sorted(maps.Keys(void)) {
		switch above := void[home]; {
		case l.hosts[home] == nil:
			l.out.Back = append(l.out.Back, Back{Host: home, Term: takeover.Forgotten})
		case above > 0:
			l.out.Back = append(l.out.Back, Back{Host: home, Term: above})
		}
	}
}

// TermOf is the highest term under which another host has spoken for itself; zero: none is known.
func (l *Ledger) TermOf(name string) uint64 {
	if h := l.hosts[name]; h != nil {
		return h.term
	}
	return 0
}
