package cli

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type statusCommand struct{}

func (statusCommand) Run(s *session) error {
	var st api.Status
	if err := s.client.get(s.ctx, "/v1/status", nil, &st); err != nil {
		return err
	}
	return s.out.show(st, func() {
		outbox := "durable"
		if !st.Outbox.Durable {
			outbox = "NOT DURABLE: " + word(st.Outbox.Text)
		}
		s.out.pairs([][2]string{
			{"node", escape(st.Node)},
			{"zone", escape(st.Zone)},
			{"cluster", escape(st.Label)},
			{"version", escape(st.Version)},
			{"started", s.out.exact(&st.Started)},
			{"term", unlessStarting(st, strconv.FormatUint(st.Term, 10))},
			{"alarms", unlessStarting(st, countSeverities(st.Alarms))},
			{"dismissed", dismissed(st)},
			{"mutes", mutes(st)},
			{"resources", unlessStarting(st, strconv.Itoa(st.Resources))},
			{"subscriptions", strconv.Itoa(st.Subscriptions)},
			{"deliveries", fmt.Sprintf("%d pending, %d parked", st.Deliveries.Pending, st.Deliveries.Parked)},
			{"outbox", outbox},
		})
		var rows [][]string
		for _, src := range st.Sources {
			rows = append(rows, []string{
				word(src.Name), word(src.Sight), strconv.Itoa(src.Restarts),
				fmt.Sprintf("%d/%d", src.Queue.Depth, src.Queue.Capacity), strconv.FormatUint(src.Queue.Dropped, 10), word(src.Text),
			})
		}
		s.out.line("")
		s.out.table([]string{"SOURCE", "SIGHT", "RESTARTS", "QUEUE", "DROPPED", "TEXT"}, rows)
		if st.Cluster != nil {
			s.out.line("")
			s.out.cluster(st.Cluster)
		}
	})
}

// dismissed says how many alarms were cleared by hand and may have to be looked at again; nothing when none was.
func dismissed(st api.Status) string {
	if st.Dismissed == 0 {
		return ""
	}
	return fmt.Sprintf("%d cleared by hand, still reported: paramedic alarms --state dismissed", st.Dismissed)
}

// mutes says how many hold; nothing when none does.
func mutes(st api.Status) string {
	if st.Mutes == 0 {
		return ""
	}
	return fmt.Sprintf("%d: consumers are not told everything: paramedic mute list", st.Mutes)
}

// unlessStarting is text, which a host that is starting does not know of itself yet.
func unlessStarting(st api.Status, text string) string {
	if st.Starting {
		return "not known yet: this host is starting"
	}
	return text
}

// countSeverities is "2 critical, 1 warning", the worst first.
func countSeverities(counts map[string]int) string {
	var parts []string
	for _, severity := range []string{"critical", "major", "minor", "warning", "indeterminate"} {
		if n := counts[severity]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, severity))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

type alarmsCommand struct {
	Alarm       string `arg:"" optional:"" help:"The id of one alarm, or its beginning."`
	State       string `help:"standing, cleared, dismissed (cleared by hand and still reported) or all." enum:"standing,cleared,dismissed,all" default:"standing"`
	MinSeverity string `help:"The least severity." placeholder:"SEVERITY"`
	Resource    string `help:"A resource id, or a glob such as nic/*." placeholder:"ID"`
	Condition   string `help:"A condition, or a class of cause: network, storage…" placeholder:"CONDITION"`
	Host        string `help:"Only those of this host." placeholder:"NAME"`
	Domain      string `help:"Affected domain, by UUID or name." placeholder:"DOMAIN"`
	Project     string `help:"Affected project." placeholder:"PROJECT"`
	Since       string `help:"RFC 3339, or how long ago: 2h." placeholder:"TIME"`
	Until       string `help:"RFC 3339, or how long ago: 10m." placeholder:"TIME"`
	Limit       int    `help:"The most to show." default:"1000" placeholder:"N"`
}

