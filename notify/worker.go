package notify

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// worker delivers for one leg of a subscription. Nobody else's slowness touches it, nor its own anybody else.
type worker struct {
	n      *Notifier
	owner  string // the subscription's id
	leg    leg
	name   atomic.Pointer[string] // of the subscription, for what runs without mu
	sender *sender
	guests chan struct{} // requests for peers that are under way
	asking chan struct{} // requests of revisions that take several
	// requests is the context of all that it sends; it ends with the worker, so that nothing is told late which others tell by then.
	requests context.Context
	cancel   context.CancelFunc
	kin      *kin
	kick     chan struct{} // Wake may have changed

	mu       sync.Mutex
	sub      Subscription
	machine  *delivery.Machine
	wakeAt   time.Time
	ended    bool
	reported string    // what the standing report about this subscription says; empty when none stands
	worked   bool      // it has worked, or was resumed, in this run; before, a report of the last run stands
	rests    time.Time // its endpoint has answered 410, and others are told: nothing is sent until then; zero: it does not rest
	beat     time.Time // the slot of the last heartbeat that was this host's to think of
	beating  bool      // one is on its way
	another  bool      // that one was another host's, and is looked at once more
	refused  uint64    // the version that the consumer answered here with 410; 0: none, or it was resumed
	// awaited are those of the snapshot given elsewhere that are not known here, others' alarms too; nil before that.
	awaited  map[string]correlate.Revision
	sharers  int       // hosts that sent to the consumer too when it was last looked, at
	sharedAt time.Time // this time
	sealed   []byte    // the secret as it rests
	sealedOf Secret
	rebuilt  Rebuilt
	// sealedLink are the credentials as they rest.
	sealedLink   []byte
	sealedLinkOf Credentials
	stop         chan struct{}
}

func newWorker(n *Notifier, sub Subscription, l leg) *worker {
	cfg := delivery.DefaultConfig()
	cfg.MaxAge = n.cfg.MaxAge
	var w *worker
	cfg.View = func(a *correlate.Alarm) uint64 { return w.told().shown(a) }
	cfg.Repeat = func() time.Duration { return w.sub.form().Repeat }
	cfg.Apart = func() bool { return w.sub.form().Apart }
	cfg.Parts = func(a *correlate.Alarm) ([]delivery.Part, bool) { return w.told().parts(a) }
	w = &worker{
		n: n, owner: sub.ID, leg: l, sub: sub, kick: make(chan struct{}, 1), stop: make(chan struct{}),
		machine: delivery.New(cfg, n.cfg.Rand),
		sender:  newSender(n.cfg.UserAgent, n.way(sub), n.cfg.Now),
		guests:  make(chan struct{}, maxGuests),
		asking:  make(chan struct{}, cfg.InFlight),
		kin:     newKin(),
	}
	w.requests, w.cancel = context.WithCancel(n.requests)
	w.name.Store(&sub.Name)
	w.sender.warm.moved = w.moved
	if w.halted(n.cfg.Now()) {
		w.machine.Pause()
	}
	for _, a := range n.restored.Alarms {
		if a.Key.Resource == l.resource(sub) && a.Key.Condition == correlate.CondSubscription {
			w.reported = a.Text
		}
	}
	return w
}

// halted reports whether nothing may be sent: it is paused, over, its owner may hear nothing, or it can't be signed and nobody
// else can be asked to. Under mu.
func (w *worker) halted(now time.Time) bool {
	return w.sub.Paused != "" || w.sub.lapsed(now) || w.silenced() != "" || !w.rests.IsZero() || w.sub.Locked() && w.n.cfg.Peers == nil
}

// align pauses what may not be sent, and resumes what may again. Under mu.
func (w *worker) align(now time.Time) {
	rested := w.rested(now)
	switch halted := w.halted(now); {
	case halted:
		w.machine.Pause()
	case w.machine.Paused():
		w.worked = !rested // else nobody has said that it works again
		w.n.box.put(w.writes(w.machine.Resume(now))...)
	}
}

// NotificationID is the webhook-id of a revision to a subscription: the same from whichever agent sends it.
func NotificationID(alarmID string, r correlate.Revision, subscription string, version uint64) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(alarmID+"\x00"+r.String()+"\x00"+subscription+"\x00"+strconv.FormatUint(version, 10))).String()
}

