package watch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestStories tells the stories of testdata: what happens to hosts, and what the others say of them. The times are since the
// last thing that happened. go test ./gossip/watch -run TestStories -rewrite accepts what they say now.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		s := &story{}
		datadriven.RunTest(t, path, s.run)
	})
}

type story struct {
	*cluster
	since time.Time
}

func span(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	arg := func(name string) string {
		var v string
		d.MaybeScanArgs(t, name, &v)
		return v
	}
	if d.Cmd == "cluster" { // cluster n=5 [zones=(a,b)] [witness] [no-echo]; all have met when it returns
		n, err := strconv.Atoi(arg("n"))
		if err != nil {
			t.Fatal(err)
		}
		var zones []string
		if d.HasArg("zones") {
			zones = strings.Split(arg("zones"), "/")
		}
		cfg := Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Witness: d.HasArg("witness"), Echo: !d.HasArg("no-echo")}
		s.cluster = newCluster(t, n, cfg, zones...)
		if d.HasArg("cold") {
			return ""
		}
		s.cluster.run(6 * time.Second)
		s.since = s.now
		return s.news()
	}
	s.t = t
	if d.Cmd == "run" { // run 1s
		s.cluster.run(span(t, d.CmdArgs[0].Key))
		return s.news()
	}
	if d.Cmd == "status" { // status cmp-1
		return s.status(d.CmdArgs[0].Key)
	}
	s.since = s.now
	var nd *node
	if len(d.CmdArgs) > 0 && strings.HasPrefix(d.CmdArgs[0].Key, "cmp-") && d.Cmd != "partition" {
		nd = s.node(d.CmdArgs[0].Key)
	}
	switch d.Cmd {
	case "cut": // the power goes
		nd.off = true
	case "boot": // the power is back, or the agent is started: a new life under a higher term
		nd.Term += 2
		nd.Left, nd.Member = LeftNot, true
		s.boot(nd, nd.Term)
		s.carry(nd, nd.machine.Hosts(s.now, s.hostsFor(nd)))
	case "kill": // the agent; its port is closed
		nd.running = false
	case "freeze": // freeze cmp-2 for=300ms: the agent stands still
		nd.frozen = s.now.Add(span(t, arg("for")))
	case "stall": // stall cmp-2 for=300ms: the whole host does
		nd.stalled = s.now.Add(span(t, arg("for")))
	case "mute": // its kernel no longer answers echoes
		nd.noEcho = true
	case "goodbye": // goodbye cmp-2 stopped
		left := LeftStopped
		if d.HasArg("shutdown") {
			left = LeftShutdown
		}
		s.carry(nd, nd.machine.Goodbye(s.now, left))
		nd.running = false
	case "member": // member cmp-2 gone: the membership drops it everywhere
		nd.Member = !d.HasArg("gone")
		s.view()
	case "unseen": // unseen cmp-2 by=cmp-3: the membership of one does not show it
		by := s.node(arg("by"))
		if by.blind == nil {
			by.blind = map[string]bool{}
		}
		by.blind[nd.Name] = true
		s.view()
	case "retake": // it takes the next term
		nd.Term += 2
		s.view()
	case "partition": // partition cmp-1 cmp-2: these are cut off from the others, with the witness when it is named
		s.split, s.side = true, map[string]int{}
		for _, a := range d.CmdArgs {
			s.side[strings.TrimPrefix(a.Key, "witness")] = 1
		}
	case "heal":
		s.split = false
	case "witness": // witness down
		s.witness = !d.HasArg("down")
	default:
		t.Fatalf("%s: no such directive %q", d.Pos, d.Cmd)
	}
	return ""
}

// news is what was said since, alike things in one line.
func (s *story) news() string {
	type line struct {
		text        string
		first, last time.Duration
		by          []string
	}
	var lines []*line
	for _, told := range s.told {
		text := describe(told.news)
		at := told.at.Sub(s.since).Round(time.Millisecond)
		i := slices.IndexFunc(lines, func(l *line) bool { return l.text == text })
		if i < 0 {
			lines = append(lines, &line{text: text, first: at})
			i = len(lines) - 1
		}
		lines[i].last = at
		lines[i].by = append(lines[i].by, told.by)
	}
	s.told = nil
	var out strings.Builder
	for _, l := range lines {
		when := l.first.String()
		if l.first != l.last {
			when += "–" + l.last.String()
		}
		slices.Sort(l.by)
		fmt.Fprintf(&out, "%s %s: %s\n", when, strings.Join(l.by, " "), l.text)
	}
	if out.Len() == 0 {
		return "nothing is said\n"
	}
	return out.String()
}

var levels = map[Level]string{LevelNone: "none", LevelSilent: "silent", LevelHung: "hung", LevelProbable: "probable", LevelConfirmed: "confirmed"}

func describe(n News) string {
	v := n.Verdict
	switch n.Kind {
	case NewsVerdict:
		text := fmt.Sprintf("%s %s, term %d", v.Host, levels[v.Level], v.Term)
		if v.Suspects > 1 {
			text += fmt.Sprintf(", one of %d suspects", v.Suspects)
		}
		if slices.ContainsFunc(v.Votes, func(v Vote) bool { return v.Witness }) {
			text += ", by witnesses too"
		}
		return text
	case NewsHeard:
		return fmt.Sprintf("%s is heard again, was %s", n.Host, levels[v.Level])
	case NewsIsolated:
		return fmt.Sprintf("isolated, reaching %d of %d", n.Reached, n.Roster)
	case NewsRejoined:
		return fmt.Sprintf("rejoined, reaching %d of %d", n.Reached, n.Roster)
	case NewsAccused:
		return fmt.Sprintf("accused of being %s in term %d", levels[v.Level], v.Term)
	}
	return "nonsense"
}

func (s *story) status(name string) string {
	st := s.node(name).machine.Status(s.now)
	var out strings.Builder
	fmt.Fprintf(&out, "observers: %s\n", strings.Join(st.Observers, " "))
	for _, o := range st.Observed {
		fmt.Fprintf(&out, "watches %s", o.Host)
		if o.Silence == AgeNever {
			out.WriteString(", never heard")
		} else if o.Silence > 100*time.Millisecond {
			fmt.Fprintf(&out, ", silent for %s", o.Silence.Round(100*time.Millisecond))
		}
		if o.Level != LevelNone {
			fmt.Fprintf(&out, ", %s", levels[o.Level])
		}
		if o.Left != LeftNot {
			out.WriteString(", said goodbye")
		}
		out.WriteString("\n")
	}
	if len(st.NoEcho) > 0 {
		fmt.Fprintf(&out, "no echo: %s\n", strings.Join(st.NoEcho, " "))
	}
	if st.Isolated {
		out.WriteString("isolated\n")
	}
	if st.Blind {
		out.WriteString("blind\n")
	}
	return out.String()
}
