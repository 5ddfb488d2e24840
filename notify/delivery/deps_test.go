package delivery

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// TestThisPackageIsPure: time, randomness and order are arguments, so that the simulation can replay every run byte for
// byte. An import of the outside world would end that.
func TestThisPackageIsPure(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		src, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			switch path := strings.Trim(i.Path.Value, `"`); path {
			case "os", "net", "net/http", "sync", "sync/atomic", "context", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "syscall":
				t.Errorf("%s imports %s", f.Name(), path)
			}
		}
		for _, word := range []string{"time.Now", "time.Sleep", "time.After", "time.NewTimer", "\tgo ", "make(chan"} {
			if strings.Contains(string(src), word) {
				t.Errorf("%s uses %q", f.Name(), strings.TrimSpace(word))
			}
		}
	}
}
