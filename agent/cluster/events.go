package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/gossip"
)

// Events of other monitors go to the host that they are about, which judges them.
const (
	typeEvents   = gossip.TypeReserved + 7 // judge these
	typeVerdicts = gossip.TypeReserved + 8 // the verdicts

	eventsLimit   = 3 * time.Second // for a host to answer
	judgeLimit    = 2 * time.Second // for us to judge what another one has handed on
	eventsAtOnce  = 32              // of ours that wait for a host; one more waits for its turn
	judgedAtOnce  = 16              // bodies of others
	judgedOfOne   = 4               // of one host
	maxJudged     = 256             // bodies of others that are known again
	eventsMessage = 1000            // KiB that a message may have
)

// HandIn judges what another host has handed on; it is southbound.Desk.Take.
type HandIn func(ctx context.Context, from southbound.Origin, items []southbound.Item) ([]southbound.Verdict, error)

// eventsBody is typeEvents. It is known again by who sent it and its ID.
type eventsBody struct {
	ID     uint64            `json:"id"`
	Caller string            `json:"caller,omitempty"`
	Items  []southbound.Item `json:"items"`
}

// verdictsBody is typeVerdicts.
type verdictsBody struct {
	ID       uint64               `json:"id"`
	Refused  string               `json:"refused,omitempty"` // why none was judged
	Verdicts []southbound.Verdict `json:"verdicts,omitempty"`
}

// courier carries events to their host. Its methods are safe from any goroutine.
type courier struct {
	tell    func(node string, msg []byte) error
	errands *errands
	asked   *questions[verdictsBody]
	asking  chan struct{}

	mu     sync.Mutex
	handIn HandIn // nil: the agent is not there yet
}

func newCourier(log *slog.Logger, tell func(string, []byte) error) *courier {
	return &courier{
		tell: tell, asking: make(chan struct{}, eventsAtOnce),
		errands: newErrands(log, tell, judgedAtOnce, judgedOfOne, maxJudged), asked: newQuestions[verdictsBody](),
	}
}

// open says who judges.
func (c *courier) open(handIn HandIn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handIn = handIn
}

// close ends the judging, and waits for it.
func (c *courier) close() { c.errands.close() }

// handOn has a host judge events, in as many messages as they need.
func (c *courier) handOn(ctx context.Context, host string, from southbound.Origin, items []southbound.Item) ([]southbound.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, eventsLimit)
	defer cancel()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return nil, errors.New("too many events are on their way to other hosts")
	}
	var all []southbound.Verdict
	for len(items) > 0 {
		a, n, err := c.ask(ctx, host, from, items)
		if err != nil && len(all) == 0 {
			return nil, err
		}
		if err != nil || len(a) != n { // those that were judged have their verdicts
			return all, nil // the rest has none, which says it
		}
		all, items = append(all, a...), items[n:]
	}
	return all, nil
}

// ask a host about as many of the items as fit into one message, n, again and again until there is an answer: datagrams get lost.
func (c *courier) ask(ctx context.Context, host string, from southbound.Origin, items []southbound.Item) (v []southbound.Verdict, n int, err error) {
	id, q := c.asked.open(host)
	defer c.asked.close(id)
	n = len(items)
	msg := encodeEvents(eventsBody{id, from.Caller, items})
	for len(msg) > eventsMessage<<10 && n > 1 {
		n /= 2
		msg = encodeEvents(eventsBody{id, from.Caller, items[:n]})
	}
	again := time.NewTicker(errandAgain)
	defer again.Stop()
	for {
		if err := c.tell(host, msg); err != nil {
			return nil, n, err
		}
		select {
		case a := <-q.answer:
			if a.Refused != "" {
				return nil, n, errors.New(a.Refused)
			}
			return a.Verdicts, n, nil
		case <-again.C:
		case <-ctx.Done():
			return nil, n, errors.New("it does not answer")
		}
	}
}

// heard takes events or verdicts. It does not block; an error says that they can't be understood.
func (c *courier) heard(from string, t gossip.MessageType, body []byte) error {
	if t == typeVerdicts {
		a, err := decodeVerdicts(body)
		if err != nil {
			return err
		}
		c.asked.answered(from, a.ID, a)
		return nil
	}
	b, err := decodeEvents(body)
	if err != nil {
		return err
	}
	c.take(from, b)
	return nil
}

