package notify

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// partID is the webhook-id of one part of a revision: the same from whichever agent sends it, and another when it says another thing.
func partID(notification string, ask delivery.Ask) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s\x00%s\x00%t\x00%t", notification, ask.ID, ask.Over, ask.Still)).String()
}

// tellParts tells what a revision of a split form has to say: in one request, or in one for each part.
func (w *worker) tellParts(sub Subscription, h HandOver, asks []delivery.Ask) answer {
	muted, asks := sub.muted(asks)
	switch {
	case len(asks) == 0:
		return answer{outcome: delivery.Outcome{Unasked: true, Done: muted}}
	case sub.form().Each:
		a := w.tellEach(sub, h, asks)
		a.outcome.Done = append(a.outcome.Done, muted...)
		return a
	}
	h.Asks = asks
	a := w.send(sub, h)
	if a.outcome.Verdict == delivery.Settled {
		a.outcome.Done = asks
	}
	return a
}

// muted divides what is to be told into what the subscription does not want to hear of, and the rest.
func (s Subscription) muted(asks []delivery.Ask) (muted, rest []delivery.Ask) {
	if s.Filter.SOL.IsZero() {
		return nil, asks
	}
	for _, ask := range asks {
		kind := format.SOLAlarmNotification
		if ask.Over {
			kind = format.SOLClearedNotification
		}
		if s.Filter.SOL.Tells(kind) {
			rest = append(rest, ask)
		} else {
			muted = append(muted, ask)
		}
	}
	return muted, rest
}

// tellEach makes a request for each part, several at once. An answer is about its own part: the others go on. When there is
// none, or when the consumer wants to be left alone, what has not begun waits.
func (w *worker) tellEach(sub Subscription, h HandOver, asks []delivery.Ask) answer {
	var (
		group   sync.WaitGroup
		mu      sync.Mutex
		sum     answer
		left    int
		stopped bool
		heard   bool
	)
	note := func(ask delivery.Ask, a answer) {
		mu.Lock()
		defer mu.Unlock()
		if a.answered.After(sum.answered) {
			sum.sent, sum.answered = a.sent, a.answered
		}
		o := a.outcome
		heard = heard || !o.Unheard
		if o.Verdict == delivery.Settled {
			sum.outcome.Done, sum.outcome.By = append(sum.outcome.Done, ask), cmp.Or(sum.outcome.By, o.By)
			return
		}
		left++
		stopped = stopped || a.answered.IsZero() || o.Verdict == delivery.Pause || o.RetryAfter > 0
		if graver(o.Verdict, sum.outcome.Verdict) {
			sum.outcome.Verdict, sum.outcome.Err, sum.outcome.By = o.Verdict, o.Err, o.By
		}
		sum.outcome.RetryAfter = max(sum.outcome.RetryAfter, o.RetryAfter)
	}
	for i, ask := range asks {
		w.asking <- struct{}{}
		mu.Lock()
		if stopped || w.requests.Err() != nil {
			left += len(asks) - i
			mu.Unlock()
			<-w.asking
			break
		}
		mu.Unlock()
		one := h
		one.NotificationID, one.Asks = partID(h.NotificationID, ask), []delivery.Ask{ask}
		group.Go(func() {
			defer func() { <-w.asking }()
			note(ask, w.send(sub, one))
		})
	}
	group.Wait()
	sum.outcome.Unheard = !heard
	if left > 0 && sum.outcome.Verdict == delivery.Settled { // cut off by the end of Run
		sum.outcome.Verdict = delivery.Retry
	}
	if left > 0 && len(asks) > 1 {
		sum.outcome.Err = fmt.Sprintf("%s (%d of %d virtual machines are not told)", sum.outcome.Err, left, len(asks))
	}
	return sum
}

// graver orders what requests of one revision came to: one that is to be tried again keeps those that are not.
func graver(a, b delivery.Verdict) bool {
	rank := func(v delivery.Verdict) int {
		switch v {
		case delivery.Settled:
		case delivery.Park:
			return 1
		case delivery.Retry:
			return 2
		case delivery.Pause:
			return 3
		}
		return 0
	}
	return rank(a) > rank(b)
}
