package config

import (
	"cmp"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

const (
	referenceFile = "../../docs/configuration.md"
	packagedFile  = "../../packaging/paramedic.yaml"
	everyKeyFile  = "testdata/every-key.yaml"
)

// The reference is made of config.go: comments, tags and defaults. go test ./agent/config -run Reference -update
func TestTheReferenceIsWhatTheCodeSays(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/configuration.md is stale, make it anew with -update (-want +got):\n%s", diff)
	}
}

func TestThePackagedFileIsGoodAndTheDefault(t *testing.T) {
	data, err := os.ReadFile(packagedFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Parse(packagedFile, data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(Default(), cfg, compare); diff != "" {
		t.Errorf("the packaged file changes defaults (-default +file):\n%s", diff)
	}
}

// What is commented out in the packaged file must be good as well, or people uncomment mistakes.
func TestThePackagedFileIsGoodWhenUncommented(t *testing.T) {
	data, err := os.ReadFile(packagedFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	keys := 0
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "# "); ok && strings.HasPrefix(line, " ") {
			lines[i] = line[:strings.IndexByte(line, '#')] + rest
			keys++
		}
	}
	cfg, err := Parse("uncommented", []byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if keys < 20 || len(cfg.Notify.Subscriptions) != 1 || len(cfg.Correlate.Policies) != 1 || len(cfg.Correlate.Events) != 1 {
		t.Errorf("%d lines were uncommented: %+v", keys, cfg)
	}
}

func TestTheExampleOfTheReferenceIsGood(t *testing.T) {
	if _, err := Parse("example", []byte(example)); err != nil {
		t.Fatal(err)
	}
}

const example = `node:
  zone: rack-a
  labels: {az: nova-1}
cluster:
  bind: 10.0.0.1
  join: [cmp-2, cmp-3]
  label: prod
  key_file: gossip.key
  secrets_key_file: secrets.key
hw:
  nic:
    include: ["ens*"]
  virt:
    owners:
      names: {"vnf-a-*": project-a}
correlate:
  policies:
    - match: {resource: "nic/*", condition: carrier}
      hold_down: 200ms
notify:
  allow_callbacks: [10.0.0.0/8]
  subscriptions:
    - name: vnfm-a
      endpoints: ["http://10.0.0.5:8080/failure", "http://10.0.0.6:8080/failure"]
      role: consumer
      filter:
        projects: [project-a]
        min_severity: major
    - name: operators
      endpoints: ["http://10.0.9.9/alarms"]
`

const referenceHead = `<!-- Generated from agent/config/config.go: go test ./agent/config -run Reference -update -->
# Configuration

One YAML file, ` + "`" + DefaultPath + "`" + ` unless ` + "`paramedic run --config FILE`" + ` names another. Every key has a
default; an empty file runs one useful host. What holds for the whole file:

- ` + "`paramedic check-config FILE`" + ` tells everything that is wrong with it at once: place, excerpt, remedy.
- ` + "`systemctl reload paramedic`" + ` (or SIGHUP) takes over a changed file, all of it or on an error nothing. A change of keys that are taken
  over by a **restart** only is such an error, and the log names them. What a changed file leaves unwatched has not vanished: its alarms end.
- Unknown keys, a key given twice, a second document, aliases and merge keys are errors. A number is taken as text where
  text is wanted; ` + "`true`" + ` and ` + "`false`" + ` must then be quoted.
- Durations have a unit: ` + "`500ms`, `10s`, `5m`, `24h`" + `.
- Secrets are only read from files. A ` + "`secret_file`" + ` that begins with ` + "`/`" + ` is that file. Any other name is a systemd
  credential (` + "`LoadCredential=`" + `, in ` + "`$CREDENTIALS_DIRECTORY`" + `) if there is one of that name, else a file beside the
  configuration. It holds ` + "`whsec_`" + ` and base64 of 24 to 64 bytes, as ` + "`paramedic keygen`" + ` prints it; several, one a line,
  during a rotation. Others than owner and group must have no access to it.

`

func reference(t *testing.T) string {
	t.Helper()
	comments := readComments(t)
	every := readEveryKey(t)
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("## An example\n\n```yaml\n" + example + "```\n")
	var section func(typ reflect.Type, path string, restart bool)
	section = func(typ reflect.Type, path string, restart bool) {
		title := cmp.Or(path, "The top level")
		if path != "" {
			title = "`" + path + "`"
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | value | default | example | taken over by | |\n|---|---|---|---|---|---|\n", title, comments[typ.Name()])
		var below []func()
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("yaml")
			if key == "-" {
				continue
			}
			elem, at := f.Type, join(path, key)
			if elem.Kind() == reflect.Slice {
				elem, at = elem.Elem(), at+"[]"
			}
			text := comments[typ.Name()+"."+f.Name]
			needsRestart := restart || f.Tag.Get("restart") == "true"
			showing, by := every[at], "reload"
			if needsRestart {
				by = "restart"
			}
			if elem.Kind() == reflect.Struct && elem != prefixType {
				showing, by = "", ""
				below = append(below, func() { section(elem, at, needsRestart) })
				text = cmp.Or(text, comments[elem.Name()])
			}
			if text == "" {
				t.Errorf("%s.%s has no comment", typ.Name(), f.Name)
			}
			if showing == "" && by != "" {
				t.Errorf("%s has no example in %s", at, everyKeyFile)
			}
			if rest, ok := strings.CutPrefix(text, f.Name+" "); ok {
				text = "`" + key + "` " + rest
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", key, describeType(f), describeDefault(f), showing, by, text)
		}
		for _, f := range below {
			f()
		}
	}
	section(reflect.TypeFor[Config](), "", false)

	b.WriteString("\n## Not yet built\n\nThese keys are known and refused by name:\n\n")
	var later []string
	for path, keys := range laterKeys {
		for _, k := range keys {
			later = append(later, "`"+join(strings.ReplaceAll(path, "[*]", "[]"), k)+"`")
		}
	}
	slices.Sort(later)
	b.WriteString(strings.Join(later, ", ") + ".\n")
	return b.String()
}

// readEveryKey gives what every-key.yaml has for each key, by its path in which [] stands for the elements of a list.
func readEveryKey(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(everyKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(everyKeyFile, data); err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	every := make(map[string]string)
	var read func(n *yaml.Node, path string)
	read = func(n *yaml.Node, path string) {
		if every[path] == "" {
			every[path] = "`" + strings.ReplaceAll(flow(n), "|", `\|`) + "`"
		}
		if n.Kind == yaml.MappingNode {
			for i := 0; i < len(n.Content); i += 2 {
				read(n.Content[i+1], join(path, n.Content[i].Value))
			}
		}
		if n.Kind == yaml.SequenceNode {
			every[path+"[]"] = every[path]
			for _, element := range n.Content {
				if element.Kind == yaml.MappingNode {
					read(element, path+"[]")
				}
			}
		}
	}
	read(document.Content[0], "")
	return every
}

// flow is a value on one line.
func flow(n *yaml.Node) string {
	var parts []string
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			parts = append(parts, flow(n.Content[i])+": "+flow(n.Content[i+1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	if n.Kind == yaml.SequenceNode {
		for _, element := range n.Content {
			parts = append(parts, flow(element))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if n.Style == yaml.DoubleQuotedStyle {
		return `"` + n.Value + `"`
	}
	return n.Value
}

func describeType(f reflect.StructField) string {
	of := func(typ reflect.Type, check string) string {
		switch {
		case typ == durationType, typ.Kind() == reflect.Pointer && typ.Elem() == durationType:
			return fmt.Sprintf("duration, %s to %s", f.Tag.Get("min"), f.Tag.Get("max"))
		case typ == reflect.TypeFor[netip.Prefix]():
			return "a network, such as 10.0.0.0/8"
		case typ.Kind() == reflect.Bool:
			return "true or false"
		case typ.Kind() == reflect.Uint64:
			return fmt.Sprintf("a number, %s to %s", f.Tag.Get("min"), f.Tag.Get("max"))
		case typ.Kind() == reflect.Struct:
			return "mapping"
		case check == "condition":
			return "one of [those that there are](alarms.md)"
		case check == "filter-condition":
			return "one of [those that there are](alarms.md), or a class of cause"
		case words[check] != nil:
			return "`" + strings.Join(words[check], "`, `") + "`"
		}
		return texts[check].describe
	}
	list := func(typ reflect.Type) string {
		if typ.Kind() == reflect.Slice {
			return "list: " + of(typ.Elem(), f.Tag.Get("check"))
		}
		return of(typ, f.Tag.Get("check"))
	}
	if f.Type.Kind() == reflect.Slice {
		return list(f.Type)
	}
	if f.Type.Kind() == reflect.Map {
		return "mapping: " + of(reflect.TypeFor[string](), f.Tag.Get("keys")) + " → " + list(f.Type.Elem())
	}
	return of(f.Type, f.Tag.Get("check"))
}

func describeDefault(f reflect.StructField) string {
	if d := f.Tag.Get("default"); d != "" {
		return "`" + d + "`"
	}
	if f.Type.Kind() == reflect.Bool {
		return "`false`"
	}
	return ""
}

// readComments gives the comments of config.go's types and fields, on one line each, by Type and Type.Field.
func readComments(t *testing.T) map[string]string {
	t.Helper()
	file, err := goparser.ParseFile(token.NewFileSet(), "config.go", nil, goparser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string)
	markdown := strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`)
	oneLine := func(g *ast.CommentGroup) string { return markdown.Replace(strings.Join(strings.Fields(g.Text()), " ")) }
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			typ := spec.(*ast.TypeSpec)
			comments[typ.Name.Name] = oneLine(g.Doc)
			for _, field := range typ.Type.(*ast.StructType).Fields.List {
				for _, name := range field.Names {
					comments[typ.Name.Name+"."+name.Name] = oneLine(field.Doc)
				}
			}
		}
	}
	return comments
}
