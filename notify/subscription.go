package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// FormatNative is the form of whoever names none: CloudEvents 1.0, structured JSON.
const FormatNative = format.Default

const (
	maxName      = 128
	maxEndpoints = 8
	maxURL       = 2048
	maxFilter    = 4096 // entries of one list
	maxRate      = 60_000
	kindFault    = "fault"
	formatSOL    = "sol"
)

// FileID is the id of a file's subscription: the same file on every host of a cluster is one subscription.
func FileID(label, name string) string {
	return uuid.NewSHA1(uuid.NewSHA1(uuid.NameSpaceURL, []byte("paramedic:"+label)), []byte(name)).String()
}

// Validate returns every problem of s at once, each naming the field and the remedy; nil when it is sound.
func (s Subscription) Validate() error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	switch {
	case strings.TrimSpace(s.Name) == "":
		bad("name", "it is empty: give the subscription a name")
	case len(s.Name) > maxName || !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, unicode.IsControl):
		bad("name", "want at most %d bytes of UTF-8 without control characters", maxName)
	}
	switch n := len(s.Endpoints); {
	case n == 0:
		bad("endpoints", "there is none: name at least one http or https address")
	case n > maxEndpoints:
		bad("endpoints", "there are %d, want at most %d", n, maxEndpoints)
	}
	for i, e := range s.Endpoints {
		if problem := cmp.Or(endpointProblem(e), pathProblem(e, s.form())); problem != "" {
			bad(fmt.Sprintf("endpoints[%d]", i), "%s", problem)
		}
	}
	switch s.DeliverTo {
	case "", DeliverFirst:
	case DeliverAll:
		for i, e := range s.Endpoints {
			if slices.Contains(s.Endpoints[:i], e) {
				bad(fmt.Sprintf("endpoints[%d]", i), "stands twice, and would be told twice: keep one")
			}
		}
	default:
		bad("deliver_to", "%q is not known: want %q (that answers) or %q", s.DeliverTo, DeliverFirst, DeliverAll)
	}
	if _, known := format.Of(s.Format); !known && s.Format != "" {
		bad("format", "%q is not known: want one of %s", s.Format, strings.Join(format.Names(), ", "))
	}
	switch s.Role {
	case RoleAdmin, "":
	case RoleConsumer:
		if len(s.Filter.Projects) == 0 {
			bad("filter.projects", "role consumer needs at least one project: name those that it may see")
		}
		s.Filter.consumerProblems(bad)
	default:
		bad("role", "%q is not known: want %q or %q", s.Role, RoleAdmin, RoleConsumer)
	}
	if len(s.Owner) > maxName || !utf8.ValidString(s.Owner) || strings.ContainsFunc(s.Owner, unicode.IsControl) {
		bad("owner", "want at most %d bytes of UTF-8 without control characters", maxName)
	}
	if form := s.form(); s.Heartbeat != 0 && !form.Beats {
		bad("heartbeat", "form %s has none: leave it out, or choose one of %s", form.Name, strings.Join(format.Beating(), ", "))
	} else if s.Heartbeat != 0 && (s.Heartbeat < minHeartbeat || s.Heartbeat > maxHeartbeat) {
		bad("heartbeat", "%v: want %v to %v, or none", s.Heartbeat, minHeartbeat, maxHeartbeat)
	}
	if s.MaxRate < 0 || s.MaxRate > maxRate {
		bad("rate", "%d: want requests a minute, at most %d, or 0 for any", s.MaxRate, maxRate)
	}
	if s.Origin != OriginAPI && !s.Expires.IsZero() {
		bad("expires", "a subscription of a file ends when the file names it no more")
	}
	s.linkProblems(bad)
	s.Filter.problems(bad)
	if s.form().Name != formatSOL && !s.Filter.SOL.IsZero() {
		bad("filter.sol", "it is for format %s alone", formatSOL)
	}
	return errors.Join(problems...)
}

func endpointProblem(e string) string {
	u, err := url.Parse(e)
	switch {
	case len(e) > maxURL:
		return fmt.Sprintf("longer than %d bytes", maxURL)
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "not an address: want for instance http://10.0.0.5:8080/failure"
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("scheme %q: want http or https", u.Scheme)
	case u.User != nil:
		return "holds a user name or password, which would show in lists: use auth, or a secret (signature), instead"
	case u.Fragment != "":
		return "holds a #fragment, which is never sent: remove it"
	}
	return ""
}

func pathProblem(e string, form format.Form) string {
	if u, err := url.Parse(e); form.Path == "" || err != nil || strings.Trim(u.Path, "/") != "" {
		return ""
	}
	return fmt.Sprintf("has no path: receivers of form %s listen at %s", form.Name, form.Path)
}

