package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
)

const (
	pageSize = 100
	maxPage  = 1000
)

func (s *Server) getAlarms(w http.ResponseWriter, r *http.Request) {
	who := identityOf(r.Context())
	q := newQuery(r.URL.RawQuery, append([]string{"state", "since", "until", "limit", "after"}, who.selectionParameters()...)...)
	state := q.choice("state", stateStanding, stateCleared, stateDismissed, stateAll)
	wanted := readSelection(q, who)
	wanted.since, wanted.until = q.time("since"), q.time("until")
	if !wanted.since.IsZero() && !wanted.until.IsZero() && wanted.until.Before(wanted.since) {
		q.fail("parameter until lies before since: swap them")
	}
	limit := q.number("limit", pageSize, maxPage)
	after := readPosition(q, "after")
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	alarms, starting, err := s.alarms(r.Context(), state, wanted, after, limit+1)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	page := AlarmPage{Starting: starting}
	if len(alarms) > limit {
		alarms = alarms[:limit]
		page.Next = placeText(placeOf(alarms[limit-1]))
	}
	if page.Alarms, err = s.present(r.Context(), alarms); err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, page)
}

// alarms lists standing, cleared, dismissed or all alarms of all hosts, each once, the newest first, behind a place; at most limit.
// While this host is starting its own standing and dismissed ones are not among them.
func (s *Server) alarms(ctx context.Context, state string, wanted selection, after history.Position, limit int) (all []*correlate.Alarm, starting bool, err error) {
	look := (*Server).standing
	if state == stateDismissed {
		look = (*Server).dismissed
	}
	// What stands first: what clears between the two looks is then in both, and never in neither.
	if state != stateCleared {
		if all, starting, err = look(s, ctx); err != nil {
			return nil, false, err
		}
		ended := func(string) bool { return false }
		if state == stateAll {
			ended = s.backend.History().Ended() // what a speaker has cleared its home may clear once more
		}
		all = slices.DeleteFunc(all, func(a *correlate.Alarm) bool {
			return ended(a.ID) || !wanted.match(a, a.Severity) || after != (history.Position{}) && placeOf(a).Compare(after) <= 0
		})
	}
	if state == stateCleared || state == stateAll {
		past, err := s.backend.History().Cleared(ctx, after, limit, wanted.matchEntry)
		if err != nil {
			return nil, false, err
		}
		all = append(all, past...)
	}
	slices.SortFunc(all, func(a, b *correlate.Alarm) int { return placeOf(a).Compare(placeOf(b)) })
	return all[:min(len(all), limit)], starting, nil
}

// standing lists what stands on all hosts, in a list that is the caller's; without this host's own while it is starting.
func (s *Server) standing(ctx context.Context) (all []*correlate.Alarm, starting bool, err error) {
	return s.look(ctx, func(e *correlate.Engine) []*correlate.Alarm { return slices.Clone(e.Alarms()) }, Cluster.Alarms)
}

// dismissed is standing for what was cleared by hand while its source still sees it.
func (s *Server) dismissed(ctx context.Context) (all []*correlate.Alarm, starting bool, err error) {
	return s.look(ctx, (*correlate.Engine).Dismissed, Cluster.Dismissed)
}

func (s *Server) look(ctx context.Context, here func(*correlate.Engine) []*correlate.Alarm, elsewhere func(Cluster) []*correlate.Alarm) (all []*correlate.Alarm, starting bool, err error) {
	err = s.ask(ctx, func(e *correlate.Engine) { all = here(e) })
	if starting = errors.Is(err, errStarting); err != nil && !starting {
		return nil, false, fmt.Errorf("list the alarms: %w", err)
	}
	if c := s.backend.Cluster(); c != nil {
		all = append(all, elsewhere(c)...)
	}
	return all, starting, nil
}

// present converts alarms that the caller may see. Of standing ones an administrator is shown what they are correlated with now, which is
// more than their last revision told: a member that joins a root cause makes no revision of it.
func (s *Server) present(ctx context.Context, alarms []*correlate.Alarm) ([]Alarm, error) {
	who, ages := identityOf(ctx), s.ages()
	out := each(alarms, func(a *correlate.Alarm) Alarm { return ages.alarm(a, who.view(a)) })
	if !who.admin() {
		return out, nil
	}
	correlated := make([][]string, len(alarms))
	explained := s.explained()
	for i, a := range alarms {
		if a.Standing() && a.Key.Home != s.node {
			correlated[i] = explained[a.ID]
		}
	}
	err := s.ask(ctx, func(e *correlate.Engine) {
		for i, a := range alarms {
			if a.Standing() && a.Key.Home == s.node {
				correlated[i] = e.Correlated(a.ID)
			}
		}
	})
	if err != nil && !errors.Is(err, errStarting) {
		return nil, fmt.Errorf("look up what the alarms are correlated with: %w", err)
	}
	for i, ids := range correlated {
		if ids != nil {
			out[i].Correlated = ids
		}
	}
	return out, nil
}

