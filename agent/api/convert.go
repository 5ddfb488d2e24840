package api

import (
	"cmp"
	"time"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// stamp is t in UTC; nil when it has not come, or lies outside the years that RFC 3339 has (a source's broken clock).
func stamp(t time.Time) *time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}

// texts copies a list of names as strings, never nil.
func texts[S ~string](in []S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// each converts a list, never nil.
func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

// dictionary is m, never nil. What it is given is immutable.
func dictionary(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func fromAlarm(a *correlate.Alarm) Alarm {
	out := Alarm{
		ID:            a.ID,
		Revision:      a.Revision.String(),
		State:         string(a.Last),
		Confidence:    string(a.Confidence),
		Severity:      a.Severity.String(),
		EventType:     string(a.EventType),
		Condition:     string(a.Key.Condition),
		ProbableCause: a.ProbableCause,
		AbstractCause: a.AbstractCause,
		RootCause:     a.RootCause,
		Correlated:    texts(a.Correlated),
		Text:          a.Text,
		Times: Times{
			Occurred: stamp(a.Times.Occurred),
			Observed: stamp(a.Times.Observed),
			Raised:   stamp(a.Times.Raised),
			Changed:  stamp(a.Times.Changed),
			Cleared:  stamp(a.Times.Cleared),
		},
		Host:        a.Key.Host(),
		Resource:    string(a.Key.Resource),
		Under:       a.Under,
		Affected:    each(a.Affected, fromAffected),
		AtRisk:      each(a.AtRisk, fromAffected),
		Source:      a.Source,
		ClearReason: a.ClearReason,
		Evidence:    dictionary(a.Evidence),
	}
	if a.Ack != nil {
		out.Ack = &Ack{By: a.Ack.By, Comment: a.Ack.Comment, At: stamp(a.Ack.At)}
	}
	out.Comments = each(a.Comments, func(c correlate.Comment) Comment { return Comment{By: c.By, Text: c.Text, At: stamp(c.At)} })
	if h := a.ByHand; h != nil {
		out.ClearedBy = &HandClear{By: h.By, Comment: h.Comment, At: stamp(h.At), Dismissed: h.Dismissed}
	}
	return out
}

func fromStep(s history.Step) AlarmStep {
	return AlarmStep{At: stamp(s.At), What: s.What, Revision: s.Revision.String(), Severity: s.Severity.String(), Text: s.Text, By: s.By}
}

func fromAffected(a correlate.Affected) Affected {
	return Affected{
		Resource: string(a.Resource), Name: a.Name, Project: a.Project, VNF: a.VNF.ID, VNFC: a.VNF.VNFC, State: a.State.String(),
		Ports: each(a.Ports, fromPort),
	}
}

func fromPort(p correlate.Port) Port { return Port{MAC: p.MAC, PortID: p.PortID} }

func fromEvent(e correlate.Event) Event {
	occurred := e.Occurred
	if occurred.IsZero() {
		occurred = e.Observed
	}
	return Event{
		Time: stamp(occurred), Observed: stamp(e.Observed), Source: e.Source, Resource: string(e.Resource),
		Condition: string(e.Condition), Status: e.Status.String(), Severity: e.Severity.String(), Text: e.Text,
	}
}

func fromView(v correlate.View) Resource {
	out := Resource{
		ID:         string(v.ID),
		Name:       v.Name,
		Kind:       string(v.ID.Kind()),
		Source:     v.Source,
		State:      v.Derived.String(),
		OwnState:   v.Own.String(),
		Unknown:    v.Unknown,
		Lost:       v.Lost,
		Inactive:   v.Inactive,
		Project:    v.Project,
		VNF:        v.VNF.ID,
		VNFC:       v.VNF.VNFC,
		Conditions: texts(v.Conditions),
		Needs:      each(v.Needs, fromNeed),
		Dependents: texts(v.Dependents),
		Facts:      dictionary(v.Facts),
	}
	if v.Port != nil {
		p := fromPort(*v.Port)
		out.Port = &p
	}
	return out
}

func fromNeed(n correlate.Need) Need { return Need{Mode: n.Mode.String(), K: n.K, Of: texts(n.Of)} }

func fromSubscription(s notify.Subscription) Subscription {
	out := Subscription{
		ID: s.ID, Version: s.Version, Name: s.Name, Endpoints: texts(s.Endpoints), Format: s.Format,
		Role: string(s.Role), Origin: string(s.Origin), Owner: s.Owner, Filter: fromFilter(s.Filter), Paused: s.Paused, Locked: s.WhyLocked(), Withheld: s.Withheld,
		Created: stamp(s.Created), Unreachable: stamp(s.Unreachable), Expires: stamp(s.Expires), Rate: s.MaxRate, AllowedRate: s.Rate, Heartbeat: interval(s.Heartbeat),
		DeliverTo:      cmp.Or(s.DeliverTo, notify.DeliverFirst),
		EndpointStates: each(s.EndpointStates, fromEndpointState),
		Secrets:        each(s.SecretKeys, func(k notify.SecretKey) SecretKey { return SecretKey{k.Fingerprint, stamp(k.Until)} }),
		TLS:            LinkTLS{Authorities: each(s.Link.Trusted(), fromCertificate), ServerName: s.Link.ServerName}, Auth: LinkAuth{User: s.Credentials.User()},
	}
	if c := s.Credentials.Certificate(); c != nil {
		shown := fromCertificate(*c)
		out.TLS.Certificate = &shown
	}
	switch {
	case s.Credentials.Bearer():
		out.Auth.Kind = "bearer"
	case out.Auth.User != "":
		out.Auth.Kind = "basic"
	}
	if s.Link.Direct {
		out.Proxy = direct
	}
	return out
}

func fromEndpointState(e notify.EndpointState) EndpointState {
	return EndpointState{
		Endpoint: e.Endpoint, Pending: e.Pending, Parked: e.Parked, Failing: stamp(e.Failing), Unreachable: stamp(e.Unreachable), Resting: stamp(e.Resting),
	}
}

func fromCertificate(c notify.Certificate) Certificate {
	return Certificate{Subject: c.Subject, Fingerprint: c.Fingerprint, Expires: stamp(c.Expires)}
}

func fromFilter(f notify.Filter) Filter {
	return Filter{
		Projects:      texts(f.Projects),
		Domains:       texts(f.Domains),
		ResourceTypes: texts(f.ResourceTypes),
		Conditions:    texts(f.Conditions),
		MinSeverity:   f.MinSeverity.String(),
		Kinds:         texts(f.Kinds),
		States:        each(f.States, correlate.State.String),
		MinConfidence: string(cmp.Or(f.MinConfidence, correlate.ConfidenceConfirmed)),
		Hosts:         texts(f.Hosts),
		Zones:         texts(f.Zones),
		Labels:        labels(f.Labels),
		Resources:     texts(f.Resources),
		VNFs:          texts(f.VNFs),
		SOL:           SOL(f.SOL),
	}
}

// labels copies what a filter says of labels, never nil.
func labels(in map[string][]string) map[string][]string {
	out := make(map[string][]string, len(in))
	for name, values := range in {
		out[name] = texts(values)
	}
	return out
}

func fromDelivery(d notify.DeliveryView) Delivery {
	return Delivery{
		ID: d.ID, Endpoint: d.Endpoint, Subscription: d.Subscription, Consumer: d.Consumer, AlarmID: d.AlarmID, Resource: string(d.Resource),
		Condition: string(d.Condition), Revision: d.Revision.String(), State: string(d.State), Attempts: d.Attempts,
		Superseded: d.Superseded, Created: stamp(d.Created), NextAttempt: stamp(d.NextAttempt), LastError: d.LastError,
		By: d.By, Again: d.Again,
	}
}

func fromStages(s notify.Stages) Stages {
	return Stages{
		NotificationID: s.NotificationID, AlarmID: s.AlarmID, Subscription: s.Subscription,
		T00: stamp(s.Occurred), T01: stamp(s.Observed), T02: stamp(s.Found), T03: stamp(s.Owed), T04: stamp(s.Begun),
		T05: stamp(s.Committed), T06: stamp(s.Outbox), T07: stamp(s.Taken), T08: stamp(s.Sent), T09: stamp(s.Answered),
		Attempts: s.Attempts, By: s.By, Late: s.Late,
	}
}

// interval is empty for none.
func interval(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