// offer owes the subscription what it wants of a batch, and stages it in the outbox. Under Notifier.mu.
func (w *worker) offer(batch []change, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	var writes []write
	sub := w.told()
	for _, c := range batch {
		if c.saveOnly {
			continue
		}
		a := c.newest.Alarm
		if r, given := w.awaited[a.ID]; given {
			delete(w.awaited, a.ID)
			writes = append(writes, w.note(a.ID, r, a))
		}
		if w.n.ofUs(a) && a.Standing() { // that we are lost is not ours to tell, to those who were told of it neither
			continue
		}
		pair, owed, ok := w.machine.Pair(a.ID)
		knows := ok
		if !ok && w.n.ofUs(a) {
			if knows = sub.mayKnow(a, w.n.places); !knows {
				continue
			}
		}
		if !w.n.wants(sub, a, now, knows, owed) && (c.first == nil || !w.n.wants(sub, c.first, now, ok, owed)) {
			continue
		}
		enqueue := w.machine.Enqueue
		if c.stood {
			enqueue = w.machine.EnqueueLate
		}
		eff := enqueue(c.newest, now)
		writes = append(writes, w.writes(eff)...)
		w.kin.tally.dropped(eff.Evicted)
		if owed && a.Revision.Compare(pair.Owed) > 0 {
			w.kin.tally.replaced()
		}
		if _, _, held := w.machine.Pair(a.ID); held && !ok {
			w.n.pairs[a.ID]++
		}
		w.n.release(eff.Remove)
	}
	if len(writes) == 0 {
		return
	}
	seq := w.n.box.stage(writes...)
	w.machine.Hold(seq, now.Add(hold))
	w.rewake(now.Add(hold))
}

// writes is what the outbox keeps of eff; the peers are told the same. Under mu.
func (w *worker) writes(eff delivery.Effects) []write {
	out := make([]write, 0, len(eff.Save)+len(eff.Remove))
	for _, id := range eff.Remove {
		out = append(out, write{pairPlace(w.leg.id, id), nil})
		w.n.tellRemoved(w.leg.id, id)
	}
	for _, r := range eff.Save {
		w.tell(r)
		out = append(out, write{pairPlace(w.leg.id, r.AlarmID), pairRecord(r)})
	}
	return out
}

// rewake makes run look again by at. Under mu.
func (w *worker) rewake(at time.Time) {
	if w.wakeAt.IsZero() || at.Before(w.wakeAt) {
		w.wakeAt = at
		w.wake()
	}
}

func (w *worker) committed(seq uint64, c delivery.Commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.n.cfg.Now() // others were told before it
	w.machine.Committed(seq, c, now)
	w.pump(now)
}

// pump starts what is due and notes when to look again. Under mu.
func (w *worker) pump(now time.Time) {
	if w.ended || !w.n.running.Load() {
		return
	}
	w.align(now)
	w.machine.Space(w.spacing(now))
	eff, sub := w.machine.Tick(now), w.told()
	if eff.Room {
		w.n.group.Go(func() { w.refill(eff.Missed) })
	}
	for _, s := range eff.Start {
		w.n.group.Go(func() { w.deliver(sub, s) })
	}
	w.judge(now)
	at := eff.Wake
	for _, since := range []time.Time{w.machine.FailingSince(), w.machine.ParkedSince()} {
		if due := since.Add(failingLong); !since.IsZero() && w.reported == "" && !w.halted(now) && (at.IsZero() || due.Before(at)) {
			at = due
		}
	}
	for _, end := range []time.Time{w.sub.Expires, w.rests} {
		if end.After(now) && (at.IsZero() || end.Before(at)) {
			at = end
		}
	}
	for _, next := range []time.Time{w.sayRebuilt(now), w.sayBeat(now)} {
		if at.IsZero() || !next.IsZero() && next.Before(at) {
			at = next
		}
	}
	if !at.Equal(w.wakeAt) {
		w.wakeAt = at
		w.wake()
	}
}

// refill owes what stands and was dropped for want of room. What was found since missed would have been told long ago, had there been
// room: that is this queue's delay, and counts.
func (w *worker) refill(missed time.Time) {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	standing := w.n.standing()
	for i, c := range standing {
		standing[i].stood = missed.IsZero() || c.newest.Found.Before(missed)
	}
	w.offer(standing, w.n.cfg.Now())
	w.n.box.flush()
}

func (w *worker) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// run pumps when the time has come.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	longest := warmPauseMax
	if w.n.cfg.Peers != nil {
		longest = warmPause
	}
	w.n.group.Go(func() { w.sender.warm.keep(ctx, w.stop, longest, w.n.cfg.Now, w.endpoints) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.stop:
			return
		case <-timer.C:
			w.mu.Lock()
			w.pump(w.n.cfg.Now())
			w.mu.Unlock()
		case <-w.kick:
		}
		w.mu.Lock()
		at := w.wakeAt
		w.mu.Unlock()
		if at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(0, at.Sub(w.n.cfg.Now())))
		}
	}
}

