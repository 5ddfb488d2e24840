package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/simnet"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Bounds of agent/cluster's relay.
const (
	askLimit     = time.Second
	askAgain     = 300 * time.Millisecond
	askPeers     = 3
	servedAtOnce = 64
	avoidFor     = 30 * time.Second
)

// relay has peers make requests that this host can't make, and makes theirs. Its messages travel over the simulated
// network; their form is not that of agent/cluster, which has its own tests.
type relay struct {
	a       *agent
	next    uint64
	waiting map[uint64]func(message)
	avoid   map[avoidKey]time.Duration
	known   map[requestKey]*message
	serving int
}

type avoidKey struct {
	subscription string
	peer         *host
}

type requestKey struct {
	from string
	id   uint64
}

// message is a request, or the answer to one.
type message struct {
	ID      uint64
	Request *notify.HandOver `json:",omitempty"`
	Asks    bool             `json:",omitempty"` // what do you know of me?
	Knows   *knowledge       `json:",omitempty"`
	Refused string
	Outcome delivery.Outcome
}

func newRelay(a *agent) *relay {
	return &relay{
		a: a, next: a.s.rng.Uint64(), waiting: map[uint64]func(message){}, avoid: map[avoidKey]time.Duration{}, known: map[requestKey]*message{},
	}
}

func (r *relay) tell(to *simnet.Node, m message) {
	t := gossip.TypeReserved
	if m.Request == nil {
		t++
	}
	b, err := json.Marshal(m)
	if err != nil {
		r.a.s.fail("write a message: %v", err)
	}
	r.a.h.node.Send(to, append([]byte{gossip.FormatVersion, byte(t)}, b...))
}

func (r *relay) heard(from *simnet.Node, msg []byte) {
	var m message
	if err := json.Unmarshal(msg[2:], &m); err != nil {
		r.a.s.fail("read a message: %v", err)
	}
	switch {
	case m.Request != nil:
		r.take(from, m)
		return
	case m.Asks:
		k := r.a.level.knowledgeOf(from.Name)
		k.Settled = r.a.engine != nil
		r.tell(from, message{Knows: &k})
		return
	case m.Knows != nil:
		r.a.known(from.Name, *m.Knows)
		return
	}
	if answer := r.waiting[m.ID]; answer != nil {
		answer(m)
	}
}

// handOver has a peer make one request.
func (r *relay) handOver(h notify.HandOver, done func(delivery.Outcome, error)) {
	r.a.s.check.asked[h.NotificationID] = true
	peers := r.rank(h.Subscription)
	peers = peers[:min(len(peers), askPeers)]
	var next func(i int)
	next = func(i int) {
		if i == len(peers) {
			done(delivery.Outcome{}, errors.New("no peer could"))
			return
		}
		r.ask(peers[i], h, func(o delivery.Outcome, ok bool) {
			if ok {
				delete(r.avoid, avoidKey{h.Subscription, peers[i]})
				o.By = peers[i].name
				done(o, nil)
				return
			}
			r.avoid[avoidKey{h.Subscription, peers[i]}] = r.a.s.now()
			next(i + 1)
		})
	}
	next(0)
}

func (r *relay) rank(subscription string) []*host {
	score := func(h *host) uint64 {
		sum := fnv.New64a()
		_, _ = sum.Write([]byte(subscription + "\x00" + h.name))
		return sum.Sum64()
	}
	failed := func(h *host) int {
		if at, ok := r.avoid[avoidKey{subscription, h}]; ok && r.a.s.now()-at < avoidFor {
			return 1
		}
		return 0
	}
	return slices.SortedFunc(slices.Values(r.a.level.members), func(a, b *host) int {
		return cmp.Or(cmp.Compare(failed(a), failed(b)), cmp.Compare(score(b), score(a)))
	})
}

// ask one peer, again when nothing comes back.
func (r *relay) ask(peer *host, h notify.HandOver, done func(delivery.Outcome, bool)) {
	r.next++
	id := r.next
	end := func(o delivery.Outcome, ok bool) {
		if _, waits := r.waiting[id]; waits {
			delete(r.waiting, id)
			done(o, ok)
		}
	}
	r.waiting[id] = func(m message) { end(m.Outcome, m.Refused == "") }
	var again func()
	again = func() {
		if _, waits := r.waiting[id]; waits {
			r.tell(peer.node, message{ID: id, Request: &h})
			r.a.after(askAgain, again)
		}
	}
	again()
	r.a.after(askLimit, func() {
		end(delivery.Outcome{}, r.a.s.cfg.Bug == LostAnswerSettles)
	})
}

// take makes the request of a peer, unless it is known already or there are too many.
func (r *relay) take(from *simnet.Node, m message) {
	key := requestKey{from.Name, m.ID}
	if old, known := r.known[key]; known {
		if old != nil {
			r.tell(from, *old)
		}
		return
	}
	if r.serving >= servedAtOnce {
		r.tell(from, message{ID: m.ID, Refused: "busy"})
		return
	}
	r.known[key] = nil
	r.serving++
	h := *m.Request
	reply := func(answer message) {
		r.serving--
		answer.ID = m.ID
		r.known[key] = &answer
		r.tell(from, answer)
	}
	if r.a.ledger.Settled(h.Subscription, h.Change.Alarm.ID, h.Change.Alarm.Revision) && r.a.s.cfg.Bug != LostAnswerSettles {
		r.a.after(0, func() { reply(message{}) })
		return
	}
	r.a.notifier.guest(h, askLimit, func(o delivery.Outcome, refused string) {
		if refused == "" {
			r.a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders {
				return l.Handed(now, h, from.Name, notify.Answer{By: r.a.h.name, Outcome: o})
			})
			if err := r.a.flush(); err != nil {
				r.a.s.fail("write a receipt: %v", err)
			}
		}
		reply(message{Refused: refused, Outcome: o})
	})
}
