package cli

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type explainCommand struct {
	Alarm string `arg:"" help:"The id of the alarm, or its beginning."`
}

func (c *explainCommand) Run(s *session) error {
	a, err := s.findAlarm(c.Alarm)
	if err != nil {
		return err
	}
	var x api.Explanation
	if err := s.client.get(s.ctx, "/v1/alarms/"+url.PathEscape(a.ID)+"/explanation", nil, &x); err != nil {
		return err
	}
	return s.out.show(x, func() { s.out.explanation(x) })
}

// explanation prints why an alarm is what it is, and who was told, for somebody who was woken by it.
func (p *printer) explanation(x api.Explanation) {
	a := x.Alarm
	end, last := " stands", a.Severity
	if a.State == "cleared" {
		end, last = " is over", a.ClearReason
	}
	where := ""
	if a.Host != "" {
		where = " of " + word(a.Host)
	}
	p.text(fmt.Sprintf("%s on %s%s%s: %s", word(a.Condition), word(a.Resource), where, end, word(last)))
	p.pairs([][2]string{{"alarm", escape(a.ID) + ", revision " + escape(a.Revision)}})

	p.section("What was seen")
	p.seen(x)
	if x.Definition != nil {
		p.section("Why it is " + severityOf(x))
		p.chosen(x)
	}
	if d := x.Derivation; d != nil {
		p.section("What it belongs to")
		p.belongs(x.Alarm.Alarm, d)
	}
	p.section("Who is hit")
	p.hit(x)
	p.section("Who was told")
	p.accounts(x)
	if len(x.Unknown) > 0 {
		p.section("What is not known here")
		for _, u := range x.Unknown {
			p.text("- " + word(u))
		}
	}
}

func (p *printer) section(title string) {
	p.line("")
	p.line(title)
}

// text prints a paragraph as wide as the terminal.
func (p *printer) text(s string) {
	if s == "" {
		p.line("")
	}
	for _, line := range wrap(s, p.wide) {
		p.line(line)
	}
}

// severityOf is that of the alarm; of one that is over the last that it had while it stood.
func severityOf(x api.Explanation) string {
	for _, step := range slices.Backward(x.Alarm.History) {
		if step.Severity != "cleared" && step.Severity != "" && x.Alarm.State == "cleared" {
			return "over, and was " + word(step.Severity)
		}
	}
	if x.Alarm.State == "cleared" {
		return "over"
	}
	return word(x.Alarm.Severity)
}

// seen tells the observation.
func (p *printer) seen(x api.Explanation) {
	a := x.Alarm
	after := func(t, before *time.Time) string {
		if t == nil || before == nil {
			return p.exact(t)
		}
		return p.exact(t) + ", " + took(before, t) + " later"
	}
	said := ""
	if a.Source != "" {
		said = "source " + escape(a.Source)
	}
	if d := x.Derivation; d != nil && !d.Reported {
		said = "what it needs: no source has reported it by itself"
	}
	pairs := [][2]string{
		{"by", said},
		{"text", word(a.Text)},
		{"occurred", p.exact(a.Times.Occurred) + named(a.Times.Occurred, " (T00)")},
		{"observed", after(a.Times.Observed, a.Times.Occurred) + named(a.Times.Observed, " (T01)")},
		{"raised", after(a.Times.Raised, a.Times.Observed)},
		{"changed", p.exact(a.Times.Changed)},
		{"cleared", strings.TrimSpace(p.exact(a.Times.Cleared) + " " + escape(a.ClearReason))},
	}
	for _, name := range slices.Sorted(maps.Keys(a.Evidence)) {
		pairs = append(pairs, [2]string{"evidence", word(name) + " " + word(a.Evidence[name])})
	}
	if d := x.Definition; d != nil {
		pairs = append(pairs, [2]string{"means", escape(d.Text)})
		if d.LikelyCauses != "" {
			pairs = append(pairs, [2]string{"mostly", escape(d.LikelyCauses)})
		}
		pairs = append(pairs, [2]string{"to do", escape(d.Remedy)})
	}
	p.pairs(pairs)
}

func named(t *time.Time, name string) string {
	if t == nil {
		return ""
	}
	return name
}

// took is the time from one to the other.
func took(from, to *time.Time) string {
	d := to.Sub(*from)
	switch {
	case d < 0:
		return d.Round(time.Microsecond).String() + " (two clocks)"
	case d < time.Second:
		return milliseconds(d) + " ms"
	}
	return d.Round(10 * time.Millisecond).String()
}

