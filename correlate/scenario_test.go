package correlate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestScenarios tells the stories of testdata: what an operator does, and what the engine has to say to it.
// go test ./correlate -run TestScenarios -rewrite accepts what it says now.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), ids: map[string]string{}}
		s.cfg = Config{Home: "cmp-1", Term: 2, Sources: []string{"nic", "virt"}}
		s.engine = s.start(nil)
		datadriven.RunTest(t, path, s.run)
	})
}

// story is one file: an engine, a clock, and what the shell would have on disk.
type story struct {
	t      *testing.T
	cfg    Config
	engine *Engine
	now    time.Time
	wake   time.Time
	ids    map[string]string // alarm id → "resource condition"
	disk   map[string]*Alarm
}

// latched is a rule of its own: no condition of this version is latched, and later sources will have some.
var latched = Rule{
	Condition: "machine-check", Mode: Latched, State: StateFailed, Severity: SeverityCritical, EventType: TypeEquipment,
	ProbableCause: "processor-problem", Text: "an uncorrected machine check",
}

func (s *story) start(restored []*Alarm) *Engine {
	rules := map[Condition]Rule{latched.Condition: latched}
	for _, r := range Rules() {
		rules[r.Condition] = r
	}
	if s.disk == nil {
		s.disk = map[string]*Alarm{}
	}
	return newEngine(s.cfg, rules, restored)
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	switch d.Cmd {
	case "see": // a source says something: see source=nic [full]
		delta := Delta{Full: d.HasArg("full")}
		d.ScanArgs(t, "source", &delta.Source)
		s.parse(&delta, d.Input)
		return s.tell(s.engine.Topology(s.now, delta))
	case "renew": // the source was configured anew: renew source=nic; with off it was switched off
		delta := Delta{Renewed: true, Full: d.HasArg("off")}
		d.ScanArgs(t, "source", &delta.Source)
		return s.tell(s.engine.Topology(s.now, delta))
	case "step": // events one by one
		delta := Delta{}
		d.ScanArgs(t, "source", &delta.Source)
		s.parse(&delta, d.Input)
		var out strings.Builder
		for _, ev := range delta.Events {
			out.WriteString(s.tell(s.engine.Step(s.now, ev)))
		}
		return out.String()
	case "wait": // time passes, and the shell calls Tick when it was asked to
		span, err := time.ParseDuration(d.CmdArgs[0].Key)
		s.check(err)
		return s.wait(s.now.Add(span))
	case "clock": // the clock is set: clock back=1h
		var back string
		d.ScanArgs(t, "back", &back)
		span, err := time.ParseDuration(back)
		s.check(err)
		s.now = s.now.Add(-span)
		return s.tell(s.engine.Tick(s.now))
	case "ack": // ack alarm=(nic/eth0 gone) by=alice
		var by string
		d.ScanArgs(t, "by", &by)
		eff, err := s.engine.Ack(s.now, s.alarm(d), by, "")
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		return s.tell(eff)
	case "comment": // comment alarm=(nic/eth0 carrier) by=alice text=seen
		c := Comment{At: s.now}
		d.ScanArgs(t, "by", &c.By)
		d.ScanArgs(t, "text", &c.Text)
		eff, err := s.engine.Comment(s.now, s.alarm(d), c)
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		return s.tell(eff)
	case "clear": // by hand: clear alarm=(nic/eth0 carrier) by=alice
		var by, comment string
		d.ScanArgs(t, "by", &by)
		d.MaybeScanArgs(t, "comment", &comment)
		eff, err := s.engine.Clear(s.now, s.alarm(d), by, comment)
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		return s.tell(eff)
	case "dismissed": // what was cleared by hand and is still reported
		var out strings.Builder
		for _, a := range s.engine.Dismissed() {
			fmt.Fprintf(&out, "%s %s %s: %s\n", a.Revision, a.Key.Resource, a.Key.Condition, a.Text)
		}
		return orNothing(out.String(), "nothing is dismissed\n")
	case "restart":
		s.cfg.Term += 2
		s.engine = s.start(slices.Collect(maps.Values(s.disk)))
		s.wake = time.Time{}
		return fmt.Sprintf("term %d, %d alarms restored\n", s.cfg.Term, len(s.disk))
	case "reterm": // the peers know this home under a higher term: reterm to=8
		d.ScanArgs(t, "to", &s.cfg.Term)
		return s.tell(s.engine.Reterm(s.now, s.cfg.Term))
	case "close": // a consumer was told of an alarm that nobody here remembers: close alarm=(nic/eth0,carrier) revision=2.1
		return s.tell(s.engine.Close(s.now, s.forgotten(t, d)))
	case "running": // as the memory of the host would note it
		var out strings.Builder
		for _, hit := range s.engine.Running() {
			out.WriteString(affectedLine(hit) + "\n")
		}
		return orNothing(out.String(), "nothing runs\n")
	case "stands": // stands host/cmp-1 host-lost
		return fmt.Sprintf("%v\n", s.engine.Stands(s.id(d.CmdArgs[0].Key), Condition(d.CmdArgs[1].Key)))
	case "policies":
		s.cfg.Policies = s.policies(d.Input)
		return s.tell(s.engine.SetPolicies(s.now, s.cfg.Policies))
	case "alarms":
		var out strings.Builder
		for _, a := range s.engine.Alarms() {
			fmt.Fprintf(&out, "%s %s\n", a.Revision, s.describe(a))
			if ids := s.engine.Correlated(a.ID); len(ids) > 0 && a.RootCause {
				fmt.Fprintf(&out, "    explains: %s\n", s.names(ids))
			}
			if a.Lost && len(a.NeededBy) > 0 {
				fmt.Fprintf(&out, "    missed by %s\n", a.NeededBy)
			}
			if a.Ack != nil {
				fmt.Fprintf(&out, "    acknowledged by %s\n", a.Ack.By)
			}
			for _, c := range a.Comments {
				fmt.Fprintf(&out, "    %s says: %s\n", c.By, c.Text)
			}
			if d.HasArg("times") {
				fmt.Fprintf(&out, "    times: %s\n", times(a.Times))
			}
		}
		return orNothing(out.String(), "none stands\n")
	case "explain": // explain alarm=(nic/eth0 carrier)
		x, stands := s.engine.Explain(s.alarm(d))
		if !stands {
			return "it does not stand\n"
		}
		return s.explain(x)
	case "health":
		var out strings.Builder
		for _, v := range s.engine.Resources() {
			if v.Derived == StateOK && !v.Unknown && !v.Lost {
				continue
			}
			fmt.Fprintf(&out, "%s %s", v.ID, v.Derived)
			if v.Own != v.Derived {
				fmt.Fprintf(&out, " (itself %s)", v.Own)
			}
			if v.Unknown {
				out.WriteString(", unknown")
			}
			if v.Lost {
				out.WriteString(", lost")
			}
			out.WriteString("\n")
		}
		return orNothing(out.String(), "all is well\n")
	}
	t.Fatalf("%s: no such directive %q", d.Pos, d.Cmd)
	return ""
}

