package docs

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/correlate"
)

// apiPath is a call of the API as pages name it.
var apiPath = regexp.MustCompile("`(?:(GET|POST|PUT|PATCH|DELETE) )?(/(?:v1|vnffm)/[^`?]*)(?:\\?[^`]*)?`")

// A path of the API that a page names is one that the description has, with that method.
func TestTheAPIThatIsNamedIsThere(t *testing.T) {
	text, err := os.ReadFile("api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]any
	}
	if err := yaml.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\\\{[a-z_]+\\\}`)
	named := 0
	for page, text := range pages(t) {
		text = regexp.MustCompile(`not built: [^|\n]*`).ReplaceAllString(text, "") // TestEveryElementOfDoctorIsSomewhere
		for _, m := range apiPath.FindAllStringSubmatch(text, -1) {
			method, path := strings.ToLower(m[1]), strings.TrimSuffix(m[2], "/")
			found := path == "/vnffm/v1" || path == "/v1" // where the paths begin
			for template, operations := range api.Paths {
				pattern := "^" + variable.ReplaceAllString(regexp.QuoteMeta(template), `.+`) + "$"
				_, has := operations[method]
				found = found || (method == "" || has) && regexp.MustCompile(pattern).MatchString(path)
			}
			if !found {
				t.Errorf("%s names %s, which the API does not have", page, m[0])
			}
			named++
		}
	}
	if named < 100 {
		t.Errorf("%d paths only were found", named)
	}
}

// keysOf lists the keys of the configuration below a type, with [] behind those of lists.
func keysOf(typ reflect.Type, path string, to map[string]bool) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		key := f.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		at, elem := strings.TrimPrefix(path+"."+key, "."), f.Type
		to[at] = true
		if elem.Kind() == reflect.Slice {
			elem = elem.Elem()
			to[at+"[]"] = true
		}
		if elem.Kind() == reflect.Struct && elem.PkgPath() == typ.PkgPath() {
			keysOf(elem, at, to)
		}
	}
}

// A key of the configuration that a page names is one that the file may have.
func TestTheKeysThatAreNamedAreThere(t *testing.T) {
	keys := map[string]bool{}
	keysOf(reflect.TypeFor[config.Config](), "", keys)
	var tops []string
	for k := range keys {
		if !strings.Contains(k, ".") {
			tops = append(tops, k)
		}
	}
	key := regexp.MustCompile("`((?:" + strings.Join(tops, "|") + `)(?:\.[a-z_]+)+)` + "(?:: [^`]*)?`")
	named := 0
	for page, text := range pages(t) {
		for _, m := range key.FindAllStringSubmatch(text, -1) {
			ofStatus := page == "api.md" && m[1] == "cluster.troubles"  // a member of /v1/status
			if !keys[m[1]] && !ofStatus && page != "configuration.md" { // that is made of them
				t.Errorf("%s names the key %s, which there is not", page, m[1])
			}
			named++
		}
	}
	if named < 80 {
		t.Errorf("%d keys only were found", named)
	}
}

// A condition that a table of a page is about is defined.
func TestTheConditionsThatAreNamedAreDefined(t *testing.T) {
	defined := map[string]bool{"kernel-message": true}
	for _, r := range correlate.Rules() {
		defined[string(r.Condition)] = true
	}
	word := regexp.MustCompile("`([a-z][a-z-]+)`")
	named := map[string]bool{}
	for page, text := range pages(t) {
		column := -1
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "|") {
				column = -1
				continue
			}
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			if column < 0 {
				column = slices.IndexFunc(cells, func(c string) bool {
					return slices.Contains([]string{"condition", "conditions", "condition on the domain"}, strings.TrimSpace(c))
				})
				if column < 0 {
					column = len(cells) // none, down to the end of this table
				}
				continue
			}
			if column >= len(cells) || page == "api.md" {
				continue
			}
			for _, m := range word.FindAllStringSubmatch(cells[column], -1) {
				named[m[1]] = true
				if !defined[m[1]] {
					t.Errorf("%s tells of the condition %s, which is not defined", page, m[1])
				}
			}
		}
	}
	for name := range defined {
		if !named[name] {
			t.Errorf("no table tells what raises %s", name)
		}
	}
}

// A metric that a page names is one that the code makes.
func TestTheMetricsThatAreNamedAreMade(t *testing.T) {
	var all strings.Builder
	if err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	source := all.String()
	metric := regexp.MustCompile("`(paramedic_[a-z_]+[a-z])(?:[{`]|\\[)")
	named := 0
	for page, text := range pages(t) {
		if page == "metrics.md" {
			continue // all of it is held against what is exported
		}
		for _, m := range metric.FindAllStringSubmatch(text, -1) {
			named++
			name := m[1]
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if !strings.Contains(source, `"`+name+`"`) && !strings.Contains(source, `"`+strings.TrimPrefix(name, "paramedic_")+`"`) {
				t.Errorf("%s names the metric %s, which nothing makes", page, m[1])
			}
		}
	}
	if named < 4 {
		t.Errorf("%d metrics only were found", named)
	}
}
