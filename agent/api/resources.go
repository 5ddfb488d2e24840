package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
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
	who := identityOf(r.Context())
	parameters := []string{"limit", "after"}
	if who.admin() {
		parameters = append(parameters, "host")
	}
	q := newQuery(r.URL.RawQuery, parameters...)
	host := q.text("host")
	limit := q.number("limit", pageSize, maxPage)
	after := readPlace(q)
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	directory := s.directory()
	list := func() (ResourcePage, error) { return directory.page(r.Context(), host, after, limit) }
	if !who.admin() {
		list = func() (ResourcePage, error) { return directory.ownPage(r.Context(), who, after, limit) }
	}
	page, err := list()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, page)
}

// directory is one look at the resources of all hosts: of this one in full, of the others what they tell. There may be ten
// thousand domains: they are unpacked for one host at a time, and only for those that are asked for.
type directory struct {
	server  *Server
	cluster Cluster // nil: this host is alone
	hosts   map[string]ledger.HostView
	names   []string                      // of all hosts, in order
	alarms  map[string][]*correlate.Alarm // standing ones of other hosts, by host
}

func (s *Server) directory() *directory {
	d := &directory{server: s, cluster: s.backend.Cluster(), names: []string{s.node}}
	if d.cluster == nil {
		return d
	}
	d.hosts, d.alarms = make(map[string]ledger.HostView), make(map[string][]*correlate.Alarm)
	for _, h := range d.cluster.Hosts() {
		if h.Name != s.node {
			d.hosts[h.Name] = h
			d.names = append(d.names, h.Name)
		}
	}
	slices.Sort(d.names)
	for _, a := range d.cluster.Alarms() {
		d.alarms[a.Key.Home] = append(d.alarms[a.Key.Home], a)
	}
	return d
}

// of lists the resources of one host by id. For this one the error is errStarting while it does not know them.
func (d *directory) of(ctx context.Context, host string) ([]located, error) {
	if host == d.server.node {
		var views []correlate.View
		if err := d.server.ask(ctx, func(e *correlate.Engine) { views = e.Resources() }); err != nil {
			return nil, fmt.Errorf("list the resources: %w", err)
		}
		now := d.server.now()
		return each(views, func(v correlate.View) located { return located{v, host, now} }), nil
	}
	h, known := d.hosts[host]
	if !known {
		return nil, unknownHost(host)
	}
	t := telling{host: host, views: make(map[correlate.ID]*correlate.View)}
	t.self(h)
	for _, domain := range d.cluster.Domains(host) {
		t.domain(domain)
	}
	for _, a := range d.alarms[host] {
		t.alarm(a)
	}
	return each(t.finish(), func(v *correlate.View) located { return located{*v, host, h.AsOf} }), nil
}

// home is the host of a domain's resources; empty for others, and for a domain that no host claims.
func (d *directory) home(id correlate.ID) string {
	if uuid := domainOf(id); uuid != "" && d.cluster != nil {
		return d.cluster.DomainHome(uuid)
	}
	return ""
}

// page lists the resources of one host, or of all, by host and id. Of all, a domain that several know stands at its home only.
func (d *directory) page(ctx context.Context, host string, after place, limit int) (ResourcePage, error) {
	names := d.names
	if host != "" {
		names = []string{host}
	}
	page := ResourcePage{Resources: []Resource{}}
	for _, name := range names {
		if name < after.host {
			continue
		}
		list, err := d.of(ctx, name)
		if errors.Is(err, errStarting) && host == "" {
			page.Starting = true
			continue
		}
		if err != nil {
			return page, err
		}
		for _, l := range list {
			at := place{name, string(l.ID)}
			if after.compare(at) >= 0 {
				continue
			}
			if home := d.home(l.ID); host == "" && home != "" && home != name {
				continue
			}
			if len(page.Resources) == limit {
				last := page.Resources[limit-1]
				page.Next = place{last.Host, last.ID}.String()
				return page, nil
			}
			page.Resources = append(page.Resources, fromLocated(l))
		}
	}
	return page, nil
}

// place is a resource's place in the list. A page's end stays a place when its resource is gone.
type place struct{ host, id string }

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.host, o.host), cmp.Compare(p.id, o.id))
}

func (p place) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.host + "\x00" + p.id))
}

func readPlace(q *query) place {
	given := q.text("after")
	if given == "" {
		return place{}
	}
	text, err := base64.RawURLEncoding.DecodeString(given)
	host, id, ok := strings.Cut(string(text), "\x00")
	p := place{host, id}
	if err != nil || !ok || p.String() != given {
		q.failPlace("after", given)
	}
	return p
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
	who := identityOf(r.Context())
	var parameters []string
	if who.admin() {
		parameters = append(parameters, "host")
	}
	q := newQuery(r.URL.RawQuery, parameters...)
	id, err := correlate.ParseID(r.PathValue("id"))
	if err != nil {
		q.fail("%v", err)
	}
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	var found located
	if who.admin() {
		found, _, err = s.directory().find(r.Context(), id, q.text("host"))
	} else {
		found, err = s.directory().findOwn(r.Context(), who, id)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, fromLocated(found))
}

// find looks a resource up: on the host that is named, else here, else on the one other host that knows it. beside are all of
// that host.
func (d *directory) find(ctx context.Context, id correlate.ID, host string) (found located, beside []located, err error) {
	names := []string{host}
	if host == "" {
		names = d.holders(id)
	}
	var hosts []string
	var unsaid error
	for _, name := range names {
		list, err := d.of(ctx, name)
		if errors.Is(err, errStarting) {
			unsaid = err
			continue
		}
		if err != nil {
			return located{}, nil, err
		}
		i := slices.IndexFunc(list, func(l located) bool { return l.ID == id })
		if i < 0 {
			continue
		}
		found, beside, hosts = list[i], list, append(hosts, name)
		if name == d.server.node {
			return found, beside, nil
		}
	}
	switch {
	case len(hosts) == 1:
		return found, beside, nil
	case len(hosts) > 1:
		return located{}, nil, badRequest("%s is known on %s: say which with host=", id, strings.Join(hosts, ", "))
	case unsaid != nil:
		return located{}, nil, unsaid
	}
	return located{}, nil, unknownResource(id, host)
}

// holders are the hosts that may know a resource, this one first: a domain's home has all of it, and otherwise others tell
// only of themselves and of what an alarm stands on.
func (d *directory) holders(id correlate.ID) []string {
	if home := d.home(id); home != "" {
		return []string{home}
	}
	names := []string{d.server.node}
	for _, name := range d.names {
		about := func(a *correlate.Alarm) bool { return a.Key.Resource == id }
		if name != d.server.node && (id == correlate.NewID(correlate.KindHost, name) || slices.ContainsFunc(d.alarms[name], about)) {
			names = append(names, name)
		}
	}
	return names
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
		return s.directory().of(ctx, cmp.Or(host, s.node))
	}
	_, beside, err := s.directory().find(ctx, root, host)
	if err != nil {
		return nil, err
	}
	return around(beside, root), nil
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