func (s *story) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) wait(until time.Time) string {
	var out strings.Builder
	for !s.wake.IsZero() && !s.wake.After(until) {
		s.now = later(s.now, s.wake)
		said := s.tell(s.engine.Tick(s.now))
		fmt.Fprintf(&out, "at %s:\n%s", s.now.Format("15:04:05"), said)
	}
	s.now = until
	return orNothing(out.String(), "nothing happens\n")
}

func (s *story) alarm(d *datadriven.TestData) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == "alarm" {
			want := strings.Join(arg.Vals, " ")
			for _, a := range s.engine.Alarms() {
				if string(a.Key.Resource)+" "+string(a.Key.Condition) == want {
					return a.ID
				}
			}
		}
	}
	return "none"
}

// forgotten is what a consumer's snapshot says of an alarm.
func (s *story) forgotten(t *testing.T, d *datadriven.TestData) *Alarm {
	var revision string
	home := s.cfg.Home
	d.ScanArgs(t, "revision", &revision)
	d.MaybeScanArgs(t, "home", &home)
	var confidence string
	d.MaybeScanArgs(t, "confidence", &confidence)
	rev, err := ParseRevision(revision)
	s.check(err)
	a := &Alarm{Revision: rev, Confidence: Confidence(confidence)}
	for _, arg := range d.CmdArgs {
		if arg.Key == "alarm" {
			a.Key = Key{Home: home, Resource: s.id(arg.Vals[0]), Condition: Condition(arg.Vals[1])}
		}
	}
	a.ID = alarmID(a.Key, rev)
	return a
}

