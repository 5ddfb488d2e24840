package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

const (
	// healthTimeout is how long the engine's goroutine may take for nothing at all before the agent counts as sick.
	healthTimeout = 2 * time.Second
	maxEvents     = 1000
)

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	status, err := s.backend.Status(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if status.Sources == nil {
		status.Sources = []SourceStatus{}
	}
	counts := make(map[string]int)
	for severity := correlate.SeverityIndeterminate; severity <= correlate.SeverityCritical; severity++ {
		counts[severity.String()] = status.Alarms[severity.String()]
	}
	status.Alarms = counts
	status.Started = status.Started.UTC()
	s.answer(w, r, http.StatusOK, status)
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.health)
	defer cancel()
	if err := s.backend.Query(ctx, func(*correlate.Engine) {}); err != nil {
		s.refuse(w, r, &refusal{
			http.StatusServiceUnavailable, "no-answer", "the agent did not answer in time",
			fmt.Sprintf("the engine's loop does not answer: %v: look at the agent's log; systemd restarts it when it stays so", err),
		})
		return
	}
	s.answer(w, r, http.StatusOK, Health{Status: "ok"})
}

func (s *Server) getReady(w http.ResponseWriter, r *http.Request) {
	if err := s.backend.Ready(); err != nil {
		s.refuse(w, r, &refusal{
			http.StatusServiceUnavailable, "not-ready", "not ready yet",
			err.Error() + ": try again shortly; /v1/status shows each source",
		})
		return
	}
	s.answer(w, r, http.StatusOK, Health{Status: "ready"})
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "limit")
	limit := q.number("limit", 100, maxEvents)
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	s.answer(w, r, http.StatusOK, EventList{Events: each(s.backend.Events(limit), fromEvent)})
}
