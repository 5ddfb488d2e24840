package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/notify"
)

// Config is what a Ledger must know of its host.
type Config struct {
	Node   string
	Label  string
	Sealer notify.Sealer // nil: secrets go bare (cluster.insecure)
}

// Source is the source of the events in Orders.Report.
const Source = "cluster"

const (
	// flushAfter gathers what becomes of deliveries: one that settles at once costs one record.
	flushAfter = 50 * time.Millisecond
	// clearedFor is how long a cleared alarm is kept at least: a snapshot may have given it to a consumer that its home
	// has not heard of.
	clearedFor = time.Minute
	// takenAfter is between a snapshot's way to the notifier and our word that it was taken: that must not be durable
	// elsewhere before the other is here.
	takenAfter = time.Second
	// settleAfter is how long after Begin the peers have had time to say what they have: what nobody has named by then is
	// nobody's.
	settleAfter = 30 * time.Second
	// retryAfter is between attempts to write what the replica has refused.
	retryAfter = 10 * time.Second
	// receiptFor is how long a receipt waits for the alarm that it is about to become known.
	receiptFor = 10 * time.Minute
)

// Ledger is the package's value. Not safe for concurrent use; what it returns is immutable.
//
// The shell's order at a start: Known, File, Host, Effects and Inventory as they come; Take while it waits for its peers;
// Former, which it gives to the engine and to Shared.Adopt; Effects and Pairs of Shared.Kept; Begin. What it is told
// late or twice does no harm.
type Ledger struct {
	cfg   Config
	codec codec
	now   time.Time
	out   Orders

	begun   bool      // the term is known: our own space can be written
	settled bool      // settleAfter is over
	heard   time.Time // when the first record of another host came; zero: none did
	claimed uint64

	// This host: its own space as it should be, and what that is made from.
	me       Host
	own      map[slot][]byte
	alarms   map[string]*ownAlarm
	pairs    map[string]notify.Pair // by pairID
	owes     map[string]int         // alarm → how many pairs owe it
	unsaid   map[string]struct{}    // pairs that changed since the last flush
	sources  map[string]*inventory
	domains  map[string]Domain
	file     map[string]notify.Subscription
	refusals map[string]Refusal
	receipts map[string]receipt
	taken    map[string]uint64       // by subscription: Subscription.SnapshotOf that the notifier was given
	former   *host                   // what a former life of this host left
	recalled map[slot]gossip.Version // of what is in former or was: what was given up does not come back
	late     map[string]struct{}     // alarms of it that were heard of, or of whose pairs, after Former and in this call

	// The others, and what is everybody's.
	hosts  map[string]*host
	shared map[string]*wish
	ended  map[string]struct{}            // subscriptions with a tombstone
	words  map[string]map[gossip.Key]word // by alarm
	homes  map[string]string              // domain → its one home; nil: count anew
	unread map[string]map[gossip.Key]struct{}

	// What was ordered, so that it is not ordered again.
	ordered  map[string]*order
	known    map[string]notify.Subscription // of the notifier's disk, until settled
	told     map[string]correlate.Revision
	awaited  map[string]struct{} // subscriptions whose record is on its way to the replica
	again    map[string]struct{} // refusals that the notifier said again after a restart
	halted   map[string]uint64   // subscriptions that the notifier had paused before this run, in this version
	paused   map[string]Refusal  // subscriptions of files whose pause was shared, for this version
	problems map[problem]string
	judged   map[string]correlate.ID // subscription → the resource under which it is a problem

	dirty    map[string]struct{} // subscriptions to look at before this call ends
	vanished map[string]struct{} // alarms that stood and have gone in this call without a word

	// Those that this host speaks for.
	policies []correlate.Policy
	speeches map[string]*speech // by host, or space of a zone
	guests   map[string]string  // alarm → whose it is, of those that the notifier was given

	mutes    map[string]muted
	unnamed  map[string]notify.Mute // of the notifier's disk, until a record names them or all is settled
	muteOver time.Time              // when the record of a mute has to be looked at; zero: there is none

	lapse time.Time // when a subscription next comes to its end, or can be forgotten after it; zero: none does

	insisted map[gossip.Key]Write // shared records that the replica has not shown yet

	flush, cleared, takes, settle, waiting, retry queue
}

