package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func (s *Server) getSubscriptions(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	who := identityOf(r.Context())
	own := slices.DeleteFunc(s.backend.Notify().Subscriptions(), func(sub notify.Subscription) bool { return !who.has(sub) })
	s.answer(w, r, http.StatusOK, SubscriptionList{Subscriptions: each(own, who.subscription)})
}

func (s *Server) getSubscription(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	sub, err := s.ownSubscription(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, identityOf(r.Context()).subscription(sub))
}

func (s *Server) postSubscription(w http.ResponseWriter, r *http.Request) {
	var body SubscriptionRequest
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	wish, err := body.subscription(s.now())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who, call := identityOf(r.Context()), callOf(r.Context())
	call.object = wish.Name
	verify := body.Verify == nil || *body.Verify
	if err := s.bound(who, &wish, notify.Role(body.Role), verify); err != nil {
		s.refuse(w, r, err)
		return
	}
	sub, snapshot, err := s.backend.Notify().Subscribe(r.Context(), wish, verify)
	if err != nil {
		s.refuse(w, r, who.refusal(err))
		return
	}
	call.object = sub.ID
	call.note("name", sub.Name)
	call.note("verified", strconv.FormatBool(verify))
	w.Header().Set("Location", "/v1/subscriptions/"+url.PathEscape(sub.ID))
	ages := s.ages()
	seen := func(a *correlate.Alarm) Alarm { return ages.alarm(a, a) } // what the subscription may see of it
	s.answer(w, r, http.StatusCreated, Subscribed{Subscription: who.subscription(sub), Snapshot: each(snapshot, seen)})
}

