package correlate

import (
	"testing"
	"time"
)

// What another monitor said may be less than critical, and then only degrades; the next run says so too, without a revision.
func TestAGradedConditionIsTheSameAfterARestart(t *testing.T) {
	rules := []Rule{
		{Condition: "x.graded", State: StateFailed, Graded: true, Severity: SeverityCritical, Absorbed: SeverityWarning},
		{Condition: "x.held", State: StateFailed, Severity: SeverityMinor, Hold: time.Minute},
	}
	at := time.Unix(1000, 0)
	topology := Delta{Source: "nic", Full: true, Set: []Resource{{ID: "nic/a"}, {ID: "nic/b"}, {ID: "nic/c"}}}
	e := New(Config{Home: "h", Term: 2, Rules: rules}, nil)
	e.Topology(at, topology)
	said := map[ID]State{}
	for _, ev := range []struct {
		id    ID
		cond  Condition
		asked Severity
		want  State
	}{
		{"nic/a", "x.graded", SeverityUnset, StateFailed},
		{"nic/b", "x.graded", SeverityWarning, StateDegraded}, // what it would be without the monitor's word, too
		{"nic/c", "x.nobody.knows", SeverityMajor, StateDegraded},
	} {
		e.Step(at, Event{Source: "monitor", Resource: ev.id, Condition: ev.cond, Status: StatusFailed, Severity: ev.asked})
		if v, _ := e.Resource(ev.id); v.Own != ev.want {
			t.Errorf("%s %s: %s, want %s", ev.cond, ev.asked, v.Own, ev.want)
		}
		said[ev.id] = ev.want
	}
	stood := e.Alarms()
	e = New(Config{Home: "h", Term: 2, Rules: rules, Sources: []string{"nic"}}, stood)
	if eff := e.Topology(at.Add(time.Hour), topology); len(eff.Publish) > 0 {
		t.Errorf("told again: %+v", eff.Publish[0].Alarm)
	}
	for id, want := range said {
		if v, _ := e.Resource(id); v.Own != want {
			t.Errorf("%s after a restart: %s, want %s", id, v.Own, want)
		}
	}
}

func TestALevelConditionMayEndByItself(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	rules := []Rule{{Condition: "x.held", State: StateFailed, Severity: SeverityMinor, Hold: time.Minute}}
	e := New(Config{Home: "h", Term: 2, Rules: rules}, nil)
	fails := Event{Source: "monitor", Resource: "nic/a", Condition: "x.held", Status: StatusFailed}
	stands := func(s int, want bool) {
		t.Helper()
		e.Tick(at(s))
		if e.Stands("nic/a", "x.held") != want {
			t.Errorf("at %d: stands %v", s, !want)
		}
	}
	e.Step(at(0), fails)
	e.Step(at(50), fails)
	stands(109, true)
	stands(110, false)
	e.Step(at(200), fails)
	e.Step(at(210), Event{Source: "monitor", Resource: "nic/a", Condition: "x.held", Status: StatusOK})
	stands(210, false)
	e.Step(at(300), fails)
	e.SetRules(at(310), nil) // nobody says any more that it ends
	stands(10_000, true)
	e.SetRules(at(10_000), rules)
	stands(10_059, true)
	stands(10_060, false)
	// How long it stood before a restart is not known.
	e.Step(at(10_100), fails)
	e = New(Config{Home: "h", Term: 2, Rules: rules}, e.Alarms())
	stands(10_159, true)
	stands(10_218, true)
	stands(10_219, false)
}
