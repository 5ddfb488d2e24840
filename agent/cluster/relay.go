package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
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
	askLimit   = time.Second          // for one peer to answer, or to say again that it is at it
	workLimit  = 4 * time.Second      // for one that is: a consumer that is slow is not reached better by another one
	serveLimit = workLimit - askLimit // for the consumer, so that its home hears in time that it was too slow
	askPeers   = 3                    // for one delivery
	asksAtOnce = 64                   // ours; one more waits for its turn
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

	errands *errands
	asked   *questions[answer]
	asking  chan struct{}

	mu    sync.Mutex // deliver, avoid
	avoid map[avoidKey]time.Time

	counts relayCounts
}

type relayCounts struct{ asked, answered, refused, silent, served, settled, busy atomic.Uint64 }

type avoidKey struct{ subscription, peer string }

func newRelay(node string, log *slog.Logger, tell func(string, []byte) error, members func() []string) *relay {
	return &relay{
		node: node, log: log, tell: tell, members: members, avoid: make(map[avoidKey]time.Time), asking: make(chan struct{}, asksAtOnce),
		errands: newErrands(log, tell, servedAtOnce, servedOfOne, maxRemembered), asked: newQuestions[answer](),
	}
}

// open says who makes requests for others.
func (r *relay) open(deliver func(context.Context, notify.HandOver) (notify.Answer, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliver = deliver
}

// close ends the requests that are made for others, and waits for them.
func (r *relay) close() { r.errands.close() }

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
	id, q := r.asked.open(peer)
	defer r.asked.close(id)
	msg, err := encodeRequest(request{ID: id, HandOver: h})
	if err != nil {
		return notify.Answer{}, fmt.Errorf("ask %s: %w", peer, err)
	}
	again := time.NewTicker(errandAgain)
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
	case req != nil:
		r.take(from, *req)
	case t == typeWorking:
		r.asked.working(from, ans.ID)
	default:
		r.asked.answered(from, ans.ID, *ans)
	}
	return nil
}

// take makes the request of a peer, unless it is known already or there are too many.
func (r *relay) take(from string, req request) {
	r.mu.Lock()
	deliver := r.deliver
	r.mu.Unlock()
	fate := errandRefused
	if deliver != nil {
		fate = r.errands.take(from, req.ID, func(ctx context.Context) ([]byte, bool) { return r.serve(ctx, from, req, deliver), false })
	}
	switch fate {
	case errandSettled:
	case errandRunning:
		r.errands.reply(from, encodeMessage(typeWorking, fmt.Appendf(nil, `{"id":%d}`, req.ID)))
	case errandRefused:
		r.errands.reply(from, encodeAnswer(answer{ID: req.ID, Refused: "it is starting or stopping"}))
	case errandTooMany:
		r.counts.busy.Add(1)
		r.errands.reply(from, encodeAnswer(answer{ID: req.ID, Refused: "it makes too many requests for others already"}))
	}
}

func (r *relay) serve(
	ctx context.Context, from string, req request, deliver func(context.Context, notify.HandOver) (notify.Answer, error),
) []byte {
	a := answer{ID: req.ID}
	h := req.HandOver
	if h.Beat.IsZero() && r.settled(h.Subscription, h.Change.Alarm.ID, h.Change.Alarm.Revision) {
		r.counts.settled.Add(1)
		return encodeAnswer(a)
	}
	ctx, cancel := context.WithTimeout(ctx, serveLimit)
	defer cancel()
	got, err := deliver(ctx, h)
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
