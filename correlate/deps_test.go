package correlate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Pure packages are replayed: by the simulation, which runs days in seconds under one seed; by peers, which must come
// to the same revisions as the host that they speak for; and by tests that never sleep. One look at a clock, a socket,
// a goroutine or a random number of their own, and none of that holds. So they may not even import what has them.
var (
	pureTrees = []string{".", "../notify/delivery", "../gossip/watch", "../gossip/takeover"} // with all below; a tree that is not built yet is passed over
	forbidden = map[string]string{
		"os":           "files and the environment are the shell's",
		"io/fs":        "files are the shell's",
		"net":          "the shell talks to others",
		"net/http":     "the shell talks to others",
		"syscall":      "the kernel is the shell's",
		"sync":         "one goroutine owns a pure value; nothing is shared",
		"sync/atomic":  "one goroutine owns a pure value; nothing is shared",
		"context":      "nothing here waits, so nothing here is cancelled",
		"math/rand":    "randomness is an argument",
		"math/rand/v2": "randomness is an argument",
		"crypto/rand":  "randomness is an argument",
		"log":          "what is worth saying is in the effects",
		"log/slog":     "what is worth saying is in the effects",
		"runtime":      "the scheduler is the shell's",
		"unsafe":       "not here",
	}
	clocks = map[string]bool{ // of package time
		"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true, "NewTimer": true, "NewTicker": true,
		"Tick": true, "Sleep": true,
	}
)

func TestPurePackagesHaveNoClockNetworkOrGoroutine(t *testing.T) {
	files := 0
	for _, tree := range pureTrees {
		if _, err := os.Stat(tree); tree != "." && os.IsNotExist(err) {
			continue
		}
		err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, fault := range impurities(t, path, src) {
				t.Error(fault)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 10 {
		t.Fatalf("only %d files looked at: has the package moved?", files)
	}
}

// The check itself must see what it is there for.
func TestThePurityCheckSeesImpurities(t *testing.T) {
	src := `package p
import ("os"; "time"; clock "time"; r "math/rand")
var c = make(chan int)
func f() { go f(); _ = time.Now; _ = clock.Since; os.Exit(r.Int()); select {} }`
	if got := impurities(t, "p.go", []byte(src)); len(got) != 6 {
		t.Fatalf("found %d of 6 impurities: %q", len(got), got)
	}
}

// impurities names each forbidden import, clock, go and select statement with its place and the reason.
func impurities(t *testing.T, name string, src []byte) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	at := func(p token.Pos, what string) { found = append(found, fset.Position(p).String()+": "+what) }
	clock := map[string]bool{} // local names of package time
	for _, imp := range file.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if why, bad := forbidden[path]; bad || strings.HasPrefix(path, "net/") && path != "net/netip" && path != "net/url" {
			at(imp.Pos(), "imports "+path+": "+why)
		}
		if path == "time" {
			local := "time"
			if imp.Name != nil {
				local = imp.Name.Name
			}
			clock[local] = true
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			at(n.Pos(), "starts a goroutine: the shell owns them all")
		case *ast.SelectStmt:
			at(n.Pos(), "waits: nothing here waits")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && clock[x.Name] && clocks[n.Sel.Name] {
				at(n.Pos(), "looks at the clock with time."+n.Sel.Name+": time is an argument")
			}
		}
		return true
	})
	return found
}