// chosen tells the rule that chose severity, state and delay.
func (p *printer) chosen(x api.Explanation) {
	def := x.Definition
	var why string
	if d := x.Derivation; d != nil {
		switch d.SeverityBy {
		case "policy":
			why = "correlate.policies" + index(def.SeverityPolicy) + " says so: it replaces what the rule and the source say"
		case "source":
			why = "its source asked for " + word(d.Asked) + "; the rule says " + rule(def)
		case "nobody-hit":
			why = "no domain is hit; its rule says " + rule(def)
		case "rule":
			why = "its rule says " + rule(def)
		default:
			why = "its host says so; the rule without policies says " + rule(def)
		}
	} else {
		why = "its rule says " + rule(def)
		if def.SeverityPolicy != nil {
			why = "correlate.policies" + index(def.SeverityPolicy) + " says " + word(def.Severity)
		}
	}
	last := "until its source says that it is over"
	switch def.Mode {
	case "impulse":
		last = "for " + word(def.Hold) + " after it was last reported"
	case "latched":
		last = "until it is acknowledged"
	default:
		if def.Hold != "" {
			last += ", or for " + word(def.Hold) + " after it was last reported"
		}
	}
	if def.AckClears && def.Mode != "latched" {
		last += ", or until it is acknowledged"
	}
	if d := x.Derivation; d != nil {
		switch {
		case !d.Reported:
			last = "as long as too few of what it needs work"
		case d.Ends != nil:
			last += ": now until " + p.exact(d.Ends)
		}
	}
	down := "no: it is believed at once"
	if def.HoldDown != "" {
		down = "it must last " + word(def.HoldDown) + " first"
		if def.HoldDownPolicy != nil {
			down += ", says correlate.policies" + index(def.HoldDownPolicy)
		}
		if d := x.Derivation; d != nil && len(d.Failed) > 0 {
			down += "; a group that failed is told at once"
		}
	}
	p.pairs([][2]string{
		{"severity", why},
		{"effect", "its resource is " + word(def.State)},
		{"stands", last},
		{"delay", down},
		{"muted", mutedText(p, x.Alarm.Muted)},
	})
}

// rule is the severity that a rule says.
func rule(d *api.Definition) string {
	if d.SeverityUnhit == "" || d.SeverityPolicy != nil {
		return word(d.Severity)
	}
	return word(d.Severity) + ", and " + word(d.SeverityUnhit) + " while no domain is hit"
}

func index(policy *int) string {
	if policy == nil {
		return ""
	}
	return "[" + strconv.Itoa(*policy) + "]"
}

func mutedText(p *printer, m *api.Muted) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("by %s until %s: consumers are not told (paramedic mute list)", word(m.ID), p.exact(m.Until))
}

// belongs tells what explains an alarm, or is explained by it.
func (p *printer) belongs(a api.Alarm, d *api.Derivation) {
	alarm := func(c api.Cause) string {
		if c.Resource == "" {
			return word(short(c.Alarm))
		}
		return fmt.Sprintf("%s (%s on %s)", word(short(c.Alarm)), word(c.Condition), word(c.Resource))
	}
	for _, g := range d.Failed {
		p.text(fmt.Sprintf("It needs %d of %d, and %d are left.", g.K, g.Of, g.Left))
	}
	if len(d.Causes) == 0 {
		p.text("It is a root cause: nothing else explains it, so it is told by itself.")
	}
	for i, c := range d.Causes {
		begin := "It is correlated under "
		if i > 0 {
			begin = "that under "
		}
		p.text(begin + alarm(c) + ", " + causeRule(c.By))
	}
	if len(d.Causes) > 0 {
		p.text("Consumers are told that one: paramedic explain " + word(short(d.Causes[len(d.Causes)-1].Alarm)))
	}
	if d.Apart != nil {
		p.text("It follows from " + alarm(*d.Apart) + ", which does not hit all of its domains: put under that it would hide them.")
	}
	const most = 20
	for i, c := range d.Members {
		if i == most {
			p.text(fmt.Sprintf("  and %d more: -o json", len(d.Members)-most))
			break
		}
		p.text("It explains " + alarm(c) + ", " + causeRule(c.By))
	}
}

