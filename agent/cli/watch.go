package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/correlate"
)

// How soon watch comes back to an agent that was away.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 10 * time.Second
)

func interrupted(ctx context.Context) bool { return ctx.Err() != nil }

// wait reports whether it waited to the end.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

type watchCommand struct {
	Since       string `help:"Also what came after the event with this id." placeholder:"ID"`
	All         bool   `help:"Begin with all that stands."`
	MinSeverity string `help:"The least severity." placeholder:"SEVERITY"`
	Resource    string `help:"A resource id, or a glob such as nic/*." placeholder:"ID"`
	Condition   string `help:"A condition, or a class of cause." placeholder:"CONDITION"`
	Host        string `help:"Only those of this host." placeholder:"NAME"`
	Domain      string `help:"Affected domain, by UUID or name." placeholder:"DOMAIN"`
	Project     string `help:"Affected project." placeholder:"PROJECT"`
}

// path is the stream that is asked for.
func (c *watchCommand) path() string {
	query := url.Values{}
	for name, value := range map[string]string{
		"min_severity": c.MinSeverity, "resource": c.Resource, "condition": c.Condition, "host": c.Host, "domain": c.Domain, "project": c.Project,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.All {
		query.Set("snapshot", "true")
	}
	if len(query) == 0 {
		return "/v1/watch"
	}
	return "/v1/watch?" + query.Encode()
}

// Run prints alarms until it is interrupted. When the agent goes away it goes on with the next of --server, where it was:
// nothing is left out, and nothing shown twice.
func (c *watchCommand) Run(s *session) error {
	last := c.Since
	path := c.path()
	seen := newSeen()
	pause := firstPause
	ever := false
	for turn := 0; ; turn++ {
		client := s.clients[turn%len(s.clients)]
		connected := false
		err := client.stream(s.ctx, path, last, func(e streamEvent) error {
			connected, ever, pause = true, true, firstPause
			last = cmp.Or(e.id, last)
			if e.data == "" {
				return nil
			}
			return seen.take(s.out, e)
		})
		switch {
		case interrupted(s.ctx):
			return nil
		case s.out.failed() != nil:
			return s.out.failed()
		case !ever && turn+1 >= len(s.clients): // an agent that streams says at once where it is
			return err
		}
		fmt.Fprintln(s.Stderr, "paramedic:", escape(err.Error()))
		if !ever || connected && len(s.clients) > 1 {
			continue // another one may be there
		}
		if !wait(s.ctx, pause) {
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

// seen is what was shown of alarms, so that the present truth, which an agent gives to who comes from elsewhere, shows what is new.
type seen struct {
	alarms map[string]shown
	fresh  map[string]bool // those of the present truth; nil: none is being given
	order  []string        // of the alarms that have ended, oldest first
}

// shown is the last that was shown of an alarm.
type shown struct {
	alarm      api.Alarm
	transition string
	over       bool
}

// maxOver bounds the alarms that have ended and are remembered: another agent may not have heard of it yet.
const maxOver = 10_000

func newSeen() *seen { return &seen{alarms: make(map[string]shown)} }

// take shows an event, unless that is known.
func (n *seen) take(p *printer, e streamEvent) error {
	switch e.name {
	case "alarm":
		var w api.WatchEvent
		if err := json.Unmarshal([]byte(e.data), &w); err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if n.fresh != nil {
			n.fresh[w.Alarm.ID] = true
		}
		if !n.note(w) {
			return nil
		}
		return p.watched(w)
	case "gone":
		var g api.WatchGone
		if err := json.Unmarshal([]byte(e.data), &g); err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		return n.gone(p, g.ID)
	case "reset":
		n.fresh = make(map[string]bool)
	case "synced":
		var ids []string
		for id, was := range n.alarms {
			if n.fresh != nil && !was.over && !n.fresh[id] {
				ids = append(ids, id)
			}
		}
		n.fresh = nil
		slices.Sort(ids)
		for _, id := range ids {
			if err := n.gone(p, id); err != nil {
				return err
			}
		}
	}
	return nil // of a newer agent
}

// note reports whether an event says more than what was shown.
func (n *seen) note(w api.WatchEvent) bool {
	was, known := n.alarms[w.Alarm.ID]
	if known {
		a, errA := correlate.ParseRevision(w.Alarm.Revision)
		b, errB := correlate.ParseRevision(was.alarm.Revision)
		newer := a.Compare(b)
		if errA == nil && errB == nil && (newer < 0 || newer == 0 && (w.Transition == was.transition || w.Snapshot)) {
			return false
		}
	}
	over := w.Transition == string(correlate.Cleared)
	if over && !was.over {
		n.end(w.Alarm.ID)
	}
	n.alarms[w.Alarm.ID] = shown{w.Alarm, w.Transition, over}
	return true
}

func (n *seen) end(id string) {
	if n.order = append(n.order, id); len(n.order) > maxOver {
		if n.alarms[n.order[0]].over {
			delete(n.alarms, n.order[0])
		}
		n.order = slices.Delete(n.order, 0, 1)
	}
}

// gone shows that an alarm does not stand any more, or is not asked for any more, if it was shown.
func (n *seen) gone(p *printer, id string) error {
	was, known := n.alarms[id]
	delete(n.alarms, id)
	if !known || was.over {
		return nil
	}
	return p.watched(api.WatchEvent{Transition: "gone", Alarm: was.alarm})
}

// watched prints one event of the stream.
func (p *printer) watched(w api.WatchEvent) error {
	if p.format != "table" {
		return p.item(w)
	}
	a := w.Alarm
	at := a.Times.Changed
	if w.Transition == "cleared" {
		at = a.Times.Cleared
	} else if at == nil {
		at = a.Times.Raised
	}
	var hit []string
	for _, d := range a.Affected {
		hit = append(hit, word(cmp.Or(d.Name, d.Resource)))
	}
	where := strings.TrimSpace(p.home(a) + " " + word(a.Resource))
	if a.Confidence == "probable" {
		where += " (probable)"
	}
	line := fmt.Sprintf("%s %s %s %s %s on %s: %s", p.clock(at), word(short(a.ID)), word(w.Transition), p.paint(word(a.Severity)), word(a.Condition), where, word(a.Text))
	if len(hit) > 0 {
		line += " [" + strings.Join(hit, ", ") + "]"
	}
	p.line(line)
	return p.failed()
}