// parse reads lines such as
//
//	set vnic/web/52 domain=domain/web mac=52 port=p-1 project=x vnf=v/c name=y inactive kind=tap
//	  needs all of nic/tap1 nic/tap2
//	  needs 1 of nic/eth0 nic/eth1 carrier=…
//	require nic/tap1
//	  needs all of bridge/br-int
//	gone nic/eth0 vanished
//	failed nic/eth0 carrier severity=minor why it failed
//	ok nic/eth0 carrier reason=migrated
//	unknown nic/eth0 carrier
func (s *story) parse(d *Delta, input string) {
	s.t.Helper()
	for _, line := range strings.Split(input, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "set":
			r := Resource{ID: s.id(f[1])}
			for _, w := range f[2:] {
				s.attribute(&r, w)
			}
			d.Set = append(d.Set, r)
		case f[0] == "require":
			d.Require = append(d.Require, Requirement{ID: s.id(f[1])})
		case f[0] == "needs" && len(d.Require) > 0: // they stand behind the resources
			r := &d.Require[len(d.Require)-1]
			r.Needs = append(r.Needs, s.need(f))
		case f[0] == "needs":
			r := &d.Set[len(d.Set)-1]
			r.Needs = append(r.Needs, s.need(f))
		case f[0] == "gone":
			reasons := map[string]GoneReason{"vanished": GoneVanished, "orderly": GoneOrderly, "migrated": GoneMigrated, "by-fault": GoneByFault}
			reason, ok := reasons[f[2]]
			if !ok {
				s.t.Fatalf("%q: no such reason", line)
			}
			d.Gone = append(d.Gone, Gone{ID: s.id(f[1]), Reason: reason, Observed: s.now})
		default:
			status, ok := map[string]Status{"failed": StatusFailed, "ok": StatusOK, "unknown": StatusUnknown}[f[0]]
			if !ok {
				s.t.Fatalf("%q: don't understand", line)
			}
			ev := Event{Source: d.Source, Resource: s.id(f[1]), Condition: Condition(f[2]), Status: status, Observed: s.now, Occurred: s.now.Add(-time.Millisecond)}
			for i, w := range f[3:] {
				key, value, _ := strings.Cut(w, "=")
				switch key {
				case "severity":
					sev, err := ParseSeverity(value)
					s.check(err)
					ev.Severity = sev
					continue
				case "reason":
					ev.Reason = value
					continue
				case "hit": // by the event's own word: hit=domain/web
					ev.Hit = append(ev.Hit, Affected{Resource: s.id(value), Name: s.id(value).Name(), State: StateFailed})
					continue
				}
				ev.Text = strings.Join(f[3+i:], " ")
				break
			}
			d.Events = append(d.Events, ev)
		}
	}
}

func (s *story) id(word string) ID {
	s.t.Helper()
	id, err := ParseID(word)
	s.check(err)
	return id
}

func (s *story) attribute(r *Resource, w string) {
	s.t.Helper()
	key, value, _ := strings.Cut(w, "=")
	port := func() *Port {
		if r.Port == nil {
			r.Port = &Port{}
		}
		return r.Port
	}
	switch key {
	case "inactive":
		r.Inactive = true
	case "name":
		r.Name = value
	case "project":
		r.Project = value
	case "vnf": // instance/component
		r.VNF.ID, r.VNF.VNFC, _ = strings.Cut(value, "/")
	case "domain":
		r.Domain = s.id(value)
	case "mac":
		port().MAC = value
	case "port":
		port().PortID = value
	case "kind", "speed":
		r.Facts = map[string]string{key: value}
	default:
		s.t.Fatalf("%q: no such attribute", w)
	}
}

func (s *story) need(f []string) Need {
	s.t.Helper()
	n := Need{}
	switch f[1] {
	case "all":
		n.Mode = AllOf
	case "some":
		n.Mode = SomeOf
	default:
		k, err := strconv.Atoi(f[1])
		s.check(err)
		n.Mode, n.K = KOfN, k
	}
	for i, w := range f[3:] {
		if w == "as" {
			n.Condition = Condition(f[3+i+1])
			break
		}
		n.Of = append(n.Of, s.id(w))
	}
	return n
}

func (s *story) policies(input string) []Policy {
	s.t.Helper()
	var all []Policy
	for _, line := range strings.Split(input, "\n") {
		if line == "" {
			continue
		}
		p := Policy{}
		for _, w := range strings.Fields(line) {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "resource":
				p.Resource = value
			case "condition":
				p.Condition = Condition(value)
			case "severity":
				sev, err := ParseSeverity(value)
				s.check(err)
				p.Severity = sev
			case "hold-down":
				hold, err := time.ParseDuration(value)
				s.check(err)
				p.HoldDown = &hold
			}
		}
		s.check(p.Check())
		all = append(all, p)
	}
	return all
}

// tell writes down effects as an operator would, and keeps what the shell would keep.
func (s *story) tell(eff Effects) string {
	s.t.Helper()
	var out strings.Builder
	published := map[*Alarm]bool{}
	for _, c := range eff.Publish {
		s.ids[c.Alarm.ID] = fmt.Sprintf("%s %s", c.Alarm.Key.Resource, c.Alarm.Key.Condition)
	}
	for _, c := range eff.Publish {
		a := c.Alarm
		published[a] = true
		fmt.Fprintf(&out, "%s %s %s\n", a.Revision, a.Last, s.describe(a))
		if a.RootCause && len(a.Correlated) > 0 && a.Last != Cleared {
			fmt.Fprintf(&out, "    explains: %s\n", s.names(a.Correlated))
		}
	}
	for _, a := range eff.Save {
		if !published[a] {
			fmt.Fprintf(&out, "saved: %s %s\n", a.Key.Resource, a.Key.Condition)
		}
		if s.disk[a.ID] = a; !a.Standing() && !a.Dismissed() {
			delete(s.disk, a.ID)
		}
	}
	if !eff.Wake.Equal(s.wake) && !eff.Wake.IsZero() {
		fmt.Fprintf(&out, "wake in %s\n", eff.Wake.Sub(s.now))
	}
	s.wake = eff.Wake
	return orNothing(out.String(), "nothing to tell\n")
}