// explained holds, of other hosts, the ids of the standing alarms that each root cause explains.
func (s *Server) explained() map[string][]string {
	ids := make(map[string][]string)
	if c := s.backend.Cluster(); c != nil {
		for _, a := range c.Alarms() {
			if a.Under != "" {
				ids[a.Under] = append(ids[a.Under], a.ID)
			}
		}
	}
	for _, members := range ids {
		slices.Sort(members)
	}
	return ids
}

func (s *Server) getAlarm(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	a, entry, err := s.oneAlarm(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	found, err := s.present(r.Context(), []*correlate.Alarm{a})
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, identityOf(r.Context()).life(found[0], entry))
}

// The states of an alarm that a caller may ask for.
const (
	stateStanding  = "standing"
	stateCleared   = "cleared"
	stateDismissed = "dismissed"
	stateAll       = "all"
)

// selection is what a caller wants of the alarms; zero fields pass all.
type selection struct {
	minSeverity           correlate.Severity
	resource              string // glob, see path.Match
	condition             string // or the class of the cause
	domain, project, host string
	since, until          time.Time

	who identity // and judged by what that sees
}

// selectionParameters are those that readSelection reads.
var selectionParameters = []string{"min_severity", "resource", "condition", "domain", "project", "host"}

func readSelection(q *query, who identity) selection {
	sel := selection{
		who:       who,
		resource:  q.text("resource"),
		condition: q.text("condition"),
		domain:    strings.TrimPrefix(q.text("domain"), string(correlate.KindDomain)+"/"),
		project:   q.text("project"),
		host:      q.text("host"),
	}
	if name := q.text("min_severity"); name != "" {
		var err error
		if sel.minSeverity, err = correlate.ParseSeverity(name); err != nil {
			q.fail("parameter min_severity: %v", err)
		}
	}
	if _, err := path.Match(sel.resource, ""); err != nil {
		q.fail("parameter resource=%q: not a pattern: want a resource id, in which * stands for anything but a slash", sel.resource)
	}
	return sel
}

// matchEntry judges what has ended by the worst that it was.
func (sel selection) matchEntry(e history.Entry) bool { return sel.match(e.Alarm, e.Worst) }

// match judges an alarm by this severity, which may not be its own.
func (sel selection) match(a *correlate.Alarm, severity correlate.Severity) bool {
	if a = sel.who.sees(a); a == nil {
		return false
	}
	// Indeterminate is beside the order of severities and passes.
	if severity < sel.minSeverity && severity != correlate.SeverityIndeterminate {
		return false
	}
	if sel.resource != "" && sel.resource != string(a.Key.Resource) {
		if ok, err := path.Match(sel.resource, string(a.Key.Resource)); err != nil || !ok {
			return false
		}
	}
	if sel.condition != "" && sel.condition != string(a.Key.Condition) && sel.condition != a.AbstractCause {
		return false
	}
	if sel.host != "" && sel.host != a.Key.Home {
		return false
	}
	// The time from raise to clear must touch the time from since to until.
	if !sel.since.IsZero() && !a.Standing() && a.Times.Cleared.Before(sel.since) {
		return false
	}
	if !sel.until.IsZero() && a.Times.Raised.After(sel.until) {
		return false
	}
	return sel.matchDomain(a) && sel.matchProject(a)
}

func (sel selection) matchDomain(a *correlate.Alarm) bool {
	if sel.domain == "" || a.Key.Resource == correlate.NewID(correlate.KindDomain, sel.domain) {
		return true
	}
	return anyOf(a, func(d correlate.Affected) bool { return d.Resource.Name() == sel.domain || d.Name == sel.domain })
}

func (sel selection) matchProject(a *correlate.Alarm) bool {
	return sel.project == "" || anyOf(a, func(d correlate.Affected) bool { return d.Project == sel.project })
}

// anyOf asks the domains that an alarm hits or endangers.
func anyOf(a *correlate.Alarm, f func(correlate.Affected) bool) bool {
	return slices.ContainsFunc(a.Affected, f) || slices.ContainsFunc(a.AtRisk, f)
}

// placeOf is an alarm's place in the list, newest first. A page's end stays a place when its alarm is gone.
func placeOf(a *correlate.Alarm) history.Position {
	return history.Position{Raised: a.Times.Raised.UnixNano(), ID: a.ID}
}

func placeText(p history.Position) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", p.Raised, p.ID))
}

func readPosition(q *query, parameter string) history.Position {
	given := q.text(parameter)
	if given == "" {
		return history.Position{}
	}
	var p history.Position
	text, err := base64.RawURLEncoding.DecodeString(given)
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d %s", &p.Raised, &p.ID)
	}
	if err != nil || placeText(p) != given {
		q.failPlace(parameter, given)
	}
	return p
}
