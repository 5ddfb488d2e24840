package correlate

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever has happened: what an explanation says agrees with the alarm, its ways lead along needs to each domain, and to explain changes nothing.
func TestEveryAlarmIsExplainedAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
			s.take(t, e, e.Tick(e.now))
			for _, a := range e.Alarms() {
				x, stands := e.Explain(a.ID)
				if !stands || x.Alarm != a {
					t.Fatalf("%s stands and is explained as %+v", a.Key, x)
				}
				checkChoice(t, x)
				checkCauses(t, e, x)
				checkPaths(t, e, x)
			}
			if _, stands := e.Explain("nothing"); stands {
				t.Fatal("what does not stand is explained")
			}
			if eff := e.Tick(e.now); len(eff.Publish)+len(eff.Save) > 0 {
				t.Fatalf("to explain led to %+v", eff)
			}
		}
	})
}

func checkChoice(t *rapid.T, x Explanation) {
	d := x.Definition
	want := map[SeverityBy]Severity{
		SeverityByRule: d.Severity, SeverityByPolicy: d.Severity, SeverityBySource: x.Asked, SeverityByNobody: d.Absorbed,
	}[x.SeverityBy]
	if x.Alarm.Severity != want || (x.SeverityBy == SeverityByPolicy) != (d.SeverityBy >= 0) || x.SeverityBy == SeverityByNobody && len(x.Alarm.Affected) > 0 {
		t.Fatalf("%s is %s by %s of %+v", x.Alarm.Key, x.Alarm.Severity, x.SeverityBy, d)
	}
	if !x.Reported && len(x.Failed) == 0 {
		t.Fatalf("%s stands by nothing", x.Alarm.Key)
	}
}

func checkCauses(t *rapid.T, e *Engine, x Explanation) {
	root := ""
	if n := len(x.Causes); n > 0 {
		root = x.Causes[n-1].Alarm.ID
	}
	if root != x.Alarm.Under {
		t.Fatalf("%s is under %q and explained by %q", x.Alarm.Key, x.Alarm.Under, root)
	}
	if root != "" {
		return
	}
	var members []string
	for _, c := range x.Members {
		members = append(members, c.Alarm.ID)
	}
	if slices.Sort(members); !slices.Equal(members, e.Correlated(x.Alarm.ID)) {
		t.Fatalf("%s explains %v, and is correlated with %v", x.Alarm.Key, members, e.Correlated(x.Alarm.ID))
	}
}

func checkPaths(t *rapid.T, e *Engine, x Explanation) {
	if len(x.Paths) != len(x.Alarm.Affected)+len(x.Alarm.AtRisk) {
		t.Fatalf("%s has %d ways to %d domains and %d at risk", x.Alarm.Key, len(x.Paths), len(x.Alarm.Affected), len(x.Alarm.AtRisk))
	}
	for _, p := range x.Paths {
		at := x.Alarm.Key.Resource
		for _, hop := range p.Hops {
			needs := slices.ContainsFunc(e.nodes[hop.Resource].groups, func(g group) bool {
				return g.mode == hop.Group.Mode && slices.ContainsFunc(g.members, func(m member) bool { return m.node.id == at })
			})
			if !needs || hop.Level == StateOK {
				t.Fatalf("%s: %s does not need %s, or is not touched: %+v", x.Alarm.Key, hop.Resource, at, hop)
			}
			at = hop.Resource
		}
		if !p.ByWord && at != p.Domain.Resource {
			t.Fatalf("%s: the way to %s ends at %s", x.Alarm.Key, p.Domain.Resource, at)
		}
		if p.ByWord && !slices.ContainsFunc(e.alarms[x.Alarm.ID].hit, func(a Affected) bool { return a.Resource == p.Domain.Resource }) {
			t.Fatalf("%s: no way leads to %s, and no word", x.Alarm.Key, p.Domain.Resource)
		}
	}
	if !slices.IsSortedFunc(x.Paths, func(a, b Path) int { return strings.Compare(string(a.Domain.Resource), string(b.Domain.Resource)) }) {
		t.Fatalf("%s: the ways have no order", x.Alarm.Key)
	}
}
