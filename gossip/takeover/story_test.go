package takeover

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// TestStories plays the stories in testdata: a cluster of machines whose words take a millisecond to each other.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &stage{t0: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
		s.now = s.t0
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.play(t, d)
			if s.out.Len() == 0 {
				return "ok"
			}
			return s.out.String()
		})
	})
}

type mail struct {
	at   time.Time
	to   string
	what func(*Machine) Effects
}

type stage struct {
	t0, now  time.Time
	machines map[string]*Machine
	zones    map[string]string
	wakes    map[string]time.Time
	stalled  map[string]time.Time // until when
	silent   map[string]bool      // what it says is lost
	members  []Member
	post     []mail
	told     time.Duration // from Speak to Told
	records  bool
	out      strings.Builder
}

func (s *stage) play(t *testing.T, d *datadriven.TestData) {
	arg := func(name, otherwise string) string {
		for _, a := range d.CmdArgs {
			if a.Key == name && len(a.Vals) > 0 {
				return a.Vals[0]
			}
		}
		return otherwise
	}
	number := func(name string, otherwise int) int {
		n, err := strconv.Atoi(arg(name, strconv.Itoa(otherwise)))
		if err != nil {
			d.Fatalf(t, "%s: %v", name, err)
		}
		return n
	}
	duration := func(text string) time.Duration {
		v, err := time.ParseDuration(text)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return v
	}
	var names []string
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			names = append(names, a.Key)
		}
	}
	levels := map[string]watch.Level{"none": watch.LevelNone, "silent": watch.LevelSilent, "hung": watch.LevelHung, "probable": watch.LevelProbable, "confirmed": watch.LevelConfirmed}
	switch d.Cmd {
	case "cluster": // names as name or name/zone
		s.machines, s.zones, s.wakes, s.stalled, s.silent = map[string]*Machine{}, map[string]string{}, map[string]time.Time{}, map[string]time.Time{}, map[string]bool{}
		s.members, s.post, s.told, s.records = nil, nil, 20*time.Millisecond, true
		s.now = s.t0
		for _, n := range names {
			name, zone, _ := strings.Cut(n, "/")
			s.zones[name] = zone
			s.machines[name] = New(name)
			s.members = append(s.members, Member{name, zone})
		}
		s.tellMembers()
	case "dead": // their machines say and hear nothing more; the membership has not noticed
		for _, n := range names {
			delete(s.machines, n)
		}
	case "left": // and now it has
		s.members = slices.DeleteFunc(s.members, func(m Member) bool { return slices.Contains(names, m.Name) })
		s.tellMembers()
	case "restarted": // so fast that the membership did not notice
		for _, n := range names {
			s.machines[n] = New(n)
		}
		s.tellMembers()
	case "verdict":
		v := watch.Verdict{Host: names[0], Term: uint64(number("term", 2)), Level: levels[arg("level", "confirmed")], Suspects: number("suspects", 1)}
		for _, host := range names {
			v.Host = host
			for _, m := range slices.Sorted(maps.Keys(s.machines)) {
				s.tell(m, func(x *Machine) Effects { return x.Verdict(s.now, s.zones[v.Host], v) })
			}
		}
	case "departed":
		for _, m := range slices.Sorted(maps.Keys(s.machines)) {
			s.tell(m, func(x *Machine) Effects { return x.Departed(s.now, names[0], uint64(number("term", 2))) })
		}
	case "orphaned":
		for _, m := range slices.Sorted(maps.Keys(s.machines)) {
			s.tell(m, func(x *Machine) Effects { return x.Orphaned(s.now, names[0], uint64(number("term", 3))) })
		}
	case "returned":
		for _, m := range slices.Sorted(maps.Keys(s.machines)) {
			for _, host := range names {
				s.tell(m, func(x *Machine) Effects { return x.Returned(s.now, host, uint64(number("term", 4))) })
			}
		}
	case "isolated":
		for _, n := range names {
			s.tell(n, func(x *Machine) Effects { return x.Isolated(s.now, arg("is", "true") == "true") })
		}
	case "stall":
		s.stalled[names[0]] = s.now.Add(duration(arg("for", "0s")))
	case "lose": // what they say
		for _, n := range names {
			s.silent[n] = arg("is", "true") == "true"
		}
	case "slow": // consumers
		s.told = duration(arg("told", "20ms"))
	case "run":
		s.run(duration(names[0]))
	case "speakers":
		for _, m := range slices.Sorted(maps.Keys(s.machines)) {
			if of := s.machines[m].Speaks(); len(of) > 0 {
				fmt.Fprintf(&s.out, "%s: %s\n", m, strings.Join(of, " "))
			}
		}
	default:
		d.Fatalf(t, "unknown command")
	}
	s.run(0)
}

