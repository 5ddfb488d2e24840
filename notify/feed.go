package notify

import (
	"context"
	"sync"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// feed carries to the peers what became of pairs, so that nobody calls Peers with a lock held and each pair's changes
// keep their order. Bound: the newest of each pair, each forgotten alarm, each subscription refused.
type feed struct {
	wake chan struct{}

	mu      sync.Mutex
	pairs   []Pair
	at      map[pairID]int // index in pairs
	forgot  []string
	refused map[string]refusal
}

type pairID struct{ subscription, alarm string }

type refusal struct {
	version uint64
	reason  string
}

func (f *feed) init() {
	f.wake, f.at, f.refused = make(chan struct{}, 1), map[pairID]int{}, map[string]refusal{}
}

func (f *feed) pair(p Pair) {
	f.mu.Lock()
	id := pairID{p.Subscription, p.AlarmID}
	if i, ok := f.at[id]; ok {
		f.pairs[i] = p
	} else {
		f.at[id] = len(f.pairs)
		f.pairs = append(f.pairs, p)
	}
	f.mu.Unlock()
	f.kick()
}

func (f *feed) forget(alarmID string) {
	f.mu.Lock()
	f.forgot = append(f.forgot, alarmID)
	f.mu.Unlock()
	f.kick()
}

func (f *feed) refuse(subscription string, version uint64, reason string) {
	f.mu.Lock()
	f.refused[subscription] = refusal{version, reason}
	f.mu.Unlock()
	f.kick()
}

func (f *feed) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run hands over until ctx ends, and then what is left.
func (f *feed) run(ctx context.Context, peers Peers) {
	for {
		select {
		case <-f.wake:
			f.drain(peers)
		case <-ctx.Done():
			f.drain(peers)
			return
		}
	}
}

func (f *feed) drain(peers Peers) {
	f.mu.Lock()
	pairs, forgot, refused := f.pairs, f.forgot, f.refused
	f.pairs, f.forgot, f.refused = nil, nil, map[string]refusal{}
	clear(f.at)
	f.mu.Unlock()
	if len(pairs) > 0 {
		peers.Pairs(pairs)
	}
	if len(forgot) > 0 {
		peers.Forgot(forgot)
	}
	for subscription, r := range refused {
		peers.Refused(subscription, r.version, r.reason)
	}
}

// tell gives the peers the newest of a pair. Under mu.
func (w *worker) tell(r delivery.Record) {
	if w.n.cfg.Peers != nil {
		w.n.feed.pair(w.pair(r))
	}
}

func (n *Notifier) tellRemoved(subscription, alarmID string) {
	if n.cfg.Peers != nil {
		n.feed.pair(Pair{Subscription: subscription, AlarmID: alarmID, Removed: true})
	}
}

// pair is what the peers are told of a record. Under mu.
func (w *worker) pair(r delivery.Record) Pair {
	p := pairOf(w.leg.id, r)
	if owed := w.machine.Owed(r.AlarmID); owed != nil && len(r.Parts) > 0 {
		hit, _ := w.told().parts(owed)
		p.Left = delivery.Missing(r.Parts, hit)
	}
	return p
}

func pairOf(subscription string, r delivery.Record) Pair {
	return Pair{
		Subscription: subscription, AlarmID: r.AlarmID, Told: r.Told, Owed: r.Owed,
		Parked: r.Parked, Again: r.Again, Attempts: r.Attempts, LastError: r.LastError,
	}
}
