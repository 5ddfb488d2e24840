package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
)

// How much is asked for.
const (
	pastAlarms = 1000
	lives      = 100
	events     = 1000
)

// table is every part, in the order of the archive. dir is notify.dir, if that is known.
func (b *Bundle) table(dir string, told func() (string, error), r *Redactor) []part {
	o := b.options
	parts := []part{
		{"version.txt", "this command", func(context.Context) (string, string, error) { return versions(o), "", nil }},
		{"overview.txt", "paramedic status, hosts, alarms, deliveries and subscriptions, as they print it", func(ctx context.Context) (string, string, error) {
			text, err := o.Overview(ctx)
			return text, "", err
		}},
		answer[api.Status](o, r, "agent/status.json", "/v1/status", nil, nil),
		answer[api.HostList](o, r, "agent/hosts.json", "/v1/hosts", nil, nil),
		answer(o, r, "agent/alarms.json", "/v1/alarms", url.Values{"state": {"standing"}, "limit": {"1000"}}, pages),
		answer(o, r, "agent/alarms-past.json", "/v1/alarms", url.Values{"state": {"cleared"}, "limit": {strconv.Itoa(pastAlarms)}}, pages),
		{"agent/alarm-lives.json", "GET /v1/alarms/{id} of the agent at " + o.Agent.Name() + ", step by step", func(ctx context.Context) (string, string, error) { return allLives(ctx, o, r) }},
		answer(o, r, "agent/events.json", "/v1/events", url.Values{"limit": {strconv.Itoa(events)}}, func(l *api.EventList) string {
			return fmt.Sprintf("the newest %d at most", events)
		}),
		answer[api.ResourceList](o, r, "agent/topology.json", "/v1/topology", nil, nil),
		answer[api.SubscriptionList](o, r, "agent/subscriptions.json", "/v1/subscriptions", nil, func(l *api.SubscriptionList) string {
			for i := range l.Subscriptions {
				l.Subscriptions[i].Auth.User = hide(l.Subscriptions[i].Auth.User)
			}
			return ""
		}),
		answer[api.DeliveryList](o, r, "agent/deliveries.json", "/v1/deliveries", nil, nil),
		answer[api.MuteList](o, r, "agent/mutes.json", "/v1/mutes", nil, nil),
		answer[api.StageList](o, r, "agent/profile.json", "/v1/profile", nil, nil),
		answer[api.KeyList](o, r, "agent/keys.json", "/v1/keys", nil, nil),
		{"agent/metrics.txt", "GET /metrics of the agent at " + o.Agent.Name(), func(ctx context.Context) (string, string, error) {
			text, err := o.Agent.Text(ctx, "/metrics", maxPart)
			return ours(text), "", err
		}},
		{"config.yaml", o.ConfigFile + ", what its keys allow", func(context.Context) (string, string, error) {
			if told == nil {
				return "", "", errors.New("it could not be read in time")
			}
			text, err := told()
			return text, "", err
		}},
		{"log.txt", logFrom(o), func(ctx context.Context) (string, string, error) { return journal(ctx, o) }},
		{"unit.txt", "systemctl show " + o.Unit + " (properties that hold no secret)", func(ctx context.Context) (string, string, error) { return unit(ctx, o) }},
		{"process.txt", "/proc of the process that listens at " + o.Agent.Name(), func(ctx context.Context) (string, string, error) {
			pid := o.Agent.PID(ctx)
			if pid <= 0 {
				return "", "", errors.New("which process that is is not known: no agent listens, or not at a Unix socket of this host")
			}
			text, err := process(pid)
			return text, "", err
		}},
		{"host.txt", "uname, /etc/os-release, /proc, /sys", func(context.Context) (string, string, error) { return host(), "", nil }},
		{"links.txt", "/sys/class/net", func(context.Context) (string, string, error) {
			text, err := links()
			return text, "", err
		}},
		{"rights.txt", "stat of what the sources read", func(context.Context) (string, string, error) { return rights(), "", nil }},
		{"state.txt", "stat of what is in notify.dir", func(context.Context) (string, string, error) {
			text, err := state(cmp.Or(dir, config.Default().Notify.Dir))
			return text, "", err
		}},
	}
	return parts
}

// hide leaves empty what is empty.
func hide(s string) string {
	if s == "" {
		return ""
	}
	return removed
}

func pages(p *api.AlarmPage) string {
	if p.Next != "" {
		return "there are more: the newest are here"
	}
	return ""
}

// answer is one of the agent's, of which the fields are kept that T has. look may note something, and take out more.
func answer[T any](o Options, r *Redactor, name, path string, query url.Values, look func(*T) string) part {
	from := "GET " + path
	if len(query) > 0 {
		from += "?" + query.Encode()
	}
	return part{name, from + " of the agent at " + o.Agent.Name(), func(ctx context.Context) (string, string, error) {
		var v T
		if err := o.Agent.Get(ctx, path, query, &v); err != nil {
			return "", "", err
		}
		note := ""
		if look != nil {
			note = look(&v)
		}
		r.Tree(&v)
		text, err := indented(v)
		return text, note, err
	}}
}

// allLives is what became of the newest alarms, those that stand first.
func allLives(ctx context.Context, o Options, r *Redactor) (string, string, error) {
	all := []api.AlarmLife{}
	for _, state := range []string{"standing", "cleared"} {
		var page api.AlarmPage
		if err := o.Agent.Get(ctx, "/v1/alarms", url.Values{"state": {state}, "limit": {strconv.Itoa(lives)}}, &page); err != nil {
			return "", "", err
		}
		for _, a := range page.Alarms {
			if len(all) >= lives {
				break
			}
			var life api.AlarmLife
			if err := o.Agent.Get(ctx, "/v1/alarms/"+url.PathEscape(a.ID), nil, &life); err != nil {
				if ctx.Err() != nil {
					return "", "", err
				}
				continue // it has just been forgotten
			}
			all = append(all, life)
		}
	}
	r.Tree(&all)
	text, err := indented(all)
	return text, fmt.Sprintf("%d alarms at most, those that stand first", lives), err
}

// ours are the metrics of paramedic, of Go and of the process.
func ours(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		for _, prefix := range []string{"paramedic_", "go_", "process_", "promhttp_"} {
			if strings.HasPrefix(name, prefix) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

func logFrom(o Options) string {
	if o.LogFile != "" {
		return o.LogFile + ", the last " + strconv.Itoa(o.LogLines) + " lines"
	}
	return "journalctl -u " + o.Unit + ", the last " + strconv.Itoa(o.LogLines) + " lines"
}

// tail is the end of a file, of so many lines at most.
func tail(file string, lines int) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("read the log %s: it is no file", file)
	}
	from := max(0, info.Size()-maxPart)
	data := make([]byte, info.Size()-from)
	n, err := f.ReadAt(data, from)
	if n < len(data) && err != nil {
		return "", err
	}
	text := string(data)
	if from > 0 {
		_, text, _ = strings.Cut(text, "\n")
	}
	all := strings.SplitAfter(text, "\n")
	if len(all) > 0 && all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return strings.Join(all[max(0, len(all)-lines):], ""), nil
}
