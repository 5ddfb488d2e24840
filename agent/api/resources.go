package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// located is a resource with its host, and how old what is known of it may be.
type located struct {
	correlate.View
	host string
	asOf time.Time
}

func fromLocated(l located) Resource {
	out := fromView(l.View)
	out.Host, out.AsOf = l.host, stamp(l.asOf)
	return out
}

func (s *Server) getResources(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "host")
	host := q.text("host")
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	all, err := s.inventory(r.Context(), host)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, ResourceList{Resources: each(all, fromLocated)})
}

// inventory lists the resources of one host, or of all: of this one in full, of the others what they tell. Of all, a
// domain that several know stands at its home only.
func (s *Server) inventory(ctx context.Context, host string) ([]located, error) {
	var all []located
	if host == "" || host == s.node {
		views, err := s.resources(ctx)
		if err != nil {
			return nil, err
		}
		elsewhere := map[string]bool{}
		if host == "" {
			elsewhere = s.elsewhere()
		}
		now := s.now()
		for _, v := range views {
			if !elsewhere[domainOf(v.ID)] {
				all = append(all, located{v, s.node, now})
			}
		}
	}
	if host != s.node {
		others, err := s.remote(host)
		if err != nil {
			return nil, err
		}
		all = append(all, others...)
	}
	slices.SortFunc(all, func(a, b located) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.host, b.host)) })
	return all, nil
}

func (s *Server) resources(ctx context.Context) ([]correlate.View, error) {
	var views []correlate.View
	if err := s.backend.Query(ctx, func(e *correlate.Engine) { views = e.Resources() }); err != nil {
		return nil, fmt.Errorf("list the resources: %w", err)
	}
	return views, nil
}

// elsewhere holds the UUIDs of domains whose home is another host.
func (s *Server) elsewhere() map[string]bool {
	uuids := make(map[string]bool)
	if c := s.backend.Cluster(); c != nil {
		for _, d := range c.Domains() {
			uuids[d.UUID] = true
		}
	}
	return uuids
}

// domainOf is the UUID of the domain that a virtual resource is or belongs to; empty for a physical one.
func domainOf(id correlate.ID) string {
	if !id.Kind().Virtual() {
		return ""
	}
	uuid, _, _ := strings.Cut(id.Name(), "/")
	return uuid
}

func (s *Server) getResource(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "host")
	id, err := correlate.ParseID(r.PathValue("id"))
	if err != nil {
		q.fail("%v", err)
	}
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	found, err := s.find(r.Context(), id, q.text("host"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, fromLocated(found))
}

// find looks a resource up: on the host that is named, else here, else on the one other host that knows it.
func (s *Server) find(ctx context.Context, id correlate.ID, host string) (located, error) {
	all, err := s.inventory(ctx, host)
	if err != nil {
		return located{}, err
	}
	var hosts []string
	var found located
	for _, l := range all {
		switch {
		case l.ID != id:
		case l.host == s.node:
			return l, nil
		default:
			found, hosts = l, append(hosts, l.host)
		}
	}
	switch len(hosts) {
	case 0:
		return located{}, unknownResource(id, host)
	case 1:
		return found, nil
	}
	return located{}, badRequest("%s is known on %s: say which with host=", id, strings.Join(hosts, ", "))
}

func unknownResource(id correlate.ID, host string) error {
	if host != "" {
		return notFound("resource %q is not known of host %q: /v1/resources?host=%s lists those that are", id, host, host)
	}
	return notFound("resource %q is not known: /v1/resources lists those that are", id)
}

func (s *Server) getTopology(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "root", "host")
	host := q.text("host")
	var root correlate.ID
	if given := q.text("root"); given != "" {
		var err error
		if root, err = correlate.ParseID(given); err != nil {
			q.fail("parameter root: %v", err)
		}
	}
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	shown, err := s.topology(r.Context(), root, host)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, ResourceList{Resources: each(shown, fromLocated)})
}

// topology is that of one host: the one named, else the one that has the root, else this one.
func (s *Server) topology(ctx context.Context, root correlate.ID, host string) ([]located, error) {
	if root == "" {
		return s.inventory(ctx, cmp.Or(host, s.node))
	}
	found, err := s.find(ctx, root, host)
	if err != nil {
		return nil, err
	}
	all, err := s.inventory(ctx, found.host)
	if err != nil {
		return nil, err
	}
	return around(all, root), nil
}

// around keeps root, all that it stands on and all that stands on it, in the order given.
func around(all []located, root correlate.ID) []located {
	byID := make(map[correlate.ID]correlate.View, len(all))
	for _, l := range all {
		byID[l.ID] = l.View
	}
	below := reach(byID, root, func(v correlate.View) (ids []correlate.ID) {
		for _, n := range v.Needs {
			ids = append(ids, n.Of...)
		}
		return ids
	})
	above := reach(byID, root, func(v correlate.View) []correlate.ID { return v.Dependents })
	var kept []located
	for _, l := range all {
		if below[l.ID] || above[l.ID] {
			kept = append(kept, l)
		}
	}
	return kept
}

func reach(byID map[correlate.ID]correlate.View, root correlate.ID, next func(correlate.View) []correlate.ID) map[correlate.ID]bool {
	reached := map[correlate.ID]bool{root: true}
	for todo := []correlate.ID{root}; len(todo) > 0; todo = todo[1:] {
		for _, id := range next(byID[todo[0]]) {
			if !reached[id] {
				reached[id] = true
				todo = append(todo, id)
			}
		}
	}
	return reached
}
