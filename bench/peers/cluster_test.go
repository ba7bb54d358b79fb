package peers

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "coordd")
	if _, err := Lookup(Coord, "self", missing, 1); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing server binary gives %v, want an error that names %s", err, missing)
	}
	if _, err := Lookup("consul", "self", missing, 1); err == nil {
		t.Error("an unknown peer was accepted")
	}
	p, err := Lookup(Etcd, "self", missing, 1)
	if err != nil {
		t.Fatal(err)
	}
	if with := p.With("slow", "--x"); len(with.Flags) != len(p.Flags)+1 || with.Name != "slow" || p.Name != Etcd {
		t.Errorf("with a flag: %+v, before: %+v", with, p)
	}
}

// A server that ends instead of serving is reported with what it said, at once, and leaves nothing behind.
func TestStartReportsWhyAServerEnded(t *testing.T) {
	dir := t.TempDir()
	broken := Product{Name: "broken", Command: []string{"/bin/sh", "-c", "echo no such luck; exit 3"}}
	_, err := Start(context.Background(), broken, 1, dir)
	if err == nil {
		t.Fatal("a server that exits is ready")
	}
	for _, want := range []string{"no such luck", "exit status 3"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestEveryMemberKnowsAllOthers(t *testing.T) {
	c := &Cluster{Product: Product{Kind: Etcd}, dir: t.TempDir()}
	if err := c.configure(3); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range c.Members {
		seen[m.Endpoint] = true
		line := strings.Join(m.argv, " ")
		for _, other := range c.Members {
			if !strings.Contains(line, other.Name+"=http://127.0.0.1:") {
				t.Errorf("%s does not name %s: %s", m.Name, other.Name, line)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("members share addresses: %v", seen)
	}
}
