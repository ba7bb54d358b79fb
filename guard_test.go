package coord_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unguarded are the functions of the server that start goroutines without a guard, and why a panic there may end the
// process.
var unguarded = map[string]string{
	"coord.Start":                   "it waits for a reason to stop, and stops",
	"coord/internal/keyspace.Drain": "the member is stopping",
	"coord/internal/group.confirm":  "it passes on what a channel of Dragonboat says",
	"coord/internal/group.Start": "they drive Dragonboat, each is needed, and what they read from " +
		"peers is decoded by json",
	"coord/internal/propose.New":                "all requests pass it: after a panic nobody knows which were proposed",
	"coord/internal/stream.again":               "it hands numbers to the proposer",
	"coord/internal/limit.run":                  "it only wakes who waits for room, under locks that all streams share",
	"coord/internal/watch.endStalled":           "it only hands the hub a task, which is guarded",
	"coord/internal/netlimit.enter":             "it closes a connection",
	"coord/internal/transit.CloseUnlessWritten": "it closes a connection",
	"coord/internal/stream.watch":               "it closes a channel",
}

// servers are the packages that serve the network, below them too.
var servers = []string{"coord", "recipes"}

// notServers are packages below servers that are no part of a member.
var notServers = []string{"coord/coordtest", "coord/crashtest", "coord/difftest", "recipes/recipestest",
	"coord/internal/guard"}

// Whatever goroutine serves the network begins with a guard, so that no input ends the process; those that do not are
// listed with their reason.
func TestGoroutinesAreGuarded(t *testing.T) {
	used := map[string]bool{}
	for _, root := range servers {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			switch dir := filepath.ToSlash(path); {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains(notServers, dir):
				return filepath.SkipDir
			case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
				return nil
			}
			return checkGoroutines(t, path, used)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range unguarded {
		if !used[name] {
			t.Errorf("%s is listed and starts no goroutine without a guard", name)
		}
	}
}

func checkGoroutines(t *testing.T, path string, used map[string]bool) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			body, starts := started(n)
			if !starts || isGuarded(body) {
				return true
			}
			name := fmt.Sprintf("%s.%s", filepath.ToSlash(filepath.Dir(path)), fn.Name.Name)
			used[name] = true
			if unguarded[name] == "" {
				t.Errorf("%s: %s starts a goroutine that does not begin with guard.Recover or guard.Loop; a panic in "+
					"it ends the process",
					files.Position(n.Pos()), name)
			}
			return true
		})
	}
	return nil
}

// started is the function that n starts on a goroutine, nil if it is no literal.
func started(n ast.Node) (body *ast.FuncLit, starts bool) {
	if g, ok := n.(*ast.GoStmt); ok {
		body, _ = g.Call.Fun.(*ast.FuncLit)
		return body, true
	}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 || selector.Sel.Name != "Go" && selector.Sel.Name != "AfterFunc" {
		return nil, false
	}
	f := call.Args[len(call.Args)-1]
	body, _ = f.(*ast.FuncLit)
	return body, !onlyEnds(f)
}

// onlyEnds reports whether a function does nothing but cancel a context or close a connection.
func onlyEnds(f ast.Expr) bool {
	switch f := f.(type) {
	case *ast.Ident:
		return f.Name == "cancel" || f.Name == "stop"
	case *ast.SelectorExpr:
		return f.Sel.Name == "cancel" || f.Sel.Name == "Close"
	case *ast.FuncLit:
		if len(f.Body.List) != 1 {
			return false
		}
		statement, ok := f.Body.List[0].(*ast.ExprStmt)
		if !ok {
			return false
		}
		call, ok := statement.X.(*ast.CallExpr)
		return ok && len(call.Args) == 0 && onlyEnds(call.Fun)
	}
	return false
}

// isGuarded reports whether a function defers a guard before anything but other deferred calls, or is nothing but a
// loop of one.
func isGuarded(f *ast.FuncLit) bool {
	if f == nil {
		return false
	}
	for _, statement := range f.Body.List {
		switch s := statement.(type) {
		case *ast.DeferStmt:
			if isGuard(s.Call, "Recover", "recovered") {
				return true
			}
		case *ast.ExprStmt:
			call, ok := s.X.(*ast.CallExpr)
			return ok && isGuard(call, "Loop")
		default:
			return false
		}
	}
	return false
}

// isGuard knows the package's functions, and methods of that name which call them.
func isGuard(call *ast.CallExpr, names ...string) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(names, selector.Sel.Name) {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && (x.Name == "guard" || selector.Sel.Name == "recovered")
}