func (s *stage) tellMembers() {
	for _, m := range slices.Sorted(maps.Keys(s.machines)) {
		s.tell(m, func(x *Machine) Effects { return x.Members(s.now, s.members) })
	}
}

// tell gives a machine something now, or when its stall is over.
func (s *stage) tell(name string, what func(*Machine) Effects) {
	if until := s.stalled[name]; s.now.Before(until) {
		s.post = append(s.post, mail{until, name, what})
		return
	}
	m := s.machines[name]
	if m == nil {
		return
	}
	s.carryOut(name, what(m))
}

func (s *stage) carryOut(name string, e Effects) {
	at := s.now.Sub(s.t0)
	later := s.now.Add(time.Millisecond)
	for _, home := range e.Hush {
		fmt.Fprintf(&s.out, "%v %s hushes %s\n", at, name, home)
	}
	for _, sp := range e.Speak {
		key := sp.Zone
		var hosts []string
		for _, l := range sp.Hosts {
			hosts = append(hosts, l.Host+":"+l.Verdict.Level.String())
		}
		if key != "" {
			fmt.Fprintf(&s.out, "%v %s speaks for zone %s under %d: %s\n", at, name, key, sp.Term, strings.Join(hosts, " "))
		} else {
			key = sp.Hosts[0].Host
			fmt.Fprintf(&s.out, "%v %s speaks for %s\n", at, name, hosts[0])
		}
		s.post = append(s.post, mail{s.now.Add(s.told), name, func(x *Machine) Effects { return x.Told(s.now, key) }})
		if s.silent[name] {
			continue
		}
		for _, l := range sp.Hosts {
			r := Record{Host: l.Host, Term: l.Verdict.Term, Level: l.Verdict.Level, Zone: sp.Zone, ZTerm: sp.Term, Writer: name}
			if r.Level == watch.LevelNone {
				continue // there is no alarm
			}
			for other := range s.machines {
				s.post = append(s.post, mail{later, other, func(x *Machine) Effects { return x.Recorded(s.now, s.zones[r.Host], r) }})
			}
		}
	}
	for _, c := range e.Send {
		if !s.silent[name] {
			s.post = append(s.post, mail{later, c.To, func(x *Machine) Effects { return x.Claim(s.now, name, c.Claim) }})
		}
	}
	s.wakes[name] = e.Wake
}

func (s *stage) run(d time.Duration) {
	end := s.now.Add(d)
	for {
		next := end.Add(1)
		for _, m := range s.post {
			if m.at.Before(next) {
				next = m.at
			}
		}
		for name, at := range s.wakes {
			if until := s.stalled[name]; at.Before(until) && !at.IsZero() {
				at = until
			}
			if !at.IsZero() && at.Before(next) && s.machines[name] != nil {
				next = at
			}
		}
		if next.After(end) {
			s.now = end
			return
		}
		if next.After(s.now) {
			s.now = next
		}
		var due []mail
		s.post = slices.DeleteFunc(s.post, func(m mail) bool {
			if !m.at.After(s.now) {
				due = append(due, m)
				return true
			}
			return false
		})
		slices.SortStableFunc(due, func(a, b mail) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.to, b.to)) })
		for _, m := range due {
			s.tell(m.to, m.what)
		}
		for _, name := range slices.Sorted(maps.Keys(s.machines)) {
			if at := s.wakes[name]; !at.IsZero() && !at.After(s.now) {
				s.wakes[name] = time.Time{}
				s.tell(name, func(x *Machine) Effects { return x.Tick(s.now) })
			}
		}
	}
}
