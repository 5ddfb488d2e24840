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
	hears []string // consumers, by name; the others must hear nothing
	want  string   // "raised network": tenants are told the abstract cause of what is not theirs
}

func (s *stage) scenes() []scene {
	return []scene{
		{"the cable of uplink0 is pulled", s.uplink.Pull, []string{"red", "blue"}, "raised network"},
		{"the cable is put back", s.uplink.Plug, []string{"red", "blue"}, "cleared network"},
		{"ip link set uplink0 down, on the host", s.uplink.Disable, []string{"red", "blue"}, "raised network"},
		{"ip link set uplink0 up", s.uplink.Enable, []string{"red", "blue"}, "cleared network"},
		{"kill -9 of the qemu process of red-3", func() error { return s.libvirt.KillQEMU("red-3") }, []string{"red"}, "raised crash"},
		{"red-3 is started again", func() error { return s.libvirt.StartAgain("red-3") }, []string{"red"}, "cleared crash"},
		{"the guest of blue-1 panics", func() error { return s.libvirt.Panic("blue-1") }, []string{"blue"}, "raised guest-panic"},
		{"the owner of red-1 destroys it: no fault, nobody is called", func() error { return s.libvirt.Destroy("red-1") }, nil, ""},
		{"the cable of uplink0 is pulled again: red-2 alone is hit now", s.uplink.Pull, []string{"red"}, "raised network"},
		{"and put back", s.uplink.Plug, []string{"red"}, "cleared network"},
	}
}

// patience bounds the wait for a notification; quiet is how long a consumer is listened to who must hear nothing.
const (
	patience = 15 * time.Second
	quiet    = 1500 * time.Millisecond
)

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
		hears := false
		for _, name := range sc.hears {
			hears = hears || name == c.name
		}
		if !hears {
			continue
		}
		t, err := c.take(patience)
		if err != nil {
			return fmt.Errorf("%s: %w; the agent says: %s", c.name, err, s.agent.Log())
		}
		if err := s.print(c, t, began, sc.want); err != nil {
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
			return errors.Join(fmt.Errorf("%s was told what it should not hear", c.name), s.print(c, t, began, ""))
		}
	}
	return nil
}

func (s *stage) print(c *consumer, t told, began time.Time, want string) error {
	alarm := t.Event.Data.Alarm
	what := strings.TrimPrefix(t.Event.Type, "paramedic.fault.") + " " + alarm.Condition
	var machines []string
	for _, d := range t.Event.Data.Affected {
		machines = append(machines, fmt.Sprintf("%q %s", d.Name, d.State))
	}
	fmt.Fprintf(s.out, "    %-4s %7.1f ms   %s, %s (%s): %s\n", c.name, float64(t.Received.Sub(began).Microseconds())/1000,
		what, alarm.Severity, alarm.ProbableCause, strings.Join(machines, ", "))
	if t.Signature != "good" {
		return fmt.Errorf("%s: the signature is %s", c.name, t.Signature)
	}
	if want != "" && what != want {
		return fmt.Errorf("%s was told %q, want %q", c.name, what, want)
	}
	return nil
}

// profile shows where the time went, in the agent's own words.
func (s *stage) profile() error {
	out, err := s.agent.Command("profile")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\nWhere the time went (paramedic profile):\n%s", out)
	return nil
}
