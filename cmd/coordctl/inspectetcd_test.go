//go:build unix

package main_test

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/v3/concurrency"
)

// What etcd's clients hold is seen too; nobody knows since when.
func TestEtcdLocksAreInspected(t *testing.T) {
	s, err := concurrency.NewSession(newClient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := concurrency.NewMutex(s, "inspect/etcd").Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"locks", "elections"} {
		if table := ok(t, verb, "ls", "inspect/etcd"); !strings.Contains(table, "etcd ") ||
			!strings.Contains(table, "unknown") {
			t.Errorf("%s ls printed\n%s", verb, table)
		}
	}
	if why := ok(t, "why", "lock/inspect/etcd"); !strings.Contains(why, fmt.Sprintf(`"" (lease %x)`, int64(s.Lease()))) || !strings.Contains(why, "since an unknown time") {
		t.Errorf("why printed %q", why)
	}
}

func TestInspectionFailsInOneLine(t *testing.T) {
	for _, args := range [][]string{
		{"sessions", "ls", "-w", "fields"}, {"locks", "ls", "-w", "protobuf"}, {"deadlocks", "-w", "protobuf"},
		{"why", "lock/x", "-w", "simpl"}, {"version", "-w", "fields"},
	} {
		r := start(t, options{}, args...)
		r.wantCode(t, 4)
		r.wantOneLine(t, "output format")
	}
	for _, args := range [][]string{{"sessions", "show"}, {"locks", "ls", "a", "b"}, {"deadlocks", "x"}, {"why"}} {
		r := start(t, options{}, args...)
		r.wantCode(t, 128)
		r.wantOneLine(t, "take")
	}
	dead := freeAddr()
	r := start(t, options{}, "--endpoints", dead, "--dial-timeout", "500ms", "--command-timeout", "500ms", "sessions",
		"ls")
	r.wantCode(t, 1)
	r.wantOneLine(t, dead)
}
