package cluster

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

const (
	hold           = time.Millisecond // a delivery leaves after that, committed or not
	requestTimeout = 15 * time.Second
	connectTimeout = 250 * time.Millisecond
	orphanWait     = 5 * time.Minute
)

// notifier is notify.Notifier with machines in virtual time; its methods have the names of those they stand for.
type notifier struct {
	a       *agent
	s       *simulation
	box     *outbox
	alarms  map[string]correlate.Change
	pairs   map[string]int
	left    map[string][]delivery.Record
	past    map[string]kept
	workers map[string]*worker
	filed   bool
	running bool
}

func newNotifier(a *agent) *notifier {
	d := &a.h.disk
	n := &notifier{
		a: a, s: a.s, box: newOutbox(a), alarms: maps.Clone(d.alarms), pairs: map[string]int{}, left: map[string][]delivery.Record{},
		past: map[string]kept{}, workers: map[string]*worker{},
	}
	for _, p := range slices.SortedFunc(maps.Keys(d.pairs), func(a, b pair) int {
		return cmp.Or(strings.Compare(a.subscription, b.subscription), strings.Compare(a.alarm, b.alarm))
	}) {
		n.left[p.subscription] = append(n.left[p.subscription], d.pairs[p])
		n.pairs[p.alarm]++
	}
	for _, id := range slices.Sorted(maps.Keys(d.subs)) {
		k := d.subs[id]
		if k.sub.Origin == notify.OriginFile {
			n.past[id] = k
		} else {
			n.join(n.prepare(k.sub, k))
		}
	}
	return n
}

func (n *notifier) run() {
	n.running = true
	for _, w := range n.list() {
		w.pump()
	}
	n.a.after(orphanWait, func() {
		n.disownAll()
	})
}

func (n *notifier) list() []*worker {
	return slices.SortedFunc(maps.Values(n.workers), func(a, b *worker) int { return strings.Compare(a.id, b.id) })
}

// standing is every known alarm, oldest revision first.
func (n *notifier) standing() []correlate.Change {
	return slices.SortedFunc(maps.Values(n.alarms), func(a, b correlate.Change) int {
		return cmp.Or(a.Alarm.Revision.Compare(b.Alarm.Revision), strings.Compare(a.Alarm.ID, b.Alarm.ID))
	})
}

// publish saves what the engine decided and owes it to whoever wants it.
func (n *notifier) publish(eff correlate.Effects) {
	var batch []correlate.Change
	for _, c := range eff.Publish {
		if k, ok := n.alarms[c.Alarm.ID]; ok && c.Alarm.Revision.Compare(k.Alarm.Revision) < 0 {
			continue
		}
		n.save(c)
		batch = append(batch, c)
	}
	for _, a := range eff.Save {
		if k, ok := n.alarms[a.ID]; ok && k.Alarm.Revision == a.Revision {
			k.Alarm = a
			n.save(k)
		} else if !ok {
			n.save(correlate.Change{Alarm: a})
		}
	}
	for _, w := range n.list() {
		w.offer(batch)
	}
	for _, c := range batch {
		n.forgetSettled(c.Alarm.ID)
	}
	for _, a := range eff.Save {
		n.forgetSettled(a.ID)
	}
}

func (n *notifier) save(c correlate.Change) {
	n.alarms[c.Alarm.ID] = c
	n.box.put(place{"", c.Alarm.ID}, c)
}

func (n *notifier) forgetSettled(id string) {
	if k, ok := n.alarms[id]; ok && n.pairs[id] == 0 && !k.Alarm.Standing() && !k.Alarm.Dismissed() {
		delete(n.alarms, id)
		n.box.put(place{"", id}, nil)
		n.a.mail.forgot = append(n.a.mail.forgot, id)
		n.a.kick()
	}
}

func (n *notifier) release(ids []string) {
	for _, id := range ids {
		if n.pairs[id]--; n.pairs[id] <= 0 {
			delete(n.pairs, id)
			n.forgetSettled(id)
		}
	}
}

func (n *notifier) committed(seq uint64) {
	for _, w := range n.list() {
		w.machine.Committed(seq, delivery.Commit{}, n.a.even())
		w.pump()
	}
}

func (n *notifier) tell(p notify.Pair) {
	put(&n.a.mail.pairs, pair{p.Subscription, p.AlarmID}, p)
	n.a.kick()
}

