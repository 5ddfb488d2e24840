package docs

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const (
	referencePage = "api/reference.md"
	referenceHead = `<!-- Generated from openapi.yaml: go test ./docs -run Reference -update -->
# Every call of the API

What [openapi.yaml](openapi.yaml) says, in the order of the [guide](../api.md), which has the helper ` + "`api`" + ` of the examples and explains what belongs together.
The examples run in a test. *Who may* is the table of [security.md](../security.md#the-api-who-may-do-what): over the Unix socket everybody is an administrator. Errors are
[problems](../api.md#problems), and each call may also be answered with 500.
`
)

// description is as much of OpenAPI as the reference shows.
type description struct {
	Tags []struct {
		Name, Description string
	}
	Paths      map[string]map[string]operation
	Components struct {
		Schemas    map[string]shape
		Parameters map[string]apiParameter
		Responses  map[string]response
	}
}

type operation struct {
	Summary, Description string
	Tags                 []string
	Parameters           []apiParameter
	RequestBody          struct {
		Content map[string]struct{ Schema shape }
	} `yaml:"requestBody"`
	Responses map[string]response
}

type apiParameter struct {
	Name, In, Description string
	Required              bool
	Schema                shape
	Ref                   string `yaml:"$ref"`
}

type response struct {
	Description string
	Content     map[string]struct{ Schema shape }
	Ref         string `yaml:"$ref"`
}

type shape struct {
	Type        any
	Format      string
	Description string
	Enum        []any
	Default     any
	Properties  map[string]shape
	Required    []string
	Items       *shape
	OneOf       []shape `yaml:"oneOf"`
	AnyOf       []shape `yaml:"anyOf"`
	AllOf       []shape `yaml:"allOf"`
	Minimum     any
	Maximum     any
	Ref         string `yaml:"$ref"`
}

// of is the name of what a reference leads to.
func of(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// words says in a cell what a value may be.
func (s shape) words() string {
	join := func(all []shape) string {
		var parts []string
		for _, one := range all {
			parts = append(parts, one.words())
		}
		return strings.Join(parts, " or ")
	}
	switch {
	case s.Ref != "":
		return of(s.Ref)
	case len(s.OneOf) > 0:
		return join(s.OneOf)
	case len(s.AnyOf) > 0:
		return join(s.AnyOf)
	case len(s.AllOf) > 0:
		return join(s.AllOf)
	case len(s.Enum) > 0:
		var parts []string
		for _, v := range s.Enum {
			parts = append(parts, fmt.Sprintf("`%v`", v))
		}
		return strings.Join(parts, ", ")
	case s.Items != nil:
		return "list of " + s.Items.words()
	}
	text := fmt.Sprint(s.Type)
	if list, ok := s.Type.([]any); ok {
		var parts []string
		for _, v := range list {
			parts = append(parts, fmt.Sprint(v))
		}
		text = strings.Join(parts, " or ")
	}
	if s.Type == nil {
		text = "anything"
	}
	if s.Format != "" {
		text += ", " + s.Format
	}
	if s.Minimum != nil && s.Maximum != nil {
		text += fmt.Sprintf(", %v to %v", s.Minimum, s.Maximum)
	}
	return text
}

// oneCell is a text that fits into a table.
func oneCell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`).Replace(strings.Join(strings.Fields(s), " "))
}

// example is a command of the guide that makes a call.
type example struct{ method, path, command string }

var (
	called     = regexp.MustCompile(`\bapi ["']?(/(?:\$\([^)]*\)|[^ "'()])*)`)
	withMethod = regexp.MustCompile(`-X ([A-Z]+)`)
)

// examplesOf lists the calls of the guide's commands.
func examplesOf(t *testing.T) []example {
	t.Helper()
	var all []example
	for _, b := range blocksOf("api.md", pages(t)["api.md"]) {
		if b.kind != "sh" {
			continue
		}
		text := strings.ReplaceAll(b.text, "\\\n", " ")
		// A body over several lines is one command.
		text = regexp.MustCompile(`(?s)-d '\{\n.*?\}'`).ReplaceAllStringFunc(text, func(s string) string { return strings.Join(strings.Fields(s), " ") })
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			for _, m := range called.FindAllStringSubmatchIndex(line, -1) {
				rest := line[m[0]:]
				if next := strings.Index(rest[1:], "| api "); next >= 0 {
					rest = rest[:next]
				}
				method := "GET"
				if x := withMethod.FindStringSubmatch(rest); x != nil {
					method = x[1]
				} else if strings.Contains(rest, " -d ") {
					method = "POST"
				}
				path, _, _ := strings.Cut(line[m[2]:m[3]], "?")
				all = append(all, example{method, path, line})
			}
		}
	}
	return all
}