func (f Filter) problems(bad func(field, format string, args ...any)) {
	for i, k := range f.ResourceTypes {
		if !slices.Contains(correlate.Kinds(), k) {
			bad(fmt.Sprintf("filter.resource_types[%d]", i), "%q is not known: want one of %v", k, correlate.Kinds())
		}
	}
	for i, k := range f.Kinds {
		switch k {
		case kindFault:
		case "maintenance", "prediction":
			bad(fmt.Sprintf("filter.kinds[%d]", i), "%q is not yet built: want %q", k, kindFault)
		default:
			bad(fmt.Sprintf("filter.kinds[%d]", i), "%q is not known: want %q", k, kindFault)
		}
	}
	for i, st := range f.States {
		if st < correlate.StateAtRisk || st > correlate.StateFailed {
			bad(fmt.Sprintf("filter.states[%d]", i), "%v can't be asked for: want failed, degraded or at-risk", st)
		}
	}
	switch f.MinConfidence {
	case "", correlate.ConfidenceProbable, correlate.ConfidenceConfirmed, correlate.ConfidenceFenced:
	default:
		bad("filter.min_confidence", "%q is not known: want probable, confirmed or fenced", f.MinConfidence)
	}
	if f.MinSeverity == correlate.SeverityCleared || f.MinSeverity > correlate.SeverityCritical {
		bad("filter.min_severity", "%v can't be a lower bound: want indeterminate, warning, minor, major or critical", f.MinSeverity)
	}
	f.placeProblems(bad)
	f.SOL.Problems(func(field, format string, args ...any) { bad("filter.sol."+field, format, args...) })
	for field, list := range map[string][]string{"filter.projects": f.Projects, "filter.domains": f.Domains, "filter.vnfs": f.VNFs} {
		if len(list) > maxFilter {
			bad(field, "%d entries, want at most %d", len(list), maxFilter)
		}
		if slices.Contains(list, "") {
			bad(field, "an entry is empty: remove it, or leave the list out to pass all")
		}
	}
}

// normal fills the defaults in.
func (s Subscription) normal() Subscription {
	if s.Format == "" {
		s.Format = FormatNative
	}
	if s.Role == "" {
		s.Role = RoleAdmin
	}
	return s
}

// Locked reports that its secret or its credentials can't be opened here.
func (s Subscription) Locked() bool { return s.Secret.Locked() || s.Credentials.Locked() }

// WhyLocked says why; empty when it is not Locked.
func (s Subscription) WhyLocked() string { return cmp.Or(s.Secret.why, s.Credentials.why) }

// sameContents reports whether a and b ask for the same; ids, versions and times aside.
func sameContents(a, b Subscription) bool {
	return a.Name == b.Name && slices.Equal(a.Endpoints, b.Endpoints) && a.Format == b.Format && a.Role == b.Role && a.Owner == b.Owner &&
		a.Secret.equal(b.Secret) && sameFilter(a.Filter, b.Filter) && a.MaxRate == b.MaxRate && a.toAll() == b.toAll() && a.Heartbeat == b.Heartbeat &&
		a.Link == b.Link && a.Credentials.Equal(b.Credentials)
}

func sameFilter(a, b Filter) bool {
	fa, _ := json.Marshal(a)
	fb, _ := json.Marshal(b)
	return string(fa) == string(fb)
}

func confidenceRank(c correlate.Confidence) int {
	switch c {
	case correlate.ConfidenceProbable:
		return 0
	case correlate.ConfidenceFenced:
		return 2
	case correlate.ConfidenceConfirmed:
	}
	return 1
}

// onLadder reports whether an alarm comes in levels of confidence: the loss of hosts does, all else is seen or not.
func onLadder(a *correlate.Alarm) bool {
	return a.Key.Condition == correlate.CondHostLost || a.Key.Condition == correlate.CondZoneLost
}

// Affected returns those of an alarm's domains that this filter lists. At-risk ones are listed only when States asks.
// States does not judge a clear: it names whom the fault had hit, and they are well by then.
func (f Filter) Affected(a *correlate.Alarm) []correlate.Affected {
	if !f.narrows() {
		return a.Affected
	}
	var out []correlate.Affected
	add := func(list []correlate.Affected, asked func(correlate.State) bool) {
		for _, d := range list {
			if asked(d.State) &&
				(len(f.Projects) == 0 || slices.Contains(f.Projects, d.Project)) &&
				(len(f.Domains) == 0 || slices.ContainsFunc(f.Domains, func(want string) bool { return names(want, d) })) &&
				(len(f.VNFs) == 0 || slices.Contains(f.VNFs, format.ManagedObject(d))) {
				out = append(out, d)
			}
		}
	}
	add(a.Affected, func(s correlate.State) bool {
		return len(f.States) == 0 || !a.Standing() || s == correlate.StateUnknown || slices.Contains(f.States, s)
	})
	if slices.Contains(f.States, correlate.StateAtRisk) {
		add(a.AtRisk, func(correlate.State) bool { return true })
	}
	return out
}

// form is the one that its consumer speaks.
func (s Subscription) form() format.Form {
	form, ok := format.Of(s.Format)
	if !ok { // Validate has let nothing else in
		form, _ = format.Of(FormatNative)
	}
	return form
}

// parts are what an alarm says to a subscription whose form is split; see delivery.Config.
func (s Subscription) parts(a *correlate.Alarm) (parts []delivery.Part, split bool) {
	form := s.form()
	if form.Parts == nil {
		return nil, false
	}
	return form.Parts(s.fault(a)), true
}

