package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Refusals are written at most so often; how many were not is said with the next one.
const (
	refusalRate  = 2
	refusalBurst = 50
	maxObject    = 256 // bytes
)

// AuditEvent is the message of a line of the audit log.
const AuditEvent = "audit"

// auditLog is what keeps the log of who has changed what, or was not let.
type auditLog struct {
	refusals   *rate.Limiter
	suppressed atomic.Uint64
}

func newAuditLog() *auditLog { return &auditLog{refusals: rate.NewLimiter(refusalRate, refusalBurst)} }

// audit writes one line about a call that was to change something, or that was refused because of who made it.
func (s *Server) audit(r *http.Request, c *call) {
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	denied := c.status == http.StatusUnauthorized || c.status == http.StatusForbidden || c.status == http.StatusTooManyRequests
	if !changes && !denied || c.silent && !denied {
		return
	}
	outcome := "done"
	switch {
	case c.status >= 500 || c.status == 0:
		outcome = "failed"
	case c.status >= 400:
		outcome = "refused"
	}
	attrs := []slog.Attr{
		slog.String("who", c.identity.name), slog.String("role", string(c.identity.role)), slog.String("from", c.from),
		slog.String("call", r.Method+" "+r.Pattern), slog.String("object", c.about(r)), slog.Int("status", c.status), slog.String("outcome", outcome),
	}
	attrs = append(attrs, c.attrs...)
	level := slog.LevelInfo
	if outcome != "done" {
		if !s.audits.refusals.AllowN(s.now(), 1) {
			s.audits.suppressed.Add(1)
			return
		}
		level = slog.LevelWarn
		if n := s.audits.suppressed.Swap(0); n > 0 {
			attrs = append(attrs, slog.Uint64("suppressed", n))
		}
	}
	s.log.LogAttrs(context.WithoutCancel(r.Context()), level, AuditEvent, attrs...)
}

// about is what a call is about.
func (c *call) about(r *http.Request) string {
	object := c.object
	for _, name := range []string{"id", "name"} {
		if object == "" {
			object = r.PathValue(name)
		}
	}
	return object[:min(len(object), maxObject)]
}

// recorder notes the status of an answer. Unwrap is for http.ResponseController.
type recorder struct {
	http.ResponseWriter
	call *call
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.call.status == 0 && status >= 200 {
		w.call.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(b []byte) (int, error) {
	if w.call.status == 0 {
		w.call.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController the writer below.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
