package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Which of its endpoints a subscription tells.
const (
	DeliverFirst = "first" // the first that answers
	DeliverAll   = "all"   // each of them, each in its own time
)

// leg is one way to a consumer. One that is told at the first endpoint that answers has one; one that is told at all of them
// has one for each, with a queue, retries, receipts and a failure of its own.
type leg struct {
	id   string // what its pairs are kept under, here and at the peers
	only string // its endpoint; empty: the first of all that answers
}

// legMark parts the subscription's id from the rest of a leg's. No id of a subscription has it.
const legMark = "#"

func (s Subscription) toAll() bool { return s.DeliverTo == DeliverAll }

// legs are never none, and the same on every host.
func (s Subscription) legs() []leg {
	if !s.toAll() {
		return []leg{{id: s.ID}}
	}
	legs := make([]leg, 0, len(s.Endpoints))
	for _, e := range s.Endpoints {
		sum := sha256.Sum256([]byte(e))
		legs = append(legs, leg{id: s.ID + legMark + hex.EncodeToString(sum[:8]), only: e})
	}
	return legs
}

// OwnerOf is the id of the subscription that a Pair, a receipt or a HandOver names, as a whole or one endpoint of it.
func OwnerOf(named string) string {
	id, _, _ := strings.Cut(named, legMark)
	return id
}

// resource names a leg as a thing with health.
func (l leg) resource(s Subscription) correlate.ID {
	if l.only == "" {
		return s.resource()
	}
	_, rest, _ := strings.Cut(l.id, legMark)
	return correlate.NewID(correlate.KindService, s.resource().Name()+"/"+rest)
}

// owns reports whether a resource is the subscription itself, or one of its endpoints.
func (s Subscription) owns(r correlate.ID) bool {
	return r == s.resource() || s.toAll() && slices.ContainsFunc(s.legs(), func(l leg) bool { return l.resource(s) == r })
}

// hostOf is where an endpoint is, without what of its address may be nobody's business.
func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "?"
	}
	return u.Host
}

// kin is what the legs of one subscription share.
type kin struct {
	update chan struct{} // held by the one who changes the subscription over the API
	tally  *tally        // its own, or what it shares with others: see seats

	mu      sync.Mutex
	rebuilt map[string]Rebuilt // by leg: the word that is owed
}

func newKin() *kin {
	return &kin{update: make(chan struct{}, 1), tally: &tally{}, rebuilt: map[string]Rebuilt{}}
}

// owes notes what a leg owes, and returns what any of them does: the one record of all has room for one such word, and a run
// that takes it up has each leg say it.
func (k *kin) owes(leg string, r Rebuilt) Rebuilt {
	k.mu.Lock()
	defer k.mu.Unlock()
	if delete(k.rebuilt, leg); r.ID != "" {
		k.rebuilt[leg] = Rebuilt{ID: r.ID, Since: r.Since}
	}
	for _, id := range slices.Sorted(maps.Keys(k.rebuilt)) {
		return k.rebuilt[id]
	}
	return Rebuilt{}
}

// makeLegs makes the workers of a subscription, which nobody knows yet.
func (n *Notifier) makeLegs(s Subscription) []*worker {
	var legs []*worker
	for _, l := range s.legs() {
		legs = append(legs, newWorker(n, s, l))
		legs[len(legs)-1].kin = legs[0].kin
	}
	legs[0].kin.tally = n.metrics.seats.take(s, legs[0].kin.tally)
	return legs
}

// legsOf are the workers of a subscription; none when it is not known.
func (n *Notifier) legsOf(id string) []*worker {
	var legs []*worker
	for _, w := range n.list() {
		if w.owner == id {
			legs = append(legs, w)
		}
	}
	return legs
}

// leads are one worker of each subscription.
func (n *Notifier) leads() []*worker {
	var leads []*worker
	seen := map[string]bool{}
	for _, w := range n.list() {
		if !seen[w.owner] {
			seen[w.owner] = true
			leads = append(leads, w)
		}
	}
	return leads
}

// legNamed is the worker of one leg; nil when it is not known.
func (n *Notifier) legNamed(id string) *worker {
	for _, w := range n.list() {
		if w.leg.id == id {
			return w
		}
	}
	return nil
}

// heirs are the workers that a pair of elsewhere is for: that of its leg; all of its subscription, when it names that as a whole;
// or the one of a subscription that has had legs before. known is false when nothing is known of the subscription.
func (n *Notifier) heirs(named string) (legs []*worker, known bool) {
	if w := n.legNamed(named); w != nil {
		return []*worker{w}, true
	}
	owner := OwnerOf(named)
	legs = n.legsOf(owner)
	if known = len(legs) > 0; known && owner != named && legs[0].leg.only != "" {
		legs = nil // the endpoint left the subscription
	}
	return legs, known
}

