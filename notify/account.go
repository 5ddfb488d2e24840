package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Account is what one consumer, or one of its endpoints, has of an alarm.
type Account struct {
	Subscription Subscription       // its secrets are left out
	Endpoint     string             // of a subscription with DeliverAll
	Told         correlate.Revision // the newest that it has taken, was given in a snapshot, or that was discarded; zero: none, as far as is known
	Owed         *DeliveryView      // nil: nothing
	Sent         []Stages           // what it took, as far as this run still knows; oldest first
	Held         string             // why nothing is sent to it now; empty: it is
	Bar          Bar                // why it is not told of the newest revision; empty: it was, or is owed it
	Key          string             // of BarFilter: the first key of the filter that does not match; of BarMute: the id of the mute
}

// Bar is why a consumer is not told.
type Bar string

// BarNews: what it sees of the alarm has not changed since. BarOver: its filter lets no such alarm through, so that it was told nothing that
// could be over. BarRoom: it is owed so much that some of what stands was dropped; that is owed again when there is room. BarUnknown:
// nothing is known of it here: of what is over, that it was told may be forgotten.
const (
	BarFilter  Bar = "filter"
	BarMute    Bar = "mute"
	BarUnder   Bar = "under"  // the alarm is correlated under another one
	BarItself  Bar = "itself" // the alarm is about this subscription
	BarOurs    Bar = "ours"   // peers have said of this host that it is lost: it does not tell that
	BarForm    Bar = "form"   // its form has nothing to say of an alarm that hits nobody
	BarNews    Bar = "no-news"
	BarOver    Bar = "over"
	BarRoom    Bar = "room"
	BarUnknown Bar = "unknown"
)

// Accounts says what became of an alarm; see Service.
func (n *Notifier) Accounts(a *correlate.Alarm, elsewhere []Pair) []Account {
	sent := map[string][]Stages{} // by leg
	for _, st := range n.Profile() {
		if st.AlarmID == a.ID {
			sent[st.Consumer+legMark+st.Endpoint] = append(sent[st.Consumer+legMark+st.Endpoint], st)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	now := n.cfg.Now()
	mute, muted := n.mutes.of(a, n.places, now)
	_, here := n.alarms[a.ID]
	var all []Account
	for _, w := range n.list() {
		w.mu.Lock()
		acc := Account{Subscription: hide(w.sub, now), Endpoint: w.leg.only, Sent: sent[w.owner+legMark+w.leg.only], Held: w.held(now)}
		if r, owed, ok := w.machine.Pair(a.ID); ok {
			acc.Told = r.Told
			if newest := w.machine.Owed(a.ID); owed && newest != nil {
				v := w.view(r, newest)
				acc.Owed = &v
			}
		} else if i := slices.IndexFunc(elsewhere, func(p Pair) bool { return p.Subscription == w.leg.id }); i >= 0 {
			acc.take(elsewhere[i], w, a)
		}
		for _, st := range acc.Sent {
			if st.Revision.Compare(acc.Told) > 0 {
				acc.Told = st.Revision
			}
		}
		switch told := w.told(); {
		case acc.Owed != nil || acc.Told.Compare(a.Revision) >= 0:
		case n.ofUs(a) && a.Standing():
			acc.Bar = BarOurs
		case muted && told.Wants(a, n.places, acc.Told != (correlate.Revision{}), false):
			acc.Bar, acc.Key = BarMute, mute.ID
		default:
			acc.Bar, acc.Key = told.unheard(a, n.places, acc.Told != (correlate.Revision{}), here, w.machine.Short())
		}
		w.mu.Unlock()
		all = append(all, acc)
	}
	slices.SortFunc(all, func(x, y Account) int {
		return cmp.Or(strings.Compare(x.Subscription.Name, y.Subscription.Name), strings.Compare(x.Subscription.ID, y.Subscription.ID), strings.Compare(x.Endpoint, y.Endpoint))
	})
	return all
}

// take notes what the home of an alarm has said of a pair. Under w.mu.
func (acc *Account) take(p Pair, w *worker, a *correlate.Alarm) {
	acc.Told = p.Told
	if p.Owed == (correlate.Revision{}) {
		return
	}
	acc.Owed = &DeliveryView{
		ID: NotificationID(a.ID, p.Owed, w.owner, w.sub.Version), Endpoint: w.leg.only, Subscription: w.sub.Name, Consumer: w.owner, AlarmID: a.ID,
		Resource: a.Key.Resource, Condition: a.Key.Condition, Shown: w.told().view(a).Key, Revision: p.Owed, State: DeliveryPending,
		Attempts: p.Attempts, LastError: p.LastError, Again: p.Again,
	}
	if p.Parked {
		acc.Owed.State = DeliveryParked
	}
}

// unheard is why a subscription is not owed an alarm that is not muted; see Wants, which it goes along with. short: of what stands some was
// dropped for want of room.
func (s Subscription) unheard(a *correlate.Alarm, where Places, told, here, short bool) (b Bar, key string) {
	switch {
	case a.Key.Condition == correlate.CondSubscription && s.owns(a.Key.Resource):
		return BarItself, ""
	case !a.Standing():
		switch {
		case told && here:
			return BarNews, ""
		case !told && s.neverLet(a, where):
			return BarOver, ""
		}
		return BarUnknown, "" // who was told that it is over is forgotten
	case a.Under != "":
		return BarUnder, ""
	case told && short && s.Role != RoleConsumer: // to whom each revision is news
		return BarRoom, ""
	case told:
		return BarNews, ""
	}
	if key := s.bar(a, where); key != "" {
		return BarFilter, key
	}
	if !s.speaks(a) {
		return BarForm, ""
	}
	if short {
		return BarRoom, ""
	}
	return BarUnknown, ""
}

// neverLet reports whether the filter let through no revision of an alarm that is over. The clear does not say how severe it was.
func (s Subscription) neverLet(a *correlate.Alarm, where Places) bool {
	s.Filter.MinSeverity, s.Filter.SOL = Filter{}.MinSeverity, Filter{}.SOL
	return s.bar(a, where) != ""
}

// held says why nothing is sent to it now; empty: it is. Under mu.
func (w *worker) held(now time.Time) string {
	switch {
	case w.sub.Paused != "":
		return "paused: " + w.sub.Paused
	case w.sub.lapsed(now):
		return "it came to its end at " + w.sub.Expires.UTC().Format(time.RFC3339)
	case w.silenced() != "":
		return w.silenced()
	case !w.rests.IsZero():
		return fmt.Sprintf("its endpoint %s answered 410 (it wants nothing more): it is asked again at %s", hostOf(w.leg.only), w.rests.UTC().Format(time.RFC3339))
	case w.sub.Locked():
		if w.n.cfg.Peers != nil {
			return "its secrets can't be opened at this host (" + w.sub.WhyLocked() + "): other hosts are asked to deliver"
		}
		return "its secrets can't be opened at this host (" + w.sub.WhyLocked() + ")"
	}
	return ""
}