// slot is a record of the own space.
type slot struct {
	kind gossip.Kind
	id   string
}

// host is what another one has written.
type host struct {
	term       uint64 // the highest under which it speaks for itself
	said       bool   // host is its word
	host       Host
	domains    map[string]claim
	alarms     map[string]*Alarm
	lost       map[string]takeover.Record // by alarm: what others have said of it, which can't speak
	unpacked   int                        // size of alarms
	deliveries map[string]progress
	owing      map[string]debt // by subscription: what deliveries come to
	receipts   map[string]receipt
	wishes     map[string]*wish
	refusals   map[string]Refusal
}

func newHost() *host {
	return &host{
		domains: map[string]claim{}, alarms: map[string]*Alarm{}, lost: map[string]takeover.Record{}, deliveries: map[string]progress{}, owing: map[string]debt{}, receipts: map[string]receipt{},
		wishes: map[string]*wish{}, refusals: map[string]Refusal{},
	}
}

func (h *host) empty() bool {
	return !h.said && len(h.domains)+len(h.alarms)+len(h.deliveries)+len(h.receipts)+len(h.wishes)+len(h.refusals) == 0
}

// New makes an empty ledger.
func New(cfg Config) *Ledger {
	return &Ledger{
		cfg: cfg,
		own: map[slot][]byte{}, alarms: map[string]*ownAlarm{}, pairs: map[string]notify.Pair{}, owes: map[string]int{},
		unsaid:  map[string]struct{}{},
		sources: map[string]*inventory{}, domains: map[string]Domain{}, file: map[string]notify.Subscription{},
		refusals: map[string]Refusal{}, receipts: map[string]receipt{}, taken: map[string]uint64{}, former: newHost(), recalled: map[slot]gossip.Version{},
		hosts: map[string]*host{}, shared: map[string]*wish{}, ended: map[string]struct{}{},
		mutes: map[string]muted{}, unnamed: map[string]notify.Mute{},
		words: map[string]map[gossip.Key]word{}, unread: map[string]map[gossip.Key]struct{}{},
		ordered: map[string]*order{}, known: map[string]notify.Subscription{}, told: map[string]correlate.Revision{},
		late: map[string]struct{}{}, problems: map[problem]string{}, judged: map[string]correlate.ID{},
		awaited: map[string]struct{}{}, insisted: map[gossip.Key]Write{}, paused: map[string]Refusal{}, again: map[string]struct{}{}, halted: map[string]uint64{}, dirty: map[string]struct{}{}, vanished: map[string]struct{}{},
		speeches: map[string]*speech{}, guests: map[string]string{},
	}
}

// begin starts a call. When now is before that of the last call, what waits keeps the time that it had left.
func (l *Ledger) begin(now time.Time) {
	if back := l.now.Sub(now); back > 0 && !l.now.IsZero() {
		for _, q := range l.queues() {
			q.shift(-back)
		}
		if !l.heard.IsZero() {
			l.heard = l.heard.Add(-back)
		}
	}
	l.now = now
}

// finish looks at the subscriptions that the call has touched, does what is due, and gives the orders.
func (l *Ledger) finish() Orders {
	for l.due() || l.begun && len(l.dirty) > 0 {
		for _, id := range slices.Sorted(maps.Keys(l.dirty)) {
			delete(l.dirty, id)
			l.reconcile(id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.vanished)) {
		if l.foreign(id) == nil {
			l.out.Vanished = append(l.out.Vanished, id)
		}
	}
	clear(l.vanished)
	out := l.out
	l.out = Orders{}
	slices.SortStableFunc(out.Report, func(a, b correlate.Event) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Condition, b.Condition))
	})
	slices.SortFunc(out.Seen, func(a, b correlate.Change) int {
		return cmp.Or(cmp.Compare(a.Alarm.Key.Home, b.Alarm.Key.Home), a.Alarm.Revision.Compare(b.Alarm.Revision))
	})
	if !l.lapse.IsZero() {
		out.Wake = l.lapse
	}
	if !l.muteOver.IsZero() && (out.Wake.IsZero() || l.muteOver.Before(out.Wake)) {
		out.Wake = l.muteOver
	}
	for _, q := range l.queues() {
		if at, ok := q.next(); ok && (out.Wake.IsZero() || at.Before(out.Wake)) {
			out.Wake = at
		}
	}
	return out
}

