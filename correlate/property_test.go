package correlate

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The universe of the property tests: small enough that things meet, with one of each sort.
var (
	universe = map[string][]ID{
		"nic":  {"nic/eth0", "nic/eth1", "nic/eth2", "bond/bond0", "bond/bond1", "bridge/br0", "nic/tap0", "nic/tap1"},
		"virt": {"vnic/a/0", "vnic/a/1", "vnic/b/0", "vdisk/a/vda", "domain/a", "domain/b", "host/h"},
	}
	conditions = []Condition{
		CondCarrier, CondDisabled, CondLinkErrors, CondBacking, CondCrash, CondGuestPanic, CondGuestAgent, CondGone,
		"of-another-monitor", latched.Condition, CondUnreadable,
	}
)

// forgotten is a resource of a former life, of which consumers were told alarms.
const forgotten ID = "nic/forgotten"

func everything() []ID { return slices.Concat(universe["nic"], universe["virt"]) }

func drawNeed(t *rapid.T) Need {
	return Need{
		Mode:      NeedMode(rapid.IntRange(0, 2).Draw(t, "mode")),
		K:         rapid.IntRange(0, 3).Draw(t, "k"),
		Of:        rapid.SliceOfN(rapid.SampledFrom(everything()), 0, 3).Draw(t, "of"),
		Condition: rapid.SampledFrom([]Condition{"", CondCarrier, CondBacking}).Draw(t, "group"),
	}
}

func drawResource(t *rapid.T, source string) Resource {
	r := Resource{
		ID:       rapid.SampledFrom(universe[source]).Draw(t, "id"),
		Inactive: rapid.IntRange(0, 9).Draw(t, "inactive") == 0,
		Name:     rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "name"),
		Needs:    rapid.SliceOfN(rapid.Custom(drawNeed), 0, 2).Draw(t, "needs"),
	}
	if r.ID.Kind() == KindVNIC || r.ID.Kind() == KindVDisk {
		r.Domain = NewID(KindDomain, r.ID.Name()[:1])
	}
	if r.ID.Kind() == KindVNIC {
		r.Port = &Port{MAC: r.ID.Name(), PortID: rapid.SampledFrom([]string{"", "p"}).Draw(t, "port")}
	}
	return r
}

func drawEvent(t *rapid.T, source string, now time.Time) Event {
	ev := Event{
		Source:    source,
		Resource:  rapid.SampledFrom(everything()).Draw(t, "resource"),
		Condition: rapid.SampledFrom(conditions).Draw(t, "condition"),
		Status:    rapid.SampledFrom([]Status{StatusFailed, StatusFailed, StatusOK, StatusUnknown}).Draw(t, "status"),
		Observed:  now,
	}
	if rapid.IntRange(0, 9).Draw(t, "own severity") == 0 {
		ev.Severity = SeverityMajor
	}
	return ev
}

func drawDelta(t *rapid.T, now time.Time) Delta {
	d := Delta{Source: rapid.SampledFrom([]string{"nic", "virt"}).Draw(t, "source"), Full: rapid.IntRange(0, 19).Draw(t, "full") == 0}
	for range rapid.IntRange(0, 4).Draw(t, "set") {
		d.Set = append(d.Set, drawResource(t, d.Source))
	}
	for range rapid.IntRange(0, 1).Draw(t, "require") {
		d.Require = append(d.Require, Requirement{
			ID:    rapid.SampledFrom(everything()).Draw(t, "required of"),
			Needs: rapid.SliceOfN(rapid.Custom(drawNeed), 0, 2).Draw(t, "required"),
		})
	}
	if rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
		d.Gone = append(d.Gone, Gone{
			ID:     rapid.SampledFrom(everything()).Draw(t, "gone id"),
			Reason: GoneReason(rapid.IntRange(0, 3).Draw(t, "reason")),
		})
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		d.Events = append(d.Events, drawEvent(t, d.Source, now))
	}
	return d
}