func (c *alarmsCommand) Run(s *session) error {
	if c.Alarm != "" {
		a, err := s.findAlarm(c.Alarm)
		if err != nil {
			return err
		}
		var life api.AlarmLife
		if err := s.client.get(s.ctx, "/v1/alarms/"+url.PathEscape(a.ID), nil, &life); err != nil {
			return err
		}
		return s.out.show(life, func() { s.out.alarm(life) })
	}
	query := url.Values{}
	for name, value := range map[string]string{
		"state": c.State, "min_severity": c.MinSeverity, "resource": c.Resource, "condition": c.Condition, "host": c.Host, "domain": c.Domain, "project": c.Project,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, value := range map[string]string{"since": c.Since, "until": c.Until} {
		if value == "" {
			continue
		}
		t, err := parseTime(value, s.now())
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("--%s %q: %w", name, value, err)}
		}
		query.Set(name, t)
	}
	if c.Limit < 1 {
		return &exitError{exitUsage, fmt.Errorf("--limit %d: want a number from 1", c.Limit)}
	}
	page, err := s.alarms(query, c.Limit)
	if err != nil {
		return err
	}
	return s.out.show(page, func() { s.out.alarms(page) })
}

// alarms prints a list of them.
func (p *printer) alarms(page api.AlarmPage) {
	var rows [][]string
	id := shortIDs(page.Alarms, func(a api.Alarm) string { return a.ID })
	for _, a := range page.Alarms {
		state := a.Severity
		if a.State == "cleared" {
			state = "cleared"
		}
		note := p.alarmAge(a)
		if note != "" {
			note = "(" + note + ") "
		}
		if a.Confidence == "probable" {
			note += "(probable) "
		}
		switch {
		case a.Under != "":
			note += "(under " + short(a.Under) + ") "
		case a.Ack != nil:
			note += "(known) "
		}
		if a.ClearedBy != nil {
			note += "(by hand) "
		}
		if a.Muted != nil {
			note += "(muted) "
		}
		rows = append(rows, []string{
			word(id(a.ID)), word(state), p.clock(a.Times.Raised), word(a.Host), word(a.Resource), word(a.Condition),
			strconv.Itoa(len(a.Affected)), note + word(a.Text),
		})
	}
	if len(rows) == 0 {
		p.text("no alarms")
	} else {
		p.table([]string{"ALARM", "SEVERITY", "RAISED", "HOST", "RESOURCE", "CONDITION", "HIT", "TEXT"}, rows)
	}
	if page.Next != "" {
		p.text("these are not all: a higher --limit shows more")
	}
	if page.Starting {
		p.text("the host that was asked is starting, and does not know its own alarms yet")
	}
}

// pageMost is the most that the agent puts on a page.
const pageMost = 1000

// follow reads page after page of a list and hands each to add, which returns how much is still wanted, and what comes next.
func follow[P any](s *session, path string, query url.Values, limit int, add func(P) (wanted int, next string)) error {
	for {
		query.Set("limit", strconv.Itoa(min(limit, pageMost)))
		var page P
		if err := s.client.get(s.ctx, path, query, &page); err != nil {
			return err
		}
		wanted, next := add(page)
		if next == "" || wanted <= 0 || wanted == limit {
			return nil
		}
		limit = wanted
		query.Set("after", next)
	}
}

// alarms are the first ones, as one page.
func (s *session) alarms(query url.Values, limit int) (api.AlarmPage, error) {
	all := api.AlarmPage{Alarms: []api.Alarm{}}
	err := follow(s, "/v1/alarms", query, limit, func(p api.AlarmPage) (int, string) {
		all.Alarms, all.Next, all.Starting = append(all.Alarms, p.Alarms...), p.Next, all.Starting || p.Starting
		return limit - len(all.Alarms), p.Next
	})
	return all, err
}

// resources are those of all hosts, or of one.
func (s *session) resources(query url.Values) ([]api.Resource, error) {
	var all []api.Resource
	err := follow(s, "/v1/resources", query, allResources, func(p api.ResourcePage) (int, string) {
		all = append(all, p.Resources...)
		return allResources - len(all), p.Next
	})
	return all, err
}

// allResources is more than there are: it ends what a broken agent does not.
const allResources = 10_000_000

// parseTime reads an RFC 3339 time or a duration before now, and writes it for the API.
func parseTime(s string, now time.Time) (string, error) {
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago).UTC().Format(time.RFC3339Nano), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC().Format(time.RFC3339Nano), nil
	}
	return "", fmt.Errorf("want a time such as 2026-11-22T10:00:00Z, or how long ago, such as 2h")
}

