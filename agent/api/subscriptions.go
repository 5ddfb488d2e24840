package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func (s *Server) getSubscriptions(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	s.answer(w, r, http.StatusOK, SubscriptionList{Subscriptions: each(s.backend.Notify().Subscriptions(), fromSubscription)})
}

func (s *Server) getSubscription(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	id := r.PathValue("id")
	for _, sub := range s.backend.Notify().Subscriptions() {
		if sub.ID == id {
			s.answer(w, r, http.StatusOK, fromSubscription(sub))
			return
		}
	}
	s.refuse(w, r, notFound("subscription %q is not known: /v1/subscriptions lists those that are", id))
}

func (s *Server) postSubscription(w http.ResponseWriter, r *http.Request) {
	var body SubscriptionRequest
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	wish, err := body.subscription()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	verify := body.Verify == nil || *body.Verify
	sub, snapshot, err := s.backend.Notify().Subscribe(r.Context(), wish, verify)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.log.Info("subscribed", "subscription", sub.ID, "name", sub.Name)
	w.Header().Set("Location", "/v1/subscriptions/"+url.PathEscape(sub.ID))
	s.answer(w, r, http.StatusCreated, Subscribed{Subscription: fromSubscription(sub), Snapshot: each(snapshot, fromAlarm)})
}

func (s *Server) patchSubscription(w http.ResponseWriter, r *http.Request) {
	var body SubscriptionChange
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	patch, err := body.patch()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	sub, err := s.backend.Notify().Update(r.Context(), r.PathValue("id"), patch)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.log.Info("subscription changed", "subscription", sub.ID, "name", sub.Name)
	s.answer(w, r, http.StatusOK, fromSubscription(sub))
}

func (s *Server) deleteSubscription(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := s.backend.Notify().Unsubscribe(r.Context(), id); err != nil {
		s.refuse(w, r, err)
		return
	}
	s.log.Info("unsubscribed", "subscription", id)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) postTest(w http.ResponseWriter, r *http.Request) {
	stages, err := s.backend.Notify().Test(r.Context(), r.PathValue("id"))
	if err != nil && !errors.Is(err, notify.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
		err = &refusal{http.StatusBadGateway, "not-taken", "the consumer did not take it", err.Error()}
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, fromStages(stages))
}

func (s *Server) getDeliveries(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "state")
	state := q.choice("state", "", string(notify.DeliveryPending), string(notify.DeliveryParked))
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	deliveries := s.backend.Notify().Deliveries(notify.DeliveryState(state))
	s.answer(w, r, http.StatusOK, DeliveryList{Deliveries: each(deliveries, fromDelivery)})
}

func (s *Server) postRetry(w http.ResponseWriter, r *http.Request) {
	if err := s.backend.Notify().Retry(r.Context(), r.PathValue("id")); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) getProfile(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	s.answer(w, r, http.StatusOK, StageList{Stages: each(s.backend.Notify().Profile(), fromStages)})
}

// subscription checks what has names and defaults here; endpoints, format and the rest are notify's to judge.
func (b SubscriptionRequest) subscription() (notify.Subscription, error) {
	sub := notify.Subscription{
		Name: b.Name, Endpoints: b.Endpoints, Format: b.Format, Role: notify.Role(b.Role), Origin: notify.OriginAPI,
	}
	if sub.Name == "" {
		return sub, badRequest("name: it is missing: give a name that people will know it by")
	}
	if len(sub.Endpoints) == 0 {
		return sub, badRequest("endpoints: there is none: give at least one http or https URL")
	}
	if sub.Format == "" {
		sub.Format = "native"
	}
	switch sub.Role {
	case "":
		sub.Role = notify.RoleAdmin // who opens the socket is one
	case notify.RoleAdmin, notify.RoleConsumer:
	default:
		return sub, badRequest("role: %q: want admin or consumer", b.Role)
	}
	var err error
	if b.Secret != "" {
		if sub.Secret, err = parseSecret(b.Secret); err != nil {
			return sub, err
		}
	}
	if b.Filter != nil {
		sub.Filter, err = b.Filter.parse()
	}
	return sub, err
}

func (b SubscriptionChange) patch() (notify.SubscriptionPatch, error) {
	p := notify.SubscriptionPatch{Name: b.Name, Endpoints: b.Endpoints, Paused: b.Paused}
	if b == (SubscriptionChange{}) {
		return p, badRequest("the body changes nothing: give name, endpoints, secret, filter or paused")
	}
	if b.Name != nil && *b.Name == "" {
		return p, badRequest("name: it is empty: leave it out to keep the old one")
	}
	if b.Endpoints != nil && len(*b.Endpoints) == 0 {
		return p, badRequest("endpoints: there is none: give at least one http or https URL, or leave it out")
	}
	if b.Secret != nil {
		secret, err := parseSecret(*b.Secret)
		if err != nil {
			return p, err
		}
		p.Secret = &secret
	}
	if b.Filter != nil {
		filter, err := b.Filter.parse()
		if err != nil {
			return p, err
		}
		p.Filter = &filter
	}
	return p, nil
}

// parseSecret reads the form of Standard Webhooks 1.0. Its errors never quote what was given.
func parseSecret(text string) (notify.Secret, error) {
	const prefix = "whsec_"
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, prefix))
	if err != nil || !strings.HasPrefix(text, prefix) || len(key) < 24 || len(key) > 64 {
		return notify.Secret{}, badRequest("secret: want %s and the base64 of 24 to 64 bytes: `paramedic keygen` makes one", prefix)
	}
	return notify.NewSecret(key), nil
}

func (f Filter) parse() (notify.Filter, error) {
	out := notify.Filter{
		Projects: f.Projects, Domains: f.Domains, Kinds: f.Kinds, MinConfidence: correlate.Confidence(f.MinConfidence),
	}
	for i, kind := range f.ResourceTypes {
		if !slices.Contains(correlate.Kinds(), correlate.Kind(kind)) {
			return out, badRequest("filter.resource_types[%d]: %q: want one of %s", i, kind, strings.Join(texts(correlate.Kinds()), ", "))
		}
		out.ResourceTypes = append(out.ResourceTypes, correlate.Kind(kind))
	}
	for _, condition := range f.Conditions {
		out.Conditions = append(out.Conditions, correlate.Condition(condition))
	}
	if f.MinSeverity != "" {
		var err error
		if out.MinSeverity, err = correlate.ParseSeverity(f.MinSeverity); err != nil {
			return out, badRequest("filter.min_severity: %v", err)
		}
	}
	for i, kind := range f.Kinds {
		switch kind {
		case "fault":
		case "maintenance", "prediction":
			return out, badRequest("filter.kinds[%d]: %q is not yet built: leave it out", i, kind)
		default:
			return out, badRequest("filter.kinds[%d]: %q: want fault", i, kind)
		}
	}
	for i, name := range f.States {
		state, err := parseState(name)
		if err != nil {
			return out, badRequest("filter.states[%d]: %v", i, err)
		}
		out.States = append(out.States, state)
	}
	switch out.MinConfidence {
	case "", correlate.ConfidenceProbable, correlate.ConfidenceConfirmed, correlate.ConfidenceFenced:
	default:
		return out, badRequest("filter.min_confidence: %q: want probable, confirmed or fenced", f.MinConfidence)
	}
	return out, nil
}

func parseState(name string) (correlate.State, error) {
	for _, state := range []correlate.State{correlate.StateAtRisk, correlate.StateDegraded, correlate.StateFailed} {
		if state.String() == name {
			return state, nil
		}
	}
	return correlate.StateOK, fmt.Errorf("%q: want at-risk, degraded or failed", name)
}
