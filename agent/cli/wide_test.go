package cli

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"
	"golang.org/x/tools/txtar"
)

// What may be long, hide or be wide in an answer, for others have chosen it.
var stretched = []string{
	"text", "host", "zone", "resource", "condition", "last_error", "reason", "project", "version", "source", "state", "by", "comment", "name", "label",
	"clear_reason", "summary", "remedy", "address", "api", "echo_reason", "endpoint", "paused", "locked",
}

const nuisance = "-a-name-that-does-not-end-and-has-no-space-in-it-at-all\x1b[2J\u202e 東京の部屋と長い名前 or words, and more words, as long as anybody likes"

// stretch makes the texts of an answer long, but for those that the command asks for by name, and states that it judges.
func stretch(body, command string) string {
	var v any
	if json.Unmarshal([]byte(body), &v) != nil {
		return body
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for key, value := range v {
				text, isText := value.(string)
				if key == "host" && strings.HasPrefix(command, "topology") { // it asks for that host
					continue
				}
				if isText && text != "" && slices.Contains(stretched, key) && !strings.Contains(command, text) && !slices.Contains(judged, text) {
					v[key] = text + nuisance
					continue
				}
				walk(value)
			}
		}
	}
	walk(v)
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// judged are words of the API by which a command goes; nobody else chooses them.
var judged = []string{"cleared", "raised", "changed", "member", "starting", "lost", "pending", "parked", "policy", "source", "rule", "home", "ledger"}

// cases are those of the tables' tests: the answers and the command line.
func cases(t *testing.T, f func(t *testing.T, args []string, answers map[string]string)) {
	t.Helper()
	eachTable(t, func(t *testing.T, _ string, archive *txtar.Archive, answers map[string]string) {
		f(t, strings.Fields(string(archive.Comment)), answers)
	})
}

func TestNoLineIsWiderThanTheTerminal(t *testing.T) {
	for _, wide := range []int{80, 132, 40} {
		cases(t, func(t *testing.T, args []string, answers map[string]string) {
			if slices.Contains(args, "-o") {
				return // what programs read is not laid out
			}
			for call, body := range answers {
				answers[call] = stretch(body, strings.Join(args, " "))
			}
			var stdout, stderr bytes.Buffer
			Main(append(args, "--server", play(t, answers)), Process{Stdout: &stdout, Stderr: &stderr, Version: "test", wide: wide, now: func() time.Time { return topNow }})
			for line := range strings.Lines(stdout.String()) {
				if line = strings.TrimSuffix(line, "\n"); columns(line) > wide || strings.ContainsFunc(line, unprintable) {
					t.Errorf("%d columns of %d: %q", columns(line), wide, line)
				}
			}
			if stdout.Len() == 0 && stderr.Len() == 0 {
				t.Error("nothing is said")
			}
		})
	}
}

// What is not asked of an agent, or is no answer but a stream or a page, with what holds its -o json.
var otherwise = map[string]string{
	"run":          "it prints its log",
	"watch":        "a stream: an object a line, TestWatch… hold it",
	"receive":      "a stream: an object a line, testdata/script/receive.txtar holds it",
	"check-config": "testdata/script/check-config.txtar holds it",
	"keygen":       "testdata/script/keygen.txtar holds it",
	"version":      "testdata/script/usage.txtar holds it",
	"bundle":       "it writes an archive: bundle_test.go holds it",
	"keys add":     "it reads a key: testdata/script/cluster.txtar holds it",
	"rotate":       "it reads a secret: testdata/script/agent.txtar holds it",
	"manual":       "a page for man(1)",
}

func TestEveryCommandAnswersProgramsToo(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Vars{"defaultConfig": "x"})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(map[string]int) // by path: 1 json, 2 yaml
	cases(t, func(t *testing.T, args []string, answers map[string]string) {
		for _, format := range []string{"json", "yaml"} {
			if slices.Contains(args, "-o") {
				return
			}
			parser, err := kong.New(&commands{}, kong.Vars{"defaultConfig": "x"}) // one keeps what it has parsed
			if err != nil {
				t.Fatal(err)
			}
			kctx, err := parser.Parse(args)
			if err != nil {
				return // the case is about wrong usage
			}
			run := func(args []string) (status int, out string) {
				var stdout, stderr bytes.Buffer
				status = Main(append(slices.Clone(args), "--server", play(t, answers)), Process{
					Stdout: &stdout, Stderr: &stderr, Version: "test", wide: 80, now: func() time.Time { return topNow },
				})
				return status, stdout.String()
			}
			want, _ := run(args)
			status, out := run(append(slices.Clone(args), "-o", format))
			if status != want {
				t.Errorf("-o %s ends with %d, a table with %d", format, status, want)
			}
			if status != exitOK {
				return
			}
			var v any
			if format == "json" {
				err = json.Unmarshal([]byte(out), &v)
			} else {
				err = yaml.Load([]byte(out), &v)
			}
			if _, isObject := v.(map[string]any); err != nil || !isObject {
				t.Errorf("-o %s is no object (%v): %s", format, err, out)
			}
			answered[kctx.Selected().Path()] |= map[string]int{"json": 1, "yaml": 2}[format]
		}
	})
	for _, leaf := range parser.Model.Leaves(false) {
		name := leaf.Path()
		if _, listed := otherwise[name]; listed {
			delete(otherwise, name)
			continue
		}
		if answered[name] != 3 {
			t.Errorf("no case of testdata/tables shows that %q answers -o json and -o yaml", name)
		}
	}
	for name := range otherwise {
		t.Errorf("%q is listed and no command", name)
	}
}
