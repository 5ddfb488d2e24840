package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

func (s *Server) getHosts(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "state", "zone")
	state, zone := q.choice("state", append([]string{""}, texts(ledger.HostStates())...)...), q.text("zone")
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	views, err := s.hosts(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	hosts := slices.DeleteFunc(each(views, fromHost), func(h Host) bool { return state != "" && h.State != state || zone != "" && h.Zone != zone })
	s.answer(w, r, http.StatusOK, HostList{Hosts: hosts})
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
	c := s.backend.Cluster()
	var err error
	switch {
	case name == s.node:
		err = &refusal{
			http.StatusConflict, "is-member", "the host is there",
			fmt.Sprintf("%q is this host: stop its agent, and ask another one to forget it", name),
		}
	case c == nil:
		err = unknownHost(name)
	default:
		if err = c.Forget(r.Context(), name); errors.Is(err, gossip.ErrUnknownHost) {
			err = unknownHost(name)
		}
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// hosts are all hosts by name. What this one is, its own engine says, once there is one; alone, it is the only one.
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
			views[0].Addr, views[0].API, views[0].First, views[0].Watch = v.Addr, v.API, v.First, v.Watch
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
	itself := correlate.NewID(correlate.KindHost, s.node)
	err = s.ask(ctx, func(e *correlate.Engine) {
		for _, a := range e.Alarms() {
			v.Alarms[a.Severity]++
			if a.Key.Resource == itself {
				v.Standing = append(v.Standing, a)
			}
		}
		for _, r := range e.Resources() {
			if r.ID.Kind() == correlate.KindDomain && !r.Inactive && !r.Lost {
				v.Domains++
			}
		}
		host, _ := e.Resource(itself)
		for name, value := range host.Facts {
			if label, ok := strings.CutPrefix(name, labelFact); ok {
				v.Labels[label] = value
			} else if name != "zone" && name != "version" {
				v.Facts[name] = value
			}
		}
	})
	switch {
	case errors.Is(err, errStarting): // and so nothing is known of its alarms and domains
		v.AsOf = time.Time{}
	case err != nil:
		return ledger.HostView{}, fmt.Errorf("ask the engine for this host: %w", err)
	}
	return v, nil
}

func fromHost(v ledger.HostView) Host {
	out := Host{
		Name: v.Name, Self: v.Self, Zone: v.Zone, Labels: dictionary(v.Labels), Facts: dictionary(v.Facts),
		Version: v.Version, Term: v.Term, Address: v.Addr, API: v.API, Started: stamp(v.Started),
		FirstSeen: stamp(v.First), LastSeen: stamp(v.Last), AsOf: stamp(v.AsOf), Domains: v.Domains,
		Alarms: severities(func(s correlate.Severity) int { return v.Alarms[s] }),
	}
	state, confidence, speaker := v.State()
	out.State, out.Confidence, out.Speaker = string(state), string(confidence), speaker
	if w := v.Watch; w != nil {
		out.Watch = &HostWatch{Observers: texts(w.Observers), SilenceMS: silence(w.Silence), NoEcho: w.NoEcho}
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

// ages says how old what is known of each host may be, and what of it consumers are not told.
type ages struct {
	node   string
	now    time.Time
	others func(host string) time.Time // nil: there are none
	muted  func(*correlate.Alarm) (notify.Mute, bool)
}

// ages takes a look at the membership and the mutes, which holds for one answer.
func (s *Server) ages() ages {
	a := ages{node: s.node, now: s.now(), muted: s.backend.Notify().Muted()}
	if c := s.backend.Cluster(); c != nil {
		a.others = c.AsOf()
	}
	return a
}

// asOf is zero for a host that is not known, or of which nothing was heard in this run.
func (a ages) asOf(host string) time.Time {
	switch {
	case host == a.node:
		return a.now
	case a.others == nil:
		return time.Time{}
	}
	return a.others(host)
}

// alarm converts an alarm, as somebody may see it. It was so when its home, or who speaks for that, wrote this revision, too, which may be later than what
// is known of the writer as a whole: a revision comes at once.
func (a ages) alarm(alarm, seen *correlate.Alarm) Alarm {
	out := fromAlarm(seen)
	if m, muted := a.muted(alarm); muted && seen == alarm { // what is muted, and why, is an administrator's
		out.Muted = &Muted{ID: m.ID, Until: stamp(m.Until)}
	}
	asOf := a.asOf(cmp.Or(ledger.Speaker(alarm), alarm.Key.Home, a.node))
	for _, t := range []time.Time{alarm.Times.Raised, alarm.Times.Changed, alarm.Times.Cleared} {
		if t.After(a.now) {
			t = a.now // its home's clock is ahead of ours
		}
		if t.After(asOf) {
			asOf = t
		}
	}
	out.AsOf = stamp(asOf)
	return out
}