// whole states a small host in full, so that most runs begin with something that hangs together.
func whole() []Delta {
	return []Delta{
		{Source: "nic", Full: true, Set: []Resource{
			{ID: "nic/eth0"},
			{ID: "nic/eth1"},
			{ID: "nic/eth2"},
			{ID: "bond/bond0", Needs: []Need{{Mode: KOfN, K: 1, Of: []ID{"nic/eth0", "nic/eth1"}, Condition: CondCarrier}}},
			{ID: "bridge/br0", Needs: []Need{{Of: []ID{"bond/bond0"}}}},
			{ID: "nic/tap0", Needs: []Need{{Of: []ID{"bridge/br0"}}}},
			{ID: "nic/tap1", Needs: []Need{{Of: []ID{"bridge/br0"}}}},
		}},
		{Source: "virt", Full: true, Set: []Resource{
			{ID: "host/h"},
			{ID: "domain/a", Name: "x", Needs: []Need{{Mode: SomeOf, Of: []ID{"vnic/a/0", "vnic/a/1"}}, {Of: []ID{"vdisk/a/vda", "host/h"}}}},
			{ID: "vnic/a/0", Domain: "domain/a", Port: &Port{MAC: "a/0"}, Needs: []Need{{Of: []ID{"nic/tap0"}}}},
			{ID: "vnic/a/1", Domain: "domain/a", Port: &Port{MAC: "a/1"}, Needs: []Need{{Of: []ID{"nic/eth2"}}}},
			{ID: "vdisk/a/vda", Domain: "domain/a"},
			{ID: "domain/b", Name: "y", Needs: []Need{{Mode: SomeOf, Of: []ID{"vnic/b/0"}}}},
			{ID: "vnic/b/0", Domain: "domain/b", Port: &Port{MAC: "b/0"}, Needs: []Need{{Of: []ID{"nic/tap1"}}}},
		}},
	}
}

func testEngine(cfg Config, restored []*Alarm) *Engine {
	rules := map[Condition]Rule{latched.Condition: latched}
	for _, r := range Rules() {
		rules[r.Condition] = r
	}
	cfg.Home = "h"
	return newEngine(cfg, rules, restored)
}

// action is one call of the engine, drawn once so that it can be made twice.
type action func(*Engine) Effects

func drawActions(t *rapid.T) []action {
	now := time.Unix(1_700_000_000, 0)
	var all []action
	if rapid.IntRange(0, 9).Draw(t, "whole") > 0 {
		for _, d := range whole() {
			all = append(all, func(e *Engine) Effects { return e.Topology(now, d) })
		}
	}
	for range rapid.IntRange(1, 40).Draw(t, "actions") {
		now = now.Add(time.Duration(rapid.IntRange(-2000, 20000).Draw(t, "ms")) * time.Millisecond)
		at := now
		switch rapid.IntRange(0, 12).Draw(t, "action") {
		case 0, 1, 2, 3, 4:
			ev := drawEvent(t, rapid.SampledFrom([]string{"nic", "virt", "api"}).Draw(t, "by"), at)
			all = append(all, func(e *Engine) Effects { return e.Step(at, ev) })
		case 5, 6, 7:
			d := drawDelta(t, at)
			all = append(all, func(e *Engine) Effects { return e.Topology(at, d) })
		case 8:
			all = append(all, func(e *Engine) Effects { return e.Tick(at) })
		case 9:
			which := rapid.IntRange(0, 20).Draw(t, "which")
			hold := time.Duration(which) * time.Second
			policies := []Policy{{Resource: "nic/*", Condition: CondCarrier, HoldDown: &hold}, {Resource: "bond/*", Severity: SeverityMajor}}
			all = append(all, func(e *Engine) Effects {
				if stand := e.Alarms(); which < len(stand) {
					eff, err := e.Ack(at, stand[which].ID, "somebody", "")
					if err != nil {
						panic(err)
					}
					return eff
				}
				return e.SetPolicies(at, policies)
			})
		case 12:
			which, comment := rapid.IntRange(0, 3).Draw(t, "cleared"), rapid.Bool().Draw(t, "comment")
			all = append(all, func(e *Engine) Effects {
				stand := e.Alarms()
				if len(stand) == 0 {
					return e.Tick(at)
				}
				id := stand[which%len(stand)].ID
				var eff Effects
				var err error
				if comment {
					eff, err = e.Comment(at, id, Comment{By: "somebody", Text: "looking", At: at})
				} else {
					eff, err = e.Clear(at, id, "somebody", "looked")
				}
				if err != nil {
					panic(err)
				}
				return eff
			})
		case 10:
			more := 2 * uint64(rapid.IntRange(0, 2).Draw(t, "more terms"))
			all = append(all, func(e *Engine) Effects { return e.Reterm(at, e.Term()+more) })
		case 11:
			key := Key{
				Home: rapid.SampledFrom([]string{"h", "h", "h", "elsewhere"}).Draw(t, "home"), Resource: forgotten,
				Condition: rapid.SampledFrom(conditions).Draw(t, "condition"),
			}
			rev := Revision{Term: uint64(rapid.IntRange(0, 2).Draw(t, "of term")) * 2, Counter: uint64(rapid.IntRange(1, 9).Draw(t, "counter"))}
			closed := []*Alarm{{ID: alarmID(key, rev), Key: key, Revision: rev}}
			all = append(all, func(e *Engine) Effects { return e.Close(at, append(closed, e.Alarms()...)...) })
		}
	}
	return all
}

