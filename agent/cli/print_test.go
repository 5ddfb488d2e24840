package cli

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

func TestNamesOfTenantsAreHarmlessOnATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"vm-1":                "vm-1",
		"":                    "-",
		"größe 東京":            "größe 東京",
		"\x1b[2J":             `\x1b[2J`,
		"a\rb\tc\nd":          `a\rb\tc\nd`,
		"\u202egpj.exe":       `\u202egpj.exe`,
		"zero\u200bwidth":     `zero\u200bwidth`,
		"bad \xff\xfe bytes":  `bad \xff\xfe bytes`,
		"\x9b31m":             `\x9b31m`,
		"\u009b31m":           `\u009b31m`,
		"\uFFFD is a letter":  "\uFFFD is a letter",
		"\U000e0041 tag char": `\U000e0041 tag char`,
	} {
		if got := word(in); got != want {
			t.Errorf("word(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		got := word(string(rapid.SliceOf(rapid.Byte()).Draw(t, "name")))
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r == '\n' || unprintable(r) }) {
			t.Errorf("%q", got)
		}
	})
}

// What programs read says the same, and does not move a cursor either.
func TestDocumentsAreHarmlessOnATerminal(t *testing.T) {
	for _, format := range []string{"json", "yaml"} {
		for _, item := range []bool{false, true} {
			rapid.Check(t, func(t *rapid.T) {
				want := map[string]string{"name": rapid.OneOf(rapid.String(), rapid.Just("a\u009b31m\u202eb\U000e0041\nc\x7f'\"\\")).Draw(t, "name")}
				var out strings.Builder
				p := &printer{w: &out, format: format}
				var err error
				if item {
					err = p.item(want)
				} else {
					err = p.show(want, nil)
				}
				var got map[string]string
				if err == nil {
					err = yaml.Load([]byte(out.String()), &got) // JSON is YAML, but for its pairs of surrogates
					if format == "json" {
						err = json.Unmarshal([]byte(out.String()), &got)
					}
				}
				if err != nil || got["name"] != want["name"] || strings.ContainsFunc(out.String(), unprintable) {
					t.Errorf("%+q became %+q: %v", want["name"], out.String(), err)
				}
			})
		}
	}
}

func TestColumnsAreCutWhereTheyAreWidest(t *testing.T) {
	for _, c := range []struct {
		width, want []int
		wide        int
	}{
		{[]int{5, 5, 5}, []int{5, 5, 5}, 80},
		{[]int{5, 5, 200}, []int{5, 5, 66}, 80},
		{[]int{50, 20, 200}, []int{32, 20, 24}, 80},
		{[]int{50, 50, 4}, []int{36, 36, 4}, 80},
		{[]int{50, 50}, []int{8, 6}, 3}, // the id that people type stays
	} {
		got := slices.Clone(c.width)
		fit(got, c.wide, false)
		if !slices.Equal(got, c.want) {
			t.Errorf("fit(%v, %d) = %v, want %v", c.width, c.wide, got, c.want)
		}
	}
}

func TestShortenedIDsStayApart(t *testing.T) {
	list := []string{"3f9c000122", "3f9c000133", "3f9c000133", "aaaaaaaaaaaa", "b"}
	id := shortIDs(list, func(s string) string { return s })
	for in, want := range map[string]string{"3f9c000122": "3f9c00012", "3f9c000133": "3f9c00013", "aaaaaaaaaaaa": "aaaaaaaaa", "b": "b"} {
		if got := id(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	width := []int{12, 50, 50}
	if fit(width, 40, true); width[0] != 12 {
		t.Errorf("an id is cut to %d", width[0])
	}
}

func TestPercentilesAreByNearestRank(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		of   []time.Duration
		p    int
		want time.Duration
	}{{hundred, 50, 50}, {hundred, 99, 99}, {hundred[:1], 50, 1}, {hundred[:1], 99, 1}, {hundred[:2], 50, 1}, {hundred[:3], 99, 3}} {
		if got := percentile(c.of, c.p); got != c.want {
			t.Errorf("p%d of %d = %d, want %d", c.p, len(c.of), got, c.want)
		}
	}
}

// Each command is in the manual with an example, and the manual names none that isn't there.
func TestTheManualHasEveryCommand(t *testing.T) {
	manual, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	parser, err := kong.New(&commands{}, kong.Vars{"defaultConfig": "x"})
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, node := range parser.Model.Children {
		if node.Hidden {
			continue
		}
		known = append(known, node.Name)
		section, _, _ := strings.Cut(string(manual), "\n## "+node.Name+"\n")
		_, rest, found := strings.Cut(string(manual), "\n## "+node.Name+"\n")
		if !found {
			t.Errorf("no section %q after %d bytes", node.Name, len(section))
			continue
		}
		text, _, _ := strings.Cut(rest, "\n## ")
		if !strings.Contains(text, "    paramedic "+node.Name) {
			t.Errorf("%s has no example", node.Name)
		}
		for _, flag := range node.Flags {
			if flag.Name != "help" && !strings.Contains(text, "--"+flag.Name) && !strings.Contains(text, "--no-"+flag.Name) {
				t.Errorf("%s: --%s is not described", node.Name, flag.Name)
			}
		}
	}
	for line := range strings.Lines(string(manual)) {
		if name, ok := strings.CutPrefix(line, "## "); ok && !slices.Contains(known, strings.TrimSpace(name)) {
			t.Errorf("section %q is about no command", strings.TrimSpace(name))
		}
	}
}
