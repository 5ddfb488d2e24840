package ledger

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// order is what the notifier was told, or knows by itself, of a subscription.
type order struct {
	dropped bool
	digest  [sha256.Size]byte
	sub     notify.Subscription
}

// had says that the notifier has a version of the subscription from which it knows what was given then.
func (o *order) had(snapshotOf uint64) bool {
	return o != nil && !o.dropped && o.sub.Version >= snapshotOf
}

// File takes all subscriptions of this host's file, whole, with ID and Version as the notifier gives them.
func (l *Ledger) File(now time.Time, subs []notify.Subscription) Orders {
	l.begin(now)
	named := map[string]struct{}{}
	for _, s := range subs {
		s.Origin = notify.OriginFile
		named[s.ID] = struct{}{}
		l.dirty[s.ID] = struct{}{}
		l.halt410(s)
		old, had := l.file[s.ID]
		l.file[s.ID] = s
		if had && old.Version == s.Version && old.Created.Equal(s.Created) && old.Credentials.Equal(s.Credentials) && has(l.own, slot{gossip.KindFileWish, s.ID}) {
			continue // a seal is never the same twice
		}
		delete(l.ordered, s.ID)
		s.Paused = ""
		p := l.seal(s)
		if !s.Credentials.IsZero() {
			p.Renewed = now.Round(0).UTC()
		}
		if err := l.set(gossip.KindFileWish, s.ID, p); err != nil {
			l.remove(gossip.KindFileWish, s.ID)
			l.say(subscriptionResource(s), correlate.CondUnusable, tooBig(err))
		} else {
			l.say(subscriptionResource(s), correlate.CondUnusable, "")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.file)) {
		if has(named, id) {
			continue
		}
		s := l.file[id]
		delete(l.file, id)
		l.ordered[id] = &order{} // the notifier waits to hear whether others name it
		l.remove(gossip.KindFileWish, id)
		l.say(subscriptionResource(s), correlate.CondConflict, "")
		l.say(subscriptionResource(s), correlate.CondUnusable, "")
		if w := l.shared[id]; l.settled && w != nil && w.pauseOnly() && len(l.wishes(id)) == 0 { // else others may yet name it
			l.insist(Write{Kind: gossip.KindSubscription, ID: id, Delete: true})
		}
		l.dirty[id] = struct{}{}
	}
	return l.finish()
}

// Known takes the subscriptions that the notifier has from its disk, whole, once. They are not Put again as they are;
// those of which the cluster knows nothing when all have had the time to speak are published (of the API) or dropped (of
// peers' files).
func (l *Ledger) Known(now time.Time, subs []notify.Subscription) Orders {
	l.begin(now)
	for _, s := range subs {
		if s.Origin == notify.OriginFile {
			continue
		}
		l.known[s.ID] = s
		l.halt410(s)
		if l.ordered[s.ID] == nil {
			l.ordered[s.ID] = &order{digest: digest(s), sub: s}
		}
		l.dirty[s.ID] = struct{}{}
	}
	return l.finish()
}

// halt410 notes that the notifier has paused a subscription before this run: maybe because of a 410, which it will say again.
// Until then, or until all is settled, nobody's silence about a pause ends it.
func (l *Ledger) halt410(s notify.Subscription) {
	if s.Paused != "" && !l.settled {
		l.halted[s.ID] = s.Version
	}
}