// Begin writes all that this host has to say: the term is known now, and what a former life left is adopted. Before it
// nothing of the own space is written, what of it is learned is a former life's, and the notifier and the engine are ordered
// nothing: a snapshot may speak of alarms that are yet to be adopted. It may be called again, after a higher term for instance.
func (l *Ledger) Begin(now time.Time) Orders {
	l.begin(now)
	if !l.begun {
		l.begun = true
		l.settle.add(now.Add(settleAfter), "")
		for p, text := range l.problems {
			l.report(p, text)
		}
	}
	l.inherit()
	l.out.Write = slices.DeleteFunc(l.out.Write, func(w Write) bool { return w.Kind < gossip.KindShared }) // all of them follow
	for _, s := range slices.SortedFunc(maps.Keys(l.own), compareSlots) {
		l.out.Write = append(l.out.Write, Write{Kind: s.kind, ID: s.id, Payload: l.own[s]})
	}
	clear(l.told)
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		for _, id := range slices.Sorted(maps.Keys(l.hosts[name].receipts)) {
			l.tell(id, l.hosts[name].receipts[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.words)) {
		l.answer(id)
	}
	return l.finish()
}

// Tick does what is due.
func (l *Ledger) Tick(now time.Time) Orders {
	l.begin(now)
	return l.finish()
}

func compareSlots(a, b slot) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
}

// set writes a record of the own space, if that changes it.
func (l *Ledger) set(kind gossip.Kind, id string, v any) error {
	b, err := l.codec.encode(v)
	if err != nil {
		return err
	}
	l.put(slot{kind, id}, b)
	return nil
}

func (l *Ledger) put(s slot, payload []byte) {
	if old, ok := l.own[s]; ok && string(old) == string(payload) {
		return
	}
	l.own[s] = payload
	if l.begun {
		l.out.Write = append(l.out.Write, Write{Kind: s.kind, ID: s.id, Payload: payload})
	}
}

func (l *Ledger) remove(kind gossip.Kind, id string) {
	s := slot{kind, id}
	if _, ok := l.own[s]; !ok {
		return
	}
	delete(l.own, s)
	if l.begun {
		l.out.Write = append(l.out.Write, Write{Kind: kind, ID: id, Delete: true})
	}
}

// share and unshare write what somebody waits for, who is told when the replica refuses it, or what is tried again anyway.
func (l *Ledger) share(kind gossip.Kind, id string, payload []byte) {
	delete(l.insisted, gossip.Key{Kind: kind, ID: id})
	l.out.Write = append(l.out.Write, Write{Kind: kind, ID: id, Payload: payload})
}

func (l *Ledger) unshare(kind gossip.Kind, id string) {
	delete(l.insisted, gossip.Key{Kind: kind, ID: id})
	l.out.Write = append(l.out.Write, Write{Kind: kind, ID: id, Delete: true})
}

// insist writes what nobody waits for: if the replica refuses it, as it does while our clock is ahead of the peers', it is
// written again, until the record is heard of.
func (l *Ledger) insist(w Write) {
	key := gossip.Key{Kind: w.Kind, ID: w.ID}
	if _, waits := l.insisted[key]; !waits {
		l.retry.add(l.now.Add(retryAfter), string([]byte{byte(w.Kind)})+w.ID)
	}
	l.insisted[key] = w
	l.out.Write = append(l.out.Write, w)
}

func (l *Ledger) writeAgain(id string) {
	key := gossip.Key{Kind: gossip.Kind(id[0]), ID: id[1:]}
	if w, waits := l.insisted[key]; waits {
		delete(l.insisted, key)
		l.insist(w)
	}
}
