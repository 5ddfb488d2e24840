package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type hostsCommand struct {
	List   hostsListCommand   `cmd:"" default:"withargs" help:"All, or all about one."`
	Forget hostsForgetCommand `cmd:"" help:"Take a host that will not come back off the roster, with all that it wrote."`
}

type hostsListCommand struct {
	Host  string `arg:"" optional:"" help:"The name of one host."`
	State string `help:"Only those that are so: member, lost, away…" placeholder:"STATE"`
	Zone  string `help:"Only those that stand there." placeholder:"ZONE"`
}

func (c *hostsListCommand) Run(s *session) error {
	if c.Host != "" {
		var h api.Host
		if err := s.client.get(s.ctx, "/v1/hosts/"+url.PathEscape(c.Host), nil, &h); err != nil {
			return err
		}
		return s.out.show(h, func() { s.out.host(h) })
	}
	query := url.Values{}
	for name, value := range map[string]string{"state": c.State, "zone": c.Zone} {
		if value != "" {
			query.Set(name, value)
		}
	}
	list := api.HostList{Hosts: []api.Host{}}
	if err := s.client.get(s.ctx, "/v1/hosts", query, &list); err != nil {
		return err
	}
	return s.out.show(list, func() {
		var rows [][]string
		for _, h := range list.Hosts {
			rows = append(rows, []string{
				word(h.Name), word(h.Zone), hostState(h), word(known(h, alarmCount(h), countSeverities(h.Alarms))), word(known(h, h.Domains, strconv.Itoa(h.Domains))), word(h.Version), s.out.since(h.AsOf),
			})
		}
		s.out.rows([]string{"HOST", "ZONE", "STATE", "ALARMS", "DOMAINS", "VERSION", "AGE"}, rows, "no such hosts")
	})
}

// known is text, which says n in words, or nothing when n is 0 of a host that was not heard in this run: "none" would be a claim.
func known(h api.Host, n int, text string) string {
	if n == 0 && h.AsOf == nil {
		return ""
	}
	return text
}

func alarmCount(h api.Host) int {
	sum := 0
	for _, n := range h.Alarms {
		sum += n
	}
	return sum
}

func hostState(h api.Host) string {
	state := word(h.State)
	if h.Confidence == "probable" {
		state += ", probably"
	}
	switch {
	case h.Self && h.State == "member":
		return "this host"
	case h.Self:
		return "this host, " + state
	}
	return state
}

