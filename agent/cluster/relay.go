package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// Bounds on deliveries that are handed over.
const (
	askLimit   = time.Second            // for one peer to answer, or to say again that it is at it
	workLimit  = 4 * time.Second        // for one that is: a consumer that is slow is not reached better by another one
	serveLimit = workLimit - askLimit   // for the consumer, so that its home hears in time that it was too slow
	askAgain   = 300 * time.Millisecond // a datagram may be lost; the peer knows a request that it has
	askPeers   = 3                      // for one delivery
	asksAtOnce = 64                     // ours; one more waits for its turn
	// servedAtOnce bounds the requests that we make for others; one more is refused, and its home asks another host.
	servedAtOnce  = 64
	servedOfOne   = servedAtOnce / 2 // for one home, so that none takes all
	maxRemembered = 1024             // requests of others that are known again
	avoidFor      = 30 * time.Second // a peer that failed is asked last
	maxAvoided    = 4096
)

// relay has peers make requests that this host can't make, and makes theirs. Its methods are safe from any goroutine.
type relay struct {
	node string
	log  *slog.Logger
	tell func(node string, msg []byte) error
	// members are the hosts that are there, without this one.
	members func() []string
	// settled says whether anybody has told a subscription this revision of an alarm, or a newer one.
	settled func(subscription, alarmID string, r correlate.Revision) bool
	// deliver makes a request for another host; nil before there is who can. delivered hears of each that was made.
	deliver   func(context.Context, notify.HandOver) (notify.Answer, error)
	delivered func(home string, h notify.HandOver, a notify.Answer)

	asking chan struct{}
	next   atomic.Uint64

	mu      sync.Mutex
	waiting map[uint64]question
	avoid   map[avoidKey]time.Time
	serving int
	homes   map[string]int // of serving, by home
	known   map[requestKey]*served
	order   []requestKey // of known, oldest first
	closed  bool
	group   sync.WaitGroup // requests of others
	ctx     context.Context
	cancel  context.CancelFunc

	counts relayCounts
}

type relayCounts struct{ asked, answered, refused, silent, served, settled, busy atomic.Uint64 }

type question struct {
	peer    string
	answer  chan answer
	working chan struct{}
}

type avoidKey struct{ subscription, peer string }

type requestKey struct {
	from string
	id   uint64
}

// served is a request of another host: its answer once there is one.
type served struct{ answer []byte }

func newRelay(node string, log *slog.Logger, tell func(string, []byte) error, members func() []string) *relay {
	r := &relay{
		node: node, log: log, tell: tell, members: members,
		asking: make(chan struct{}, asksAtOnce), waiting: make(map[uint64]question), avoid: make(map[avoidKey]time.Time),
		homes: make(map[string]int), known: make(map[requestKey]*served),
	}
	r.next.Store(rand.Uint64()) // another one than that of the run before: answers of then are nobody's
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// open says who makes requests for others.
func (r *relay) open(deliver func(context.Context, notify.HandOver) (notify.Answer, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliver = deliver
}

// close ends the requests that are made for others, and waits for them.
func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.group.Wait()
}

var errNobody = errors.New("no other host is there")

// handOver has a peer make one request; see notify.Peers.
func (r *relay) handOver(ctx context.Context, h notify.HandOver) (notify.Answer, error) {
	if h.Change.Alarm == nil && h.Beat.IsZero() {
		return notify.Answer{}, errors.New("hand over a delivery: it has no alarm")
	}
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return notify.Answer{}, fmt.Errorf("hand over a delivery: %w", ctx.Err())
	}
	peers := r.rank(h.Subscription, time.Now())
	if len(peers) == 0 {
		return notify.Answer{}, fmt.Errorf("hand over a delivery: %w", errNobody)
	}
	var problems []error
	for _, peer := range peers[:min(len(peers), askPeers)] {
		a, err := r.ask(ctx, peer, h)
		if err == nil {
			r.counts.answered.Add(1)
			r.avoided(avoidKey{h.Subscription, peer}, false)
			return a, nil
		}
		if ctx.Err() != nil {
			return notify.Answer{}, fmt.Errorf("hand over a delivery: %w", ctx.Err())
		}
		r.avoided(avoidKey{h.Subscription, peer}, true)
		problems = append(problems, err)
	}
	return notify.Answer{}, fmt.Errorf("hand over a delivery: %w", errors.Join(problems...))
}

// rank orders the members for a subscription: by rendezvous hash, so that the same peer keeps the connection to its
// consumer, and those that failed lately last.
func (r *relay) rank(subscription string, now time.Time) []string {
	type candidate struct {
		name   string
		failed bool
		score  uint64
	}
	var all []candidate
	r.mu.Lock()
	for _, name := range r.members() {
		h := fnv.New64a()
		_, _ = h.Write([]byte(subscription + "\x00" + name))
		at, avoided := r.avoid[avoidKey{subscription, name}]
		all = append(all, candidate{name, avoided && now.Sub(at) < avoidFor, h.Sum64()})
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b candidate) int {
		if a.failed != b.failed {
			if b.failed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.name, b.name))
	})
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	return names
}