// Publish makes a subscription of the API known to all, with new contents too; or the pause of one of a file, or its end.
// told is its snapshot. The error says that it is too big to be given to the others, and what to do about it.
func (l *Ledger) Publish(now time.Time, sub notify.Subscription, told map[string]correlate.Revision) (Orders, error) {
	l.begin(now)
	prev := l.shared[sub.ID]
	var p Subscription
	if sub.Origin == notify.OriginAPI {
		p = l.seal(sub)
		l.snapshot(&p, prev, sub.ID, told)
	} else {
		p = Subscription{Version: sub.Version, Paused: sub.Paused}
	}
	if prev != nil && prev.payload.Version == sub.Version {
		p.Resumed = prev.payload.Resumed
		if sub.Paused == "" && (prev.payload.Paused != "" || len(l.refusers(sub.ID, sub.Version, p.Resumed)) > 0) {
			p.Resumed++
		}
	} else if prev == nil && sub.Paused == "" && len(l.refusers(sub.ID, sub.Version, 0)) > 0 {
		p.Resumed = 1
	}
	b, err := l.codec.encode(p)
	if err != nil {
		return l.finish(), fmt.Errorf("share subscription %q and its snapshot of %d alarms with the other hosts: %w: give it a narrower filter, or make several of it",
			sub.Name, len(told), err)
	}
	l.share(gossip.KindSubscription, sub.ID, b)
	if sub.Paused == "" {
		l.unrefuse(sub.ID)
	}
	delete(l.known, sub.ID)
	delete(l.halted, sub.ID)
	l.ordered[sub.ID] = &order{digest: digest(sub), sub: sub}
	l.await(sub.ID)
	return l.finish(), nil
}

// snapshot notes what a consumer was given; and of what it was given earlier that which a home has not taken yet.
func (l *Ledger) snapshot(p *Subscription, prev *wish, id string, told map[string]correlate.Revision) {
	p.Snapshot = map[string]Given{}
	if prev != nil {
		p.SnapshotOf = prev.payload.SnapshotOf
		for alarm, g := range prev.payload.Snapshot {
			if l.takenBy(g.Home, id) < p.SnapshotOf {
				p.Snapshot[alarm] = g
			}
		}
	}
	for alarm, r := range told {
		var a *correlate.Alarm
		if o := l.alarms[alarm]; o != nil {
			a = o.change.Alarm
		} else if f := l.foreign(alarm); f != nil {
			a = f.Alarm
		} else {
			continue // of this host and not heard of yet: its notifier has it. Or its host was forgotten meanwhile.
		}
		p.SnapshotOf = p.Version
		p.Snapshot[alarm] = Given{Home: a.Key.Home, Revision: r.String(), Resource: a.Key.Resource, Condition: a.Key.Condition}
	}
}

// takenBy is which snapshot of a subscription a host is known to have taken.
func (l *Ledger) takenBy(node, subscription string) uint64 {
	if node == l.cfg.Node {
		return l.taken[subscription]
	}
	if h := l.hosts[node]; h != nil {
		return h.deliveries[pairID(subscription, "")].Taken
	}
	return 0
}

// await lets a subscription be as it was ordered until the replica gives the record back, or a while has passed: it may
// have refused.
func (l *Ledger) await(id string) {
	l.awaited[id] = struct{}{}
	l.takes.add(l.now.Add(takenAfter), id)
}

// markTaken says that this host's notifier has had the snapshot.
func (l *Ledger) markTaken(id string) {
	delete(l.awaited, id)
	l.dirty[id] = struct{}{}
	w := l.shared[id]
	if w == nil || w.payload.SnapshotOf == 0 || l.taken[id] >= w.payload.SnapshotOf || !givesOf(w.payload.Snapshot, l.cfg.Node) {
		return
	}
	l.taken[id] = w.payload.SnapshotOf
	_ = l.set(gossip.KindDelivery, pairID(id, ""), Delivery{Taken: w.payload.SnapshotOf}) // small
}

func givesOf(snapshot map[string]Given, node string) bool {
	for _, g := range snapshot {
		if g.Home == node {
			return true
		}
	}
	return false
}

// Withdraw ends a subscription of the API everywhere.
func (l *Ledger) Withdraw(now time.Time, id string) Orders {
	l.begin(now)
	l.unshare(gossip.KindSubscription, id)
	if l.shared[id] == nil {
		l.ended[id] = struct{}{} // the replica deletes only what it has; what peers have may yet come
	}
	l.ordered[id] = &order{dropped: true}
	delete(l.known, id)
	l.await(id)
	return l.finish()
}