func pairOf(subscription string, r delivery.Record) notify.Pair {
	return notify.Pair{
		Subscription: subscription, AlarmID: r.AlarmID, Told: r.Told, Owed: r.Owed, Parked: r.Parked, Again: r.Again, Attempts: r.Attempts, LastError: r.LastError,
	}
}

// digest tells contents apart.
func digest(s notify.Subscription) string {
	b, err := json.Marshal([]any{s.Name, s.Endpoints, s.Format, s.Role, s.Filter, s.Secret.Seal(nil, nil), s.Secret.Locked()})
	if err != nil {
		panic(violation{err.Error()})
	}
	return string(b)
}

// setFile is SetFile.
func (n *notifier) setFile(subs []notify.Subscription) {
	n.filed = true
	named := map[string]bool{}
	for _, s := range subs {
		s.Format, s.Role = cmp.Or(s.Format, notify.FormatNative), cmp.Or(s.Role, notify.RoleAdmin)
		s.ID, s.Origin, s.Version = notify.FileID(label, s.Name), notify.OriginFile, notify.FileVersion(s)
		named[s.ID] = true
		if w := n.workers[s.ID]; w != nil {
			if s.Created = w.sub.Created; digest(w.sub) == digest(s) {
				s.Paused = w.sub.Paused
			}
			n.change(w, s)
			continue
		}
		s.Created = n.a.h.clock()
		past, ok := n.past[s.ID]
		if ok {
			if s.Created = past.sub.Created; past.digest == digest(s) {
				s.Paused = past.sub.Paused
			}
			delete(n.past, s.ID)
		}
		w := n.prepare(s, past)
		n.join(w)
		n.box.put(place{w.id, ""}, w.record())
	}
	for _, w := range n.list() {
		if w.sub.Origin == notify.OriginFile && !named[w.id] {
			n.orphan(w)
		}
	}
}

func (n *notifier) orphan(w *worker) {
	delete(n.workers, w.id)
	w.ended = true
	records, _ := w.machine.Records()
	n.past[w.id] = w.record()
	n.left[w.id] = append(n.left[w.id], records...)
	slices.SortFunc(n.left[w.id], func(a, b delivery.Record) int { return strings.Compare(a.AlarmID, b.AlarmID) })
	n.a.after(orphanWait, n.disownAll)
}

// disownAll ends what is left for subscriptions that nobody has named.
func (n *notifier) disownAll() {
	for _, id := range slices.Sorted(maps.Keys(n.left)) {
		n.disown(id)
	}
	for _, id := range slices.Sorted(maps.Keys(n.past)) {
		n.box.put(place{id, ""}, nil)
	}
	clear(n.past)
	for _, c := range n.standing() {
		n.forgetSettled(c.Alarm.ID)
	}
}

func (n *notifier) disown(id string) {
	pairs := n.left[id]
	delete(n.left, id)
	for _, p := range pairs {
		n.box.put(place{id, p.AlarmID}, nil)
		n.tell(notify.Pair{Subscription: id, AlarmID: p.AlarmID, Removed: true})
		n.release([]string{p.AlarmID})
	}
}

func (n *notifier) prepare(sub notify.Subscription, k kept) *worker {
	cfg := delivery.DefaultConfig()
	w := &worker{n: n, id: sub.ID, sub: sub, machine: delivery.New(cfg, n.s.rng.Float64), flying: map[string]bool{}}
	if sub.Paused != "" {
		w.machine.Pause()
		if k.refused == sub.Version {
			w.refused = k.refused
		}
	}
	for _, r := range n.left[sub.ID] {
		c, ok := n.alarms[r.AlarmID]
		if !ok {
			n.box.put(place{sub.ID, r.AlarmID}, nil)
			n.release([]string{r.AlarmID})
			continue
		}
		w.machine.Restore(r, c, n.a.even())
	}
	delete(n.left, sub.ID)
	return w
}

func (n *notifier) join(w *worker) {
	n.workers[w.id] = w
	w.restate()
	w.offer(n.standing())
	w.pump()
}

// end takes a subscription and all it is owed away.
func (n *notifier) end(w *worker) {
	delete(n.workers, w.id)
	w.ended = true
	n.box.put(place{w.id, ""}, nil)
	records, _ := w.machine.Records()
	slices.SortFunc(records, func(a, b delivery.Record) int { return strings.Compare(a.AlarmID, b.AlarmID) })
	for _, r := range records {
		n.tell(notify.Pair{Subscription: w.id, AlarmID: r.AlarmID, Removed: true})
		n.box.put(place{w.id, r.AlarmID}, nil)
		n.release([]string{r.AlarmID})
	}
}

