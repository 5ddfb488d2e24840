package service

import (
	"fmt"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// state is what systemd says of a unit (org.freedesktop.systemd1(5)).
type state struct {
	unit, description, active, sub string
	result                         string // of the last run; asked when it does not run
	restarts                       uint32 // that systemd made by itself since somebody started the unit
}

// meaning is what a state means. docs/service.md has the table.
type meaning uint8

const (
	held meaning = iota // in between: what was true before stays true
	running
	ended   // in an orderly way: stopped by somebody, idle, or done
	waiting // dead, and systemd will start it again
	failed
)

func (s *state) meaning() meaning {
	if strings.Contains(s.sub, "auto-restart") { // since systemd 254 also in the states before it
		return waiting
	}
	switch s.active {
	case "active", "reloading", "refreshing":
		return running
	case "inactive":
		return ended
	case "failed":
		return failed
	}
	return held // activating, deactivating, maintenance, and what is yet to come
}

// patience is how long a unit may wait to be started again before it counts as failed.
const patience = 5 * time.Second

// unit follows one unit.
type unit struct {
	rule      Unit
	last      state
	known     bool
	downSince time.Time   // since when it is dead and waits to be started again; zero: it is not
	restarts  []time.Time // within the window, oldest first; no more than are a fault
	// inherited is when an alarm of the last run is proven over; zero: there is none.
	inherited time.Time

	failed, restarting bool
	told               struct{ failed, restarting bool }
}

// judge takes what systemd says now.
func (u *unit) judge(s state, now time.Time, c *Config) {
	switch s.meaning() {
	case running, ended:
		u.downSince, u.failed = time.Time{}, false
	case failed:
		u.downSince, u.failed = time.Time{}, true
	case waiting:
		if u.downSince.IsZero() {
			u.downSince = now
		}
		u.failed = u.failed || now.Sub(u.downSince) >= patience
	case held: // it is being started: that may take longer
		u.downSince = time.Time{}
	}
	if u.known && s.restarts > u.last.restarts { // it falls to zero when somebody starts the unit
		for range min(int(s.restarts-u.last.restarts), c.Restarts) {
			u.restarts = append(u.restarts, now)
		}
	}
	u.last, u.known = s, true
	u.restarts = u.restarts[max(0, len(u.restarts)-c.Restarts):]
	for len(u.restarts) > 0 && now.Sub(u.restarts[0]) >= c.Window {
		u.restarts = u.restarts[1:]
	}
	if !now.Before(u.inherited) {
		u.inherited = time.Time{}
	}
	switch {
	case len(u.restarts) >= c.Restarts:
		u.restarting, u.inherited = true, time.Time{}
	case len(u.restarts) == 0 && u.inherited.IsZero():
		u.restarting = false
	}
}

// due is when the unit is to be judged again though nothing is heard of it; zero: at no time.
func (u *unit) due(c *Config) time.Time {
	var at time.Time
	soonest := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !u.downSince.IsZero() && !u.failed {
		soonest(u.downSince.Add(patience))
	}
	if n := len(u.restarts); u.restarting && n > 0 {
		soonest(u.restarts[n-1].Add(c.Window))
	}
	if !u.inherited.IsZero() {
		soonest(u.inherited)
	}
	return at
}

// tell gives what has changed since it was last called; with full, everything that stands.
func (u *unit) tell(now time.Time, c *Config, full bool) []correlate.Event {
	var events []correlate.Event
	say := func(condition correlate.Condition, status correlate.Status, text string) {
		s := &u.last
		events = append(events, correlate.Event{
			Source: sourceName, Resource: resourceID(s.unit), Condition: condition, Status: status, Severity: u.rule.Severity, Text: text, Observed: now,
			Evidence: map[string]string{"state": s.active + " (" + s.sub + ")", "result": s.result, "restarts": fmt.Sprint(s.restarts)},
		})
	}
	switch condition := u.rule.condition(); {
	case u.failed && (full || !u.told.failed):
		say(condition, correlate.StatusFailed, u.last.failure())
	case !u.failed && !full && u.told.failed:
		say(condition, correlate.StatusOK, "")
	}
	switch condition := correlate.CondServiceRestarted; {
	case full && !u.inherited.IsZero():
		say(condition, correlate.StatusUnknown, "")
	case u.restarting && (full || !u.told.restarting):
		say(condition, correlate.StatusFailed, fmt.Sprintf("%s has died and was started again %d times within %v", u.last.unit, len(u.restarts), c.Window))
	case !u.restarting && !full && u.told.restarting:
		say(condition, correlate.StatusOK, "")
	}
	u.told.failed, u.told.restarting = u.failed, u.restarting
	return events
}

func (s *state) failure() string {
	what := "has failed"
	if s.meaning() == waiting {
		what = "has ended and does not run again yet"
	}
	if s.result != "" && s.result != "success" {
		what += " (" + s.result + ")"
	}
	return s.unit + " " + what
}

func (u *unit) resource() correlate.Resource {
	s := &u.last
	return correlate.Resource{
		ID: resourceID(s.unit), Name: s.unit, Inactive: s.meaning() == ended,
		Facts: map[string]string{"description": s.description, "state": s.active, "substate": s.sub},
	}
}

// resourceID names a unit as people do: service/libvirtd.
func resourceID(name string) correlate.ID {
	return correlate.NewID(correlate.KindService, strings.TrimSuffix(name, suffix))
}
