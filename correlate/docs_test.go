package correlate

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	docsPath  = "../docs/alarms.md"
	docsBegin = "<!-- Below this line: go test ./correlate -run TestDocs -rewrite -->\n"
)

// TestDocsOfConditions holds docs/alarms.md equal to the rules.
func TestDocsOfConditions(t *testing.T) {
	b, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	head, have, ok := strings.Cut(string(b), docsBegin)
	if !ok {
		t.Fatalf("%s has no line %q", docsPath, docsBegin)
	}
	want := docsOfRules()
	if have == want {
		return
	}
	if flag.Lookup("rewrite").Value.String() == "true" { // datadriven's
		if err := os.WriteFile(docsPath, []byte(head+docsBegin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s does not say what the rules say: go test ./correlate -rewrite, and read the difference", docsPath)
}

func docsOfRules() string {
	rules := Rules()
	slices.SortFunc(rules, func(a, b Rule) int { return strings.Compare(string(a.Condition), string(b.Condition)) })
	e := New(Config{}, nil)
	var out strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&out, "\n### `%s`\n%s.\n\n", r.Condition, strings.ToUpper(r.Text[:1])+r.Text[1:])
		severity := r.Severity.String()
		if r.Absorbed != SeverityUnset {
			severity += "; " + r.Absorbed.String() + " while no domain is affected"
		}
		effect := r.State.String()
		if r.State == StateOK {
			effect = "as it was"
		}
		cause := r.AbstractCause
		if cause == "" {
			cause = "by the kind of the resource"
		}
		for _, row := range [][2]string{
			{"likely causes", r.Causes},
			{"what to do", r.Remedy},
			{"ends", docsOfEnd(r)},
			{"severity", severity},
			{"its resource is", effect},
			{"raised", docsOfRaise(e, r)},
			{"X.733", fmt.Sprintf("%s, `%s`", r.EventType, r.ProbableCause)},
			{"tenants are told", cause},
		} {
			fmt.Fprintf(&out, "- **%s**: %s\n", row[0], row[1])
		}
	}
	return out.String()
}

func docsOfRaise(e *Engine, r Rule) string {
	at := func(hold string) string {
		if hold == "0s" {
			return "at once"
		}
		return "when it has lasted " + hold
	}
	text := at(r.HoldDown.String())
	for _, k := range Kinds() {
		if d := e.define(NewID(k, "x"), r.Condition); d.HoldDown != r.HoldDown {
			text += fmt.Sprintf("; on a %s %s", k, at(d.HoldDown.String()))
		}
	}
	if r.Follows {
		text += "; not sent of its own when what its resource needs has failed: correlated under that alarm"
	}
	return text
}

func docsOfEnd(r Rule) string {
	var text string
	switch r.Mode {
	case Level:
		text = "level: when its source says that it is well"
	case Impulse:
		text = fmt.Sprintf("impulse: by itself, %s after it was last reported", r.Hold)
	case Latched:
		text = "latched: when it is acknowledged"
	}
	if r.Condition == CondGone {
		text = "level: when it is there again"
	}
	if r.AckClears {
		text += ", or when it is acknowledged"
	}
	return text
}

func TestEveryRuleIsWhole(t *testing.T) {
	seen := map[Condition]bool{}
	causes := map[string]Condition{}
	for _, r := range Rules() {
		if of, ok := causes[r.Causes]; ok {
			t.Errorf("%s has the causes of %s: what is found behind the two differs", r.Condition, of)
		}
		causes[r.Causes] = r.Condition
		if strings.Contains(r.Causes, r.Text) || strings.Contains(r.Remedy, r.Causes) || len(strings.Fields(r.Causes)) < 5 {
			t.Errorf("%s: its causes only repeat what it means or what to do: %q", r.Condition, r.Causes)
		}
		switch {
		case seen[r.Condition]:
			t.Errorf("%s is defined twice", r.Condition)
		case r.Text == "" || r.Causes == "" || r.Remedy == "" || r.EventType == "" || r.ProbableCause == "" || r.Severity < SeverityWarning:
			t.Errorf("%s lacks something: %+v", r.Condition, r)
		case (r.Mode == Impulse) != (r.Hold > 0):
			t.Errorf("%s: mode %d with hold %s", r.Condition, r.Mode, r.Hold)
		case r.Absorbed > r.Severity:
			t.Errorf("%s is worse when nobody is hit", r.Condition)
		}
		seen[r.Condition] = true
	}
}

// TestTheFaultCatalogueNamesEveryCondition holds docs/faults.md complete, and free of conditions that there are not.
func TestTheFaultCatalogueNamesEveryCondition(t *testing.T) {
	b, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllSubmatch(b, -1) {
		named[string(m[1])] = true
	}
	for _, r := range Rules() {
		if !named[string(r.Condition)] {
			t.Errorf("%s is in no row", r.Condition)
		}
		delete(named, string(r.Condition))
	}
	for name := range named {
		t.Errorf("%s is no condition", name)
	}
}