func (w *worker) subscription() Subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sub
}

// endpoints are those to keep warm: a consumer that wants nothing more is left alone.
func (w *worker) endpoints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sub.Paused == "" && !w.sub.lapsed(w.n.cfg.Now()) && w.rests.IsZero() && !w.sub.Credentials.Locked() {
		return w.aims(w.sub)
	}
	return nil
}

// aims are the endpoints that this leg may send to.
func (w *worker) aims(sub Subscription) []string {
	if w.leg.only != "" {
		return []string{w.leg.only}
	}
	return sub.Endpoints
}

// deliver tells a revision and reports what came of it. sub is what the start was made for.
func (w *worker) deliver(sub Subscription, s delivery.Start) {
	began := w.n.cfg.Now()
	if s.Early {
		w.n.box.keep(w.requests)
	}
	h := HandOver{
		NotificationID: NotificationID(s.Alarm.ID, s.Alarm.Revision, sub.ID, sub.Version), Subscription: w.leg.id, Version: sub.Version,
		Change: s.Change, Outbox: s.Outbox, Attempt: s.Attempt, Superseded: s.Superseded,
	}
	var a answer
	if s.Split {
		a = w.tellParts(sub, h, s.Asks)
	} else {
		a = w.send(sub, h)
	}
	if a.outcome.Verdict == delivery.Settled {
		a.outcome.View = sub.shown(s.Alarm)
	}
	if w.requests.Err() != nil && a.outcome.Verdict == delivery.Retry {
		return // cut off by the end of Run: it is still owed, and tried first thing by the next
	}
	st := Stages{
		NotificationID: h.NotificationID, AlarmID: s.Alarm.ID, Subscription: sub.Name,
		Found: s.Found, Owed: s.Owed, Begun: s.Commit.Begun, Committed: s.Commit.Done, Outbox: s.Outbox, Taken: began, Sent: a.sent, Answered: a.answered,
		Attempts: s.Attempt, By: cmp.Or(a.outcome.By, w.n.cfg.Node), Late: s.Late,
		Consumer: sub.ID, Endpoint: w.leg.only, Revision: s.Alarm.Revision,
	}
	st.Occurred, st.Observed = times(s.Change)
	w.settle(s, st, a)
}

// decided is when the engine made a revision.
func decided(a *correlate.Alarm) time.Time {
	switch a.Last {
	case correlate.Raised:
		return a.Times.Raised
	case correlate.Changed:
		return a.Times.Changed
	case correlate.Cleared:
	}
	return a.Times.Cleared
}

func (w *worker) settle(s delivery.Start, st Stages, a answer) {
	now := w.n.cfg.Now()
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return
	}
	eff := w.machine.Result(s.Alarm.ID, a.outcome, now)
	w.worked = w.worked || a.outcome.Verdict == delivery.Settled && !a.outcome.Unasked
	writes := w.writes(eff)
	if eff.Paused {
		w.refuse(a.outcome.Err, now)
	}
	if len(writes) > 0 {
		w.n.box.put(writes...)
	}
	name := w.sub.Name
	w.pump(now)
	w.mu.Unlock()

	if eff.Paused && w.leg.only != "" {
		w.n.pauseIfAllRest(w.owner, a.outcome.Err)
	}
	w.n.released(eff.Remove)
	if a.outcome.Unasked {
		return
	}
	w.kin.tally.attempt(a.outcome.Verdict)
	switch {
	case s.Repeat:
	case a.outcome.Verdict == delivery.Settled:
		w.n.profile.add(st)
		w.kin.tally.told(now.Sub(st.since()))
		w.n.metrics.stages(st, w.n.cfg.Node)
	case eff.Parked > 0:
		w.n.log.Warn("a delivery is parked", "subscription", name, "notification", st.NotificationID, "attempts", s.Attempt, "error", a.outcome.Err)
	case s.Attempt == 1:
		w.n.log.Info("a delivery failed and will be retried", "subscription", name, "notification", st.NotificationID, "error", a.outcome.Err)
	}
}

// refuse takes a 410: the subscription is paused here, or of several endpoints this one rests. Under mu.
func (w *worker) refuse(why string, now time.Time) {
	if w.leg.only != "" {
		w.rests = now.Add(restFor)
		w.n.log.Warn("an endpoint asked for no more: it is left alone for a while", "subscription", w.sub.Name, "endpoint", hostOf(w.leg.only))
		return
	}
	w.sub.Paused, w.refused = why, w.sub.Version
	w.n.box.put(w.record())
	w.restate()
	w.n.log.Warn("a consumer asked for no more: its subscription is paused", "subscription", w.sub.Name)
}