func (s *story) describe(a *Alarm) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s", a.Key.Resource, a.Key.Condition)
	if a.Confidence != ConfidenceConfirmed {
		fmt.Fprintf(&out, " (%s)", a.Confidence)
	}
	if a.Standing() {
		fmt.Fprintf(&out, ": %s", a.Severity)
	} else {
		fmt.Fprintf(&out, ": %s", a.ClearReason)
	}
	if a.Under != "" {
		fmt.Fprintf(&out, ", not sent, explained by %s", s.ids[a.Under])
	}
	for _, hit := range a.Affected {
		fmt.Fprintf(&out, "\n    hits %s", affectedLine(hit))
	}
	for _, hit := range a.AtRisk {
		fmt.Fprintf(&out, "\n    endangers %s", affectedLine(hit))
	}
	return out.String()
}

func affectedLine(hit Affected) string {
	line := fmt.Sprintf("%s %s", hit.Resource, hit.State)
	if hit.Name != "" {
		line += fmt.Sprintf(", named %q", hit.Name)
	}
	if hit.Project != "" {
		line += ", of " + hit.Project
	}
	if hit.VNF != (VNF{}) {
		line += fmt.Sprintf(", VNF %s %s", hit.VNF.ID, hit.VNF.VNFC)
	}
	for _, p := range hit.Ports {
		line += fmt.Sprintf(", port %s %s", p.MAC, p.PortID)
	}
	return strings.TrimSpace(line)
}

func (s *story) explain(x Explanation) string {
	var out strings.Builder
	d := x.Definition
	fmt.Fprintf(&out, "%s by %s", x.Alarm.Severity, x.SeverityBy)
	if d.SeverityBy >= 0 {
		fmt.Fprintf(&out, " %d", d.SeverityBy)
	}
	fmt.Fprintf(&out, ", asked %q, held down %s", x.Asked, d.HoldDown)
	if d.HoldDownBy >= 0 {
		fmt.Fprintf(&out, " by policy %d", d.HoldDownBy)
	}
	fmt.Fprintf(&out, ", reported %v, restored %v\n", x.Reported, x.Restored)
	if !x.Ends.IsZero() {
		fmt.Fprintf(&out, "ends in %s\n", x.Ends.Sub(s.now))
	}
	for _, g := range x.Failed {
		fmt.Fprintf(&out, "failed: %s\n", met(g))
	}
	for _, c := range x.Causes {
		fmt.Fprintf(&out, "under %s %s by %s\n", c.Alarm.Key.Resource, c.Alarm.Key.Condition, c.By)
	}
	if x.Apart != nil {
		fmt.Fprintf(&out, "apart from %s %s\n", x.Apart.Key.Resource, x.Apart.Key.Condition)
	}
	for _, c := range x.Members {
		fmt.Fprintf(&out, "over %s %s by %s\n", c.Alarm.Key.Resource, c.Alarm.Key.Condition, c.By)
	}
	for _, p := range x.Paths {
		fmt.Fprintf(&out, "path to %s\n", affectedLine(p.Domain))
		if p.ByWord {
			out.WriteString("    by the word of the source\n")
		}
		for _, h := range p.Hops {
			fmt.Fprintf(&out, "    %s needs %s: %s, is %s\n", h.Resource, met(h.Group), h.Level, h.State)
		}
	}
	return out.String()
}

func met(g Group) string {
	return fmt.Sprintf("%s k=%d of %d, %d failed, %d degraded, %d left", g.Mode, g.K, g.Of, g.Failed, g.Degraded, g.Left())
}

func (s *story) names(ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = s.ids[id]
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func times(t Times) string {
	var out []string
	for _, x := range []struct {
		name string
		at   time.Time
	}{{"occurred", t.Occurred}, {"observed", t.Observed}, {"raised", t.Raised}, {"changed", t.Changed}, {"cleared", t.Cleared}} {
		if !x.at.IsZero() {
			out = append(out, x.name+" "+x.at.Format("15:04:05.000"))
		}
	}
	return strings.Join(out, ", ")
}

func orNothing(s, nothing string) string {
	if s == "" {
		return nothing
	}
	return s
}
