package gossip

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// The replica is run under virtual time, thousands at once, by simnet and by the simulation of agents: a clock, a lock, a
// goroutine or chance of its own would end that. Its files share the package with those of Peer, so they are named here.
func TestTheReplicaHasNoClockNetworkOrGoroutine(t *testing.T) {
	allowed := map[string]bool{
		"bytes": true, "cmp": true, "crypto/sha256": true, "encoding/binary": true, "errors": true, "fmt": true, "iter": true,
		"maps": true, "math/bits": true, "slices": true, "strconv": true, "strings": true, "time": true,
	}
	clock := map[string]bool{"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true, "NewTimer": true, "NewTicker": true, "Tick": true, "Sleep": true}
	for _, name := range []string{"record.go", "replica.go", "space.go", "index.go", "floor.go", "repair.go", "clock.go", "limits.go", "status.go", "codec.go"} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range file.Imports {
			if path, _ := strconv.Unquote(imp.Path.Value); !allowed[path] {
				t.Errorf("%s imports %s", name, path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && clock[n.Sel.Name] {
					t.Errorf("%s reads the clock: time.%s", fset.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}