// take judges what a host has handed on, unless that is known already or there is too much.
func (c *courier) take(from string, b eventsBody) {
	c.mu.Lock()
	handIn := c.handIn
	c.mu.Unlock()
	fate := errandRefused
	if handIn != nil {
		fate = c.errands.take(from, b.ID, func(ctx context.Context) ([]byte, bool) {
			ctx, cancel := context.WithTimeout(ctx, judgeLimit)
			defer cancel()
			v, err := handIn(ctx, southbound.Origin{Caller: b.Caller, Peer: from}, b.Items)
			if err != nil { // the same may be sent again
				return encodeVerdicts(verdictsBody{ID: b.ID, Refused: shorten(err.Error())}), true
			}
			return encodeVerdicts(verdictsBody{ID: b.ID, Verdicts: v}), false
		})
	}
	switch fate {
	case errandSettled, errandRunning:
	case errandRefused:
		c.errands.reply(from, encodeVerdicts(verdictsBody{ID: b.ID, Refused: "it is starting or stopping"}))
	case errandTooMany:
		c.errands.reply(from, encodeVerdicts(verdictsBody{ID: b.ID, Refused: "it has too many events to judge already"}))
	}
}

func encodeEvents(b eventsBody) []byte {
	body, _ := json.Marshal(b) // numbers, texts and times that were read: it can't fail
	return encodeMessage(typeEvents, body)
}

func encodeVerdicts(b verdictsBody) []byte {
	body, _ := json.Marshal(b)
	return encodeMessage(typeVerdicts, body)
}

// decodeEvents judges the items anew: a peer may be broken.
func decodeEvents(body []byte) (eventsBody, error) {
	var b eventsBody
	switch err := json.Unmarshal(body, &b); {
	case err != nil:
		return b, fmt.Errorf("events: %w", err)
	case len(b.Items) == 0 || len(b.Items) > southbound.MaxItems:
		return b, fmt.Errorf("events: %d of them", len(b.Items))
	}
	b.Caller = shorten(b.Caller)
	for i := range b.Items {
		b.Items[i].Check()
	}
	return b, nil
}

func decodeVerdicts(body []byte) (verdictsBody, error) {
	var b verdictsBody
	if err := json.Unmarshal(body, &b); err != nil {
		return b, fmt.Errorf("verdicts: %w", err)
	}
	b.Refused = shorten(b.Refused)
	for i := range b.Verdicts {
		switch v := &b.Verdicts[i]; v.Word {
		case southbound.Accepted, southbound.Duplicate, southbound.Refused:
			v.Text = shorten(v.Text)
		default:
			return b, fmt.Errorf("verdicts: %q is none", v.Word)
		}
	}
	return b, nil
}

var _ southbound.Peers = (*Cluster)(nil)

// OpenEvents says who judges the events about this host that others hand on.
func (c *Cluster) OpenEvents(handIn HandIn) { c.courier.open(handIn) }

// HandOn implements southbound.Peers.
func (c *Cluster) HandOn(ctx context.Context, host string, from southbound.Origin, items []southbound.Item) ([]southbound.Verdict, error) {
	return c.courier.handOn(ctx, host, from, items)
}

// Find implements southbound.Peers. A name that is written out in full comes before one that leaves the domain out, and that must
// mean one host only.
func (c *Cluster) Find(name string) (host, state string) {
	var found []ledger.HostView
	for _, h := range c.Hosts() {
		switch {
		case h.Self:
		case h.Name == name:
			return h.Name, unspeakable(h)
		case southbound.SameHost(name, h.Name):
			found = append(found, h)
		}
	}
	if len(found) != 1 {
		return "", ""
	}
	return found[0].Name, unspeakable(found[0])
}

// unspeakable says how a host is that can't be spoken to.
func unspeakable(h ledger.HostView) string {
	state, _, _ := h.State()
	if h.Member && slices.Contains([]ledger.HostState{ledger.HostMember, ledger.HostStarting, ledger.HostIsolated, ledger.HostShutdown}, state) {
		return "" // one that starts says so itself
	}
	return cmp.Or(string(state), string(ledger.HostAway))
}