// shell is what a caller keeps of effects, and what it may rely on.
type shell struct {
	disk map[string]*Alarm
	last Revision
}

func (s *shell) take(t *rapid.T, e *Engine, eff Effects) {
	if s.disk == nil {
		s.disk = map[string]*Alarm{}
	}
	saved := map[*Alarm]bool{}
	for _, a := range eff.Save {
		saved[a] = true
	}
	for _, c := range eff.Publish {
		a := c.Alarm
		if !saved[a] {
			t.Fatalf("%s %s is published and not saved", a.Key, a.Revision)
		}
		if a.Revision.Compare(s.last) <= 0 {
			t.Fatalf("revision %s after %s", a.Revision, s.last)
		}
		s.last = a.Revision
		before := s.disk[a.ID]
		if a.Key.Resource == forgotten && a.Last == Cleared {
			continue
		}
		if (a.Last == Raised) != (before == nil) {
			t.Fatalf("%s is %s, and before it was %v", a.Key, a.Last, before)
		}
		times := a.Times
		if times.Raised.IsZero() || (a.Last == Cleared) == times.Cleared.IsZero() || (a.Last == Cleared) != (a.ClearReason != "") ||
			!times.Changed.IsZero() && times.Changed.Before(times.Raised) ||
			!times.Cleared.IsZero() && (times.Cleared.Before(times.Raised) || times.Cleared.Before(times.Changed)) {
			t.Fatalf("%s %s: times %+v, clear reason %q", a.Key, a.Last, times, a.ClearReason)
		}
	}
	for _, a := range eff.Save {
		if s.disk[a.ID] = a; !a.Standing() && !a.Dismissed() {
			delete(s.disk, a.ID)
		}
	}
	stand, held := e.Alarms(), e.Dismissed()
	if len(stand)+len(held) != len(s.disk) {
		t.Fatalf("%d alarms stand, %d are dismissed and %d are on disk", len(stand), len(held), len(s.disk))
	}
	for _, a := range slices.Concat(stand, held) {
		if s.disk[a.ID] != a {
			t.Fatalf("%s stands as %s and is on disk as %v", a.Key, a.Revision, s.disk[a.ID])
		}
	}
}

func TestHealthAndAffectedAreThoseOfANaiveCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
			checkAgainstNaive(t, e)
		}
	})
}

func TestUnknownChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
			wake := e.Tick(e.now)
			s.take(t, e, wake)
			health := derive(e).state
			eff := e.Step(e.now, Event{
				Source: "nic", Resource: rapid.SampledFrom(everything()).Draw(t, "unknown"),
				Condition: rapid.SampledFrom(conditions).Draw(t, "of"),
			})
			if len(eff.Publish)+len(eff.Save) > 0 || !eff.Wake.Equal(wake.Wake) {
				t.Fatalf("unknown led to %+v", eff)
			}
			for id, state := range derive(e).state {
				if health[id] != state {
					t.Fatalf("unknown made %s of %s out of %s", state, id, health[id])
				}
			}
		}
	})
}

func TestWhenAllIsWellNothingStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
		}
		for _, id := range everything() {
			for _, c := range conditions {
				s.take(t, e, e.Step(e.now, Event{Source: "nic", Resource: id, Condition: c, Status: StatusOK}))
			}
		}
		s.take(t, e, e.Tick(e.now.Add(time.Hour)))
		for _, a := range e.Alarms() {
			if a.Key.Condition == latched.Condition {
				eff, err := e.Ack(e.now, a.ID, "somebody", "")
				if err != nil {
					t.Fatal(err)
				}
				s.take(t, e, eff)
			}
		}
		for _, a := range e.Alarms() {
			t.Errorf("%s still stands", a.Key)
		}
		for id, state := range derive(e).state {
			if state != StateOK {
				t.Errorf("%s is still %s", id, state)
			}
		}
		if eff := e.Tick(e.now); !eff.Wake.IsZero() {
			t.Errorf("still wants to wake at %s", eff.Wake)
		}
		for _, id := range everything() {
			for source := range universe {
				s.take(t, e, e.Topology(e.now, Delta{Source: source, Require: []Requirement{{ID: id}}}))
			}
			s.take(t, e, e.Topology(e.now, Delta{Source: "nic", Gone: []Gone{{ID: id, Reason: GoneOrderly}}}))
		}
		if len(e.nodes)+e.records+len(e.alarms) > 0 {
			t.Errorf("an empty host leaves %d resources, %d records, %d alarms in memory", len(e.nodes), e.records, len(e.alarms))
		}
	})
}

func TestEqualSequencesGiveEqualEffects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := testEngine(Config{Term: 2}, nil), testEngine(Config{Term: 2}, nil)
		for _, act := range drawActions(t) {
			x, y := dump(t, act(a)), dump(t, act(b))
			if x != y {
				t.Fatalf("one says\n%s\nthe other\n%s", x, y)
			}
		}
	})
}

func dump(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestARestartWithoutChangeMakesNoRevision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
		}
		s.take(t, e, e.SetPolicies(e.now, nil)) // the configuration that the next run has
		s.take(t, e, e.Tick(e.now))
		if bottomless(e) {
			t.Skip("a group hangs on what another source requires of its members: see Requirement")
		}
		full := restate(e)
		var restored []*Alarm
		for _, a := range s.disk {
			restored = append(restored, a)
		}
		now := e.now.Add(time.Minute)
		again := testEngine(Config{Term: e.Term() + 2, Sources: []string{"nic", "virt"}}, restored)
		for _, d := range rapid.Permutation(full).Draw(t, "order") {
			if eff := again.Topology(now, d); len(eff.Publish) > 0 {
				a := eff.Publish[0].Alarm
				t.Fatalf("%s stands as %+v\nand is told anew as %+v", a.Key, s.disk[a.ID], a)
			}
		}
		checkAgainstNaive(t, again)
	})
}