func (r *relay) avoided(k avoidKey, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !failed {
		delete(r.avoid, k)
		return
	}
	if len(r.avoid) >= maxAvoided {
		clear(r.avoid)
	}
	r.avoid[k] = time.Now()
}

// ask one peer, again and again until it answers: datagrams get lost.
func (r *relay) ask(ctx context.Context, peer string, h notify.HandOver) (notify.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	silent := time.NewTimer(askLimit)
	defer silent.Stop()
	id := r.next.Add(1)
	msg, err := encodeRequest(request{ID: id, HandOver: h})
	if err != nil {
		return notify.Answer{}, fmt.Errorf("ask %s: %w", peer, err)
	}
	q := question{peer, make(chan answer, 1), make(chan struct{}, 1)}
	r.mu.Lock()
	r.waiting[id] = q
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waiting, id)
		r.mu.Unlock()
	}()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		r.counts.asked.Add(1)
		if err := r.tell(peer, msg); err != nil {
			return notify.Answer{}, fmt.Errorf("ask %s: %w", peer, err)
		}
		wait := true
		for wait {
			select {
			case a := <-q.answer:
				if a.Refused != "" {
					r.counts.refused.Add(1)
					return notify.Answer{}, fmt.Errorf("%s: %s", peer, a.Refused)
				}
				return notify.Answer{By: peer, Outcome: a.Outcome, Sent: a.Sent, Answered: a.Answered}, nil
			case <-q.working:
				silent.Reset(askLimit)
			case <-again.C:
				wait = false
			case <-silent.C:
				r.counts.silent.Add(1)
				return notify.Answer{}, fmt.Errorf("ask %s: %w within %v", peer, notify.ErrSilent, askLimit)
			case <-ctx.Done():
				r.counts.silent.Add(1)
				return notify.Answer{}, fmt.Errorf("ask %s: %w: %w", peer, notify.ErrSilent, ctx.Err())
			}
		}
	}
}

// heard takes a request or an answer. It does not block; an error says that it can't be understood.
func (r *relay) heard(from string, t gossip.MessageType, body []byte) error {
	req, ans, err := decodeMessage(t, body)
	switch {
	case err != nil:
		return err
	case ans != nil:
		r.mu.Lock()
		q, ok := r.waiting[ans.ID]
		r.mu.Unlock()
		switch {
		case !ok || q.peer != from:
		case t == typeWorking:
			select {
			case q.working <- struct{}{}:
			default: // that is known
			}
		default:
			select {
			case q.answer <- *ans:
			default: // a second one
			}
		}
		return nil
	}
	r.take(from, *req)
	return nil
}

// take makes the request of a peer, unless it is known already or there are too many.
func (r *relay) take(from string, req request) {
	key := requestKey{from, req.ID}
	r.mu.Lock()
	if old := r.known[key]; old != nil {
		msg := old.answer
		r.mu.Unlock()
		if msg == nil {
			msg = encodeMessage(typeWorking, fmt.Appendf(nil, `{"id":%d}`, req.ID))
		}
		r.reply(from, msg)
		return
	}
	switch {
	case r.closed, r.deliver == nil:
		r.mu.Unlock()
		r.refuse(from, req.ID, "it is starting or stopping")
		return
	case r.serving >= servedAtOnce, r.homes[from] >= servedOfOne:
		r.mu.Unlock()
		r.counts.busy.Add(1)
		r.refuse(from, req.ID, "it makes too many requests for others already")
		return
	}
	one := &served{}
	r.known[key] = one
	if r.order = append(r.order, key); len(r.order) > maxRemembered {
		delete(r.known, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
	r.serving++
	r.homes[from]++
	r.group.Go(func() {
		msg := r.serve(from, req)
		r.mu.Lock()
		one.answer = msg
		r.serving--
		if r.homes[from]--; r.homes[from] == 0 {
			delete(r.homes, from)
		}
		r.mu.Unlock()
		r.reply(from, msg)
	})
	r.mu.Unlock()
}

func (r *relay) serve(from string, req request) []byte {
	a := answer{ID: req.ID}
	h := req.HandOver
	if h.Beat.IsZero() && r.settled(h.Subscription, h.Change.Alarm.ID, h.Change.Alarm.Revision) {
		r.counts.settled.Add(1)
		return encodeAnswer(a)
	}
	ctx, cancel := context.WithTimeout(r.ctx, serveLimit)
	defer cancel()
	got, err := r.deliver(ctx, h)
	if err != nil {
		a.Refused = err.Error()
		return encodeAnswer(a)
	}
	r.counts.served.Add(1)
	a.Outcome, a.Sent, a.Answered = got.Outcome, got.Sent, got.Answered
	got.By = r.node
	if h.Beat.IsZero() { // a heartbeat leaves no receipt
		r.delivered(from, h, got)
	}
	return encodeAnswer(a)
}

func (r *relay) refuse(to string, id uint64, why string) {
	r.reply(to, encodeAnswer(answer{ID: id, Refused: why}))
}

func (r *relay) reply(to string, msg []byte) {
	if err := r.tell(to, msg); err != nil {
		r.log.Debug("an answer to a peer could not be sent", "peer", to, "error", err)
	}
}
