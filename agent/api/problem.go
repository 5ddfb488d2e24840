package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// refusal is a request's error that knows its answer; the detail names what is wrong and the remedy.
type refusal struct {
	status int
	kind   string // ends the problem's type
	title  string
	detail string
}

func (r *refusal) Error() string { return r.detail }

func badRequest(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, "bad-request", "the request can't be understood", fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &refusal{http.StatusNotFound, "not-found", "no such thing", fmt.Sprintf(format, args...)}
}

// errStarting is the answer where nothing can be said without the engine.
var errStarting = &refusal{
	http.StatusServiceUnavailable, "starting", "the agent is starting",
	"this host asks its peers what it was before, which takes seconds: try again; /v1/hosts, /v1/alarms and /v1/resources tell of the others meanwhile",
}

// ask runs f on the goroutine of the engine. The error is errStarting while there is none.
func (s *Server) ask(ctx context.Context, f func(*correlate.Engine)) error {
	if s.backend.Starting() {
		return errStarting
	}
	return s.backend.Query(ctx, f)
}

// asRefusal finds the answer to an error of the backend.
func asRefusal(err error) *refusal {
	var r *refusal
	var clock *gossip.ClockError
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, notify.ErrNotFound), errors.Is(err, correlate.ErrNoAlarm):
		return &refusal{http.StatusNotFound, "not-found", "no such thing", err.Error()}
	case errors.Is(err, ledger.ErrManyWords):
		return &refusal{http.StatusConflict, "many-comments", "too many comments", err.Error()}
	case errors.Is(err, gossip.ErrMember):
		return &refusal{http.StatusConflict, "is-member", "the host is there", err.Error()}
	case errors.Is(err, gossip.ErrKeysNotLevel):
		return &refusal{http.StatusConflict, "keys", "the keys don't allow it now", err.Error()}
	case errors.As(err, &clock):
		return &refusal{http.StatusConflict, "clock", "the clock of this host is ahead of the others'", fmt.Sprintf(
			"it is %v ahead of the median of its peers', which would refuse the change: let NTP set the clock of this host, or make the change at another one",
			clock.Ahead.Round(time.Second))}
	case errors.Is(err, notify.ErrFromFile):
		return &refusal{http.StatusConflict, "from-file", "the configuration file owns it", err.Error()}
	case errors.Is(err, notify.ErrVerification):
		return &refusal{
			http.StatusUnprocessableEntity, "not-verified", "the callback was not verified",
			reason(err, notify.ErrVerification) + `: make it answer the verification, or send "verify": false`,
		}
	case errors.Is(err, notify.ErrInvalid):
		return &refusal{http.StatusUnprocessableEntity, "invalid", "the contents are not acceptable", reason(err, notify.ErrInvalid)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &refusal{
			http.StatusServiceUnavailable, "no-answer", "the agent did not answer in time",
			err.Error() + ": try again; if it persists, look at the agent's log",
		}
	}
	return &refusal{http.StatusInternalServerError, "internal", "the agent failed", err.Error()}
}

// reason is err without the words of what, which the problem's title says already.
func reason(err, what error) string { return strings.TrimPrefix(err.Error(), what.Error()+": ") }

// problemTypes is where the types of the problems are described.
const problemTypes = "https://github.com/paramedic-ha/paramedic/blob/main/docs/api.md#"

// refuse answers with an error as RFC 9457 says, and logs what is the agent's own fault.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	ref := asRefusal(err)
	if ref.status == http.StatusInternalServerError {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	body, err := json.Marshal(Problem{
		Type: problemTypes + ref.kind, Title: ref.title, Status: ref.status, Detail: ref.detail, Instance: r.URL.EscapedPath(),
	})
	if err != nil { // strings and a number: can't be
		http.Error(w, ref.title, ref.status)
		return
	}
	write(w, ref.status, "application/problem+json", body)
}

// answer writes v as JSON.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.refuse(w, r, fmt.Errorf("encode the answer: %w", err))
		return
	}
	write(w, status, "application/json", body)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is no concern of ours
}
