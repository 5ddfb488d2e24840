package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

const (
	pageSize = 100
	maxPage  = 1000
)

func (s *Server) getAlarms(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "state", "min_severity", "resource", "condition", "domain", "project", "host", "since", "until", "limit", "after")
	state := q.choice("state", "standing", "cleared", "dismissed", "all")
	wanted := readSelection(q)
	limit := q.number("limit", pageSize, maxPage)
	after := readPosition(q)
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	alarms, starting, err := s.alarms(r.Context(), state)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	alarms = slices.DeleteFunc(alarms, func(a *correlate.Alarm) bool {
		return !wanted.match(a) || after != (position{}) && positionOf(a).compare(after) <= 0
	})
	slices.SortFunc(alarms, func(a, b *correlate.Alarm) int { return positionOf(a).compare(positionOf(b)) })
	page := AlarmPage{Starting: starting}
	if len(alarms) > limit {
		alarms = alarms[:limit]
		page.Next = positionOf(alarms[limit-1]).String()
	}
	if page.Alarms, err = s.present(r.Context(), alarms); err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, page)
}

// alarms returns standing, cleared, dismissed or all alarms of all hosts, each once, in a list that is the caller's; without this host's
// own while it is starting.
func (s *Server) alarms(ctx context.Context, state string) (all []*correlate.Alarm, starting bool, err error) {
	if state == "dismissed" {
		err := s.ask(ctx, func(e *correlate.Engine) { all = e.Dismissed() })
		if starting = errors.Is(err, errStarting); err != nil && !starting {
			return nil, false, fmt.Errorf("list the alarms: %w", err)
		}
		if c := s.backend.Cluster(); c != nil {
			all = append(all, c.Dismissed()...)
		}
		return all, starting, nil
	}
	// The standing ones first: what clears between the two looks is then in both, and never in neither.
	var now []*correlate.Alarm
	if state != "cleared" {
		err := s.ask(ctx, func(e *correlate.Engine) { now = slices.Clone(e.Alarms()) })
		if starting = errors.Is(err, errStarting); err != nil && !starting {
			return nil, false, fmt.Errorf("list the alarms: %w", err)
		}
		if c := s.backend.Cluster(); c != nil {
			now = append(now, c.Alarms()...)
		}
		if state == "standing" {
			return now, starting, nil
		}
	}
	known := make(map[string]bool)
	for _, a := range slices.Backward(s.backend.History()) { // what a speaker has cleared its home may clear once more
		if !known[a.ID] {
			known[a.ID] = true
			all = append(all, a)
		}
	}
	for _, a := range now {
		if !known[a.ID] {
			all = append(all, a)
		}
	}
	return all, starting, nil
}

// present converts alarms. Of standing ones it shows what they are correlated with now, which is more than their last
// revision told: a member that joins a root cause makes no revision of it.
func (s *Server) present(ctx context.Context, alarms []*correlate.Alarm) ([]Alarm, error) {
	out := each(alarms, s.ages().alarm)
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
	id := r.PathValue("id")
	alarms, starting, err := s.alarms(r.Context(), "all")
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	alarms = slices.DeleteFunc(alarms, func(a *correlate.Alarm) bool { return a.ID != id })
	found, err := s.present(r.Context(), alarms)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if len(found) > 0 {
		s.answer(w, r, http.StatusOK, found[0])
		return
	}
	if starting { // it may be one of ours
		s.refuse(w, r, errStarting)
		return
	}
	s.refuse(w, r, notFound("alarm %q neither stands nor cleared lately: /v1/alarms?state=all lists those that are known", id))
}

// selection is what a caller wants of the alarms; zero fields pass all.
type selection struct {
	minSeverity           correlate.Severity
	resource              string // glob, see path.Match
	condition             string // or the class of the cause
	domain, project, host string
	since, until          time.Time
}

func readSelection(q *query) selection {
	sel := selection{
		resource:  q.text("resource"),
		condition: q.text("condition"),
		domain:    strings.TrimPrefix(q.text("domain"), string(correlate.KindDomain)+"/"),
		project:   q.text("project"),
		host:      q.text("host"),
		since:     q.time("since"),
		until:     q.time("until"),
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
	if !sel.since.IsZero() && !sel.until.IsZero() && sel.until.Before(sel.since) {
		q.fail("parameter until lies before since: swap them")
	}
	return sel
}

func (sel selection) match(a *correlate.Alarm) bool {
	// Indeterminate is beside the order of severities and passes.
	if a.Severity < sel.minSeverity && a.Severity != correlate.SeverityIndeterminate {
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

// position is an alarm's place in the list, newest first. A page's end stays a place when its alarm is gone.
type position struct {
	raised int64 // Unix nanoseconds
	id     string
}

func positionOf(a *correlate.Alarm) position { return position{a.Times.Raised.UnixNano(), a.ID} }

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(o.raised, p.raised), cmp.Compare(p.id, o.id))
}

func (p position) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", p.raised, p.id))
}

func readPosition(q *query) position {
	given := q.text("after")
	if given == "" {
		return position{}
	}
	var p position
	text, err := base64.RawURLEncoding.DecodeString(given)
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d %s", &p.raised, &p.id)
	}
	if err != nil || p.String() != given {
		q.failPlace(given)
	}
	return p
}
