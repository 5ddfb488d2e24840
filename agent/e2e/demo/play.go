package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// scene is one thing that happens, and who must hear of it.
type scene struct {
	title string
	do    func() error
	// hears says what each consumer must be told: tenants are told the abstract cause of what is not theirs. Who is not
	// in it must hear nothing.
	hears map[string]string
	// teller is the host that must tell; "!name" any but that one; "?name" any, and s.teller says which.
	teller string
}

// patience bounds the wait for a notification; quiet is how long a consumer is listened to who must hear nothing.
const (
	patience = time.Minute
	quiet    = 1500 * time.Millisecond
)

func (s *stage) scenes(ctx context.Context, title string, scenes []scene) error {
	if title != "" {
		fmt.Fprintf(s.out, "%s:\n", title)
	}
	for _, sc := range scenes {
		if err := s.play(ctx, sc); err != nil {
			return fmt.Errorf("%s: %w", sc.title, err)
		}
	}
	fmt.Fprintln(s.out)
	return nil
}

func (s *stage) play(ctx context.Context, sc scene) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "■ %s\n", sc.title)
	began := time.Now()
	if err := sc.do(); err != nil {
		return err
	}
	for _, c := range s.consumers {
		want := sc.hears[c.name]
		if want == "" {
			continue
		}
		t, err := c.take(patience)
		if err != nil {
			return fmt.Errorf("%s: %w; the agents say: %s", c.name, err, s.logs())
		}
		if err := s.print(c, t, began, want, sc.teller); err != nil {
			return err
		}
	}
	// What must not come has some time not to.
	select {
	case <-time.After(quiet):
	case <-ctx.Done():
	}
	for _, c := range s.consumers {
		if t, err := c.take(0); err == nil {
			return errors.Join(fmt.Errorf("%s was told what it should not hear", c.name), s.print(c, t, began, "", ""))
		}
	}
	return nil
}

func (s *stage) logs() string {
	var all strings.Builder
	for _, n := range s.nodes {
		fmt.Fprintf(&all, "\n%s:\n%s", n.host.Name, n.agent.Log())
	}
	return all.String()
}

func (s *stage) print(c *consumer, t told, began time.Time, want, teller string) error {
	alarm := t.Event.Data.Alarm
	what := strings.TrimPrefix(t.Event.Type, "paramedic.fault.") + " " + alarm.Condition
	machines := t.machines()
	by := ""
	if t.Event.Data.Reporter != "" { // tenants are not told of hosts
		s.teller = t.Event.Data.Reporter
		by = " of " + t.Event.Data.Host + ", told by " + s.teller
	}
	fmt.Fprintf(s.out, "    %-4s %7.1f ms   %s%s, %s (%s): %s\n", c.name, milliseconds(t.Received.Sub(began)),
		what, by, alarm.Severity, alarm.ProbableCause, machines)
	if t.Signature != "good" {
		return fmt.Errorf("%s: the signature is %s", c.name, t.Signature)
	}
	if want != "" && what != want {
		return fmt.Errorf("%s was told %q, want %q", c.name, what, want)
	}
	if not, ok := strings.CutPrefix(teller, "!"); by != "" && (ok && s.teller == not || !ok && teller != "" && teller[0] != '?' && s.teller != teller) {
		return fmt.Errorf("%s was told by %s, want %s", c.name, s.teller, teller)
	}
	return nil
}

// profile shows where the time went, in an agent's own words.
func (s *stage) profile(n *node) error {
	out, err := n.agent.Command("profile")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Where the time went at %s (paramedic profile):\n%s", n.host.Name, out)
	return nil
}