// host prints all about one.
func (p *printer) host(h api.Host) {
	term := "" // of a host that is away it is not known
	if h.Term != 0 {
		term = strconv.FormatUint(h.Term, 10)
	}
	pairs := [][2]string{
		{"host", escape(h.Name)},
		{"state", hostState(h)},
		{"spoken for", escape(h.Speaker)},
		{"zone", escape(h.Zone)},
		{"alarms", known(h, alarmCount(h), countSeverities(h.Alarms))},
		{"domains", known(h, h.Domains, strconv.Itoa(h.Domains))},
		{"address", escape(h.Address)},
		{"api", escape(h.API)},
		{"version", escape(h.Version)},
		{"term", term},
		{"started", p.exact(h.Started)},
		{"first seen", p.exact(h.FirstSeen)},
		{"last seen", p.exact(h.LastSeen)},
		{"as of", cmp.Or(p.exact(h.AsOf), "never heard in this run")},
	}
	if w := h.Watch; w != nil {
		pairs = append(pairs, [2]string{"watched by", names(w.Observers)})
		if !h.Self {
			pairs = append(pairs, [2]string{"last heard", lastHeard(w.SilenceMS)})
		}
		if w.NoEcho {
			pairs = append(pairs, [2]string{"no echo", "its kernel answers none: it is given the longer deadline"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
		pairs = append(pairs, [2]string{"label", escape(name + " " + h.Labels[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(h.Facts)) {
		pairs = append(pairs, [2]string{"fact", escape(name + " " + h.Facts[name])})
	}
	p.pairs(pairs)
}

func lastHeard(silenceMS *int64) string {
	if silenceMS == nil {
		return "never"
	}
	return inShort(*silenceMS) + " ago"
}

// inShort shows milliseconds as a duration; long ones in whole seconds.
func inShort(n int64) string {
	d := time.Duration(n) * time.Millisecond
	if d >= 10*time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}

type hostsForgetCommand struct {
	Host string `arg:"" help:"The name of the host."`
}

func (c *hostsForgetCommand) Run(s *session) error {
	if err := s.client.do(s.ctx, "DELETE", "/v1/hosts/"+url.PathEscape(c.Host), nil, nil); err != nil {
		return err
	}
	return s.out.show(map[string]string{"forgotten": c.Host}, func() {
		s.out.text("forgotten: " + word(c.Host) + ", with its alarms, its domains and what it owed, on all hosts")
	})
}

// cluster prints how the hosts get on, the troubles in words.
func (p *printer) cluster(c *api.ClusterPart) {
	members := fmt.Sprintf("%d of %d hosts", c.Members, c.Hosts)
	if len(c.Away) > 0 {
		members += ", away: " + names(c.Away)
	}
	inSync := "not yet"
	if c.InSync != nil {
		inSync = "with a peer at " + p.clock(c.InSync) + fmt.Sprintf(", %d times in this run", c.Exchange.InSync)
	}
	talk, secrets := "NOT ENCRYPTED (cluster.insecure)", "NOT SEALED (cluster.insecure)"
	if c.Encrypted {
		talk = "encrypted"
		if len(c.Keys.Keys) > 0 {
			talk += " with key " + word(c.Keys.Keys[0].ID)
		}
		if n := len(c.Keys.Keys) - 1; n > 0 {
			talk += fmt.Sprintf(", %d more accepted", n)
		}
		if len(c.Keys.Behind) > 0 {
			talk += ", the last change is not yet on " + names(c.Keys.Behind)
		}
	}
	if len(c.SecretsKeys) > 0 {
		secrets = "sealed with key " + word(c.SecretsKeys[0])
	}
	dropped := ""
	for _, reason := range slices.Sorted(maps.Keys(c.Dropped)) {
		dropped += fmt.Sprintf(", %d %s", c.Dropped[reason], word(reason))
	}
	if dropped != "" {
		dropped = dropped[2:]
	}
	pairs := [][2]string{
		{"members", members},
		{"address", escape(c.Address)},
		{"in sync", inSync},
		{"talk", talk},
		{"secrets", secrets},
		{"replica", fmt.Sprintf("%d records of %d hosts, %d bytes", c.Replica.Records, c.Replica.Hosts, c.Replica.Bytes)},
		{"dropped", dropped},
		{"can't join", strings.ReplaceAll(escape(c.JoinError), "\n", `\n`)},
	}
	if c.Watch != nil {
		pairs = append(pairs, watchPairs(c.Watch)...)
	}
	// The agent gives those first that were seen last, and keeps what may long be over: that is counted only.
	earlier := 0
	for i, t := range c.Troubles {
		if i >= maxTroubles || t.Last != nil && p.now().Sub(*t.Last) >= overAfter {
			earlier++
			continue
		}
		times := "once"
		if t.Count > 1 {
			times = fmt.Sprintf("%d times", t.Count)
		}
		if t.Last != nil {
			times += fmt.Sprintf(", last %s ago", p.since(t.Last))
		}
		pairs = append(pairs, [2]string{"trouble", fmt.Sprintf("%s with %s (%s): %s", word(t.Kind), word(t.Peer), times, word(t.Text))})
	}
	if earlier > 0 {
		pairs = append(pairs, [2]string{"earlier", fmt.Sprintf("%d more, last seen before these or over an hour ago: -o json shows them", earlier)})
	}
	p.pairs(pairs)
}

// watchPairs say how the watch for lost hosts does: what is wrong with it in capitals, with the remedy.
func watchPairs(w *api.WatchPart) [][2]string {
	at := "at " + word(w.Address)
	switch {
	case w.Isolated:
		at = "ISOLATED: this host reaches half of the hosts or less, and accuses none; look at the network of " + word(w.Address)
	case w.Blind:
		at = "BLIND: no other agent was ever heard; let UDP pass to " + word(w.Address) + ", and to the others' cluster.watch"
	case len(w.Observers) > 0:
		at += ", by " + names(w.Observers)
	}
	if w.Listening {
		at += "; it has just begun, and does not speak for others yet"
	}
	after := func(probable, confirmed int64) string {
		return inShort(probable) + " probable, " + inShort(confirmed) + " confirmed"
	}
	d := w.Deadlines
	lost, longer := after(d.ProbableMS, d.ConfirmedMS), after(d.ProbableWithoutEchoMS, d.ConfirmedWithoutEchoMS)
	echo := word(w.EchoReason)
	if w.Echo == "none" {
		lost, echo = longer, "NONE: "+echo
	}
	noEcho, lack, lateness := "", "", ""
	if len(w.NoEcho) > 0 {
		noEcho = fmt.Sprintf("from %s: lost only after %s; let ICMP echo pass", names(w.NoEcho), longer)
	}
	for _, o := range w.Observed {
		if o.Verdict != "none" {
			lack += fmt.Sprintf(", %s (%s, last heard %s)", word(o.Host), word(o.Verdict), lastHeard(o.SilenceMS))
		}
	}
	if lack != "" {
		lack = lack[2:]
	}
	switch n := w.Counters; n.Late {
	case 0:
	case 1:
		lateness = "once, by " + inShort(n.LatestMS)
	default:
		lateness = fmt.Sprintf("%d times, at worst by %s", n.Late, inShort(n.LatestMS))
	}
	falseAlarms := ""
	if n := w.Counters.FalseAlarms; n > 0 {
		falseAlarms = strconv.FormatUint(n, 10)
	}
	return [][2]string{
		{"watched", at},
		{"watches", observedNames(w.Observed)},
		{"lost after", lost},
		{"echo", echo},
		{"no echo", noEcho},
		{"witness", escape(w.Witness)},
		{"silent", lack},
		{"speaks for", names(w.SpeaksFor)},
		{"false alarms", falseAlarms},
		{"woken late", lateness},
	}
}

func observedNames(observed []api.Observed) string {
	all := make([]string, len(observed))
	for i, o := range observed {
		all[i] = o.Host
	}
	return names(all)
}

// What `status` shows of the troubles: the agent tells of up to a few hundred.
const (
	maxTroubles = 20
	overAfter   = time.Hour
)

// oldAfter is how old what is known of another host must be to be said: a member is compared every second or so.
const oldAfter = 10 * time.Second

// age says how old what is known of another host is, when that is old.
func (p *printer) age(asOf *time.Time) string {
	switch {
	case asOf == nil:
		return "age unknown"
	case p.now().Sub(*asOf) >= oldAfter:
		return p.since(asOf) + " old"
	}
	return ""
}

// alarmAge is age for an alarm; one that ended does not get old.
func (p *printer) alarmAge(a api.Alarm) string {
	if a.State == "cleared" {
		return ""
	}
	return p.age(a.AsOf)
}

// home is the host of an alarm; nothing for that of a zone.
func (p *printer) home(a api.Alarm) string {
	if age := p.alarmAge(a); a.Host != "" || age != "" {
		return aged(a.Host, age)
	}
	return ""
}

// aged is the name of a host with an age, if there is one.
func aged(host, age string) string {
	if age == "" {
		return word(host)
	}
	return word(host) + " (" + age + ")"
}

// since is how long ago a time was, in one unit.
func (p *printer) since(t *time.Time) string {
	if t == nil {
		return "-"
	}
	d := max(0, p.now().Sub(*t))
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