// findAlarm finds the one alarm whose id begins so, or the one that stands on the resource of this name.
func (s *session) findAlarm(id string) (api.Alarm, error) {
	page, err := s.alarms(url.Values{"state": {"all"}}, 100*pageMost)
	if err != nil {
		return api.Alarm{}, err
	}
	return findOne(page.Alarms, "alarm", "paramedic alarms --state all", id, func(a api.Alarm) (string, string, string) {
		text := a.Condition + " on " + a.Resource
		if a.Host != "" {
			text += " of " + a.Host
		}
		if a.State == "cleared" {
			text += ", over"
		}
		if a.State == "cleared" {
			return a.ID, "", text
		}
		return a.ID, a.Resource, text
	})
}

// findOne finds the one thing with this id, or else with this name, or else whose id begins so. names gives also what people know it by.
func findOne[T any](all []T, kind, lister, want string, names func(T) (id, name, text string)) (T, error) {
	var named, begins []T
	for _, t := range all {
		id, name, _ := names(t)
		switch {
		case id == want:
			return t, nil
		case name == want && name != "":
			named = append(named, t)
		case strings.HasPrefix(id, want):
			begins = append(begins, t)
		}
	}
	var none T
	switch {
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return none, fmt.Errorf("%d of them have the name %q: write the id of the %s (%s lists them):%s", len(named), want, kind, lister, enumerate(named, names))
	case len(begins) == 1:
		return begins[0], nil
	case len(begins) > 1:
		return none, fmt.Errorf("%d of them begin with %q: write more of the id of the %s:%s", len(begins), want, kind, enumerate(begins, names))
	}
	if want == "" {
		return none, fmt.Errorf("no %s has an empty name: %s lists them", kind, lister)
	}
	for _, meant := range []func(want string, id, name, text string) bool{calledSo, alike} {
		near := slices.DeleteFunc(slices.Clone(all), func(t T) bool {
			id, name, text := names(t)
			return !meant(strings.ToLower(want), strings.ToLower(id), strings.ToLower(name), strings.ToLower(text))
		})
		if len(near) > 0 {
			return none, fmt.Errorf("no %s %q: %s lists them; near to it:%s", kind, want, lister, enumerate(near, names))
		}
	}
	return none, fmt.Errorf("no %s %q: %s lists them", kind, want, lister)
}

// mostNear is how many things an error lists.
const mostNear = 5

// enumerate lists things below each other, by ids that tell them apart.
func enumerate[T any](list []T, names func(T) (id, name, text string)) string {
	ids := make([]string, len(list))
	for i, t := range list {
		ids[i], _, _ = names(t)
	}
	n := apart(ids)
	var b strings.Builder
	for i, t := range list {
		if i == mostNear {
			fmt.Fprintf(&b, "\n  and %d more", len(list)-mostNear)
			break
		}
		_, _, text := names(t)
		b.WriteString(strings.TrimRight("\n  "+word(head(ids[i], n))+"  "+escapeLine(text), " "))
	}
	return b.String()
}

// calledSo reports whether a thing, all of it in small letters, is called so, or is about what is called so.
func calledSo(want, _, name, text string) bool {
	return name == want || slices.Contains(strings.Fields(text), want)
}

// alike reports whether a thing may have been meant: its id or name begins nearly so, or its name has it in it.
func alike(want, id, name, _ string) bool {
	begin := want[:max(1, len(want)-len(want)/3)] // the last third may be wrong
	return len(begin) >= 2 && (strings.HasPrefix(id, begin) || strings.HasPrefix(name, begin)) || strings.Contains(name, want)
}

