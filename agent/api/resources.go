package api

import (
	"fmt"
	"net/http"

	"github.com/paramedic-ha/paramedic/correlate"
)

func (s *Server) getResources(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	views, err := s.resources(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, ResourceList{Resources: each(views, fromView)})
}

func (s *Server) resources(r *http.Request) ([]correlate.View, error) {
	var views []correlate.View
	if err := s.backend.Query(r.Context(), func(e *correlate.Engine) { views = e.Resources() }); err != nil {
		return nil, fmt.Errorf("list the resources: %w", err)
	}
	return views, nil
}

func (s *Server) getResource(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	id, err := correlate.ParseID(r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, badRequest("%v", err))
		return
	}
	var view correlate.View
	var known bool
	if err := s.backend.Query(r.Context(), func(e *correlate.Engine) { view, known = e.Resource(id) }); err != nil {
		s.refuse(w, r, fmt.Errorf("look up %s: %w", id, err))
		return
	}
	if !known {
		s.refuse(w, r, unknownResource(id))
		return
	}
	s.answer(w, r, http.StatusOK, fromView(view))
}

func unknownResource(id correlate.ID) error {
	return notFound("resource %q is not known on this host: /v1/resources lists those that are", id)
}

func (s *Server) getTopology(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "root")
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
	views, err := s.resources(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if root != "" {
		if views, err = around(views, root); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	s.answer(w, r, http.StatusOK, ResourceList{Resources: each(views, fromView)})
}

// around keeps root, all that it stands on and all that stands on it, in the order given.
func around(views []correlate.View, root correlate.ID) ([]correlate.View, error) {
	byID := make(map[correlate.ID]correlate.View, len(views))
	for _, v := range views {
		byID[v.ID] = v
	}
	if _, known := byID[root]; !known {
		return nil, unknownResource(root)
	}
	below := reach(byID, root, func(v correlate.View) (ids []correlate.ID) {
		for _, n := range v.Needs {
			ids = append(ids, n.Of...)
		}
		return ids
	})
	above := reach(byID, root, func(v correlate.View) []correlate.ID { return v.Dependents })
	var kept []correlate.View
	for _, v := range views {
		if below[v.ID] || above[v.ID] {
			kept = append(kept, v)
		}
	}
	return kept, nil
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