// change gives a subscription what s says.
func (n *notifier) change(w *worker, s notify.Subscription) notify.Subscription {
	old := w.sub
	if digest(old) == digest(s) && s.Paused == old.Paused && s.Version == old.Version && s.Origin == old.Origin {
		return old
	}
	if s.Version != old.Version || s.Paused != old.Paused {
		w.refused = 0
	}
	w.sub = s
	n.box.put(place{w.id, ""}, w.record())
	switch {
	case s.Paused != "":
		w.machine.Pause()
	case w.machine.Paused():
		w.keep(w.machine.Resume(n.a.even()))
	}
	w.pump()
	w.offer(n.standing())
	return s
}

// The side of notify.Shared.

func (n *notifier) kept() (alarms []correlate.Change, pairs []notify.Pair) {
	alarms = n.standing()
	for _, w := range n.list() {
		records, _ := w.machine.Records()
		for _, r := range records {
			pairs = append(pairs, pairOf(w.id, r))
		}
	}
	for id, left := range n.left {
		for _, p := range left {
			pairs = append(pairs, pairOf(id, p))
		}
	}
	slices.SortFunc(pairs, func(a, b notify.Pair) int {
		return cmp.Or(strings.Compare(a.Subscription, b.Subscription), strings.Compare(a.AlarmID, b.AlarmID))
	})
	return alarms, pairs
}

func (n *notifier) adopt(alarms []correlate.Change, pairs []notify.Pair) {
	for _, c := range alarms {
		if k, ok := n.alarms[c.Alarm.ID]; !ok || k.Alarm.Revision.Compare(c.Alarm.Revision) < 0 {
			n.save(c)
		}
	}
	for _, p := range pairs {
		c, ok := n.alarms[p.AlarmID]
		if p.Removed || !ok {
			continue
		}
		if ended(c, p.Told) {
			n.tell(notify.Pair{Subscription: p.Subscription, AlarmID: p.AlarmID, Removed: true})
			continue
		}
		r := delivery.Record{
			AlarmID: p.AlarmID, Owed: p.Owed, Told: p.Told, Parked: p.Parked, Again: p.Again, Attempts: p.Attempts, LastError: p.LastError, Created: n.a.even(),
		}
		w := n.workers[p.Subscription]
		if w == nil {
			n.leave(p.Subscription, r)
			continue
		}
		if _, _, held := w.machine.Pair(p.AlarmID); !held {
			w.machine.Restore(r, c, n.a.even())
			n.pairs[p.AlarmID]++
			r, _, _ := w.machine.Pair(p.AlarmID)
			w.keep(delivery.Effects{Save: []delivery.Record{r}})
			w.pump()
		} else if p.Told != (correlate.Revision{}) {
			n.know(w, p.AlarmID, p.Told)
		}
	}
	for _, w := range n.list() {
		w.offer(n.standing())
	}
	for _, c := range alarms {
		n.forgetSettled(c.Alarm.ID)
	}
}

func ended(c correlate.Change, r correlate.Revision) bool {
	return !c.Alarm.Standing() && r.Compare(c.Alarm.Revision) >= 0
}

func (n *notifier) leave(subscription string, r delivery.Record) {
	left := n.left[subscription]
	if i := slices.IndexFunc(left, func(p delivery.Record) bool { return p.AlarmID == r.AlarmID }); i >= 0 {
		if r.Told.Compare(left[i].Told) > 0 {
			if left[i].Told = r.Told; left[i].Owed.Compare(r.Told) <= 0 {
				left[i].Owed, left[i].Parked, left[i].Again = correlate.Revision{}, false, false
			}
		}
		r = left[i]
		if c, ok := n.alarms[r.AlarmID]; ok && ended(c, r.Told) {
			n.left[subscription] = slices.Delete(left, i, i+1)
			n.box.put(place{subscription, r.AlarmID}, nil)
			n.tell(notify.Pair{Subscription: subscription, AlarmID: r.AlarmID, Removed: true})
			n.release([]string{r.AlarmID})
			return
		}
	} else {
		n.left[subscription] = append(left, r)
		n.pairs[r.AlarmID]++
	}
	n.box.put(place{subscription, r.AlarmID}, r)
}