// inherit has a leg that is new owe what another one of its subscription held: which consumer was told what of it is not known. Under
// mu, before anybody else knows w.
func (w *worker) inherit(alarmID string, now time.Time) {
	k, ok := w.n.alarms[alarmID]
	if _, _, held := w.machine.Pair(alarmID); !ok || held {
		return
	}
	w.machine.Restore(delivery.Record{AlarmID: alarmID, Created: now}, correlate.Change(k), now)
	w.n.pairs[alarmID]++
	r, _, _ := w.machine.Pair(alarmID)
	w.n.box.stage(w.writes(delivery.Effects{Save: []delivery.Record{r}})...)
}

// inheritLeft gives new legs what an earlier run left for legs that the subscription has no more. Under mu, before anybody else
// knows them.
func (n *Notifier) inheritLeft(legs []*worker, now time.Time) {
	var ended []string
	for id := range n.left {
		if id != anybody && OwnerOf(id) == legs[0].owner {
			ended = append(ended, id)
		}
	}
	slices.Sort(ended)
	for _, id := range ended {
		for _, p := range n.left[id] {
			for _, w := range legs {
				w.inherit(p.AlarmID, now)
			}
		}
		n.disown(id)
	}
}

// rearrange changes which legs a subscription has: new ones are owed what those that end have held. Under mu.
func (n *Notifier) rearrange(legs []*worker, s Subscription, now time.Time) {
	var end, begin []*worker
	want := s.legs()
	for _, w := range legs {
		if !slices.Contains(want, w.leg) {
			end = append(end, w)
		}
	}
	for _, l := range want {
		if !slices.ContainsFunc(legs, func(w *worker) bool { return w.leg == l }) {
			w := newWorker(n, s, l)
			w.kin = legs[0].kin
			begin = append(begin, w)
		}
	}
	for _, old := range end {
		old.mu.Lock()
		records, _ := old.machine.Records()
		old.mu.Unlock()
		for _, r := range records {
			for _, w := range begin {
				w.inherit(r.AlarmID, now)
			}
		}
	}
	for _, w := range begin {
		n.join(w)
	}
	for _, w := range end {
		n.end(w)
	}
}

// restFor is how long an endpoint that has answered 410 is left alone, when others of its subscription are told too.
const restFor = 10 * time.Minute

// rested ends a rest that was long enough, and says whether it did. Under mu.
func (w *worker) rested(now time.Time) bool {
	if w.rests.IsZero() || now.Before(w.rests) {
		return false
	}
	w.rests = time.Time{}
	return true
}

// comeBack ends the rest of endpoints that have answered 410. Under mu.
func (n *Notifier) comeBack(owner string, now time.Time) {
	for _, w := range n.legsOf(owner) {
		w.mu.Lock()
		w.rests = time.Time{}
		w.pump(now)
		w.mu.Unlock()
	}
}

// pauseIfAllRest pauses a subscription of which every endpoint has answered 410, as one that has one endpoint. Not under mu.
func (n *Notifier) pauseIfAllRest(owner, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	legs := n.legsOf(owner)
	for _, w := range legs {
		w.mu.Lock()
		rests := !w.rests.IsZero()
		w.mu.Unlock()
		if !rests {
			return
		}
	}
	for i, w := range legs {
		w.mu.Lock()
		w.sub.Paused, w.refused = reason, w.sub.Version
		if i == 0 {
			n.box.put(w.record())
			w.restate()
		}
		w.pump(n.cfg.Now())
		w.mu.Unlock()
	}
	if len(legs) > 0 {
		n.log.Warn("every endpoint of a subscription asked for no more: it is paused", "subscription", *legs[0].name.Load())
	}
}

// EndpointState is how one endpoint of a subscription that tells all of them does, at the asked host.
type EndpointState struct {
	Endpoint        string
	Pending, Parked int       // deliveries
	Failing         time.Time // no delivery has succeeded since; zero: all is well
	Unreachable     time.Time // it can't be connected to since; zero: it can
	Resting         time.Time // it has answered 410, and is left alone until then; zero: it is not
}

// status is a subscription as it is shown: without its secret, and with how it does here.
func (n *Notifier) status(owner string) (s Subscription) {
	now := n.cfg.Now()
	reached := false
	for i, w := range n.legsOf(owner) {
		away := w.sender.warm.since()
		if reached = reached || away.IsZero(); away.After(s.Unreachable) {
			s.Unreachable = away
		}
		w.mu.Lock()
		if i == 0 {
			states, away := s.EndpointStates, s.Unreachable
			s = hide(w.sub, now)
			_, s.Withheld, _ = s.within(n.granted())
			s.EndpointStates, s.Unreachable, s.DeliverTo = states, away, cmp.Or(s.DeliverTo, DeliverFirst)
		}
		if w.leg.only != "" {
			owed, parked, _ := w.machine.Counts()
			s.EndpointStates = append(s.EndpointStates, EndpointState{
				Endpoint: w.leg.only, Pending: owed - parked, Parked: parked, Failing: w.machine.FailingSince(), Unreachable: away, Resting: w.rests,
			})
		}
		w.mu.Unlock()
	}
	if reached {
		s.Unreachable = time.Time{}
	}
	return s
}
