package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

const (
	// handOverTimeout cuts off what Peers should have ended itself; a consumer may be as slow to answer a peer as to answer us.
	handOverTimeout = totalTimeout
	// maxGuests is how many requests each subscription makes at once for the homes of alarms; the next is refused, and
	// its home asks another host.
	maxGuests = 8
)

// Why Deliver does not make a request.
var (
	ErrUnreachable = errors.New("no endpoint can be connected to from this host")
	ErrBusy        = errors.New("too much is under way")
	ErrPaused      = errors.New("it is paused")
	ErrLocked      = errors.New("its secrets can't be opened here")
	// ErrSilent is of Peers.HandOver: a peer did not say whether it has asked the consumer.
	ErrSilent = errors.New("no answer")
	errAlive  = errors.New("it says that this host is lost, which lives")
)

// request is what a hand-over asks of the consumer.
func (w *worker) request(sub Subscription, h HandOver) (request, error) {
	form := sub.form()
	if h.beats() {
		if !form.Beats || sub.Heartbeat <= 0 {
			return request{}, fmt.Errorf("%w: a heartbeat that nobody asked for", ErrInvalid)
		}
		body, err := form.Message(w.beatMessage(sub, h.NotificationID, h.Beat))
		return sub.request(h.NotificationID, body), err
	}
	if n := len(h.Asks); (form.Parts != nil) != (n > 0) || form.Each && n > 1 {
		return request{}, fmt.Errorf("%w: a request of form %s about %d parts", ErrInvalid, form.Name, n)
	}
	a := h.Change.Alarm
	if sub.raises(a) {
		first := *a
		first.Last = correlate.Raised
		a = &first
	}
	occurred, observed := times(h.Change)
	f := sub.fault(a)
	f.ID, f.Label, f.Reporter, f.SOL, f.Asks = h.NotificationID, w.n.cfg.Label, w.n.cfg.Node, w.n.cfg.SOL, h.Asks
	f.Superseded = h.Superseded
	f.Timeline = format.Timeline{Occurred: occurred, Observed: observed, Found: h.Change.Found, Outbox: h.Outbox, Sent: w.n.cfg.Now()}
	body, err := form.Fault(f)
	return sub.request(h.NotificationID, body), err
}

// request is one whose body is written.
func (s Subscription) request(id string, body []byte) request {
	form := s.form()
	r := request{id: id, contentType: form.Type, body: body, secret: s.Secret, credentials: s.Credentials}
	if form.Header != nil {
		r.header = form.Header(id)
	}
	return r
}

// times are those of the event behind a revision, or of the decision when no event made it.
func times(c correlate.Change) (occurred, observed time.Time) {
	if c.Observed.IsZero() {
		return decided(c.Alarm), decided(c.Alarm)
	}
	return c.Occurred, c.Observed
}

// send makes one request, from here or by a peer. A peer is asked only when nothing of the request has reached a consumer
// in this attempt, and first when the consumer is known to be out of reach.
func (w *worker) send(sub Subscription, h HandOver) answer {
	peers := w.n.cfg.Peers
	var before error // why no peer could, when one was asked first
	if peers != nil && (sub.Locked() || !w.sender.warm.since().IsZero()) {
		a, err := w.handOver(h)
		if err == nil {
			return a
		}
		before = err
	}
	var a answer
	if sub.Locked() {
		a.outcome = delivery.Outcome{Verdict: delivery.Retry, Err: ErrLocked.Error()}
	} else {
		r, err := w.request(sub, h)
		if err != nil {
			a.outcome = delivery.Outcome{Verdict: delivery.Park, Err: err.Error()}
			return a
		}
		if peers != nil {
			r.connect = connectTimeout
		}
		a = w.sender.post(w.requests, w.aims(sub), r)
		if a.outcome.Unheard = !a.reached; a.reached || peers == nil || w.requests.Err() != nil {
			return a
		}
	}
	if before == nil {
		b, err := w.handOver(h)
		if err == nil {
			return b
		}
		before = err
	}
	a.outcome.Err = fmt.Sprintf("%s; nor by a peer: %s", a.outcome.Err, before)
	a.outcome.Unheard = !a.reached && !errors.Is(before, ErrSilent) && !errors.Is(before, context.DeadlineExceeded) && !errors.Is(before, context.Canceled)
	return a
}

func (w *worker) handOver(h HandOver) (answer, error) {
	ctx, cancel := context.WithTimeout(w.requests, handOverTimeout)
	defer cancel()
	got, err := w.n.cfg.Peers.HandOver(ctx, h)
	if err != nil {
		w.kin.tally.handOver("failed")
		return answer{}, err
	}
	w.kin.tally.handOver(got.Outcome.Verdict.String())
	got.Outcome.By = got.By
	return answer{outcome: got.Outcome, sent: got.Sent, answered: got.Answered}, nil
}

// moved says once that the consumer can't be reached from here, and once that it can again; what nobody could deliver
// meanwhile is then tried at once. Not under mu.
func (w *worker) moved(away bool) {
	name := w.name.Load()
	switch {
	case !away:
		w.n.log.Info("a consumer can be connected to from here again", "subscription", *name)
		w.mu.Lock()
		defer w.mu.Unlock()
		now := w.n.cfg.Now()
		w.machine.Hurry(now)
		w.pump(now)
	case w.n.cfg.Peers != nil:
		w.n.log.Warn("a consumer can't be connected to from here: peers are asked to deliver", "subscription", *name)
	default:
		w.n.log.Warn("a consumer can't be connected to from here", "subscription", *name)
	}
}

// Deliver makes one request for the home of an alarm; see Shared. At most maxGuests are under way for a subscription.
func (n *Notifier) Deliver(ctx context.Context, h HandOver) (Answer, error) {
	refuse := func(name string, err error) (Answer, error) {
		n.metrics.guest("refused")
		return Answer{}, fmt.Errorf("deliver for a peer: subscription %q: %w", name, err)
	}
	w := n.legNamed(h.Subscription)
	if w == nil {
		return refuse(h.Subscription, ErrNotFound)
	}
	sub, withheld, nothing := w.subscription().within(n.granted())
	switch {
	case nothing:
		return refuse(sub.Name, fmt.Errorf("%w: %s", ErrPaused, withheld))
	case h.Change.Alarm == nil && !h.beats() || h.NotificationID == "":
		return refuse(sub.Name, fmt.Errorf("%w: alarm and notification id are needed", ErrInvalid))
	case !h.beats() && n.ofUs(h.Change.Alarm) && h.Change.Alarm.Standing():
		return refuse(sub.Name, errAlive)
	case sub.Version != h.Version:
		return refuse(sub.Name, fmt.Errorf("version %d is known here, not %d: %w", sub.Version, h.Version, ErrNotFound))
	case sub.Paused != "":
		return refuse(sub.Name, ErrPaused)
	case sub.Locked():
		return refuse(sub.Name, ErrLocked)
	}
	select {
	case w.guests <- struct{}{}:
		defer func() { <-w.guests }()
	default:
		return refuse(sub.Name, ErrBusy)
	}
	r, err := w.request(sub, h)
	if err != nil {
		return refuse(sub.Name, err)
	}
	r.connect = connectTimeout
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.requests, cancel)()
	a := w.sender.post(ctx, w.aims(sub), r)
	if !a.reached {
		return refuse(sub.Name, fmt.Errorf("%w: %s", ErrUnreachable, a.outcome.Err))
	}
	n.metrics.guest(a.outcome.Verdict.String())
	return Answer{By: n.cfg.Node, Outcome: a.outcome, Sent: a.sent, Answered: a.answered}, nil
}