// judge reports a subscription that has failed for long or is paused, once, and its recovery. Under mu.
func (w *worker) judge(now time.Time) {
	var problem string
	switch f, p := w.machine.FailingSince(), w.machine.ParkedSince(); {
	case w.sub.Paused != "":
		problem = "paused: " + w.sub.Paused
	case w.silenced() != "":
		problem = "it is told nothing from here: " + w.silenced()
	case !w.rests.IsZero():
		problem = fmt.Sprintf("its endpoint %s answered 410 (it wants nothing more), the others are told: it is asked again at %s", hostOf(w.leg.only), w.rests.UTC().Format(time.RFC3339))
	case w.sub.Locked() && w.n.cfg.Peers == nil: // with peers it is for them to say, and to deliver
		problem = fmt.Sprintf("its secrets can't be opened here (%s): give this host the key in cluster.secrets_key_file, or the subscription new ones", w.sub.WhyLocked())
	case !f.IsZero() && now.Sub(f) >= failingLong:
		problem = fmt.Sprintf("no delivery has succeeded since %s", f.UTC().Format(time.RFC3339))
	case !p.IsZero() && now.Sub(p) >= failingLong:
		_, parked, _ := w.machine.Counts()
		problem = fmt.Sprintf("deliveries are parked since %s, %d by now: mend what their last error says, and try them again", p.UTC().Format(time.RFC3339), parked)
	case !f.IsZero() || !p.IsZero() || !w.worked:
		return // too early to tell: what stands stands
	}
	if (problem == "") == (w.reported == "") {
		return
	}
	if w.leg.only != "" && w.sub.Paused == "" && w.rests.IsZero() && problem != "" {
		problem = "to its endpoint " + hostOf(w.leg.only) + " " + problem
	}
	w.reported = problem
	w.n.report(w.leg.resource(w.sub), correlate.CondSubscription, problem)
}

// awaits are the alarms of the snapshot that are not known here, in order.
func (w *worker) awaits() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.awaited))
}

// restate tells the peers of a 410. Under mu.
func (w *worker) restate() {
	if w.refused != 0 && w.n.cfg.Peers != nil {
		w.n.feed.refuse(w.owner, w.refused, w.sub.Paused)
	}
}

// record is the subscription as the outbox keeps it. Under mu.
func (w *worker) record() write {
	r := subscriptionRecord{Subscription: w.sub, Refused: w.refused, Rebuilt: w.kin.owes(w.leg.id, w.rebuilt)}
	switch by := w.n.cfg.Sealer; {
	case w.sub.Origin == OriginFile:
		r.Subscription = Subscription{ID: w.sub.ID, Version: w.sub.Version, Name: w.sub.Name, Origin: OriginFile, Paused: w.sub.Paused, Created: w.sub.Created}
		r.Digest = digest(w.sub)
	case w.sub.Secret.Locked() || by != nil:
		if w.sealed == nil || !w.sealedOf.equal(w.sub.Secret) { // sealing anew would write other bytes each time
			w.sealed, w.sealedOf = w.sub.Secret.Seal(by, []byte(w.owner)), w.sub.Secret
		}
		r.Sealed = w.sealed
	default:
		r.Keys, r.Until = w.sub.Secret.keys, w.sub.Secret.until
	}
	switch c, by := w.sub.Credentials, w.n.cfg.Sealer; {
	case w.sub.Origin == OriginFile || c.IsZero():
	case c.Locked() || by != nil:
		if w.sealedLink == nil || !w.sealedLinkOf.Equal(c) {
			w.sealedLink, w.sealedLinkOf = c.Seal(by, w.owner), c
		}
		r.Credentials = w.sealedLink
	default:
		r.Bare = c.Seal(nil, w.owner)
	}
	return write{place{shelfSubscriptions, w.owner}, r}
}

func (w *worker) contents() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	records, _ := w.machine.Records()
	out := []write{w.record()}
	for _, r := range records {
		out = append(out, write{pairPlace(w.leg.id, r.AlarmID), pairRecord(r)})
	}
	return out
}

// close stops the worker. Under mu.
func (w *worker) close() {
	w.ended = true
	w.kin.owes(w.leg.id, Rebuilt{})
	w.cancel()
	close(w.stop)
	w.sender.close()
	if w.reported != "" {
		w.reported = ""
		w.n.report(w.leg.resource(w.sub), correlate.CondSubscription, "")
	}
}

// end stops the worker for good and returns the alarms that it held something of.
func (w *worker) end() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.close()
	records, _ := w.machine.Records()
	ids := make([]string, 0, len(records))
	for _, r := range records {
		ids = append(ids, r.AlarmID)
		w.n.tellRemoved(w.leg.id, r.AlarmID)
	}
	return ids
}
