package docs

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is made by machine in logs.md anew")

// An event is one message of the agent's log, with all that the calls say which write it.
type event struct {
	levels, attributes, areas map[string]bool
	at                        token.Position // one of the calls
}

// The areas of the page, by the directory of the code; the first that fits.
var logAreas = [][2]string{
	{"../agent/api", "The API"},
	{"../agent/history", "Past alarms"},
	{"../agent/cluster", "The cluster"},
	{"../agent/home.go", "The cluster"},
	{"../gossip", "The cluster"},
	{"../notify", "Consumers"},
	{"../agent/supervise.go", "Sources"},
	{"../hw", "Sources"},
	{"../", "The agent"},
}

func areaOf(file string) string {
	for _, a := range logAreas {
		if strings.HasPrefix(file, a[0]) {
			return a[1]
		}
	}
	return ""
}

// Attributes go by these names and no others that mean the same.
var otherNames = map[string]string{
	"err": "error", "last_error": "error", "node": "host", "addr": "address", "path": "file", "why": "reason", "text": "reason", "id": "subscription_id",
	"sub": "subscription", "consumer": "subscription", "alarm_id": "alarm",
}

// The path is a URL's there.
var allowed = map[string]string{"request failed": "path", "request panicked": "path"}

var logLevels = map[string]string{"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error"}

// readLogCalls finds every call that writes to the log: the methods of a slog.Logger, and records that are made by hand.
func readLogCalls(t *testing.T) map[string]*event {
	t.Helper()
	events, texts := make(map[string]*event), make(map[string]string)
	files := token.NewFileSet()
	var parsed []*ast.File
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "e2e" || d.Name() == "testdata" || d.Name() == "docs" || path != ".." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed = append(parsed, file)
		readConstants(file, texts)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range parsed {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				readFunction(t, files, f, texts, events)
			}
		}
	}
	return events
}

// readConstants takes the texts of constants whose names end in Event: messages that another package must know.
func readConstants(file *ast.File, texts map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == 1 && len(v.Values) == 1 && strings.HasSuffix(v.Names[0].Name, "Event") {
			if text, ok := literal(v.Values[0]); ok {
				texts[v.Names[0].Name] = text
			}
		}
		return true
	})
}

func readFunction(t *testing.T, files *token.FileSet, f *ast.FuncDecl, texts map[string]string, events map[string]*event) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name := selector.Sel.Name
		level := logLevels[strings.TrimSuffix(name, "Context")]
		message, attributes := 0, 1
		switch {
		case name == "NewRecord": // (time, level, message, pc); attributes follow
			message, attributes = 2, 4
		case name == "logLater": // (level, message, attributes)
			message, attributes = 1, 2
		case (name == "Log" || name == "LogAttrs") && len(call.Args) > 2: // (context, level, message, attributes)
			message, attributes = 2, 3
		case level == "":
			return true
		case strings.HasSuffix(name, "Context"):
			message, attributes = 1, 2
		}
		if len(call.Args) <= message || !isLogger(selector.X) && name != "NewRecord" && name != "logLater" {
			return true
		}
		at := files.Position(call.Pos())
		text, ok := literal(call.Args[message])
		if name, is := call.Args[message].(*ast.Ident); is && texts[name.Name] != "" {
			text, ok = texts[name.Name], true
		}
		if !ok {
			if f.Name.Name != "logLater" { // its callers are read
				t.Errorf("%s: the message is no constant: nobody can look for it", at)
			}
			return true
		}
		e := events[text]
		if e == nil {
			e = &event{levels: map[string]bool{}, attributes: map[string]bool{}, areas: map[string]bool{}, at: at}
			events[text] = e
		}
		e.areas[areaOf(at.Filename)] = true
		rest := call.Args[min(attributes, len(call.Args)):]
		if level != "" {
			e.levels[level] = true
		} else {
			levelsIn(call, e.levels)
		}
		if call.Ellipsis.IsValid() || name == "NewRecord" { // they are put together within the function
			keysIn(f.Body, e.attributes)
			if len(e.levels) == 0 {
				levelsIn(f.Body, e.levels)
			}
			return true
		}
		for i := 0; i < len(rest); i++ {
			if key, ok := literal(rest[i]); ok {
				e.attributes[key] = true
				i++ // its value
				continue
			}
			before := len(e.attributes)
			keysIn(rest[i], e.attributes)
			if len(e.attributes) == before {
				t.Errorf("%s: the name of an attribute is no constant", at)
			}
		}
		return true
	})
}

// isLogger goes by the name: log, Log, or a field of that name.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "log") || strings.EqualFold(x.Name, "logger")
	case *ast.SelectorExpr:
		return isLogger(x.Sel)
	}
	return false
}

