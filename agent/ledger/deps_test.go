package ledger

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The simulation runs this code over a network in memory, with time and order of its own: one look at a clock, a goroutine
// or a random number, and no run can be played again. What it imports may have them; it may not use them.
func TestTheLedgerHasNoClockNetworkOrGoroutine(t *testing.T) {
	allowed := map[string]bool{
		"bytes": true, "cmp": true, "compress/flate": true, "crypto/sha256": true, "encoding/json": true, "errors": true, "fmt": true,
		"io": true, "maps": true, "slices": true, "strconv": true, "strings": true, "time": true, "unicode/utf8": true,
		"github.com/paramedic-ha/paramedic/correlate": true, "github.com/paramedic-ha/paramedic/gossip": true,
		"github.com/paramedic-ha/paramedic/gossip/takeover": true, "github.com/paramedic-ha/paramedic/gossip/watch": true,
		"github.com/paramedic-ha/paramedic/notify": true, "github.com/paramedic-ha/paramedic/notify/delivery": true,
	}
	forbidden := map[string]bool{ // by package and name
		"time.Now": true, "time.Since": true, "time.Until": true, "time.After": true, "time.AfterFunc": true, "time.NewTimer": true,
		"time.NewTicker": true, "time.Tick": true, "time.Sleep": true, "notify.New": true, "notify.GenerateSecret": true,
		"gossip.NewPeer": true, "gossip.NewReplicator": true,
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		seen++
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !allowed[path] || imp.Name != nil {
				t.Errorf("%s: imports %s, which is not on the list (or under another name)", fset.Position(imp.Pos()), path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				t.Errorf("%s: goroutines and channels are the shell's", fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && forbidden[x.Name+"."+n.Sel.Name] {
					t.Errorf("%s: %s.%s: time and randomness are arguments", fset.Position(n.Pos()), x.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
	if seen < 8 {
		t.Fatalf("only %d files looked at: has the package moved?", seen)
	}
}
