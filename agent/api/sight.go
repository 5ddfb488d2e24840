package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// What a consumer may see. Nothing here names a host or a physical resource, and what is not its own is as if it were not there.

// sees is an alarm as the caller may see it; nil when it hits nothing of the caller's.
func (i identity) sees(a *correlate.Alarm) *correlate.Alarm {
	if i.admin() {
		return a
	}
	if v := i.view(a); len(v.Affected) > 0 {
		return v
	}
	return nil
}

// view is an alarm as the caller may see it who knows of it: it may hit nothing of the caller's any more.
func (i identity) view(a *correlate.Alarm) *correlate.Alarm {
	if i.admin() {
		return a
	}
	v := notify.Abstract(a, i.projects)
	if a.Ack != nil && a.Ack.By == i.name {
		v.Ack = a.Ack
	}
	return v
}

// news reports whether what the caller sees of a standing alarm has changed: who else joins or leaves a fault is not its business.
func (i identity) news(before, a *correlate.Alarm) bool {
	if i.admin() {
		return true
	}
	was, is := *i.view(before), *i.view(a)
	was.Revision, was.Times, was.Last = is.Revision, is.Times, is.Last
	return !reflect.DeepEqual(was, is)
}

// life is an alarm with what became of it. A consumer is told of its beginning and its end: the changes are others' too.
func (i identity) life(a Alarm, e history.Entry) AlarmLife {
	if i.admin() {
		return AlarmLife{Alarm: a, History: each(e.Steps, fromStep), Omitted: e.Omitted}
	}
	life := AlarmLife{Alarm: a, History: []AlarmStep{}}
	for _, s := range e.Steps {
		if s.What == string(correlate.Raised) || s.What == string(correlate.Cleared) {
			s.Text, s.By = "", ""
			life.History = append(life.History, fromStep(s))
		}
	}
	return life
}

// selectionParameters are those that readSelection reads: what a caller does not see it can't ask for.
func (i identity) selectionParameters() []string {
	if i.admin() {
		return selectionParameters
	}
	return slices.DeleteFunc(slices.Clone(selectionParameters), func(name string) bool { return name == "host" })
}

// alias stands for a host where the caller must tell it from another one, and not know its name.
func (i identity) alias(node string) string {
	if i.admin() {
		return node
	}
	sum := sha256.Sum256([]byte(node))
	return hex.EncodeToString(sum[:6])
}