// Refused takes that a consumer answered this host with 410; with an empty reason, that it was resumed here.
func (l *Ledger) Refused(now time.Time, subscription string, version uint64, reason string) Orders {
	l.begin(now)
	halted, again := l.halted[subscription]
	delete(l.halted, subscription)
	l.dirty[subscription] = struct{}{}
	if reason == "" {
		l.unrefuse(subscription)
		return l.finish()
	}
	r := Refusal{Version: version, Resumed: l.resumed(subscription, version), Reason: cut(reason, maxError), At: now.Round(0).UTC()}
	if again && halted == version {
		// Said again after a restart: only peers know which resume it came after (inherit). When none does, as after a power
		// cycle of all, it came after none: at worst the consumer is asked once more.
		r.Resumed = 0
		l.again[subscription] = struct{}{}
		if was, ok := l.former.refusals[subscription]; ok && was.Version == version {
			r.Resumed = was.Resumed
		}
	}
	if old, ok := l.refusals[subscription]; ok && old.Version == r.Version && old.Resumed == r.Resumed {
		return l.finish()
	}
	l.refusals[subscription] = r
	_ = l.set(gossip.KindRefusal, subscription, r) // small
	if o := l.ordered[subscription]; o != nil && !o.dropped {
		o.sub.Paused = r.Reason // the notifier has paused it
		o.digest = digest(o.sub)
	}
	return l.finish()
}

func (l *Ledger) unrefuse(id string) {
	if has(l.refusals, id) {
		delete(l.refusals, id)
		delete(l.again, id)
		l.remove(gossip.KindRefusal, id)
		l.dirty[id] = struct{}{}
	}
}

// resumed is how often a version of a subscription was resumed.
func (l *Ledger) resumed(id string, version uint64) uint64 {
	if w := l.shared[id]; w != nil && w.payload.Version == version {
		return w.payload.Resumed
	}
	return 0
}