// speaks reports whether an alarm says anything to a subscription, in whose form one that hits nobody may say nothing.
func (s Subscription) speaks(a *correlate.Alarm) bool {
	parts, split := s.parts(a)
	return !split || len(parts) > 0
}

// shown is a digest of what a consumer role sees of an alarm, but for its times and its revision: when that stays the same,
// somebody else's domain has joined or left the fault, which is neither news nor its business. Zero for an admin.
func (s Subscription) shown(a *correlate.Alarm) uint64 {
	if s.Role != RoleConsumer {
		return 0
	}
	v := s.view(a)
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]any{v.Key, v.Severity, v.EventType, v.Confidence, v.RootCause, v.ProbableCause, v.Text, v.Affected}) // can't fail
	return max(1, binary.BigEndian.Uint64(h.Sum(nil)))
}

// names reports whether want means the domain d: its UUID, its resource id, or its name.
func names(want string, d correlate.Affected) bool {
	return strings.EqualFold(want, d.Resource.Name()) || want == string(d.Resource) || want == d.Name
}

// passes reports whether the filter lets an alarm through that the consumer was not told of.
func (s Subscription) passes(a *correlate.Alarm, where Places) bool { return s.bar(a, where) == "" }

// bar is the first key of the filter that does not let such an alarm through; empty: none.
func (s Subscription) bar(a *correlate.Alarm, where Places) string {
	f := s.Filter
	if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, kindFault) {
		return keyKinds
	}
	if key := f.offSubject(a, s.Role == RoleConsumer); key != "" {
		return key
	}
	if key := f.offPlace(a, where); key != "" {
		return key
	}
	switch {
	case a.Severity != correlate.SeverityIndeterminate && a.Severity < f.MinSeverity:
		return keySeverity
	case onLadder(a) && confidenceRank(a.Confidence) < confidenceRank(f.MinConfidence):
		return keyConfidence
	case !f.SOL.IsZero() && !f.SOL.Match(s.fault(a)):
		return keySOL
	case !f.narrows() || len(f.Affected(a)) > 0:
		return ""
	}
	return f.missed(a)
}

// missed is the first key with which the filter, as far as it was judged, lists none of an alarm's domains.
func (f Filter) missed(a *correlate.Alarm) string {
	one := Filter{Projects: f.Projects}
	for _, key := range []struct {
		name string
		add  func()
	}{
		{keyProjects, func() {}},
		{keyDomains, func() { one.Domains = f.Domains }},
		{keyVNFs, func() { one.VNFs = f.VNFs }},
	} {
		if key.add(); one.narrows() && len(one.Affected(a)) == 0 && !one.endangers(a, f.States) {
			return key.name
		}
	}
	return keyStates
}

// endangers reports whether a filter that asks for at-risk domains, too, would list some.
func (f Filter) endangers(a *correlate.Alarm, states []correlate.State) bool {
	f.States = []correlate.State{correlate.StateAtRisk}
	return slices.Contains(states, correlate.StateAtRisk) && len(f.Affected(a)) > 0
}

// narrows reports whether the affected resources are judged.
func (f Filter) narrows() bool {
	return len(f.Projects) > 0 || len(f.Domains) > 0 || len(f.VNFs) > 0 || len(f.States) > 0
}

// fault is an alarm as a subscription is told of it, without what only a sender knows.
func (s Subscription) fault(a *correlate.Alarm) format.Fault {
	return format.Fault{Alarm: a, Subscription: s.ID, Affected: s.Filter.Affected(a), Abstract: s.Role == RoleConsumer, Projects: s.Filter.Projects}
}

// Wants decides whether a revision is owed to a subscription, where tells where hosts stand. pair: something of this alarm was told or is owed
// already; owed: a revision still waits or is on its way.
//
// A clear goes to whoever was told. What lies under a root cause is not sent, unless an older revision of it is still
// owed: then the newest is the truth. Whoever was told is kept up to date, even when the filter no longer passes.
func (s Subscription) Wants(a *correlate.Alarm, where Places, pair, owed bool) bool {
	switch {
	case a.Key.Condition == correlate.CondSubscription && s.owns(a.Key.Resource):
		return false // that it can't be reached is not told to itself: it would feed on its own failure
	case owed:
		return true
	case !a.Standing():
		return pair
	case a.Under != "":
		return false
	}
	return pair || s.passes(a, where) && s.speaks(a)
}

// mayKnow reports whether a consumer may have been told of an alarm that has ended. The clear does not say how severe it was.
func (s Subscription) mayKnow(a *correlate.Alarm, where Places) bool {
	asked := s
	asked.Filter.MinSeverity = Filter{}.MinSeverity
	return !a.Standing() && s.Wants(a, where, true, false) && asked.passes(a, where)
}

// resource names a subscription as a thing with health. The names of API subscriptions need not be unique: without the
// id one would clear the other's alarm.
func (s Subscription) resource() correlate.ID {
	name := "paramedic/subscription/" + s.Name
	if s.Origin == OriginAPI {
		name += "/" + s.ID
	}
	return correlate.NewID(correlate.KindService, name)
}
