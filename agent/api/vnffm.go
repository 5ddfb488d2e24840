package api

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// VNF fault management as ETSI GS NFV-SOL 003 has it (clause 7), with the headers, filters and pages of SOL 013. What it makes and
// shows are the subscriptions and alarms of /v1, in other words.

const (
	solVersion = "1.3.0" // of the API, as SOL 003 counts it
	solPage    = 500     // alarms in one answer, and those of one fault more
	solFaults  = 1000    // faults that are looked at for one answer
	solFormat  = "sol"
)

// solRoutes are below /vnffm.
func (s *Server) solRoutes() []route {
	routes := []route{
		{method: "GET", path: "/vnffm/api_versions", handle: s.getSOLVersions},
		{method: "GET", path: format.SOLBase + "/api_versions", handle: s.getSOLVersions},
		{method: "GET", path: format.SOLBase + "/alarms", handle: s.getSOLAlarms},
		{method: "GET", path: format.SOLBase + "/alarms/{id}", handle: s.getSOLAlarm},
		{method: "PATCH", path: format.SOLBase + "/alarms/{id}", handle: s.patchSOLAlarm},
		{method: "GET", path: format.SOLBase + "/subscriptions", handle: s.getSOLSubscriptions},
		{method: "POST", path: format.SOLBase + "/subscriptions", handle: s.postSOLSubscription, limit: consumerTimeout},
		{method: "GET", path: format.SOLBase + "/subscriptions/{id}", handle: s.getSOLSubscription},
		{method: "DELETE", path: format.SOLBase + "/subscriptions/{id}", handle: s.deleteSOLSubscription},
	}
	for i, r := range routes {
		routes[i].callers, routes[i].handle = consumers, s.inVersion(r.handle)
	}
	return routes
}

// inVersion refuses who asks for another version (SOL 013, 9.2), and says which it is.
func (s *Server) inVersion(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Version", solVersion)
		if asked := r.Header.Get("Version"); asked != "" && asked != "1" && !strings.HasPrefix(asked, "1.") {
			s.refuse(w, r, &refusal{
				http.StatusNotAcceptable, "version", "this version is not served", fmt.Sprintf("header Version: %q: want %s", asked, solVersion),
			})
			return
		}
		next(w, r)
	}
}

func (s *Server) getSOLVersions(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, http.StatusOK, SOLVersions{Prefix: format.SOLBase, Versions: []SOLVersion{{Version: solVersion}}})
}

// solOf is what an alarm is to a caller in the words of SOL: nothing when it hits none of its machines.
func (s *Server) solOf(who identity, a *correlate.Alarm) []format.SOLAlarm {
	f := format.Fault{Alarm: a, Affected: a.Affected, SOL: s.sol}
	if !who.admin() {
		if a.Ack != nil && a.Ack.By != who.name { // another's word is not told
			unseen := *a
			unseen.Ack = nil
			f.Alarm = &unseen
		}
		f.Abstract, f.Projects, f.Affected = true, who.projects, nil
		for _, d := range a.Affected {
			if who.owns(d.Project) {
				f.Affected = append(f.Affected, d)
			}
		}
	}
	return format.SOLAlarms(f)
}

// getSOLAlarms lists what is sent: what lies under a root cause has no end of its own that a consumer would hear.
func (s *Server) getSOLAlarms(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "filter", "nextpage_opaque_marker")
	wanted := readSOLFilter(q, solAlarmAttributes)
	after := readPosition(q, "nextpage_opaque_marker")
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	alarms, err := s.solAlarms(r.Context(), stateAll, after)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who, page := identityOf(r.Context()), []json.RawMessage{}
	for i, a := range alarms {
		if i == solFaults || len(page) >= solPage {
			next := url.Values{"nextpage_opaque_marker": {placeText(placeOf(alarms[i-1]))}}
			if f := q.text("filter"); f != "" {
				next.Set("filter", f)
			}
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, s.sol.SOLHref("alarms").Href, next.Encode()))
			break
		}
		if a.Under != "" {
			continue
		}
		for _, one := range s.solOf(who, a) {
			if body, ok := wanted.pick(one); ok {
				page = append(page, body)
			}
		}
	}
	s.answer(w, r, http.StatusOK, page)
}

// solAlarms are alarms of all hosts behind a place, newest first; one more than solFaults when there are more.
func (s *Server) solAlarms(ctx context.Context, state string, after history.Position) ([]*correlate.Alarm, error) {
	alarms, starting, err := s.alarms(ctx, state, selection{who: identityOf(ctx)}, after, solFaults+1)
	if starting { // SOL's list has no room to say that something is missing
		return nil, errStarting
	}
	return alarms, err
}

