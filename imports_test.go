// Package coord_test states which way imports point, and what the packages that users import may depend on.
package coord_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/coord-dev/coord/"

type goPackage struct {
	ImportPath                         string
	Imports, Deps                      []string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Dir                                string
	Doc                                string
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// area is the top-level folder of an import path of this module, "" for any other.
func area(path string) string {
	rest, ok := strings.CutPrefix(path, module)
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// proto ← statemachine ← recipes ← coord ← cmd/coordd          proto ← client ← cmd/coordctl, bench
func TestImportsPointOneWay(t *testing.T) {
	may := map[string][]string{
		"proto":        {},
		"statemachine": {"proto"},
		"recipes":      {"proto", "statemachine"},
		"coord":        {"proto", "statemachine", "recipes"},
		"client":       {"proto"},
		"bench":        {"proto", "client"},
	}
	why := map[string]string{
		"proto":        "it is what all others share, and what users of other languages build on",
		"statemachine": "it must stay deterministic: no network, no clock, no server",
		"recipes":      "a recipe is a step in the state machine and a service on it; it knows no server",
		"coord":        "the server must not depend on the SDK or the programs",
		"client":       "whoever imports the SDK must not inherit the server",
		"bench":        "it measures the server from outside, as a process",
	}
	for _, p := range list(t, "./...") {
		from := area(p.ImportPath)
		allowed, ok := may[from]
		if from == "cmd" {
			allowed, ok = []string{"client", "coord", "proto"}, true
			if strings.Contains(p.ImportPath, "/coordctl") {
				allowed = []string{"client", "proto"} // coordctl runs where no server does
			}
		}
		if !ok {
			continue
		}
		for _, dep := range p.Imports {
			if to := area(dep); to != "" && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import %v only: %s", p.ImportPath, dep, from, allowed, why[from])
			}
		}
	}
}

// The SDK and the public protos depend on gRPC, protobuf and etcd's api and client modules only.
func TestUsersInheritFewDependencies(t *testing.T) {
	allowed := []string{
		module,
		"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto", // gRPC and protobuf
		"go.etcd.io/etcd/api/v3", "go.etcd.io/etcd/client/v3", "go.etcd.io/etcd/client/pkg/v3", // etcd's API and client
		// What these need themselves.
		"golang.org/x/", "go.uber.org/zap", "go.uber.org/multierr", "github.com/coreos/go-semver",
		"github.com/coreos/go-systemd",
		"github.com/golang/protobuf", "github.com/grpc-ecosystem/grpc-gateway",
		"github.com/grpc-ecosystem/go-grpc-middleware",
		"github.com/grpc-ecosystem/go-grpc-prometheus", "github.com/prometheus/", "github.com/beorn7/perks",
		"github.com/cespare/xxhash", "github.com/munnerz/goautoneg", "github.com/dustin/go-humanize",
	}
	for _, p := range list(t, "./client", "./client/registry/...", "./proto/...") {
		for _, dep := range p.Deps {
			first, _, _ := strings.Cut(dep, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(dep, "vendor/") {
				continue // the standard library
			}
			if !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
				t.Errorf("%s depends on %s, which its users would inherit", p.ImportPath, dep)
			}
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range list(t, "./...") {
		if len(p.GoFiles) > 0 && p.Doc == "" && !strings.HasSuffix(p.ImportPath, "/v1") {
			t.Errorf("%s has no package doc", p.ImportPath)
		}
	}
}

// The top-level folders are a promise to who reads or scripts the repository.
func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	expected := []string{"bench", "client", "cmd", "coord", "docs", "proto", "recipes", "statemachine"}
	ignored := []string{"bin"}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".coord") ||
			slices.Contains(ignored, name) {
			continue
		}
		if !slices.Contains(expected, name) {
			t.Errorf("unexpected top-level folder %s; there are %v", name, expected)
		}
	}
}

// A recipe's procedures run on the machine, on the model and on recipestest alike: they must not hang on how the state
// is stored.
func TestRecipesLinkNoStore(t *testing.T) {
	for _, p := range list(t, "./statemachine", "./statemachine/lease", "./recipes", "./recipes/recipestest") {
		for _, store := range []string{"github.com/cockroachdb/pebble", "github.com/lni/dragonboat"} {
			if slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.HasPrefix(dep, store) }) {
				t.Errorf("%s links %s, which statemachine/machine alone should", p.ImportPath, store)
			}
		}
	}
}

// Where two readers disagree on what is a message, one lets pass what the other stumbles over: there is only one.
func TestOneReaderOfTheWire(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, name := range p.GoFiles {
			code, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			reads := bytes.Contains(code, []byte("protowire.Consume"))
			if reads && p.ImportPath != module+"proto/wire" {
				t.Errorf("%s/%s reads the wire by hand; proto/wire does", p.ImportPath, name)
			}
		}
	}
}
