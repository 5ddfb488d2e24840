package cluster

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// The messages that hosts send each other beside the replica (gossip.TypeReserved and above).
//
//	message = version:1 type:1 form:1 flags:1 body    version: gossip.FormatVersion
//	body    = JSON of a request, an answer …          flags: bit 0 it is deflated
const (
	typeRequest = gossip.TypeReserved     // make this request for me
	typeAnswer  = gossip.TypeReserved + 1 // what came of it

	messageForm = 1
	flagDeflate = 1
	messageHead = 4
	maxBody     = 4 << 20 // bytes, inflated
	maxReason   = 512     // bytes of free text
)

// What the watch says beside its own packets: a verdict, to all; who speaks for whom, to those who would be next.
const (
	typeVerdict = gossip.TypeReserved + 5
	typeClaim   = gossip.TypeReserved + 6
)

// typeWorking, with the body of an answer of which only the ID counts, says that the request is being made.
const typeWorking = gossip.TypeReserved + 4

// request is typeRequest. It is known again by who sent it and its ID.
type request struct {
	ID uint64 `json:"id"`
	notify.HandOver
}

// answer is typeAnswer.
type answer struct {
	ID       uint64           `json:"id"`
	Refused  string           `json:"refused,omitempty"` // why no request was made
	Outcome  delivery.Outcome `json:"outcome"`
	Sent     time.Time        `json:"sent"`
	Answered time.Time        `json:"answered"`
}

func encodeRequest(q request) ([]byte, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	return encodeMessage(typeRequest, body), nil
}

func encodeAnswer(a answer) []byte {
	a.shorten()
	body, _ := json.Marshal(a) // numbers, texts and times of clocks: it can't fail
	return encodeMessage(typeAnswer, body)
}

// shorten bounds the free text, and what else must not be believed.
func (a *answer) shorten() {
	a.Refused, a.Outcome.Err = shorten(a.Refused), shorten(a.Outcome.Err)
	a.Outcome.RetryAfter = max(0, a.Outcome.RetryAfter)
}

func shorten(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}

func encodeMessage(t gossip.MessageType, body []byte) []byte {
	msg := []byte{gossip.FormatVersion, byte(t), messageForm, 0}
	var short bytes.Buffer
	w, _ := flate.NewWriter(&short, flate.BestSpeed) // only a wrong level is an error, and a buffer takes everything
	_, _ = w.Write(body)
	_ = w.Close()
	if short.Len() < len(body) {
		msg[3] |= flagDeflate
		body = short.Bytes()
	}
	return append(msg, body...)
}

// openMessage takes the envelope off.
func openMessage(msg []byte) (gossip.MessageType, []byte, error) {
	t, err := gossip.TypeOf(msg)
	switch {
	case err != nil:
		return 0, nil, err
	case t < typeRequest || t > typeVerdicts:
		return 0, nil, fmt.Errorf("message of type %d: %w", t, gossip.ErrMessageType)
	case len(msg) < messageHead:
		return 0, nil, fmt.Errorf("message of %d bytes: too short", len(msg))
	case msg[2] != messageForm:
		return 0, nil, fmt.Errorf("message of form %d, understood is %d: %w", msg[2], messageForm, gossip.ErrFormatVersion)
	case msg[3]&^flagDeflate != 0:
		return 0, nil, fmt.Errorf("message with flags %#x: %w", msg[3], gossip.ErrFormatVersion)
	}
	body := msg[messageHead:]
	if msg[3]&flagDeflate != 0 {
		if body, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), maxBody+1)); err != nil {
			return 0, nil, fmt.Errorf("message: inflate it: %w", err)
		}
	}
	if len(body) > maxBody {
		return 0, nil, fmt.Errorf("message of more than %d bytes", maxBody)
	}
	return t, body, nil
}

// decodeMessage reads a request or an answer; the other is nil.
func decodeMessage(t gossip.MessageType, body []byte) (*request, *answer, error) {
	if t == typeAnswer || t == typeWorking {
		a := new(answer)
		if err := json.Unmarshal(body, a); err != nil {
			return nil, nil, fmt.Errorf("answer: %w", err)
		}
		if a.Outcome.Verdict > delivery.Pause {
			return nil, nil, fmt.Errorf("answer: verdict %d is unknown", a.Outcome.Verdict)
		}
		a.shorten()
		return nil, a, nil
	}
	q := new(request)
	if err := json.Unmarshal(body, q); err != nil {
		return nil, nil, fmt.Errorf("request: %w", err)
	}
	if err := q.check(); err != nil {
		return nil, nil, fmt.Errorf("request: %w", err)
	}
	return q, nil, nil
}

func (q *request) check() error {
	switch a := q.Change.Alarm; {
	case q.NotificationID == "" || q.Subscription == "":
		return errors.New("it names no notification or no subscription")
	case !q.Beat.IsZero():
		if a != nil || q.Asks != nil {
			return errors.New("it is a heartbeat about an alarm")
		}
	case a == nil:
		return errors.New("it has no alarm")
	case a.ID == "" || a.Key.Home == "" || a.Key.Resource == "" || a.Key.Condition == "" || a.Revision.Term == 0:
		return errors.New("its alarm has no identity")
	case q.Attempt < 0 || q.Superseded < 0:
		return errors.New("it counts below zero")
	}
	return nil
}