// alarm prints all about one.
func (p *printer) alarm(a api.AlarmLife) {
	acknowledged := ""
	if a.Ack != nil {
		acknowledged = strings.TrimSpace(fmt.Sprintf("by %s, %s %s", escape(a.Ack.By), p.exact(a.Ack.At), word(a.Ack.Comment)))
	}
	byHand := ""
	if h := a.ClearedBy; h != nil {
		byHand = strings.TrimSpace(fmt.Sprintf("by %s, %s %s", escape(h.By), p.exact(h.At), word(h.Comment)))
		switch {
		case a.State != "cleared":
			byHand += " (its host has yet to hear that)"
		case h.Dismissed:
			byHand += " (its source says still that it is wrong)"
		}
	}
	muted := ""
	if m := a.Muted; m != nil {
		muted = fmt.Sprintf("until %s by mute %s: consumers are not told", p.exact(m.Until), escape(m.ID))
	}
	pairs := [][2]string{
		{"alarm", escape(a.ID)},
		{"revision", escape(a.Revision + " " + a.State)},
		{"severity", p.paint(escape(a.Severity))},
		{"host", p.home(a.Alarm)},
		{"resource", escape(a.Resource)},
		{"condition", escape(a.Condition)},
		{"text", word(a.Text)},
		{"cause", escape(strings.Join(slices.DeleteFunc([]string{a.ProbableCause, a.EventType, a.AbstractCause}, func(s string) bool { return s == "" }), ", "))},
		{"confidence", escape(a.Confidence)},
		{"source", escape(a.Source)},
		{"under", escape(a.Under)},
		{"correlated", escape(strings.Join(a.Correlated, " "))},
		{"occurred", p.exact(a.Times.Occurred)},
		{"observed", p.exact(a.Times.Observed)},
		{"raised", p.exact(a.Times.Raised)},
		{"changed", p.exact(a.Times.Changed)},
		{"cleared", strings.TrimSpace(p.exact(a.Times.Cleared) + " " + escape(a.ClearReason))},
		{"acknowledged", acknowledged},
		{"by hand", byHand},
		{"muted", muted},
	}
	for _, c := range a.Comments {
		pairs = append(pairs, [2]string{"comment", fmt.Sprintf("by %s, %s %s", escape(c.By), p.exact(c.At), word(c.Text))})
	}
	p.pairs(pairs)
	p.steps(a)
	p.affected("AFFECTED", a.Affected)
	p.affected("AT RISK", a.AtRisk)
	if len(a.Evidence) > 0 {
		var rows [][]string
		for name, value := range a.Evidence {
			rows = append(rows, []string{word(name), word(value)})
		}
		slices.SortFunc(rows, slices.Compare[[]string])
		p.line("")
		p.table([]string{"EVIDENCE", "VALUE"}, rows)
	}
}

// steps prints what happened to an alarm, if that is more than that it was raised.
func (p *printer) steps(a api.AlarmLife) {
	if len(a.History) < 2 {
		return
	}
	var rows [][]string
	for i, step := range a.History {
		if i == 1 && a.Omitted > 0 {
			rows = append(rows, []string{"", fmt.Sprintf("%d more", a.Omitted), "", "", ""})
		}
		text := word(step.Text)
		if step.By != "" {
			text = strings.TrimSpace("by " + word(step.By) + " " + text)
		}
		rows = append(rows, []string{p.clock(step.At), word(step.What), word(step.Revision), word(step.Severity), text})
	}
	p.line("")
	p.table([]string{"AT", "WHAT", "REVISION", "SEVERITY", "TEXT"}, rows)
}

func (p *printer) affected(head string, list []api.Affected) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	for _, d := range list {
		var ports []string
		for _, port := range d.Ports {
			ports = append(ports, port.MAC)
		}
		rows = append(rows, []string{word(d.Name), word(d.State), word(d.Project), word(strings.Join(ports, " ")), word(d.Resource)})
	}
	p.line("")
	p.table([]string{head, "STATE", "PROJECT", "PORTS", "RESOURCE"}, rows)
}

type eventsCommand struct {
	Limit int `help:"The most to show." default:"100" placeholder:"N"`
}

func (c *eventsCommand) Run(s *session) error {
	var list api.EventList
	if err := s.client.get(s.ctx, "/v1/events", url.Values{"limit": {strconv.Itoa(c.Limit)}}, &list); err != nil {
		return err
	}
	return s.out.show(list, func() {
		if len(list.Events) == 0 {
			s.out.text("no events: the sources of this host have observed nothing since its agent began")
			return
		}
		var rows [][]string
		for _, e := range list.Events {
			rows = append(rows, []string{
				s.out.clock(e.Time), word(e.Source), word(e.Resource), word(e.Condition), word(e.Status), word(e.Text),
			})
		}
		s.out.table([]string{"TIME", "SOURCE", "RESOURCE", "CONDITION", "STATUS", "TEXT"}, rows)
	})
}