func literal(x ast.Expr) (string, bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		if x.Kind == token.STRING {
			text, err := strconv.Unquote(x.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		a, good := literal(x.X)
		b, fine := literal(x.Y)
		return a + b, good && fine && x.Op == token.ADD
	}
	return "", false
}

// levelsIn collects slog.LevelX.
func levelsIn(n ast.Node, into map[string]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if level, ok := logLevels[strings.TrimPrefix(s.Sel.Name, "Level")]; ok && strings.HasPrefix(s.Sel.Name, "Level") {
				into[level] = true
			}
		}
		return true
	})
}

// keysIn collects the names of slog.String("name", …) and its like, of []any{"name", …} and of append(attrs, "name", …).
func keysIn(n ast.Node, into map[string]bool) {
	take := func(list []ast.Expr) {
		for i := 0; i < len(list); i += 2 {
			if key, ok := literal(list[i]); ok && len(list) > i+1 {
				into[key] = true
			}
		}
	}
	ast.Inspect(n, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CompositeLit:
			if array, ok := x.Type.(*ast.ArrayType); ok {
				if elem, ok := array.Elt.(*ast.Ident); ok && elem.Name == "any" {
					take(x.Elts)
				}
			}
		case *ast.CallExpr:
			if of, ok := x.Fun.(*ast.Ident); ok && of.Name == "append" && len(x.Args) > 2 {
				take(x.Args[1:])
			}
			if of, ok := x.Fun.(*ast.SelectorExpr); ok && len(x.Args) == 2 {
				if pkg, ok := of.X.(*ast.Ident); ok && pkg.Name == "slog" {
					take(x.Args)
				}
			}
		}
		return true
	})
}

const (
	logsFile  = "logs.md"
	logsBegin = "<!-- events: go test ./docs -run Log -update -->\n"
	logsEnd   = "<!-- end of the events -->\n"
)

var logRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\| ([^|]*) \\| (.*?) \\| (.*?) \\|$")

// TestEveryEventOfTheLogIsInTheManual holds logs.md against every call that writes to the log: with -update the names, levels
// and attributes are written anew, and what people wrote beside them is kept.
func TestEveryEventOfTheLogIsInTheManual(t *testing.T) {
	events := readLogCalls(t)
	if len(events) < 100 {
		t.Fatalf("only %d events were found: this test is blind", len(events))
	}
	page, err := os.ReadFile(logsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), logsBegin)
	tables, after, ended := strings.Cut(rest, logsEnd)
	if !found || !ended {
		t.Fatalf("%s has lost its marks %q and %q", logsFile, logsBegin, logsEnd)
	}
	written := make(map[string][2]string) // meaning, what to do
	for _, m := range logRow.FindAllStringSubmatch(tables, -1) {
		written[m[1]] = [2]string{m[4], m[5]}
	}
	for name, e := range events {
		if len(e.areas) != 1 {
			t.Errorf("%s: %q is said in several areas (%s): one name, one meaning", e.at, name, join(e.areas))
		}
		for key := range e.attributes {
			if better := otherNames[key]; better != "" && allowed[name] != key {
				t.Errorf("%s: %q: the attribute %q is called %q everywhere", e.at, name, key, better)
			}
		}
		if len(e.levels) == 0 {
			t.Errorf("%s: %q: no level was found", e.at, name)
		}
		w := written[name]
		if strings.TrimSpace(w[0]) == "" {
			t.Errorf("%s: %q has no meaning in %s", e.at, name, logsFile)
		}
		if (e.levels["warn"] || e.levels["error"]) && strings.TrimSpace(w[1]) == "" {
			t.Errorf("%s: %q does not say in %s what to do", e.at, name, logsFile)
		}
	}
	for name := range written {
		if events[name] == nil {
			t.Errorf("%s: nobody says %q", logsFile, name)
		}
	}
	want := writeTables(events, written)
	if want == tables {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: go test ./docs -run Log -update; then write what new events mean. It should be:\n%s", logsFile, want)
	}
	if err := os.WriteFile(logsFile, []byte(before+logsBegin+want+logsEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeTables(events map[string]*event, written map[string][2]string) string {
	var b strings.Builder
	var done []string
	for _, a := range logAreas {
		if slices.Contains(done, a[1]) {
			continue
		}
		done = append(done, a[1])
		var names []string
		for name, e := range events {
			if e.areas[a[1]] {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		fmt.Fprintf(&b, "\n## %s\n\n| event | level | attributes | meaning | what to do |\n|---|---|---|---|---|\n", a[1])
		for _, name := range names {
			w := written[name]
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, join(events[name].levels), cmp.Or(join(events[name].attributes), "–"), w[0], w[1])
		}
	}
	b.WriteString("\n")
	return b.String()
}

func join(set map[string]bool) string {
	var all []string
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
