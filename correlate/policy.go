package correlate

import (
	"fmt"
	"path"
	"time"
)

// Policy refines the rule of the conditions that it matches. Of several that match, the first that sets a field wins.
type Policy struct {
	Resource  string    // glob on the id by path.Match, so "nic/*" and "vnic/*/*"; empty matches all
	Condition Condition // empty matches all
	// Severity replaces whatever the rule or the event says, with or without domains affected; SeverityUnset leaves it.
	Severity Severity
	// HoldDown replaces Rule.HoldDown; nil leaves it. A k-of-n group's own alarm is never delayed: its members were.
	HoldDown *time.Duration
}

// Check says what is wrong with the policy. One that fails the check matches nothing.
func (p Policy) Check() error {
	if _, err := path.Match(p.Resource, ""); err != nil {
		return fmt.Errorf("resource glob %q: %w", p.Resource, err)
	}
	if p.HoldDown != nil && *p.HoldDown < 0 {
		return fmt.Errorf("hold-down %s: want zero or more", *p.HoldDown)
	}
	return nil
}

func (p Policy) matches(id ID, c Condition) bool {
	if p.Condition != "" && p.Condition != c {
		return false
	}
	if p.Resource == "" {
		return true
	}
	ok, err := path.Match(p.Resource, string(id))
	return err == nil && ok
}

// tapHoldDown waits for the domain's own stop to explain why its tap went away.
const tapHoldDown = 2 * time.Second

// definition is a rule as policies have refined it for one resource.
type definition struct {
	Rule
	fixed bool // a policy has set the severity: events don't override it
	// The policies that set the severity and the hold-down, counted from one; zero: none did.
	severityBy, holdDownBy int
}

// define looks up the rule for a condition of a resource and applies the policies.
func (e *Engine) define(id ID, c Condition) definition {
	r, ok := e.rules[c]
	if !ok {
		if r, ok = e.foreign[c]; !ok {
			r = RuleOf(c)
		}
	}
	return refine(r, e.policies, id)
}

// refine applies the policies to a rule, for one resource.
func refine(r Rule, policies []Policy, id ID) definition {
	c := r.Condition
	d := definition{Rule: r}
	if d.AbstractCause == "" {
		d.AbstractCause = abstractCause(id.Kind())
	}
	if c == CondBacking && id.Kind() == KindNIC {
		d.HoldDown = tapHoldDown
	}
	held := false
	for i, p := range policies {
		if !p.matches(id, c) {
			continue
		}
		if p.Severity != SeverityUnset && !d.fixed {
			d.Severity, d.Absorbed, d.fixed, d.severityBy = p.Severity, SeverityUnset, true, i+1
		}
		if p.HoldDown != nil && !held {
			d.HoldDown, held, d.holdDownBy = max(0, *p.HoldDown), true, i+1
		}
	}
	return d
}

// worth is what the condition does to its resource, given the event's own word.
func (d *definition) worth(event Severity) State {
	if d.Graded {
		switch d.severity(event, true) {
		case SeverityWarning, SeverityMinor, SeverityMajor:
			return min(d.State, StateDegraded)
		case SeverityUnset, SeverityCleared, SeverityIndeterminate, SeverityCritical:
		}
	}
	return d.State
}

// severity is what the alarm says, given the event's own word and whether a domain is affected.
func (d *definition) severity(event Severity, affects bool) Severity {
	switch {
	case event != SeverityUnset && !d.fixed:
		return event
	case !affects && d.Absorbed != SeverityUnset:
		return d.Absorbed
	}
	return d.Severity
}
