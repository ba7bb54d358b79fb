package client_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// modulesOf returns the modules of all packages that the packages import, and the packages of this module among them.
func modulesOf(t *testing.T, packages ...string) (modules, own []string) {
	t.Helper()
	out, err := exec.Command("go",
		append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}} {{.ImportPath}}"},
			packages...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		module, pkg, _ := strings.Cut(strings.TrimRight(line, "\n"), " ") // the standard library has no module
		if module == "github.com/coord-dev/coord" {
			own = append(own, pkg)
		} else if module != "" && !slices.Contains(modules, module) {
			modules = append(modules, module)
		}
	}
	return modules, own
}

// TestLightDependencies: who imports client or the public proto gets gRPC, protobuf, etcd's API and client, what these
// need themselves, and nothing of the server.
func TestLightDependencies(t *testing.T) {
	allowed, _ := modulesOf(t, "go.etcd.io/etcd/client/v3", "google.golang.org/grpc",
		"google.golang.org/protobuf/proto", "golang.org/x/sys/unix")
	for root, ownAllowed := range map[string][]string{
		"github.com/coord-dev/coord/client": {
			"github.com/coord-dev/coord/client", "github.com/coord-dev/coord/proto/coord/v1",
			// where keys stand, and what they mean
			"github.com/coord-dev/coord/proto/layout", "github.com/coord-dev/coord/proto/objects",
			"github.com/coord-dev/coord/proto/recipes/v1",
		},
		"github.com/coord-dev/coord/proto/layout": {"github.com/coord-dev/coord/proto/layout",
			"github.com/coord-dev/coord/proto/coord/v1"},
		"github.com/coord-dev/coord/proto/coord/v1": {"github.com/coord-dev/coord/proto/coord/v1"},
	} {
		modules, own := modulesOf(t, root)
		for _, m := range modules {
			if !slices.Contains(allowed, m) {
				t.Errorf("%s drags in %s: its users would download it, and have it in their builds", root, m)
			}
		}
		for _, p := range own {
			if !slices.Contains(ownAllowed, p) {
				t.Errorf("%s imports %s: what users import stays apart from the server", root, p)
			}
		}
	}
}