func TestARestartIntoAnotherWorldIsJudgedLikeAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
		}
		again := testEngine(Config{Term: e.Term() + 2, Sources: []string{"nic", "virt"}}, slices.Collect(maps.Values(s.disk)))
		now := e.now.Add(time.Minute)
		for _, source := range rapid.Permutation([]string{"nic", "virt"}).Draw(t, "order") {
			d := Delta{Source: source, Full: true}
			for range rapid.IntRange(0, 6).Draw(t, "set") {
				d.Set = append(d.Set, drawResource(t, source))
			}
			for range rapid.IntRange(0, 3).Draw(t, "gone") {
				d.Gone = append(d.Gone, Gone{
					ID:     rapid.SampledFrom(universe[source]).Draw(t, "gone id"),
					Reason: GoneReason(rapid.IntRange(0, 3).Draw(t, "reason")),
				})
			}
			for range rapid.IntRange(0, 3).Draw(t, "events") {
				d.Events = append(d.Events, drawEvent(t, source, now))
			}
			s.take(t, again, again.Topology(now, d))
		}
		checkAgainstNaive(t, again)
		for _, act := range drawActions(t) {
			s.take(t, again, act(again))
			checkAgainstNaive(t, again)
		}
	})
}

// bottomless reports whether a k-of-n group hangs on what another source requires.
func bottomless(e *Engine) bool {
	var foreign func(n *node, source string, seen map[*node]bool) bool
	foreign = func(n *node, source string, seen map[*node]bool) bool {
		if seen[n] {
			return false
		}
		seen[n] = true
		for i := range n.groups {
			for _, m := range n.groups[i].members {
				if foreign(m.node, source, seen) {
					return true
				}
			}
		}
		return slices.ContainsFunc(n.extra, func(x requirement) bool { return x.source != source })
	}
	for _, n := range e.nodes {
		for i := range n.groups {
			g := &n.groups[i]
			source := cmp.Or(g.source, n.source)
			for _, m := range g.members {
				if g.mode == KOfN && foreign(m.node, source, map[*node]bool{}) {
					return true
				}
			}
		}
	}
	return false
}

// restate is what the sources would say of the present in full.
func restate(e *Engine) []Delta {
	var full []Delta
	for _, source := range []string{"nic", "virt"} {
		d := Delta{Source: source, Full: true}
		for _, n := range e.nodes {
			if n.present && n.source == source {
				d.Set = append(d.Set, n.res)
			}
			for _, x := range n.extra {
				if x.source == source {
					d.Require = append(d.Require, Requirement{n.id, x.needs})
				}
			}
			for _, r := range n.records {
				if r.own && r.source == source && !n.lost {
					d.Events = append(d.Events, Event{
						Source: source, Resource: n.id, Condition: r.key.Condition, Status: StatusFailed, Severity: r.asked,
						Occurred: r.occurred, Observed: r.observed,
					})
				}
			}
		}
		full = append(full, d)
	}
	return full
}

func TestAHigherTermTellsEverythingThatStandsAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, s := testEngine(Config{Term: 2}, nil), shell{}
		for _, act := range drawActions(t) {
			s.take(t, e, act(e))
		}
		s.take(t, e, e.Tick(e.now))
		before, wake, term := e.Alarms(), e.Tick(e.now).Wake, e.Term()+2
		eff := e.Reterm(e.now, term)
		s.take(t, e, eff)
		checkAgainstNaive(t, e)
		if len(eff.Publish) != len(before) || !eff.Wake.Equal(wake) {
			t.Fatalf("%d told of %d that stand; wakes at %s, not %s", len(eff.Publish), len(before), eff.Wake, wake)
		}
		for _, c := range eff.Publish {
			if c.Alarm.Last != Changed || c.Alarm.Revision.Term != term {
				t.Fatalf("%s is %s as %s, want changed in term %d", c.Alarm.Key, c.Alarm.Last, c.Alarm.Revision, term)
			}
		}
		for i, a := range e.Alarms() {
			b := *before[i]
			if a.ID != b.ID || a.First != b.First || a.Severity != b.Severity || a.Under != b.Under || !slices.Equal(hitTexts(a.Affected), hitTexts(b.Affected)) {
				t.Fatalf("%+v\nbecame\n%+v", b, *a)
			}
		}
		if eff := e.Reterm(e.now, term); len(eff.Publish)+len(eff.Save) > 0 {
			t.Fatalf("the same term again led to %+v", eff)
		}
	})
}
