package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
)

func (s *Server) getHosts(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	views, err := s.hosts(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, HostList{Hosts: each(views, fromHost)})
}

func (s *Server) getHost(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	views, err := s.hosts(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	name := r.PathValue("name")
	for _, v := range views {
		if v.Name == name {
			s.answer(w, r, http.StatusOK, fromHost(v))
			return
		}
	}
	s.refuse(w, r, unknownHost(name))
}

func unknownHost(name string) error {
	return notFound("host %q is not known: /v1/hosts lists those that are", name)
}

func (s *Server) deleteHost(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	views, err := s.hosts(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	i := slices.IndexFunc(views, func(v ledger.HostView) bool { return v.Name == name })
	switch {
	case i < 0:
		s.refuse(w, r, unknownHost(name))
		return
	case views[i].Self:
		s.refuse(w, r, isMember("%q is this host: stop its agent, and ask another one to forget it", name))
		return
	case views[i].Member:
		s.refuse(w, r, isMember("%q is a member, and would be back at once: stop its agent first", name))
		return
	}
	if err := s.backend.Cluster().Forget(r.Context(), name); err != nil {
		s.refuse(w, r, err)
		return
	}
	s.log.Info("host forgotten", "host", name, "by", caller(r))
	w.WriteHeader(http.StatusNoContent)
}

func isMember(format string, args ...any) error {
	return &refusal{http.StatusConflict, "is-member", "the host is there", fmt.Sprintf(format, args...)}
}

// hosts are all hosts by name. What this one is, its own engine says; alone, it is the only one.
func (s *Server) hosts(ctx context.Context) ([]ledger.HostView, error) {
	self, err := s.self(ctx)
	if err != nil {
		return nil, err
	}
	views := []ledger.HostView{self}
	if c := s.backend.Cluster(); c != nil {
		for _, v := range c.Hosts() {
			if v.Name != self.Name {
				views = append(views, v)
				continue
			}
			views[0].Addr, views[0].API, views[0].First = v.Addr, v.API, v.First
		}
	}
	slices.SortFunc(views, func(a, b ledger.HostView) int { return strings.Compare(a.Name, b.Name) })
	return views, nil
}

// labelFact begins the facts of a host that are its labels.
const labelFact = "label."

func (s *Server) self(ctx context.Context) (ledger.HostView, error) {
	status, err := s.backend.Status(ctx)
	if err != nil {
		return ledger.HostView{}, fmt.Errorf("ask for this host: %w", err)
	}
	now := s.now()
	v := ledger.HostView{
		Name: s.node, Self: true, Member: true, Term: status.Term, First: status.Started, Last: now, AsOf: now,
		Alarms: make(map[correlate.Severity]int),
		Host: ledger.Host{
			Zone: status.Zone, Version: status.Version, Started: status.Started,
			Labels: make(map[string]string), Facts: make(map[string]string),
		},
	}
	err = s.backend.Query(ctx, func(e *correlate.Engine) {
		for _, a := range e.Alarms() {
			v.Alarms[a.Severity]++
		}
		for _, r := range e.Resources() {
			if r.ID.Kind() == correlate.KindDomain && !r.Inactive && !r.Lost {
				v.Domains++
			}
		}
		host, _ := e.Resource(correlate.NewID(correlate.KindHost, s.node))
		for name, value := range host.Facts {
			if label, ok := strings.CutPrefix(name, labelFact); ok {
				v.Labels[label] = value
			} else if name != "zone" && name != "version" {
				v.Facts[name] = value
			}
		}
	})
	if err != nil {
		return ledger.HostView{}, fmt.Errorf("ask the engine for this host: %w", err)
	}
	return v, nil
}

func fromHost(v ledger.HostView) Host {
	out := Host{
		Name: v.Name, Self: v.Self, State: "away", Zone: v.Zone, Labels: dictionary(v.Labels), Facts: dictionary(v.Facts),
		Version: v.Version, Term: v.Term, Address: v.Addr, API: v.API, Started: stamp(v.Started),
		FirstSeen: stamp(v.First), LastSeen: stamp(v.Last), AsOf: stamp(v.AsOf), Domains: v.Domains,
		Alarms: severities(func(s correlate.Severity) int { return v.Alarms[s] }),
	}
	if v.Member {
		out.State = "member"
	}
	return out
}

// severities has a count for each, none left out.
func severities(count func(correlate.Severity) int) map[string]int {
	counts := make(map[string]int)
	for severity := correlate.SeverityIndeterminate; severity <= correlate.SeverityCritical; severity++ {
		counts[severity.String()] = count(severity)
	}
	return counts
}

// ages says how old what is known of each host may be.
type ages struct {
	node   string
	now    time.Time
	others map[string]time.Time
}

// ages takes a look at the membership, which holds for one answer.
func (s *Server) ages() ages {
	a := ages{node: s.node, now: s.now()}
	if c := s.backend.Cluster(); c != nil {
		a.others = make(map[string]time.Time)
		for _, v := range c.Hosts() {
			a.others[v.Name] = v.AsOf
		}
	}
	return a
}

// asOf is zero for a host that is not known any more.
func (a ages) asOf(host string) time.Time {
	if host == a.node {
		return a.now
	}
	return a.others[host]
}

func (a ages) alarm(alarm *correlate.Alarm) Alarm {
	out := fromAlarm(alarm)
	out.AsOf = stamp(a.asOf(cmp.Or(alarm.Key.Home, a.node)))
	return out
}