// causeRule is a rule of correlation in words.
func causeRule(by string) string {
	switch by {
	case "group":
		return "a member of the group that failed with it"
	case "follows":
		return "a consequence of what failed below it"
	case "last-run":
		return "as it was before the agent was restarted"
	case "home":
		return "as its host says"
	}
	return word(by)
}

// need is how a need is met, in words; empty for one that is plain.
func need(n api.NeedMet) string {
	switch {
	case n.Mode == "k-of-n":
		return fmt.Sprintf("  needs %d of %d, %d left", n.K, n.Of, n.Left)
	case n.Mode == "some-of":
		return fmt.Sprintf("  %d of %d left", n.Left, n.Of)
	case n.Of > 1:
		return fmt.Sprintf("  needs all of %d, %d left", n.Of, n.Left)
	}
	return ""
}

// mostPaths is how many domains a page shows.
const mostPaths = 20

// hit draws the way of the fault to each domain, from the resource upwards. What several ways share stands once.
func (p *printer) hit(x api.Explanation) {
	d := x.Derivation
	domains := len(x.Alarm.Affected) + len(x.Alarm.AtRisk)
	if domains == 0 {
		p.text("Nobody: no domain needs it, or it fails none.")
		return
	}
	if d == nil || len(d.Paths) == 0 {
		p.affectedNow(x.Alarm.Affected)
		p.affectedNow(x.Alarm.AtRisk)
		return
	}
	root := &branch{text: word(x.Alarm.Resource) + "  " + word(x.Definition.State)}
	byWord := []api.Path{}
	for i, path := range d.Paths {
		if i == mostPaths {
			break
		}
		if path.ByWord {
			byWord = append(byWord, path)
			continue
		}
		at := root
		for _, hop := range path.Hops {
			at = at.child(hop)
		}
	}
	if root.children != nil || len(byWord) == 0 {
		p.draw(root, "", "")
	}
	for _, path := range byWord {
		p.cut(fmt.Sprintf("%s %s  %s  (its source names it)", word(path.Resource), word(path.Name), p.paint(word(path.State))))
	}
	if more := len(d.Paths) - mostPaths; more > 0 {
		p.text(fmt.Sprintf("and %d domains more: -o json", more))
	}
}

func (p *printer) affectedNow(list []api.Affected) {
	for i, d := range list {
		if i == mostPaths {
			p.text(fmt.Sprintf("and %d domains more: -o json", len(list)-mostPaths))
			return
		}
		p.cut(fmt.Sprintf("%s  %s  %s", word(d.Name), word(d.State), word(d.Resource)))
	}
}

// branch is a resource in the drawing of the ways.
type branch struct {
	id, text string
	children []*branch
}

func (b *branch) child(hop api.Hop) *branch {
	for _, c := range b.children {
		if c.id == hop.Resource {
			return c
		}
	}
	name := hop.Resource
	if kind, rest, ok := strings.Cut(name, "/"); ok {
		if _, end, inside := strings.Cut(rest, "/"); inside && (kind == "vnic" || kind == "vdisk") {
			name = kind + "/…/" + end // its domain stands above it
		}
		if kind == "domain" && hop.Name != "" {
			name = "domain " + hop.Name
		}
	}
	text := word(name) + "  " + word(hop.Level)
	if hop.State != hop.Level {
		text += " (in all " + word(hop.State) + ")"
	}
	c := &branch{id: hop.Resource, text: text + need(hop.Need)}
	b.children = append(b.children, c)
	return c
}

func (p *printer) draw(b *branch, first, rest string) {
	p.cut(first + b.text)
	for i, c := range b.children {
		if i == len(b.children)-1 {
			p.draw(c, rest+"└─ ", rest+"   ")
		} else {
			p.draw(c, rest+"├─ ", rest+"│  ")
		}
	}
}

// cut prints a line, as much of it as fits.
func (p *printer) cut(line string) {
	if p.wide > 0 {
		line = shorten(line, p.wide)
	}
	p.line(line)
}