// showing is the first command of the guide that makes a call.
func showing(examples []example, method, template string) string {
	pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z_]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^{}?]+`) + "$")
	best := ""
	for _, e := range examples {
		exact := !strings.ContainsAny(template, "{") || strings.Count(e.path, "/") >= strings.Count(template, "/")
		if e.method == method && exact && pattern.MatchString(e.path) && (best == "" || len(e.command) < len(best)) {
			best = e.command
		}
	}
	return best
}

// whoMay reads the table of security.md: call → the cells of it.
func whoMay(t *testing.T) map[string]string {
	t.Helper()
	may := make(map[string]string)
	for line := range strings.Lines(pages(t)["security.md"]) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 6 || !strings.HasPrefix(cells[0], " `") {
			continue
		}
		who := []string{"an administrator"}
		if cells[4] == "own" {
			who = append(who, "a consumer about what is its own")
		}
		if cells[4] == "yes" {
			who = append(who, "a consumer")
		}
		if cells[2] == "yes" {
			who = append(who, "a monitor")
		}
		text := strings.Join(who, ", ")
		if cells[1] == "yes" {
			text = "everybody"
		}
		may[strings.Trim(strings.TrimSpace(cells[0]), "`")] = text
	}
	return may
}

// TestTheReferenceIsWhatTheDescriptionSays: of each call who may make it, what it takes and answers, and an example that is run.
func TestTheReferenceIsWhatTheDescriptionSays(t *testing.T) {
	text, err := os.ReadFile("api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	want := reference(t, d)
	if *update {
		if err := os.WriteFile(referencePage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(referencePage); err != nil || string(have) != want {
		t.Errorf("%s does not say what openapi.yaml says: make it anew with -update (%v)", referencePage, err)
	}
}

func reference(t *testing.T, d description) string {
	t.Helper()
	examples, may := examplesOf(t), whoMay(t)
	var b strings.Builder
	b.WriteString(referenceHead)
	writeErrors(&b, d)
	calls := 0
	used := map[string]bool{}
	for _, tag := range d.Tags {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n", tag.Name, tag.Description)
		for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
			for _, method := range []string{"get", "post", "put", "patch", "delete"} {
				o, there := d.Paths[path][method]
				if !there || !slices.Contains(o.Tags, tag.Name) {
					continue
				}
				calls++
				call := strings.ToUpper(method) + " " + path
				writeCall(t, &b, d, o, call, may[call], showing(examples, strings.ToUpper(method), path), used)
			}
		}
	}
	b.WriteString("\n## Bodies\n\nWhat requests hold. The members of answers are described in openapi.yaml.\n")
	for _, name := range slices.Sorted(maps.Keys(used)) {
		writeShape(&b, name, d.Components.Schemas[name])
	}
	if calls < 40 {
		t.Errorf("%d calls only", calls)
	}
	return b.String()
}

// writeErrors says what each status of an error means, wherever it is the same.
func writeErrors(b *strings.Builder, d description) {
	meaning := map[string][]string{}
	for _, operations := range d.Paths {
		for _, o := range operations {
			for code, r := range o.Responses {
				text := oneCell(d.Components.Responses[of("/"+r.Ref)].Description)
				if r.Ref != "" && !slices.Contains(meaning[code], text) {
					meaning[code] = append(meaning[code], text)
				}
			}
		}
	}
	b.WriteString("\n| status | means |\n|---|---|\n")
	for _, code := range slices.Sorted(maps.Keys(meaning)) {
		slices.Sort(meaning[code])
		fmt.Fprintf(b, "| `%s` | %s |\n", code, strings.Join(meaning[code], "; "))
	}
}

func writeCall(t *testing.T, b *strings.Builder, d description, o operation, call, may, example string, used map[string]bool) {
	t.Helper()
	fmt.Fprintf(b, "\n### %s\n\n%s.", call, oneCell(strings.TrimSuffix(o.Summary, ".")))
	if o.Description != "" {
		fmt.Fprintf(b, " %s", oneCell(o.Description))
	}
	if may == "" {
		t.Errorf("%s: docs/security.md does not say who may", call)
	}
	fmt.Fprintf(b, "\n\n- **who may**: %s\n", may)
	for _, kind := range slices.Sorted(maps.Keys(o.RequestBody.Content)) {
		content := o.RequestBody.Content[kind]
		name := of(content.Schema.Ref)
		if name == "" {
			name = content.Schema.words()
		} else if kind == "application/json" || strings.HasSuffix(kind, "+json") {
			used[name] = true
			name = "[" + name + "](#" + strings.ToLower(name) + ")"
		}
		fmt.Fprintf(b, "- **takes**: `%s`, %s\n", kind, name)
	}
	var answers, errors []string
	for _, code := range slices.Sorted(maps.Keys(o.Responses)) {
		r := o.Responses[code]
		if r.Ref != "" {
			r = d.Components.Responses[of(r.Ref)]
		}
		if r.Description == "" {
			t.Errorf("%s: what %s says is not described", call, code)
		}
		switch {
		case code == "500":
		case code < "400":
			text := "`" + code + "` " + oneCell(r.Description)
			for _, kind := range slices.Sorted(maps.Keys(r.Content)) {
				text += " (" + cmp.Or(of(r.Content[kind].Schema.Ref), "`"+kind+"`") + ")"
			}
			answers = append(answers, text)
		default:
			text := "`" + code + "`"
			if o.Responses[code].Ref == "" { // not what it says everywhere
				text += " " + oneCell(r.Description)
			}
			errors = append(errors, text)
		}
	}
	fmt.Fprintf(b, "- **answers**: %s\n", strings.Join(answers, "; "))
	if len(errors) > 0 {
		fmt.Fprintf(b, "- **errors**: %s\n", strings.Join(errors, ", "))
	}
	if example == "" {
		t.Errorf("%s: the guide has no example of it", call)
	}
	if len(o.Parameters) > 0 {
		b.WriteString("\n| parameter | in | value | default | |\n|---|---|---|---|---|\n")
		for _, p := range o.Parameters {
			if p.Ref != "" {
				p = d.Components.Parameters[of(p.Ref)]
			}
			if p.Description == "" {
				t.Errorf("%s: parameter %s is not described", call, p.Name)
			}
			standard := ""
			if p.Schema.Default != nil {
				standard = fmt.Sprintf("`%v`", p.Schema.Default)
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", p.Name, p.In, oneCell(p.Schema.words()), standard, oneCell(p.Description))
		}
	}
	fmt.Fprintf(b, "\n```sh\n%s\n```\n", example)
}

func writeShape(b *strings.Builder, name string, s shape) {
	fmt.Fprintf(b, "\n### %s\n\n", name)
	if s.Description != "" {
		fmt.Fprintf(b, "%s\n\n", oneCell(s.Description))
	}
	if len(s.Properties) == 0 {
		fmt.Fprintf(b, "%s.\n", oneCell(s.words()))
		return
	}
	b.WriteString("| member | value | |\n|---|---|---|\n")
	for _, member := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[member]
		needed := ""
		if slices.Contains(s.Required, member) {
			needed = "Needed. "
		}
		fmt.Fprintf(b, "| `%s` | %s | %s%s |\n", member, oneCell(p.words()), needed, oneCell(p.Description))
	}
}
