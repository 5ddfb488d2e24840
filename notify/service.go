package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// durableWait is how long a call of the API waits for its change to be on disk; a disk that is slower, or broken, is
// reported on its own and holds nobody up.
const durableWait = 2 * time.Second

// nextVersion is that of an API subscription after a change: it grows, and on two hosts at once hardly to the same.
func nextVersion(old uint64, now time.Time) uint64 {
	return max(old+1, uint64(max(0, now.UnixMicro())))
}

// change gives a subscription what s says, but for its id; what it matches now and did not before is owed. Under
// Notifier.mu.
func (n *Notifier) change(legs []*worker, s Subscription, now time.Time) Subscription {
	s.ID, s.Unreachable, s.SecretKeys, s.EndpointStates = legs[0].owner, time.Time{}, nil, nil
	for _, w := range legs {
		n.changeLeg(w, s, now)
	}
	n.rearrange(legs, s, now)
	return s
}

func (n *Notifier) changeLeg(w *worker, s Subscription, now time.Time) {
	w.mu.Lock()
	old := w.sub
	if sameContents(old, s) && s.Paused == old.Paused && s.Version == old.Version && s.Origin == old.Origin && s.Rate == old.Rate && s.Verified == old.Verified &&
		s.Expires.Equal(old.Expires) {
		w.mu.Unlock()
		return
	}
	if was := w.leg.resource(old); was != w.leg.resource(s) && w.reported != "" {
		w.reported = ""
		n.report(was, correlate.CondSubscription, "")
	}
	if s.Version != old.Version || s.Paused != old.Paused {
		w.refused, w.rests = 0, time.Time{}
	}
	w.sub = s
	w.name.Store(&s.Name)
	if s.Link != old.Link || !s.Credentials.Equal(old.Credentials) {
		w.sender.use(n.way(s))
	}
	w.sharedAt = time.Time{}
	w.machine.Reform(now)
	n.box.put(w.record())
	w.align(now)
	w.pump(now)
	w.mu.Unlock()
	w.offer(n.standing(), now)
	n.box.flush()
}

// drop takes a subscription and all it is owed away. Under mu.
func (n *Notifier) drop(legs []*worker) {
	for _, w := range legs {
		n.end(w)
		n.box.put(write{place{shelfSubscriptions, w.owner}, nil})
	}
}

// Subscribe makes an API subscription; see Service. Errors are ErrInvalid or ErrVerification with the reason.
func (n *Notifier) Subscribe(ctx context.Context, s Subscription, verify bool) (Subscription, []*correlate.Alarm, error) {
	return n.subscribe(ctx, s, verify, true)
}

// Follow makes an API subscription that is owed what stands; see Service.
func (n *Notifier) Follow(ctx context.Context, s Subscription, verify bool) (Subscription, error) {
	s, _, err := n.subscribe(ctx, s, verify, false)
	return s, err
}

