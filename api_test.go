package coord_test

import (
	"encoding/json"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// wire are the packages whose types are messages: what members and clients of two releases exchange. They change by the
// rules of protocols, not by those of a Go API.
var wire = []string{
	module + "proto/coord/v1", module + "proto/raft/v1", module + "proto/recipes/v1",
	"go.etcd.io/etcd/api/v3/etcdserverpb",
}

// etcds is the package that has the methods of etcd's concurrency as they are, with the header of a response.
const etcds = module + "client/concurrency."

// TestClientNamesNoWireTypes: what a program sees of the SDK is made of the SDK's own types, and of etcd's clientv3 and
// mvccpb where it offers etcd's API.
func TestClientNamesNoWireTypes(t *testing.T) {
	packages := exported(t, module+"client/...", module+"coord/coordtest")
	seen := &surface{t: t, visited: map[*types.Named]bool{}}
	for path, pkg := range packages {
		if !strings.HasSuffix(path, "exampletest") && !strings.HasSuffix(path, "configtest") {
			seen.scope(pkg)
		}
	}
	if len(packages) < 5 || len(seen.visited) < 50 {
		t.Errorf("only %d types of %d packages were looked at", len(seen.visited), len(packages))
	}
}

// exported are the packages of the patterns as their export data has them.
func exported(t *testing.T, patterns ...string) map[string]*types.Package {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export,DepOnly"}
	cmd := exec.Command("go", append(args, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	files, wanted := map[string]string{}, []string{}
	for d := json.NewDecoder(out); ; {
		var p struct {
			ImportPath, Export string
			DepOnly            bool
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		files[p.ImportPath] = p.Export
		if !p.DepOnly {
			wanted = append(wanted, p.ImportPath)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc",
		func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	packages := map[string]*types.Package{}
	for _, path := range wanted {
		if packages[path], err = from.Import(path); err != nil {
			t.Fatal(err)
		}
	}
	return packages
}

// surface is what has been seen of an API.
type surface struct {
	t       *testing.T
	visited map[*types.Named]bool
}

func (s *surface) scope(pkg *types.Package) {
	for _, name := range pkg.Scope().Names() {
		if o := pkg.Scope().Lookup(name); o.Exported() {
			s.see(o.Type(), pkg.Path()+"."+name)
		}
	}
}

// see follows a type to all that a program can get or has to give by it; where says how it came there.
func (s *surface) see(typ types.Type, where string) {
	switch typ := typ.(type) {
	case *types.Alias:
		s.see(types.Unalias(typ), where)
	case *types.Named:
		s.named(typ, where)
	case *types.Pointer:
		s.see(typ.Elem(), where)
	case *types.Slice:
		s.see(typ.Elem(), where)
	case *types.Array:
		s.see(typ.Elem(), where)
	case *types.Chan:
		s.see(typ.Elem(), where)
	case *types.Map:
		s.see(typ.Key(), where)
		s.see(typ.Elem(), where)
	case *types.Signature:
		s.tuple(typ.Params(), where)
		s.tuple(typ.Results(), where)
	case *types.Struct:
		s.fields(typ, where)
	case *types.Interface:
		for m := range typ.Methods() {
			if m.Exported() {
				s.see(m.Type(), where+"."+m.Name())
			}
		}
	}
}

func (s *surface) tuple(of *types.Tuple, where string) {
	for v := range of.Variables() {
		s.see(v.Type(), where)
	}
}

func (s *surface) fields(of *types.Struct, where string) {
	for f := range of.Fields() {
		if f.Exported() {
			s.see(f.Type(), where+"."+f.Name())
		}
	}
}

func (s *surface) named(typ *types.Named, where string) {
	for arg := range typ.TypeArgs().Types() {
		s.see(arg, where)
	}
	pkg := typ.Obj().Pkg()
	if pkg == nil {
		return
	}
	for _, path := range wire {
		if pkg.Path() == path && !(strings.HasPrefix(where, etcds) && strings.HasSuffix(where, ".Header")) {
			s.t.Errorf("%s: %s is a message of the wire", where, typ)
			return
		}
	}
	if s.visited[typ] || !strings.HasPrefix(pkg.Path(), module) {
		return
	}
	s.visited[typ] = true // every circle of types goes through one that has a name
	where = fmt.Sprint(typ)
	s.see(typ.Underlying(), where)
	for sel := range types.NewMethodSet(types.NewPointer(typ)).Methods() { // those that are promoted, too
		if m := sel.Obj(); m.Exported() {
			s.see(m.Type(), where+"."+m.Name())
		}
	}
}
