package format

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// golden holds a body against testdata/name.json.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	if *rewrite {
		if err := os.WriteFile(path, append(bytes.Clone(got), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimSpace(string(want)), string(got)); d != "" {
		t.Error(d)
	}
}

// schema compiles testdata/schema/name.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("testdata", "schema", name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// valid holds a body against a schema.
func valid(t *testing.T, s *jsonschema.Schema, body []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
}

// physical are words that nobody of role consumer may read, of the alarms of these tests.
var physical = []string{"cmp-1", "cmp-9", "bond", "carrier", "loss-of-signal", "legs"}

func unsayable(t *testing.T, body []byte) {
	t.Helper()
	for _, word := range physical {
		if strings.Contains(string(body), word) {
			t.Errorf("a tenant reads %q: %s", word, body)
		}
	}
}

func TestEveryFormWritesTheSameBytesForTheSameFault(t *testing.T) {
	for _, form := range forms {
		if f, ok := Of(form.Name); !ok || f.Name != form.Name {
			t.Errorf("%q is not found", form.Name)
		}
		f := fault(bond(correlate.Raised))
		if form.Parts != nil {
			f.Asks = []delivery.Ask{{Part: form.Parts(f)[0]}}
		}
		one, err := form.Fault(f)
		two, _ := form.Fault(f)
		if err != nil || !bytes.Equal(one, two) || !json.Valid(one) {
			t.Errorf("%s: %v\n%s\n%s", form.Name, err, one, two)
		}
	}
	if f, ok := Of("none"); ok || Names()[0] != Default {
		t.Errorf("%+v, names %v", f, Names())
	}
}