func (s *Server) patchSubscription(w http.ResponseWriter, r *http.Request) {
	var body SubscriptionChange
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	patch, err := body.patch(s.now())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who := identityOf(r.Context())
	old, err := s.ownSubscription(r.Context(), r.PathValue("id"))
	if err == nil && patch.Filter != nil {
		err = who.boundFilter(patch.Filter)
	}
	if err == nil && patch.Direct != nil && *patch.Direct && !who.admin() {
		err = errDirect
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	sub, err := s.backend.Notify().Update(r.Context(), old.ID, patch)
	if err != nil {
		s.refuse(w, r, who.refusal(err))
		return
	}
	callOf(r.Context()).note("name", sub.Name)
	s.answer(w, r, http.StatusOK, who.subscription(sub))
}

func (s *Server) deleteSubscription(w http.ResponseWriter, r *http.Request) {
	sub, err := s.ownSubscription(r.Context(), r.PathValue("id"))
	if err == nil {
		callOf(r.Context()).note("name", sub.Name)
		err = s.backend.Notify().Unsubscribe(r.Context(), sub.ID)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) postTest(w http.ResponseWriter, r *http.Request) {
	sub, err := s.ownSubscription(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who := identityOf(r.Context())
	stages, err := s.backend.Notify().Test(r.Context(), sub.ID)
	if err != nil && !errors.Is(err, notify.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
		err = &refusal{http.StatusBadGateway, "not-taken", "the consumer did not take it", who.plain(err.Error())}
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, who.stages(stages))
}

func (s *Server) getDeliveries(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "state", "subscription")
	state := q.choice("state", "", string(notify.DeliveryPending), string(notify.DeliveryParked))
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	who, deliveries := identityOf(r.Context()), s.deliveries(r.Context(), notify.DeliveryState(state))
	if id := q.text("subscription"); id != "" {
		deliveries = slices.DeleteFunc(deliveries, func(d notify.DeliveryView) bool { return d.Consumer != id })
	}
	s.answer(w, r, http.StatusOK, DeliveryList{Deliveries: each(deliveries, who.delivery)})
}

// deliveries are those of the subscriptions that are the caller's.
func (s *Server) deliveries(ctx context.Context, state notify.DeliveryState) []notify.DeliveryView {
	who := identityOf(ctx)
	all := s.backend.Notify().Deliveries(state)
	if who.admin() {
		return all
	}
	own := make(map[string]bool)
	for _, sub := range s.backend.Notify().Subscriptions() {
		own[sub.ID] = who.has(sub)
	}
	return slices.DeleteFunc(all, func(d notify.DeliveryView) bool { return !own[d.Consumer] })
}

// ownDelivery is the delivery of a path, if it is the caller's.
func (s *Server) ownDelivery(r *http.Request) (id string, err error) {
	id = r.PathValue("id")
	if !slices.ContainsFunc(s.deliveries(r.Context(), ""), func(d notify.DeliveryView) bool { return d.ID == id }) {
		return "", notFound("delivery %q is not known: /v1/deliveries lists those that are", id)
	}
	return id, nil
}

func (s *Server) postRetry(w http.ResponseWriter, r *http.Request) {
	id, err := s.ownDelivery(r)
	if err == nil {
		err = s.backend.Notify().Retry(r.Context(), id)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) postRetryAll(w http.ResponseWriter, r *http.Request) {
	sub, err := s.ownSubscription(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	n, err := s.backend.Notify().RetryAll(r.Context(), sub.ID)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	callOf(r.Context()).note("retried", strconv.Itoa(n))
	s.answer(w, r, http.StatusOK, RetriedCount{n})
}

func (s *Server) deleteDelivery(w http.ResponseWriter, r *http.Request) {
	id, err := s.ownDelivery(r)
	if err == nil {
		err = s.backend.Notify().Discard(r.Context(), id)
	}
	if err != nil {
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
	s.answer(w, r, http.StatusOK, StageList{Node: s.node, Stages: each(s.backend.Notify().Profile(), fromStages)})
}

// subscription reads what has names here; the contents are notify's to judge (Subscription.Validate).
func (b SubscriptionRequest) subscription(now time.Time) (notify.Subscription, error) {
	sub := notify.Subscription{
		Name: b.Name, Endpoints: b.Endpoints, Format: b.Format, Role: notify.Role(b.Role), Origin: notify.OriginAPI,
	}
	if sub.Role == "" {
		sub.Role = notify.RoleAdmin // who may open the socket is one
	}
	var err error
	if b.Secret != "" {
		if sub.Secret, err = parseSecret(b.Secret); err != nil {
			return sub, err
		}
	}
	if b.Filter != nil {
		if sub.Filter, err = b.Filter.parse(); err != nil {
			return sub, err
		}
	}
	sub.MaxRate, sub.DeliverTo = b.Rate, b.DeliverTo
	if b.Heartbeat != "" {
		if sub.Heartbeat, err = span("heartbeat", b.Heartbeat); err != nil {
			return sub, err
		}
	}
	if sub.Expires, err = end(b.Expires, b.ExpiresIn, now); err != nil {
		return sub, err
	}
	if b.TLS != nil {
		if sub.Link.Authorities, sub.Credentials, err = b.TLS.parse(); err != nil {
			return sub, err
		}
		sub.Link.ServerName = b.TLS.ServerName
	}
	if b.Auth != nil {
		login, err := b.Auth.parse()
		if err != nil {
			return sub, err
		}
		sub.Credentials = sub.Credentials.With(login)
	}
	sub.Link.Direct, err = parseProxy(b.Proxy)
	return sub, err
}

func (b SubscriptionChange) patch(now time.Time) (notify.SubscriptionPatch, error) {
	p := notify.SubscriptionPatch{Name: b.Name, Endpoints: b.Endpoints, Paused: b.Paused, MaxRate: b.Rate, DeliverTo: b.DeliverTo}
	if b == (SubscriptionChange{}) {
		return p, badRequest("the body changes nothing: give name, endpoints, secret, filter, tls, auth, proxy, paused, expires, expires_in, rate, heartbeat or deliver_to")
	}
	if b.Heartbeat != nil {
		p.Heartbeat = new(time.Duration)
		if *b.Heartbeat != "" {
			var err error
			if *p.Heartbeat, err = span("heartbeat", *b.Heartbeat); err != nil {
				return p, err
			}
		}
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
	if b.SecretOverlap != "" {
		var err error
		if p.SecretOverlap, err = span("secret_overlap", b.SecretOverlap); err != nil {
			return p, err
		}
		if b.Secret == nil {
			return p, badRequest("secret_overlap: it says how long an old secret signs beside a new one: give the new one as secret")
		}
	}
	if b.Expires != nil || b.ExpiresIn != "" {
		text := ""
		if b.Expires != nil {
			text = *b.Expires
		}
		expires, err := end(text, b.ExpiresIn, now)
		if err != nil {
			return p, err
		}
		p.Expires = &expires
	}
	if b.TLS != nil {
		authorities, client, err := b.TLS.parse()
		if err != nil {
			return p, err
		}
		p.Authorities, p.ServerName, p.Client = &authorities, &b.TLS.ServerName, &client
	}
	if b.Auth != nil {
		login, err := b.Auth.parse()
		if err != nil {
			return p, err
		}
		p.Login = &login
	}
	if b.Proxy != nil {
		past, err := parseProxy(*b.Proxy)
		if err != nil {
			return p, err
		}
		p.Direct = &past
	}
	return p, nil
}

// end is the time that one of two texts names; zero when both are empty.
func end(at, in string, now time.Time) (time.Time, error) {
	switch {
	case at != "" && in != "":
		return time.Time{}, badRequest("expires and expires_in: give one of them")
	case in != "":
		d, err := span("expires_in", in)
		return now.Add(d).Round(0).UTC(), err
	case at == "":
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, badRequest("expires: %q is no time of RFC 3339: write for instance %s", at, now.Add(time.Hour).UTC().Format(time.RFC3339))
	}
	return t.UTC(), nil
}

// maxSpan is as long as anybody can mean, and far from where times end.
const maxSpan = 10 * 365 * 24 * time.Hour

func span(name, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxSpan {
		return 0, badRequest("%s: %q: want a time with its unit, above 0 and at most %v, for instance 90m", name, text, maxSpan)
	}
	return d, nil
}

// parse reads certificates; like all that reads secrets it never repeats what it was given.
func (t TLSRequest) parse() (authorities string, client notify.Credentials, err error) {
	if t.CA != "" {
		if authorities, err = notify.ParseAuthorities([]byte(t.CA)); err != nil {
			return "", client, badRequest("tls.ca: %v", err)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return "", client, badRequest("tls: a certificate and its key are given together")
	}
	if t.Certificate != "" {
		if client, err = notify.ClientCertificate([]byte(t.Certificate), []byte(t.Key)); err != nil {
			return "", client, badRequest("tls.%v", err)
		}
	}
	return authorities, client, nil
}

// parse reads a user with password, or a token; neither is nothing.
func (a AuthRequest) parse() (login notify.Credentials, err error) {
	switch {
	case a.Basic != nil && a.Bearer != nil:
		return login, badRequest("auth: a request has one Authorization header: give basic or bearer")
	case a.Basic != nil:
		if login, err = notify.BasicCredentials(a.Basic.User, a.Basic.Password); err != nil {
			return login, badRequest("auth.basic.%v", err)
		}
	case a.Bearer != nil:
		if login, err = notify.BearerCredentials(a.Bearer.Token); err != nil {
			return login, badRequest("auth.bearer.%v", err)
		}
	}
	return login, nil
}

// direct is the only word for a proxy: which one there is is the host's affair.
const direct = "direct"

func parseProxy(word string) (past bool, err error) {
	if word != "" && word != direct {
		return false, badRequest("proxy: want %q, or nothing for that of the host", direct)
	}
	return word == direct, nil
}

func parseSecret(text string) (notify.Secret, error) {
	secret, err := notify.ParseSecret(text)
	if err != nil {
		return secret, badRequest("%v", err)
	}
	return secret, nil
}

func (f Filter) parse() (notify.Filter, error) {
	out := notify.Filter{
		Projects:      f.Projects,
		Domains:       f.Domains,
		ResourceTypes: named[correlate.Kind](f.ResourceTypes),
		Conditions:    named[correlate.Condition](f.Conditions),
		Kinds:         f.Kinds,
		MinConfidence: correlate.Confidence(f.MinConfidence),
		Hosts:         f.Hosts,
		Zones:         f.Zones,
		Labels:        f.Labels,
		Resources:     f.Resources,
		VNFs:          f.VNFs,
		SOL:           notify.SOLFilter(f.SOL),
	}
	if f.MinSeverity != "" {
		var err error
		if out.MinSeverity, err = correlate.ParseSeverity(f.MinSeverity); err != nil {
			return out, badRequest("filter.min_severity: %v", err)
		}
	}
	for i, name := range f.States {
		state, err := parseState(name)
		if err != nil {
			return out, badRequest("filter.states[%d]: %v", i, err)
		}
		out.States = append(out.States, state)
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

// named copies strings as names; none stay nil, which passes all.
func named[T ~string](in []string) []T {
	var out []T
	for _, s := range in {
		out = append(out, T(s))
	}
	return out
}
