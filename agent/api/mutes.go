package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func (b MuteRequest) mute(now time.Time, by string) (notify.Mute, error) {
	m := notify.Mute{ID: b.ID, Reason: b.Reason, By: by, Made: now.Round(0).UTC()}
	if m.ID == "" {
		m.ID = uuid.NewString()
	}
	var err error
	switch {
	case b.Until != "" && b.For != "":
		return m, badRequest("until and for: give one of them")
	case b.For != "":
		var d time.Duration
		d, err = span("for", b.For)
		m.Until = m.Made.Add(d)
	case b.Until == "":
		return m, badRequest("until is missing: say when the mute ends, or in \"for\" after how long")
	default:
		if m.Until, err = time.Parse(time.RFC3339, b.Until); err != nil {
			err = badRequest("until: %q is no time of RFC 3339: write for instance %s", b.Until, now.Add(time.Hour).UTC().Format(time.RFC3339))
		}
		m.Until = m.Until.UTC()
	}
	if err != nil {
		return m, err
	}
	m.Filter = notify.Filter{
		Hosts: b.Hosts, Zones: b.Zones, Labels: b.Labels, Resources: b.Resources,
		ResourceTypes: named[correlate.Kind](b.ResourceTypes), Conditions: named[correlate.Condition](b.Conditions),
	}
	for name, severity := range map[string]struct {
		text string
		into *correlate.Severity
	}{"min_severity": {b.MinSeverity, &m.Filter.MinSeverity}, "max_severity": {b.MaxSeverity, &m.MaxSeverity}} {
		if severity.text == "" {
			continue
		}
		if *severity.into, err = correlate.ParseSeverity(severity.text); err != nil {
			return m, badRequest("%s: %v", name, err)
		}
	}
	return m, nil
}

func fromMute(m notify.Mute) Mute {
	f := m.Filter
	labels := f.Labels
	if labels == nil {
		labels = map[string][]string{}
	}
	return Mute{
		ID: m.ID, Hosts: texts(f.Hosts), Zones: texts(f.Zones), Labels: labels, Resources: texts(f.Resources),
		ResourceTypes: texts(f.ResourceTypes), Conditions: texts(f.Conditions),
		MinSeverity: f.MinSeverity.String(), MaxSeverity: m.MaxSeverity.String(),
		Until: stamp(m.Until), Reason: m.Reason, By: m.By, Made: stamp(m.Made),
	}
}

func (s *Server) putMute(w http.ResponseWriter, r *http.Request) {
	var body MuteRequest
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	m, err := body.mute(s.now(), identityOf(r.Context()).name)
	callOf(r.Context()).object = m.ID
	var made bool
	if err == nil {
		made, err = s.backend.Notify().SetMute(r.Context(), m)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	callOf(r.Context()).note("until", m.Until.Format(time.RFC3339))
	status := http.StatusOK
	if made {
		status = http.StatusCreated
		w.Header().Set("Location", "/v1/mutes/"+m.ID)
	}
	s.answer(w, r, status, fromMute(m))
}

func (s *Server) getMutes(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	s.answer(w, r, http.StatusOK, MuteList{Mutes: each(s.backend.Notify().Mutes(), fromMute)})
}

func (s *Server) getMute(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	for _, m := range s.backend.Notify().Mutes() {
		if m.ID == r.PathValue("id") {
			s.answer(w, r, http.StatusOK, fromMute(m))
			return
		}
	}
	s.refuse(w, r, fmt.Errorf("mute %q: %w", r.PathValue("id"), notify.ErrNotFound))
}

func (s *Server) deleteMute(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := s.backend.Notify().EndMute(r.Context(), id); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
