package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

const (
	// healthTimeout is how long the engine's goroutine may take for nothing at all before the agent counts as sick.
	healthTimeout = 2 * time.Second
	maxEvents     = 1000
)

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	status, err := s.backend.Status(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if status.Sources == nil {
		status.Sources = []SourceStatus{}
	}
	counted := status.Alarms
	status.Alarms = severities(func(s correlate.Severity) int { return counted[s.String()] })
	if c := s.backend.Cluster(); c != nil {
		status.Cluster = fromCluster(c.Status())
	}
	status.Started = status.Started.UTC()
	s.answer(w, r, http.StatusOK, status)
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) {
	if s.backend.Starting() {
		s.answer(w, r, http.StatusOK, Health{Status: "starting"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.health)
	defer cancel()
	if err := s.backend.Query(ctx, func(*correlate.Engine) {}); err != nil {
		s.refuse(w, r, &refusal{
			http.StatusServiceUnavailable, "no-answer", "the agent did not answer in time",
			fmt.Sprintf("the engine's loop does not answer: %v: look at the agent's log; systemd restarts it when it stays so", err),
		})
		return
	}
	s.answer(w, r, http.StatusOK, Health{Status: "ok"})
}

func (s *Server) getReady(w http.ResponseWriter, r *http.Request) {
	if err := s.backend.Ready(); err != nil {
		why := "try again shortly"
		if identityOf(r.Context()).admin() { // which sources there are is nobody else's business
			why = err.Error() + ": try again shortly; /v1/status shows each source"
		}
		s.refuse(w, r, &refusal{http.StatusServiceUnavailable, "not-ready", "not ready yet", why})
		return
	}
	s.answer(w, r, http.StatusOK, Health{Status: "ready"})
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "limit")
	limit := q.number("limit", 100, maxEvents)
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	s.answer(w, r, http.StatusOK, EventList{Events: each(s.backend.Events(limit), fromEvent)})
}

// fromCluster puts the troubles of all kinds into one list, what was seen last first.
func fromCluster(c ClusterStatus) *ClusterPart {
	out := &ClusterPart{
		Address: c.Address, Term: c.Term, Members: c.Peer.Members, Hosts: c.Peer.Hosts, Away: texts(c.Keys.Away),
		InSync: stamp(c.Exchange.LastInSync), Encrypted: c.Peer.Encrypted, Keys: fromKeys(c.Keys), SecretsKeys: texts(c.SecretsKeys),
		JoinError: c.Peer.JoinError,
		Exchange: ExchangeCount{
			Digests: c.Exchange.Digests, InSync: c.Exchange.InSync, Undecodable: c.Exchange.Undecodable, Undelivered: c.Exchange.Undelivered,
		},
		Replica:  ReplicaCount{Hosts: c.Replica.Hosts, Records: c.Replica.Records, Tombstones: c.Replica.Tombstones, Bytes: c.Replica.Bytes},
		Dropped:  c.Peer.Dropped,
		Troubles: each(c.Peer.Troubles, fromTrouble),
		Watch:    fromWatch(c.Watch),
	}
	if out.Dropped == nil {
		out.Dropped = map[string]uint64{}
	}
	for _, r := range c.Replica.Rejected {
		out.Troubles = append(out.Troubles, Trouble{
			Kind: r.Reason.String(), Peer: r.Host, Text: refusedRecord(r.Reason), Count: r.Count, Last: stamp(r.Last),
		})
	}
	for _, o := range c.Replica.Clocks {
		way := "ahead of"
		if o.Offset < 0 {
			way = "behind"
		}
		out.Troubles = append(out.Troubles, Trouble{
			Kind: "clock", Peer: o.Host, Count: 1, Last: stamp(o.Last),
			Text: fmt.Sprintf("its clock is %s %s ours: let NTP set both", o.Offset.Abs().Round(time.Second), way),
		})
	}
	slices.SortStableFunc(out.Troubles, func(a, b Trouble) int { return seen(b).Compare(seen(a)) })
	return out
}

func seen(t Trouble) time.Time {
	if t.Last == nil {
		return time.Time{}
	}
	return *t.Last
}

func fromTrouble(t gossip.Trouble) Trouble {
	return Trouble{Kind: string(t.Kind), Peer: t.Peer, Text: t.Text, Count: t.Count, First: stamp(t.First), Last: stamp(t.Last)}
}

// refusedRecord says in words why what a host wrote is not taken, and what to do about it.
func refusedRecord(r gossip.Reason) string {
	switch r {
	case gossip.Ahead:
		return fmt.Sprintf("what it writes is dated more than %s ahead: let NTP set its clock and ours", gossip.MaxAhead)
	case gossip.Full:
		return "it writes more than a host may: look at what makes so many alarms or domains there"
	case gossip.Foreign:
		return "somebody else writes in its name: are there two hosts with one node.name?"
	case gossip.Contradiction:
		return "it has written two things under one version: is it a copy of another host's disk?"
	case gossip.Expired:
		return "it tells of what was deleted long ago: it was away for too long, restart it"
	case gossip.Malformed, gossip.TooBig, gossip.Undecodable, gossip.Excess:
	}
	return "what it writes is not as it should be: is its paramedic as new as ours?"
}