// findSOL looks a SOL alarm up, with the alarm that it is of; what stands first.
func (s *Server) findSOL(ctx context.Context, id string) (*correlate.Alarm, format.SOLAlarm, error) {
	who := identityOf(ctx)
	for _, state := range []string{stateStanding, stateCleared} {
		var after history.Position
		for {
			alarms, err := s.solAlarms(ctx, state, after)
			if err != nil {
				return nil, format.SOLAlarm{}, err
			}
			for _, a := range alarms {
				for _, one := range s.solOf(who, a) {
					if one.ID == id {
						return a, one, nil
					}
				}
			}
			if len(alarms) <= solFaults {
				break
			}
			after = placeOf(alarms[len(alarms)-1])
		}
	}
	return nil, format.SOLAlarm{}, notFound("alarm %q neither stands nor cleared lately: %s/alarms lists those that are known", id, format.SOLBase)
}

// etag tells the states of an alarm apart.
func etag(a format.SOLAlarm) string {
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(a) // can't fail
	return fmt.Sprintf(`"%016x"`, h.Sum64())
}

func (s *Server) getSOLAlarm(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	_, found, err := s.findSOL(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("ETag", etag(found))
	s.answer(w, r, http.StatusOK, found)
}

// patchSOLAlarm acknowledges the fault, for whichever VNF it is said.
func (s *Server) patchSOLAlarm(w http.ResponseWriter, r *http.Request) {
	var body SOLModifications
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	a, found, err := s.findSOL(r.Context(), r.PathValue("id"))
	if err == nil {
		err = s.mayAck(r.Context(), identityOf(r.Context()), a.ID)
	}
	if err == nil {
		err = mayModify(r.Header.Get("If-Match"), body.AckState, a, found)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who := identityOf(r.Context())
	if _, err := s.backend.Say(r.Context(), ledger.Saying{Kind: gossip.KindAck, AlarmID: a.ID, By: who.name, At: s.now()}); err != nil {
		s.refuse(w, r, err)
		return
	}
	callOf(r.Context()).note("resource", string(a.Key.Resource))
	s.answer(w, r, http.StatusOK, body)
}

// mayModify says why an alarm can't be given this state.
func mayModify(match, state string, a *correlate.Alarm, now format.SOLAlarm) error {
	conflict := func(format string, args ...any) error {
		return &refusal{http.StatusConflict, "conflict", "the state of the alarm does not allow it", fmt.Sprintf(format, args...)}
	}
	switch {
	case state != format.SOLAcknowledged && state != format.SOLUnacknowledged:
		return badRequest("ackState: %q is not known: want %s", state, format.SOLAcknowledged)
	case match != "" && match != "*" && !slices.Contains(strings.Split(strings.ReplaceAll(match, " ", ""), ","), etag(now)):
		return &refusal{
			http.StatusPreconditionFailed, "changed", "the alarm has changed",
			fmt.Sprintf("If-Match names %s, and the alarm is %s: read it anew", match, etag(now)),
		}
	case state == now.AckState:
		return conflict("the alarm is %s already", state)
	case state == format.SOLUnacknowledged:
		return conflict("that somebody knows of an alarm can't be taken back")
	case !a.Standing():
		return conflict("the alarm has ended")
	}
	return nil
}

func (s *Server) getSOLSubscriptions(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "filter")
	wanted := readSOLFilter(q, solSubscriptionAttributes)
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	list := []json.RawMessage{}
	for _, sub := range s.solSubscriptions(r.Context()) {
		if body, ok := wanted.pick(s.fromSOLSubscription(sub)); ok {
			list = append(list, body)
		}
	}
	s.answer(w, r, http.StatusOK, list)
}

// solSubscriptions are those of the caller that speak SOL.
func (s *Server) solSubscriptions(ctx context.Context) []notify.Subscription {
	who := identityOf(ctx)
	return slices.DeleteFunc(s.backend.Notify().Subscriptions(), func(sub notify.Subscription) bool {
		return sub.Format != solFormat || !who.has(sub)
	})
}

func (s *Server) ownSOLSubscription(ctx context.Context, id string) (notify.Subscription, error) {
	for _, sub := range s.solSubscriptions(ctx) {
		if sub.ID == id {
			return sub, nil
		}
	}
	return notify.Subscription{}, notFound("subscription %q is not known: %s/subscriptions lists those that are", id, format.SOLBase)
}

func (s *Server) getSOLSubscription(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	sub, err := s.ownSOLSubscription(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, s.fromSOLSubscription(sub))
}

func (s *Server) deleteSOLSubscription(w http.ResponseWriter, r *http.Request) {
	sub, err := s.ownSOLSubscription(r.Context(), r.PathValue("id"))
	if err == nil {
		err = s.backend.Notify().Unsubscribe(r.Context(), sub.ID)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) postSOLSubscription(w http.ResponseWriter, r *http.Request) {
	var body SOLSubscriptionRequest
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	who := identityOf(r.Context())
	wish, err := body.subscription(who)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	asked, _ := json.Marshal(s.fromSOLSubscription(wish)) // can't fail
	for _, sub := range s.solSubscriptions(r.Context()) {
		other := s.fromSOLSubscription(sub)
		other.ID, other.Links = "", s.fromSOLSubscription(wish).Links
		if same, _ := json.Marshal(other); string(same) == string(asked) && sub.Origin == notify.OriginAPI {
			w.Header().Set("Location", s.sol.SOLHref("subscriptions", sub.ID).Href)
			w.WriteHeader(http.StatusSeeOther)
			return
		}
	}
	if err := s.bound(who, &wish, "", true); err != nil {
		s.refuse(w, r, err)
		return
	}
	sub, err := s.backend.Notify().Follow(r.Context(), wish, true)
	if err != nil {
		s.refuse(w, r, who.refusal(err))
		return
	}
	call := callOf(r.Context())
	call.object = sub.ID
	call.note("name", sub.Name)
	made := s.fromSOLSubscription(sub)
	w.Header().Set("Location", made.Links["self"].Href)
	s.answer(w, r, http.StatusCreated, made)
}

// subscription is the caller's wish in our words.
func (b SOLSubscriptionRequest) subscription(who identity) (notify.Subscription, error) {
	sub := notify.Subscription{
		Endpoints: []string{b.CallbackURI}, Format: solFormat, Role: notify.RoleAdmin, Owner: who.ownerName(), Origin: notify.OriginAPI,
	}
	callback, err := url.Parse(b.CallbackURI)
	if err != nil || callback.Host == "" {
		return sub, badRequest("callbackUri: %q is no address: want for instance https://vnfm.example/notifications", b.CallbackURI)
	}
	sub.Name = "sol " + callback.Host
	if b.Authentication != nil {
		if sub.Credentials, err = b.Authentication.credentials(); err != nil {
			return sub, err
		}
	}
	if b.Verbosity != "" && b.Verbosity != "FULL" {
		return sub, badRequest("verbosity: %q is not served: leave it out, or write FULL", b.Verbosity)
	}
	if f := b.Filter; f != nil {
		sub.Filter.Conditions = named[correlate.Condition](f.FaultTypes)
		sub.Filter.SOL = notify.SOLFilter{
			NotificationTypes: f.NotificationTypes, FaultyResourceTypes: f.FaultyResourceTypes,
			PerceivedSeverities: f.PerceivedSeverities, EventTypes: f.EventTypes, ProbableCauses: f.ProbableCauses,
		}
		if v := f.VNFs; v != nil {
			sub.Filter.VNFs = v.IDs
		}
	}
	if !who.admin() {
		sub.Role, sub.Filter.Projects = notify.RoleConsumer, slices.Clone(who.projects)
	}
	return sub, nil
}

// credentials are those by which a consumer lets notifications in: of the ways that it accepts, the one that there is.
func (a SOLAuthentication) credentials() (notify.Credentials, error) {
	unfit := func(format string, args ...any) error {
		return &refusal{http.StatusUnprocessableEntity, "invalid", "the contents are not acceptable", "authentication: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case !slices.Contains(a.Types, "BASIC"):
		return notify.Credentials{}, unfit(
			"authType %v: want BASIC with paramsBasic; a token, or a certificate of TLS, is given with POST /v1/subscriptions, format %s", a.Types, solFormat)
	case a.Basic == nil:
		return notify.Credentials{}, unfit("paramsBasic is missing: nothing was agreed on otherwise")
	}
	login, err := notify.BasicCredentials(a.Basic.User, a.Basic.Password)
	if err != nil {
		return login, unfit("paramsBasic: %v", err)
	}
	return login, nil
}

func (s *Server) fromSOLSubscription(sub notify.Subscription) SOLSubscription {
	out := SOLSubscription{ID: sub.ID, CallbackURI: sub.Endpoints[0], Links: map[string]format.Link{"self": s.sol.SOLHref("subscriptions", sub.ID)}}
	f, sol := sub.Filter, sub.Filter.SOL
	if len(f.VNFs)+len(f.Conditions) == 0 && sol.IsZero() {
		return out
	}
	out.Filter = &SOLNotificationsFilter{
		NotificationTypes: sol.NotificationTypes, FaultyResourceTypes: sol.FaultyResourceTypes, PerceivedSeverities: sol.PerceivedSeverities,
		EventTypes: sol.EventTypes, ProbableCauses: sol.ProbableCauses,
	}
	if len(f.Conditions) > 0 {
		out.Filter.FaultTypes = texts(f.Conditions)
	}
	if len(f.VNFs) > 0 {
		out.Filter.VNFs = &SOLInstanceFilter{IDs: f.VNFs}
	}
	return out
}
