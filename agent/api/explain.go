package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func (s *Server) getExplanation(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	ctx := r.Context()
	a, entry, err := s.oneAlarm(ctx, r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	shown, err := s.present(ctx, []*correlate.Alarm{a})
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who := identityOf(ctx)
	x := Explanation{Alarm: who.life(shown[0], entry), Unknown: []string{}, Accounts: s.accounts(who, a)}
	if who.admin() {
		if err := s.derive(ctx, a, &x); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	s.answer(w, r, http.StatusOK, x)
}

// oneAlarm finds an alarm that the caller may see, standing or cleared, with what became of it.
func (s *Server) oneAlarm(ctx context.Context, id string) (*correlate.Alarm, history.Entry, error) {
	alarms, starting, err := s.standing(ctx)
	if err != nil {
		return nil, history.Entry{}, err
	}
	entry, known, err := s.backend.History().Entry(ctx, id)
	if err != nil {
		return nil, history.Entry{}, err
	}
	alarms = slices.DeleteFunc(alarms, func(a *correlate.Alarm) bool { return a.ID != id })
	if known && !entry.Alarm.Standing() {
		alarms = append(alarms[:0], entry.Alarm)
	}
	who := identityOf(ctx)
	alarms = slices.DeleteFunc(alarms, func(a *correlate.Alarm) bool { return who.sees(a) == nil })
	switch {
	case len(alarms) > 0:
		return alarms[0], entry, nil
	case starting: // it may be one of ours
		return nil, history.Entry{}, errStarting
	}
	return nil, history.Entry{}, notFound("alarm %q neither stands nor cleared lately: /v1/alarms?state=all lists those that are known", id)
}

// derive fills in what only an administrator is told, and says what of it is not known.
func (s *Server) derive(ctx context.Context, a *correlate.Alarm, x *Explanation) error {
	unknown := func(format string, args ...any) { x.Unknown = append(x.Unknown, fmt.Sprintf(format, args...)) }
	def := Definition{}
	own := a.Key.Home == s.node
	if own {
		var e correlate.Explanation
		var stands bool
		err := s.ask(ctx, func(engine *correlate.Engine) {
			if e, stands = engine.Explain(a.ID); !stands {
				e.Definition = engine.Definition(a.Key.Resource, a.Key.Condition)
			}
		})
		switch {
		case errors.Is(err, errStarting):
			own = false
			unknown("this host is starting: by which rules the alarm goes is known when it has begun")
		case err != nil:
			return fmt.Errorf("explain alarm %q: %w", a.ID, err)
		default:
			def = fromDefinition(e.Definition)
			if stands {
				def.State = a.State.String() // a graded one has made it worse or better
				x.Derivation = fromExplanation(e)
			}
		}
	} else {
		s.home(ctx, a, unknown)
		if a.Standing() {
			x.Derivation = s.hearsay(a, x.Alarm.Correlated)
		}
	}
	if !own {
		def = fromDefinition(correlate.Definition{Rule: correlate.RuleOf(a.Key.Condition), SeverityBy: -1, HoldDownBy: -1})
	}
	if home := a.Key.Host(); !own && home != s.node && a.Key.Condition.Foreign() {
		unknown("the rule of another monitor's condition is its home's (correlate.events); what stands here is that of one that nobody maps")
	}
	switch {
	case !a.Standing() && own:
		unknown("the alarm is over: by which needs it went is not known any more, and the rule is as the policies are now")
	case x.Derivation != nil && x.Derivation.Restored:
		unknown("the agent was restarted, and not all of its sources have spoken since: by which needs the fault goes is known when they have")
	}
	x.Definition = &def
	if slices.ContainsFunc(x.Accounts, func(acc Account) bool {
		return (acc.Told != "" || acc.Why == string(notify.BarUnknown)) && len(acc.Sent) == 0
	}) {
		status, err := s.backend.Status(ctx)
		if err != nil {
			return fmt.Errorf("explain alarm %q: %w", a.ID, err)
		}
		unknown("when a consumer was told, and of what is over whether it was, is known of the last 1000 notifications that this host has sent since its agent began, at %s", status.Started.UTC().Format(time.RFC3339))
	}
	return nil
}

// home says who knows the rest about another host's alarm, and how to ask.
func (s *Server) home(ctx context.Context, a *correlate.Alarm, unknown func(string, ...any)) {
	speaker, home := ledger.Speaker(a), a.Key.Host()
	if speaker != "" || home == "" {
		unknown("%s was raised by the other hosts, %s first: it goes by no needs, but by what they know of the domains there", a.Key.Resource, cmp.Or(speaker, "one of them"))
		return
	}
	where := "run this command on " + home
	if c := s.backend.Cluster(); c != nil {
		for _, h := range c.Hosts() {
			if h.Name == home && h.API != "" {
				where += ", or with --server " + h.API
			}
		}
	}
	if a.Standing() {
		unknown("by which needs the fault goes, which policies %s has, and when it told its consumers, that host knows: %s", home, where)
	} else {
		unknown("which policies %s has, and when it told its consumers, that host knows if it remembers the alarm: %s", home, where)
	}
}

// hearsay is what another host's standing alarm says itself.
func (s *Server) hearsay(a *correlate.Alarm, correlated []string) *Derivation {
	d := &Derivation{Failed: []NeedMet{}, Causes: []Cause{}, Members: []Cause{}, Paths: []Path{}, Reported: true}
	named := make(map[string]*correlate.Alarm)
	if c := s.backend.Cluster(); c != nil {
		for _, o := range c.Alarms() {
			named[o.ID] = o
		}
	}
	cause := func(id string) Cause {
		if o := named[id]; o != nil {
			return fromCause(correlate.Cause{Alarm: o, By: byHome})
		}
		return Cause{Alarm: id, By: byHome}
	}
	if a.Under != "" {
		d.Causes = []Cause{cause(a.Under)}
		return d
	}
	d.Members = each(correlated, cause)
	return d
}

// byHome: another host says so.
const byHome = "home"

// accounts are those of the caller's subscriptions.
func (s *Server) accounts(who identity, a *correlate.Alarm) []Account {
	var pairs []notify.Pair
	if c := s.backend.Cluster(); c != nil && a.Key.Home != s.node {
		pairs = c.Told(a)
	}
	all := slices.DeleteFunc(s.backend.Notify().Accounts(a, pairs), func(acc notify.Account) bool { return !who.has(acc.Subscription) })
	return each(all, who.account)
}

func (i identity) account(acc notify.Account) Account {
	out := Account{
		Subscription: acc.Subscription.Name, Consumer: acc.Subscription.ID, Endpoint: acc.Endpoint, Format: acc.Subscription.Format,
		Role: string(acc.Subscription.Role), Held: i.plain(acc.Held), Why: string(acc.Bar),
		Sent: each(acc.Sent, func(st notify.Stages) Sent { return Sent{st.Revision.String(), i.stages(st)} }),
	}
	if acc.Told != (correlate.Revision{}) {
		out.Told = acc.Told.String()
	}
	if acc.Owed != nil {
		owed := i.delivery(*acc.Owed)
		out.Owed = &owed
	}
	switch acc.Bar {
	case notify.BarFilter:
		out.Filter = acc.Key
	case notify.BarMute:
		out.Mute = acc.Key
	default:
	}
	if !i.admin() && (acc.Bar == notify.BarMute || acc.Bar == notify.BarOurs) { // an administrator's business
		out.Why, out.Mute = string(notify.BarUnknown), ""
	}
	return out
}

func fromDefinition(d correlate.Definition) Definition {
	out := Definition{
		Mode: d.Mode.String(), Hold: interval(d.Hold), HoldDown: interval(d.HoldDown), AckClears: d.Mode == correlate.Latched || d.AckClears, State: d.State.String(),
		Severity: d.Severity.String(), Text: d.Text, LikelyCauses: d.Causes, Remedy: d.Remedy,
	}
	if d.Absorbed != correlate.SeverityUnset {
		out.SeverityUnhit = d.Absorbed.String()
	}
	if d.SeverityBy >= 0 {
		out.SeverityPolicy = &d.SeverityBy
	}
	if d.HoldDownBy >= 0 {
		out.HoldDownPolicy = &d.HoldDownBy
	}
	return out
}

func fromExplanation(e correlate.Explanation) *Derivation {
	d := &Derivation{
		SeverityBy: string(e.SeverityBy), Asked: e.Asked.String(), Reported: e.Reported, Ends: stamp(e.Ends), Restored: e.Restored,
		Failed: each(e.Failed, fromGroup), Causes: each(e.Causes, fromCause), Members: each(e.Members, fromCause), Paths: each(e.Paths, fromPath),
	}
	if e.Apart != nil {
		apart := fromCause(correlate.Cause{Alarm: e.Apart})
		d.Apart = &apart
	}
	return d
}

func fromGroup(g correlate.Group) NeedMet {
	out := NeedMet{Mode: g.Mode.String(), Of: g.Of, Failed: g.Failed, Degraded: g.Degraded, Left: g.Left()}
	if g.Mode == correlate.KOfN {
		out.K = g.K
	}
	return out
}

func fromCause(c correlate.Cause) Cause {
	return Cause{Alarm: c.Alarm.ID, Resource: string(c.Alarm.Key.Resource), Condition: string(c.Alarm.Key.Condition), By: string(c.By)}
}

func fromPath(p correlate.Path) Path {
	return Path{
		Resource: string(p.Domain.Resource), Name: p.Domain.Name, State: p.Domain.State.String(), ByWord: p.ByWord,
		Hops: each(p.Hops, func(h correlate.Hop) Hop {
			return Hop{Resource: string(h.Resource), Name: h.Name, Need: fromGroup(h.Group), Level: h.Level.String(), State: h.State.String()}
		}),
	}
}
