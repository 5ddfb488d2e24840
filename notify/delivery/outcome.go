package delivery

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Verdict is what an attempt means for its delivery.
type Verdict uint8

// Settled: done. Retry: again after a backoff. Park: not again by ourselves. Pause: the consumer wants nothing more.
const (
	Settled Verdict = iota
	Retry
	Park
	Pause
)

func (v Verdict) String() string {
	switch v {
	case Settled:
		return "settled"
	case Retry:
		return "retried"
	case Park:
		return "parked"
	case Pause:
		return "paused"
	}
	return "verdict?"
}

// Outcome is what came of one attempt.
type Outcome struct {
	Verdict    Verdict
	RetryAfter time.Duration // zero when the consumer named none
	Err        string        // for the operator; empty when settled
	By         string        // the host that asked the consumer; empty: this one
	View       uint64        `json:"-"` // what the consumer was shown; see Config.View
	Done       []Ask         `json:"-"` // of a split form: those that the consumer took; all of them when Settled
	Unasked    bool          `json:"-"` // there was nothing to tell, so that nobody was asked
	Unheard    bool          `json:"-"` // nothing of it can have come to the consumer
}

// Classify judges an HTTP answer: 2xx settles; 410 pauses; 408, 425, 429 and 5xx are retried; every other 3xx
// (redirects are not followed) and 4xx parks. retryAfter is the header of that name, in either form of RFC 9110
// 10.2.3; it counts for 429 and 503.
func Classify(status int, retryAfter string, now time.Time) Outcome {
	o := Outcome{Err: fmt.Sprintf("answered %d", status)}
	switch {
	case status >= 200 && status < 300:
		return Outcome{}
	case status == 410:
		o.Verdict = Pause
		o.Err = "answered 410: the consumer wants nothing more"
	case status == 429 || status == 503:
		o.Verdict = Retry
		o.RetryAfter = RetryAfter(retryAfter, now)
	case status == 408 || status == 425 || status < 200 || status >= 500:
		o.Verdict = Retry
	case status < 400:
		o.Verdict = Park
		o.Err = fmt.Sprintf("answered %d: redirects are not followed; name the final address", status)
	default:
		o.Verdict = Park
	}
	return o
}

// httpDates are the three forms that RFC 9110 5.6.7 wants understood.
var httpDates = [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 MST", time.ANSIC}

// RetryAfter reads a Retry-After header. It is zero when there is none, when it can't be read, or when it lies in the past.
func RetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	if s, err := strconv.ParseUint(header, 10, 63); err == nil {
		const longest = uint64(1<<63-1) / uint64(time.Second)
		return time.Duration(min(s, longest)) * time.Second
	}
	for _, form := range httpDates {
		if t, err := time.Parse(form, header); err == nil {
			return max(0, t.Sub(now))
		}
	}
	return 0
}