// accounts tells of each consumer what it has heard, is owed, or why it has not.
func (p *printer) accounts(x api.Explanation) {
	if len(x.Accounts) == 0 {
		p.text("Nobody: there is no subscription (paramedic subscribe).")
		return
	}
	what := make(map[string]string)
	for _, step := range x.Alarm.History {
		if step.What == "raised" || step.What == "changed" || step.What == "cleared" {
			what[step.Revision] = word(step.What) + " "
		}
	}
	var pairs [][2]string
	for _, acc := range x.Accounts {
		name := shorten(word(acc.Subscription), 24)
		say := func(format string, args ...any) {
			pairs = append(pairs, [2]string{name, fmt.Sprintf(format, args...)})
			name = ""
		}
		if acc.Endpoint != "" {
			say("its endpoint %s", word(acc.Endpoint))
		}
		for _, st := range acc.Sent {
			say("%s%s %s", what[st.Revision], word(st.Revision), p.sent(st))
		}
		if n := len(acc.Sent); acc.Told != "" && (n == 0 || acc.Sent[n-1].Revision != acc.Told) {
			say("%s%s told, given in a snapshot, or discarded: it is not known any more when", what[acc.Told], word(acc.Told))
		}
		if d := acc.Owed; d != nil {
			say("%s%s OWED: %s", what[d.Revision], word(d.Revision), p.owed(*d))
		}
		if why := bar(acc, x.Alarm.Alarm); why != "" {
			say("%s", why)
		}
		if acc.Held != "" {
			say("HELD: %s", word(acc.Held))
		}
	}
	p.pairs(pairs)
}

// sent tells when a notification left and was answered.
func (p *printer) sent(st api.Sent) string {
	text := "sent " + p.exact(st.T08) + " by " + word(st.By)
	if st.T08 != nil && st.T00 != nil {
		text += ", " + took(st.T00, st.T08) + " after it occurred"
	}
	if st.T08 != nil && st.T09 != nil {
		text += "; answered " + took(st.T08, st.T09) + " later"
	}
	if st.Attempts > 1 {
		text += fmt.Sprintf(", at attempt %d", st.Attempts)
	}
	return text
}

// owed tells how a delivery does.
func (p *printer) owed(d api.Delivery) string {
	text := word(d.State)
	switch d.Attempts {
	case 0:
		text += ", not tried yet"
	case 1:
		text += ", tried once"
	default:
		text += fmt.Sprintf(", tried %d times", d.Attempts)
	}
	if d.By != "" {
		text += ", last by " + word(d.By)
	}
	if d.NextAttempt != nil && d.State != "parked" {
		text += ", again at " + p.clock(d.NextAttempt)
	}
	if d.LastError != "" {
		text += "; last error: " + word(d.LastError)
	}
	if d.State == "parked" {
		text += "; to try again: paramedic deliveries --retry " + word(short(d.ID))
	}
	return text
}

// bar tells why a consumer is not told.
func bar(acc api.Account, a api.Alarm) string {
	switch acc.Why {
	case "":
		return ""
	case "filter":
		return "not told: filter." + word(acc.Filter) + " does not match" + has(acc.Filter, a)
	case "mute":
		return "not told: mute " + word(acc.Mute) + " keeps it back (paramedic mute list)"
	case "under":
		return "not told of this one: another alarm explains it"
	case "itself":
		return "not told: it is about this subscription"
	case "ours":
		return "not told by this host, of which it says that it is lost; the others tell it"
	case "form":
		return "not told: in format " + word(acc.Format) + " an alarm that hits nobody says nothing"
	case "no-news":
		return "no news since: what it sees of the alarm has not changed"
	case "over":
		return "not told that it is over: its filter lets no such alarm through"
	case "room":
		return "not told: it is owed so much that some was dropped for want of room (paramedic deliveries); it is told when there is room"
	case "unknown":
		return "whether it was told is not known here any more"
	}
	return "not told: " + word(acc.Why)
}

// has is what an alarm has where a filter asks for something else.
func has(key string, a api.Alarm) string {
	of := func(what, value string) string {
		if value == "" {
			return ""
		}
		return " (" + what + " is " + word(value) + ")"
	}
	kind, _, _ := strings.Cut(a.Resource, "/")
	switch key {
	case "resource_types":
		return of("this", kind)
	case "resources":
		return of("this", a.Resource)
	case "conditions":
		return of("this", a.Condition)
	case "hosts", "zones", "labels":
		return of("its host", a.Host)
	case "min_severity":
		return of("this", a.Severity)
	case "min_confidence":
		return of("this", a.Confidence)
	case "projects", "domains", "vnfs", "states":
		return " (it hits none that it asks for)"
	}
	return ""
}