// refusers are the hosts whose refusal counts, in order.
func (l *Ledger) refusers(id string, version, resumed uint64) []string {
	counts := func(r Refusal, ok bool) bool { return ok && r.Version == version && r.Resumed == resumed }
	var names []string
	if r, ok := l.refusals[id]; counts(r, ok) {
		names = append(names, l.cfg.Node)
	}
	for name, h := range l.hosts {
		if r, ok := h.refusals[id]; counts(r, ok) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// wishes are the hosts whose files name a subscription, in order; this one is not among them.
func (l *Ledger) wishes(id string) []string {
	var names []string
	for name, h := range l.hosts {
		if h.wishes[id] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// target is what the notifier should have of a subscription, by all that is known; the order in which that became known is
// no part of it.
type target struct {
	sub   notify.Subscription
	live  bool
	own   *notify.Subscription // this host's file names it: only its pause is for others to say
	wish  *wish                // where sub is from
	over  bool                 // it was not renewed
	ended bool                 // refused by two: whoever refused it ends it for all
	pause *Subscription        // the record that should be shared: a file's subscription was refused by two
}

func (l *Ledger) target(id string) target {
	var t target
	shared := l.shared[id]
	names := l.wishes(id)
	if own, ok := l.file[id]; ok {
		t.own = &own
		own.Paused = ""
		l.halt(&t, own, shared)
		return t
	}
	var sub notify.Subscription
	switch {
	case len(names) > 0:
		t.wish = l.newest(id, names)
		sub = l.renewed(id, names, t.wish)
	case shared != nil && !shared.pauseOnly():
		t.wish, sub = shared, shared.sub
	default:
		return t
	}
	l.halt(&t, sub, shared)
	t.over = t.sub.Over(l.now)
	t.live = t.wish.refused == nil && !t.ended && !t.over
	return t
}

// halt finds whether a subscription is paused: by an operator, or because its consumer has refused it to this host, or to
// two and so for all. target.live says that somebody elsewhere has said anything of that.
func (l *Ledger) halt(t *target, sub notify.Subscription, shared *wish) {
	t.sub = sub
	resumed := uint64(0)
	if shared != nil && shared.payload.Version == sub.Version {
		t.sub.Paused, resumed, t.live = shared.payload.Paused, shared.payload.Resumed, true
	}
	if own, ok := l.refusals[sub.ID]; ok && t.sub.Paused == "" && own.Version == sub.Version && own.Resumed == resumed {
		t.sub.Paused = own.Reason
	}
	refusers := l.refusers(sub.ID, sub.Version, resumed)
	if len(refusers) < 2 {
		return
	}
	t.live = true
	if sub.Origin == notify.OriginAPI {
		t.ended = true
		return
	}
	if shared == nil || shared.payload.Version != sub.Version || shared.payload.Paused == "" {
		t.sub.Paused = "its consumer answered 410 (it wants nothing more) to " + shown(strings.Join(refusers, ", "))
		t.pause = &Subscription{Version: sub.Version, Paused: t.sub.Paused, Resumed: resumed, Refused: true}
	}
}

// newest of the wishes of several hosts is that with the latest time of making, ties by the lower name; of those that can
// be used, if there is one, and of those whose secret can be opened here, if there is one.
func (l *Ledger) newest(id string, names []string) *wish {
	var best *wish
	for _, name := range names {
		w := l.hosts[name].wishes[id]
		if best == nil || w.use() > best.use() || w.use() == best.use() && w.payload.Created.After(best.payload.Created) {
			best = w
		}
	}
	return best
}

// renewed is the subscription of a wish with the credentials that were renewed last, of those that files of the same version
// hold: the host whose wish it is may be gone, and its token over. Ties by the lower name.
func (l *Ledger) renewed(id string, names []string, best *wish) notify.Subscription {
	sub, at := best.sub, best.payload.Renewed
	for _, name := range names {
		if w := l.hosts[name].wishes[id]; w.use() == 2 && w.payload.Version == best.payload.Version && w.payload.Renewed.After(at) {
			sub.Credentials, at = w.sub.Credentials, w.payload.Renewed
		}
	}
	return sub
}

// judge reports what is wrong with a subscription: files that contradict each other, contents that can't be used here, a
// secret that can't be opened here.
func (l *Ledger) judge(id string, t *target) {
	if t.own != nil {
		var others []string
		for _, name := range l.wishes(id) {
			if l.hosts[name].wishes[id].payload.Version != t.own.Version {
				others = append(others, shown(name))
			}
		}
		text := ""
		if len(others) > 0 {
			text = fmt.Sprintf("this host's configuration file and that of %s name subscription %q with different contents; each host uses its own: make them equal",
				strings.Join(others, ", "), t.own.Name)
		}
		l.say(subscriptionResource(*t.own), correlate.CondConflict, text)
	}
	was, bad := l.judged[id]
	now, text := correlate.ID(""), ""
	if w := t.wish; w != nil {
		now = subscriptionResource(w.sub)
		switch {
		case w.refused != nil:
			text = "a subscription that another host knows: " + w.refused.Error()
		case w.locked != nil:
			text = fmt.Sprintf("its secrets are of no use here, peers must deliver for this host: %v: give all hosts the same cluster.secrets_key_file", w.locked)
		}
	}
	if bad && (was != now || text == "") {
		l.say(was, correlate.CondUnusable, "")
		delete(l.judged, id)
	}
	if text != "" {
		l.say(now, correlate.CondUnusable, text)
		l.judged[id] = now
	}
}

// prune drops what this host has said of a subscription and what means nothing any more.
func (l *Ledger) prune(id string, t *target) {
	known := t.own != nil || t.wish != nil
	gone := !known && (l.settled || l.over(id))
	if r, ok := l.refusals[id]; ok {
		version := t.sub.Version
		if t.own != nil {
			version = t.own.Version
		}
		void := gone
		switch {
		case !known:
		case r.Version == version:
			void = r.Resumed < l.resumed(id, version)
		case t.sub.Origin == notify.OriginAPI:
			void = r.Version < version
		default: // contents of a file: neither is newer
			void = t.own != nil || l.settled
		}
		if void {
			delete(l.halted, id)
			delete(l.refusals, id)
			l.remove(gossip.KindRefusal, id)
		}
	}
	if gone {
		for _, pair := range slices.Sorted(maps.Keys(l.receipts)) {
			if subscription, _ := splitPair(pair); notify.OwnerOf(subscription) == id {
				l.dropReceipt(pair)
			}
		}
	}
	if gone && has(l.taken, id) {
		delete(l.taken, id)
		l.remove(gossip.KindDelivery, pairID(id, ""))
	}
}

// over says that a subscription has ended for all. Of one that files name the tombstone is but that of a pause.
func (l *Ledger) over(id string) bool {
	s, known := l.known[id]
	return has(l.ended, id) && (!known || s.Origin == notify.OriginAPI)
}

// endPaused makes the pause of a file's subscription that two have refused outlast them.
func (l *Ledger) endPaused(id string, t *target) {
	if t.pause == nil || !has(l.refusals, id) {
		return
	}
	this := Refusal{Version: t.pause.Version, Resumed: t.pause.Resumed}
	if l.paused[id] == this { // once: hosts with other contents may pause theirs in the same record
		return
	}
	l.paused[id] = this
	if b, err := l.codec.encode(*t.pause); err == nil { // small
		l.insist(Write{Kind: gossip.KindSubscription, ID: id, Payload: b})
	}
}

func subscriptionResource(s notify.Subscription) correlate.ID {
	name := "paramedic/subscription/" + shown(s.Name)
	if s.Origin == notify.OriginAPI {
		name += "/" + shown(s.ID)
	}
	return correlate.NewID(correlate.KindService, name)
}

// reconcile orders what is missing between what the notifier has of a subscription and what it should have.
func (l *Ledger) reconcile(id string) {
	if has(l.awaited, id) {
		return
	}
	t := l.target(id)
	l.judge(id, &t)
	l.prune(id, &t)
	l.endPaused(id, &t)
	if t.ended && has(l.refusals, id) && l.shared[id] != nil && !has(l.insisted, gossip.Key{Kind: gossip.KindSubscription, ID: id}) {
		l.insist(Write{Kind: gossip.KindSubscription, ID: id, Delete: true})
	}
	o := l.ordered[id]
	if !t.live {
		switch {
		case o == nil && !has(l.ended, id), o != nil && o.dropped:
			return
		case has(l.known, id) && !l.over(id) && !t.ended:
			return // nobody has had the time to speak of it
		case t.over && !l.settled:
			return // nor to say that it was renewed
		}
		l.ordered[id] = &order{dropped: true}
		l.out.Drop = append(l.out.Drop, id)
		return
	}
	if version, ok := l.halted[id]; ok && version == t.sub.Version && t.sub.Paused == "" {
		return // if by our own 410, we are about to hear of it
	}
	d := digest(t.sub)
	if o != nil && !o.dropped && o.digest == d {
		return
	}
	l.ordered[id] = &order{digest: d, sub: t.sub}
	p := Put{Subscription: t.sub}
	if w := t.wish; w != nil && t.sub.Origin == notify.OriginAPI && l.taken[id] < w.payload.SnapshotOf && !o.had(w.payload.SnapshotOf) {
		p.Told, p.Given = map[string]correlate.Revision{}, map[string]Given{}
		for alarm, g := range w.payload.Snapshot {
			r, err := correlate.ParseRevision(g.Revision)
			if err == nil && l.guests[alarm] == g.Home && g.Home != "" { // we speak for its home
				p.Told[alarm] = r
			}
			if err != nil || g.Home != l.cfg.Node || l.unsaidYet(alarm, r) {
				continue
			}
			p.Told[alarm], p.Given[alarm] = r, g
		}
		if len(p.Given) > 0 {
			l.takes.add(l.now.Add(takenAfter), id)
		}
	}
	l.out.Put = append(l.out.Put, p)
}