func (n *notifier) put(s notify.Subscription, told map[string]correlate.Revision) []string {
	w := n.workers[s.ID]
	switch {
	case w == nil && s.Origin == notify.OriginFile:
		return nil
	case w == nil:
		past := n.past[s.ID]
		delete(n.past, s.ID)
		w = n.prepare(s, past)
		n.give(w, told)
		n.join(w)
		n.box.put(place{w.id, ""}, w.record())
	default:
		if old := w.sub; old.Origin == notify.OriginFile {
			if s.Version != old.Version {
				return nil
			}
			old.Paused = s.Paused
			s = old
		}
		n.change(w, s)
		n.give(w, told)
		w.offer(n.standing())
	}
	return slices.Sorted(maps.Keys(w.awaited))
}

func (n *notifier) give(w *worker, told map[string]correlate.Revision) {
	if w.awaited != nil || len(told) == 0 {
		return
	}
	w.awaited = map[string]correlate.Revision{}
	for _, id := range slices.Sorted(maps.Keys(told)) {
		if _, ok := n.alarms[id]; ok {
			n.know(w, id, told[id])
		} else {
			w.awaited[id] = told[id]
		}
	}
}

func (n *notifier) know(w *worker, id string, r correlate.Revision) {
	k, ok := n.alarms[id]
	cleared := ok && !k.Alarm.Standing() && k.Alarm.Revision.Compare(r) <= 0
	if _, _, held := w.machine.Pair(id); !held {
		if !cleared {
			w.note(id, r)
		}
		return
	}
	eff := w.machine.Settle(id, r, cleared, n.a.even())
	w.keep(eff)
	w.pump()
	n.release(eff.Remove)
}

func (n *notifier) told(subscription, id string, r correlate.Revision) {
	k, ok := n.alarms[id]
	if !ok {
		return
	}
	w := n.workers[subscription]
	if w == nil {
		if len(n.left[subscription]) > 0 {
			n.leave(subscription, delivery.Record{AlarmID: id, Told: r})
		}
		return
	}
	n.know(w, id, r)
	w.offer([]correlate.Change{k})
}

func (n *notifier) dropped(id string) {
	n.s.trace("%s: drop %s", n.a.h.name, id)
	if w := n.workers[id]; w != nil {
		if w.sub.Origin != notify.OriginFile {
			n.end(w)
		}
		return
	}
	if _, ok := n.past[id]; ok {
		if !n.filed {
			return
		}
		delete(n.past, id)
		n.box.put(place{id, ""}, nil)
	}
	n.disown(id)
}

// The worker.

// request makes one call to a consumer that can be connected to, and judges its answer or that none came in time.
func (n *notifier) request(c *consumer, sub notify.Subscription, h notify.HandOver, limit time.Duration, done func(delivery.Outcome)) {
	n.s.report.Requests++
	answered := false
	result := func(o delivery.Outcome) {
		if !answered && !n.a.dead {
			answered = true
			done(o)
		}
	}
	n.a.after(limit, func() { result(delivery.Outcome{Verdict: delivery.Retry, Err: "no answer"}) })
	c.receive(notificationOf(n.a.h, sub, h), func(status int, retryAfter string) {
		if status == 0 {
			result(delivery.Outcome{Verdict: delivery.Retry, Err: "the connection broke"})
		} else {
			result(delivery.Classify(status, retryAfter, n.a.h.clock()))
		}
	})
}

// Deliver is Notifier.Deliver: a request for the home of an alarm. The error says that it was not made.
func (n *notifier) guest(h notify.HandOver, limit time.Duration, done func(delivery.Outcome, string)) {
	w := n.workers[h.Subscription]
	const most = 8
	switch {
	case w == nil:
		done(delivery.Outcome{}, "no such subscription")
		return
	case w.sub.Version != h.Version:
		done(delivery.Outcome{}, "another version")
		return
	case w.sub.Paused != "":
		done(delivery.Outcome{}, "paused")
		return
	case w.sub.Secret.Locked():
		done(delivery.Outcome{}, "locked")
		return
	case w.guests >= most:
		done(delivery.Outcome{}, "busy")
		return
	}
	c := n.s.consumerOf(w.sub)
	if cut := c.cut[n.a.h]; cut != reachable || c.mood == down {
		wait := n.s.between(200*time.Microsecond, 2*time.Millisecond)
		if cut == silent {
			wait = connectTimeout
		}
		n.a.after(wait, func() { done(delivery.Outcome{}, "no endpoint can be connected to") })
		return
	}
	w.guests++
	n.s.report.Handed++
	n.request(c, w.sub, h, limit, func(o delivery.Outcome) {
		w.guests--
		done(o, "")
	})
}
