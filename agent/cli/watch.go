package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
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
	Since string `help:"Also what came after the event with this id." placeholder:"ID"`
}

// Run prints alarms until it is interrupted, and picks up again when the agent was away.
func (c *watchCommand) Run(s *session) error {
	last := c.Since
	connected := false
	pause := firstPause
	for {
		err := s.client.stream(s.ctx, "/v1/watch", last, func(e streamEvent) error {
			connected, pause = true, firstPause
			last = cmp.Or(e.id, last)
			if e.data == "" {
				return nil
			}
			return s.out.watched(e)
		})
		switch {
		case interrupted(s.ctx):
			return nil
		case s.out.failed() != nil:
			return s.out.failed()
		case !connected: // an agent that streams says at once where it is
			return err
		}
		fmt.Fprintln(s.Stderr, "paramedic:", escape(err.Error()))
		if !wait(s.ctx, pause) {
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

// watched prints one event of the stream.
func (p *printer) watched(e streamEvent) error {
	if e.name != "alarm" {
		if p.format == "table" {
			p.line("-- " + word(e.name) + " " + word(e.data))
			return p.failed()
		}
		return p.item(map[string]json.RawMessage{word(e.name): json.RawMessage(e.data)})
	}
	var w api.WatchEvent
	if err := json.Unmarshal([]byte(e.data), &w); err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
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