// mayAck refuses a consumer's word where it would undo an administrator's: an alarm of the infrastructure that its acknowledgement
// ends, or that somebody else has acknowledged.
func (s *Server) mayAck(ctx context.Context, who identity, id string) error {
	if who.admin() {
		return nil
	}
	alarms, starting, err := s.standing(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms {
		if a.ID != id {
			continue
		}
		v := who.sees(a)
		if v == nil {
			break
		}
		own := slices.ContainsFunc(v.Affected, func(d correlate.Affected) bool { return d.Resource.Name() == domainOf(a.Key.Resource) })
		rule := correlate.RuleOf(a.Key.Condition)
		ends := rule.Mode == correlate.Latched || rule.AckClears || a.Lost || a.Key.Condition.Foreign()
		if !own && (ends || a.Ack != nil && a.Ack.By != who.name) {
			return forbidden("alarm %q is an administrator's of the infrastructure to acknowledge", id)
		}
		return nil
	}
	if starting {
		return errStarting
	}
	return fmt.Errorf("acknowledge alarm %q: %w", id, correlate.ErrNoAlarm)
}

// ownResources are the domains of a consumer and what belongs to them, of all hosts, by id.
func (d *directory) ownResources(ctx context.Context, who identity) (own []located, starting bool, err error) {
	for _, host := range d.names {
		list, err := d.of(ctx, host)
		if errors.Is(err, errStarting) {
			starting = true
			continue
		}
		if err != nil {
			return nil, false, err
		}
		mine := make(map[string]bool) // UUIDs of domains
		for _, l := range list {
			if home := d.home(l.ID); l.ID.Kind() == correlate.KindDomain && who.owns(l.Project) && (home == "" || home == host) {
				mine[l.ID.Name()] = true
			}
		}
		for _, l := range list {
			if mine[domainOf(l.ID)] {
				own = append(own, located{View: abstractView(l.View, mine), asOf: l.asOf})
			}
		}
	}
	slices.SortFunc(own, func(a, b located) int { return cmp.Compare(a.ID, b.ID) })
	return own, starting, nil
}

// ownPage lists ownResources by id; nothing of it says on which host they are.
func (d *directory) ownPage(ctx context.Context, who identity, after place, limit int) (ResourcePage, error) {
	own, starting, err := d.ownResources(ctx, who)
	page := ResourcePage{Resources: []Resource{}, Starting: starting}
	if err != nil {
		return page, err
	}
	for _, l := range own {
		at := place{id: string(l.ID)}
		if after.compare(at) >= 0 {
			continue
		}
		if len(page.Resources) == limit {
			page.Next = place{id: page.Resources[limit-1].ID}.String()
			break
		}
		page.Resources = append(page.Resources, fromLocated(l))
	}
	return page, nil
}

// findOwn looks one of ownResources up.
func (d *directory) findOwn(ctx context.Context, who identity, id correlate.ID) (located, error) {
	own, starting, err := d.ownResources(ctx, who)
	if err != nil {
		return located{}, err
	}
	if i := slices.IndexFunc(own, func(l located) bool { return l.ID == id }); i >= 0 {
		return own[i], nil
	}
	if starting {
		return located{}, errStarting
	}
	return located{}, unknownResource(id, "")
}

// abstractView takes out of a virtual resource what it stands on.
func abstractView(v correlate.View, mine map[string]bool) correlate.View {
	foreign := func(id correlate.ID) bool { return !mine[domainOf(id)] }
	v.Source, v.Facts = "", nil
	v.Dependents = slices.DeleteFunc(slices.Clone(v.Dependents), foreign)
	needs := v.Needs
	v.Needs = nil
	for _, n := range needs {
		if n.Of = slices.DeleteFunc(slices.Clone(n.Of), foreign); len(n.Of) > 0 {
			v.Needs = append(v.Needs, n)
		}
	}
	return v
}

// ownSubscription is the subscription of a path, if it is the caller's: an administrator's are all, a consumer's those that it made.
func (s *Server) ownSubscription(ctx context.Context, id string) (notify.Subscription, error) {
	who := identityOf(ctx)
	for _, sub := range s.backend.Notify().Subscriptions() {
		if sub.ID == id && who.has(sub) {
			return sub, nil
		}
	}
	return notify.Subscription{}, notFound("subscription %q is not known: /v1/subscriptions lists those that are", id)
}

// has reports whether a subscription is the caller's to see and change.
func (i identity) has(sub notify.Subscription) bool {
	return i.admin() || i.role == notify.RoleConsumer && sub.Owner == i.name
}

// maxOwned bounds the subscriptions that one consumer makes: each costs every host of the cluster memory.
const maxOwned = 64

// bound makes a consumer's wish one that it may have: for its own projects, in the abstract form.
func (s *Server) bound(who identity, wish *notify.Subscription, given notify.Role, verify bool) error {
	if who.admin() {
		return nil
	}
	switch {
	case given == notify.RoleAdmin:
		return forbidden(`role: you are a consumer, and so are your subscriptions: leave it out, or write "consumer"`)
	case wish.Link.Direct:
		return errDirect
	case !verify:
		return forbidden("verify: your callbacks are verified: leave it out")
	}
	owned := 0
	for _, sub := range s.backend.Notify().Subscriptions() {
		if who.has(sub) {
			owned++
		}
	}
	if owned >= maxOwned {
		return forbidden("you have %d subscriptions, which is the most: end one", owned)
	}
	wish.Role, wish.Owner = notify.RoleConsumer, who.name
	return who.boundFilter(&wish.Filter)
}

// errDirect: which way requests leave is an administrator's choice.
var errDirect = forbidden("proxy: it is for an administrator to say which way requests leave: leave it out")

// boundFilter keeps a consumer's filter within its projects: all of them when it names none.
func (i identity) boundFilter(f *notify.Filter) error {
	if i.admin() {
		return nil
	}
	if len(f.Projects) == 0 {
		f.Projects = slices.Clone(i.projects)
	}
	for n, project := range f.Projects {
		if !i.owns(project) {
			return forbidden("filter.projects[%d]: %q is not yours: name those that are, or none for all of yours", n, project)
		}
	}
	return nil
}

// What an error of this host's network says beyond what a consumer's own endpoint did: addresses of this host and of its resolver.
var (
	localAddress = regexp.MustCompile(`\S+->`)
	resolver     = regexp.MustCompile(` on \S+:\d+:`)
	refusers     = regexp.MustCompile(`(answered 410 \(it wants nothing more\)) to .*`)
)

// plain is a text about a consumer's own callback without what it says of the infrastructure.
func (i identity) plain(text string) string {
	if i.admin() {
		return text
	}
	text = localAddress.ReplaceAllString(resolver.ReplaceAllString(text, ":"), "")
	return refusers.ReplaceAllString(text, "$1")
}

// refusal is the answer to an error about the caller's own callback.
func (i identity) refusal(err error) error {
	r := *asRefusal(err)
	r.detail = i.plain(r.detail)
	return &r
}

func (i identity) subscription(s notify.Subscription) Subscription {
	out := fromSubscription(s)
	out.Paused, out.Locked = i.plain(out.Paused), i.plain(out.Locked)
	return out
}

func (i identity) delivery(d notify.DeliveryView) Delivery {
	out := fromDelivery(d)
	if !i.admin() {
		out.Resource, out.Condition, out.By, out.LastError = string(d.Shown.Resource), string(d.Shown.Condition), "", i.plain(out.LastError)
	}
	return out
}

func (i identity) stages(st notify.Stages) Stages {
	out := fromStages(st)
	if !i.admin() {
		out.By = ""
	}
	return out
}