// subscribe makes an API subscription whose consumer is given a snapshot, or is owed what would be in it.
func (n *Notifier) subscribe(ctx context.Context, s Subscription, verify, given bool) (Subscription, []*correlate.Alarm, error) {
	s = s.normal()
	if err := errors.Join(s.Validate(), n.callable(s)); err != nil {
		return Subscription{}, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	now := n.cfg.Now()
	if err := s.begins(now); err != nil {
		return Subscription{}, nil, err
	}
	s.ID, s.Version, s.Origin, s.Paused, s.Created, s.Rate, s.Verified = uuid.NewString(), nextVersion(0, now), OriginAPI, "", now, 0, false
	if verify && s.form().Verification != format.VerifyNothing {
		var err error
		if s.Rate, err = n.verify(ctx, s); err != nil {
			return Subscription{}, nil, err
		}
		s.Verified = true
	}
	var others []*correlate.Alarm
	if n.cfg.Peers != nil && given {
		others = n.cfg.Peers.Standing()
	}
	n.mu.Lock()
	legs := n.makeLegs(s)
	for _, w := range legs {
		w.awaited = map[string]correlate.Revision{} // what others say of the snapshot is known here
	}
	n.workers.Store(ptr(append(slices.Clone(n.list()), legs...)))
	var snapshot []*correlate.Alarm
	told := map[string]correlate.Revision{}
	writes := []write{legs[0].locked(legs[0].record)}
	for _, c := range n.standing() {
		if a := c.newest.Alarm; given && a.Standing() && n.wants(s, a, now, false, false) {
			snapshot = append(snapshot, s.view(a))
			told[a.ID] = a.Revision
			for _, w := range legs {
				writes = append(writes, w.locked(func() write { return w.note(a.ID, a.Revision, a) }))
			}
		}
	}
	for _, a := range others { // their homes send what comes after these, for told names them
		if _, own := told[a.ID]; !own && a.Standing() && n.wants(s, a, now, false, false) {
			snapshot = append(snapshot, s.view(a))
			told[a.ID] = a.Revision
		}
	}
	seq := n.box.put(writes...)
	if !given {
		for _, w := range legs {
			w.offer(n.standing(), now)
		}
		n.box.flush()
	}
	if n.running.Load() {
		for _, w := range legs {
			n.startWorker(w)
		}
	}
	n.mu.Unlock()
	if n.cfg.Peers != nil {
		if err := n.cfg.Peers.Publish(ctx, s, told); err != nil {
			n.mu.Lock()
			n.drop(n.legsOf(s.ID))
			n.mu.Unlock()
			return Subscription{}, nil, fmt.Errorf("make subscription %q known to the other hosts: %w", s.Name, err)
		}
	}
	n.box.await(ctx, seq, durableWait)
	return hide(s, now), snapshot, nil
}

// callable returns which endpoints are addresses that nothing may be sent to from here. What names lead to is judged when they
// are called.
func (n *Notifier) callable(s Subscription) error {
	var problems []error
	for i, e := range s.Endpoints {
		if addr, ok := LiteralCallback(e); ok {
			if err := CheckCallback(n.exit.Load().allow, addr); err != nil {
				problems = append(problems, fmt.Errorf("endpoints[%d]: %w", i, err))
			}
		}
	}
	return errors.Join(problems...)
}

// note keeps that the consumer was given a revision in its snapshot; atHand is the newest here, which it may be. Under mu
// and Notifier.mu.
func (w *worker) note(alarmID string, r correlate.Revision, atHand *correlate.Alarm) write {
	if _, _, ok := w.machine.Pair(alarmID); !ok {
		w.n.pairs[alarmID]++
	}
	record := w.machine.Told(alarmID, r, atHand)
	if record.Told == r && atHand != nil && atHand.Revision == r {
		record = w.machine.Shown(alarmID, w.told().shown(atHand))
	}
	w.tell(record)
	return write{pairPlace(w.leg.id, alarmID), pairRecord(record)}
}

// locked makes a write under mu.
func (w *worker) locked(f func() write) write {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f()
}

// Abstract is what a consumer role may see of an alarm, as a subscription to its projects tells it. Its Affected are empty when
// the alarm hits none of them (any more).
func Abstract(a *correlate.Alarm, projects []string) *correlate.Alarm {
	return Subscription{Role: RoleConsumer, Filter: Filter{Projects: projects}}.view(a)
}

// view is what a subscription may see of an alarm.
func (s Subscription) view(a *correlate.Alarm) *correlate.Alarm {
	if s.Role != RoleConsumer {
		return a
	}
	v := *a
	v.Affected, v.AtRisk, v.Evidence, v.Source, v.Correlated, v.Under, v.Ack = s.Filter.Affected(a), nil, nil, "", nil, "", nil
	v.Comments, v.ByHand = nil, nil
	v.Key, v.Text, v.ProbableCause = format.Abstract(a, v.Affected, s.Filter.Projects)
	return &v
}

// hide leaves of a secret what may be known of it.
func hide(s Subscription, now time.Time) Subscription {
	s.SecretKeys = s.Secret.keysAt(now)
	s.Secret = Secret{why: s.Secret.why}
	s.Credentials = s.Credentials.hide()
	return s
}

// Update changes a subscription; see Service. Of one from a file only Paused can be changed. New endpoints of a
// verified one are verified first. The peers know of it before it counts here, so that an error has changed nothing.
func (n *Notifier) Update(ctx context.Context, id string, p SubscriptionPatch) (Subscription, error) {
	legs := n.legsOf(id)
	if len(legs) == 0 {
		return Subscription{}, fmt.Errorf("subscription %q: %w", id, ErrNotFound)
	}
	w, kin := legs[0], legs[0].kin
	s := w.subscription()
	if s.Origin != OriginAPI && (p.Name != nil || p.Endpoints != nil || p.Secret != nil || p.Filter != nil || p.Expires != nil || p.MaxRate != nil || p.DeliverTo != nil || p.Heartbeat != nil || p.link()) {
		return Subscription{}, fmt.Errorf("subscription %q: %w", s.Name, ErrFromFile)
	}
	if s.Credentials.Locked() && (p.Client == nil) != (p.Login == nil) {
		return Subscription{}, fmt.Errorf("subscription %q: %w: change all of its credentials, or do it at a host that can open them", s.Name, ErrLocked)
	}
	s, err := p.apply(s, n.cfg.Now())
	if err == nil {
		err = s.Validate()
	}
	if p.Endpoints != nil {
		err = errors.Join(err, n.callable(s))
	}
	if err != nil {
		return Subscription{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if p.Expires != nil {
		if err := s.begins(n.cfg.Now()); err != nil {
			return Subscription{}, err
		}
	}
	if s.Verified && p.Endpoints != nil {
		var err error
		if s.Rate, err = n.verify(ctx, s); err != nil {
			return Subscription{}, err
		}
	}
	select { // two that are published at once would have one version
	case kin.update <- struct{}{}:
		defer func() { <-kin.update }()
	case <-ctx.Done():
		return Subscription{}, ctx.Err()
	}
	if legs = n.legsOf(id); len(legs) == 0 { // others may have changed which there are
		return Subscription{}, fmt.Errorf("subscription %q: %w", id, ErrNotFound)
	}
	w = legs[0]
	rate, old, now := s.Rate, w.subscription(), n.cfg.Now()
	if s, err = p.apply(old, now); err != nil {
		return Subscription{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s.Rate = rate
	resumed := p.Paused != nil && *p.Paused == ""
	if p.Expires != nil && p.Paused == nil && w.refusedHere() { // who renews it wants it: that is later than its 410
		s.Paused, resumed = "", true
	}
	if s.Origin == OriginAPI && !sameContents(old, s) {
		s.Version = nextVersion(s.Version, now)
	}
	if n.cfg.Peers != nil && (p.Paused != nil || p.Expires != nil || s.Version != old.Version) {
		if err := n.cfg.Peers.Publish(ctx, s, nil); err != nil {
			return Subscription{}, fmt.Errorf("make subscription %q known to the other hosts: %w", s.Name, err)
		}
	}
	n.mu.Lock()
	if legs = n.legsOf(id); len(legs) == 0 || legs[0].kin != kin { // it ended while its endpoints or the peers were asked
		n.mu.Unlock()
		return Subscription{}, fmt.Errorf("subscription %q: %w", id, ErrNotFound)
	}
	if current := legs[0].subscription(); current.Origin == OriginAPI && current.Version <= s.Version || current.Version == s.Version {
		s = n.change(legs, s, now)
	} else { // a later word came from elsewhere meanwhile
		s = current
	}
	if resumed {
		n.comeBack(id, now)
	}
	if resumed && n.cfg.Peers != nil {
		n.feed.refuse(id, s.Version, "")
	}
	seq := n.box.put()
	n.mu.Unlock()
	n.box.await(ctx, seq, durableWait)
	return hide(s, now), nil
}

// link reports whether p changes how the requests leave.
func (p SubscriptionPatch) link() bool {
	return p.Authorities != nil || p.ServerName != nil || p.Direct != nil || p.Client != nil || p.Login != nil
}

func (p SubscriptionPatch) apply(s Subscription, now time.Time) (Subscription, error) {
	if p.Name != nil {
		s.Name = *p.Name
	}
	if p.Endpoints != nil {
		s.Endpoints = slices.Clone(*p.Endpoints)
	}
	if p.Secret != nil {
		next := *p.Secret
		if p.SecretOverlap > 0 {
			if s.Secret.Locked() {
				return s, fmt.Errorf("secret_overlap: what signs now %w: ask another host", ErrLocked)
			}
			var err error
			if next, err = next.after(s.Secret, now, now.Add(p.SecretOverlap).Round(0).UTC()); err != nil {
				return s, fmt.Errorf("secret: %w", err)
			}
		}
		s.Secret = next
	}
	if p.Expires != nil {
		s.Expires = *p.Expires
	}
	if p.MaxRate != nil {
		s.MaxRate = *p.MaxRate
	}
	if p.Heartbeat != nil {
		s.Heartbeat = *p.Heartbeat
	}
	if p.DeliverTo != nil {
		s.DeliverTo = *p.DeliverTo
	}
	if p.Authorities != nil {
		s.Link.Authorities = *p.Authorities
	}
	if p.ServerName != nil {
		s.Link.ServerName = *p.ServerName
	}
	if p.Direct != nil {
		s.Link.Direct = *p.Direct
	}
	if s.Credentials.Locked() && (p.Client != nil || p.Login != nil) { // Update asks for both
		s.Credentials = Credentials{}
	}
	if p.Client != nil {
		s.Credentials = s.Credentials.withoutCertificate().With(*p.Client)
	}
	if p.Login != nil {
		s.Credentials = s.Credentials.withoutLogin().With(*p.Login)
	}
	if p.Filter != nil {
		s.Filter = *p.Filter
	}
	if p.Paused != nil {
		s.Paused = *p.Paused
	}
	return s, nil
}

// Unsubscribe ends an API subscription and all it is owed.
func (n *Notifier) Unsubscribe(ctx context.Context, id string) error {
	legs := n.legsOf(id)
	if len(legs) == 0 {
		return fmt.Errorf("subscription %q: %w", id, ErrNotFound)
	}
	if s := legs[0].subscription(); s.Origin != OriginAPI {
		return fmt.Errorf("subscription %q: %w", s.Name, ErrFromFile)
	}
	if n.cfg.Peers != nil {
		if err := n.cfg.Peers.Withdraw(ctx, id); err != nil {
			return fmt.Errorf("make the end of subscription %q known to the other hosts: %w", id, err)
		}
	}
	n.mu.Lock()
	n.drop(n.legsOf(id))
	seq := n.box.put()
	n.mu.Unlock()
	n.box.await(ctx, seq, durableWait)
	return nil
}

// Subscriptions lists them by name; secrets are left out.
func (n *Notifier) Subscriptions() []Subscription {
	var out []Subscription
	for _, w := range n.leads() {
		out = append(out, n.status(w.owner))
	}
	slices.SortFunc(out, func(a, b Subscription) int {
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Test sends a paramedic.test notification now; see Service. It passes the queue by, so that it tells how things are.
func (n *Notifier) Test(ctx context.Context, id string) (Stages, error) {
	legs := n.legsOf(id)
	if len(legs) == 0 {
		return Stages{}, fmt.Errorf("subscription %q: %w", id, ErrNotFound)
	}
	s := legs[0].subscription()
	if s.Locked() {
		return Stages{}, fmt.Errorf("test subscription %q: %w", s.Name, ErrLocked)
	}
	now := n.cfg.Now()
	st := Stages{NotificationID: uuid.NewString(), Subscription: s.Name, Occurred: now, Observed: now, Found: now, Owed: now, Outbox: now, Taken: now, Attempts: 1, By: n.cfg.Node}
	body, err := s.form().Message(format.Message{
		ID: st.NotificationID, Type: format.TypeTest, Label: n.cfg.Label, Reporter: n.cfg.Node, Subscription: s.ID,
		Abstract: s.Role == RoleConsumer, At: now, Text: "a test: nothing is wrong", SOL: n.cfg.SOL,
	})
	if err != nil {
		return Stages{}, err
	}
	answers := make([]answer, len(legs))
	var group sync.WaitGroup
	for i, w := range legs {
		group.Go(func() { answers[i] = w.test(ctx, s.request(st.NotificationID, body)) })
	}
	group.Wait()
	var problems []error
	for i, a := range answers {
		if a.answered.After(st.Answered) || i == 0 { // the slowest
			st.Sent, st.Answered = a.sent, a.answered
		}
		if a.outcome.Verdict != delivery.Settled {
			where := ""
			if only := legs[i].leg.only; only != "" {
				where = hostOf(only) + ": "
			}
			problems = append(problems, fmt.Errorf("test subscription %q: %s%s", s.Name, where, a.outcome.Err))
		}
	}
	return st, errors.Join(problems...)
}

// test makes a request that is no delivery. When the consumer takes it, what has failed is tried again.
func (w *worker) test(ctx context.Context, r request) answer {
	a := w.sender.post(ctx, w.aims(w.subscription()), r)
	if a.outcome.Verdict == delivery.Settled {
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.n.cfg.Now()
		if writes := w.writes(w.machine.Worked(at)); len(writes) > 0 {
			w.n.box.put(writes...)
		}
		w.worked = true
		w.pump(at)
	}
	return a
}

// Deliveries lists what is owed, oldest first.
func (n *Notifier) Deliveries(state DeliveryState) []DeliveryView {
	var out []DeliveryView
	for _, w := range n.list() {
		out = append(out, w.deliveries(state)...)
	}
	slices.SortFunc(out, func(a, b DeliveryView) int {
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Owes reports whether anybody is yet to be told of a condition and no attempt at it has failed. What was published before counts.
func (n *Notifier) Owes(c correlate.Condition) bool {
	n.mu.Lock()
	n.drain()
	n.mu.Unlock()
	return slices.ContainsFunc(n.Deliveries(""), func(d DeliveryView) bool { return d.Condition == c && d.LastError == "" })
}

func (w *worker) deliveries(state DeliveryState) []DeliveryView {
	w.mu.Lock()
	defer w.mu.Unlock()
	records, _ := w.machine.Records()
	var out []DeliveryView
	for _, r := range records {
		a := w.machine.Owed(r.AlarmID)
		if a == nil {
			continue
		}
		v := w.view(r, a)
		if state == "" || v.State == state {
			out = append(out, v)
		}
	}
	return out
}

// view is a delivery as the operator sees it. Under mu.
func (w *worker) view(r delivery.Record, a *correlate.Alarm) DeliveryView {
	v := DeliveryView{
		ID: NotificationID(a.ID, a.Revision, w.owner, w.sub.Version), Endpoint: w.leg.only, Subscription: w.sub.Name, Consumer: w.owner, AlarmID: a.ID,
		Resource: a.Key.Resource, Condition: a.Key.Condition, Shown: w.told().view(a).Key, Revision: a.Revision, State: DeliveryPending, Attempts: r.Attempts, Superseded: r.Superseded,
		Created: r.Created, NextAttempt: r.Next, LastError: r.LastError, Again: r.Again,
	}
	if r.Attempts > 0 {
		v.By = cmp.Or(r.By, w.n.cfg.Node)
	}
	if r.Parked {
		v.State = DeliveryParked
	}
	return v
}

// Retry tries a delivery, parked or waiting, at once; to each endpoint that is owed it.
func (n *Notifier) Retry(_ context.Context, id string) error {
	return n.decide(id, (*delivery.Machine).Unpark)
}

// Discard takes a delivery for made, at each endpoint that is owed it; see Service.
func (n *Notifier) Discard(_ context.Context, id string) error {
	return n.decide(id, (*delivery.Machine).Discard)
}

// decide carries out an operator's word about a delivery.
func (n *Notifier) decide(id string, word func(m *delivery.Machine, alarmID string, now time.Time) (delivery.Effects, bool)) error {
	now, found := n.cfg.Now(), false
	for _, w := range n.list() {
		for _, d := range w.deliveries("") {
			if d.ID != id {
				continue
			}
			w.mu.Lock()
			eff, ok := word(w.machine, d.AlarmID, now)
			if ok {
				n.box.put(w.writes(eff)...)
				w.pump(now)
			}
			w.mu.Unlock()
			n.released(eff.Remove)
			found = found || ok
		}
	}
	if found {
		return nil
	}
	return fmt.Errorf("delivery %q: %w", id, ErrNotFound)
}

// RetryAll tries everything that a subscription is owed again; see Service.
func (n *Notifier) RetryAll(_ context.Context, subscription string) (tried int, err error) {
	legs := n.legsOf(subscription)
	if len(legs) == 0 {
		return 0, fmt.Errorf("subscription %q: %w", subscription, ErrNotFound)
	}
	now := n.cfg.Now()
	for _, w := range legs {
		w.mu.Lock()
		eff := w.machine.UnparkAll(now)
		if writes := w.writes(eff); len(writes) > 0 {
			n.box.put(writes...)
		}
		w.pump(now)
		w.mu.Unlock()
		tried += len(eff.Save)
	}
	return tried, nil
}

// Profile is the stages of the last settled notifications, oldest first.
func (n *Notifier) Profile() []Stages { return n.profile.list() }

// Durable reports whether what is owed survives a crash; when not, why.
func (n *Notifier) Durable() (bool, string) {
	problem := n.box.problem()
	return problem == "", problem
}
