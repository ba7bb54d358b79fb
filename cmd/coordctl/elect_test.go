//go:build unix

package main_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestElectRunsCommandAsLeader(t *testing.T) {
	out := ok(t, "elect", "el-env", "me", "--", "sh", "-c", `echo $COORD_ELECTION_VALUE $COORD_FENCING_TOKEN $COORD_ELECTION_KEY`)
	fields := strings.Fields(out)
	if len(fields) != 3 || fields[0] != "me" || atoi(t, fields[1]) == 0 || !strings.HasPrefix(fields[2], "el-env/") {
		t.Errorf("the command saw %q", out)
	}
	r := start(t, options{}, "elect", "el-env", "me", "--", "sh", "-c", "exit 9")
	r.wantCode(t, 9)
}

func TestElectHandsOver(t *testing.T) {
	client := newClient(t)
	observer := start(t, options{}, "elect", "-l", "el")
	const script = "echo leading $COORD_ELECTION_VALUE; for i in $(seq 600); do sleep 0.1; done"
	first := start(t, options{}, "elect", "el", "first", "--", "sh", "-c", script)
	first.waitOut(t, "leading first")
	second := start(t, options{}, "elect", "el", "second", "--", "sh", "-c", script)
	q := waitQueue(t, client, "el", 2)
	if q[0].value != "first" || q[1].value != "second" {
		t.Errorf("the queue is %v", q)
	}
	observer.waitOut(t, "\nfirst\n")
	try := start(t, options{}, "elect", "el", "third", "--try", "--", "true")
	try.wantCode(t, 75)

	first.signal(t, syscall.SIGTERM)
	first.wantCode(t, 128+15)
	second.waitOut(t, "leading second")
	observer.waitOut(t, "\nsecond\n")
	if _, err := client.Revoke(t.Context(), waitQueue(t, client, "el", 1)[0].lease); err != nil {
		t.Fatal(err)
	}
	second.wantCode(t, 76)
	second.wantOneLine(t, "election el lost")
	observer.signal(t, syscall.SIGINT)
	observer.wantCode(t, 0)
}

func TestElectHoldsUntilSignal(t *testing.T) {
	client := newClient(t)
	r := start(t, options{}, "elect", "el-hold", "me")
	r.waitOut(t, "el-hold/")
	q := queueOf(t, client, "el-hold")
	if want := fmt.Sprintf("%s\nme\n", q[0].key); r.out.String() != want {
		t.Errorf("printed %q, want %q as etcdctl", &r.out, want)
	}
	r.signal(t, syscall.SIGINT)
	r.wantCode(t, 0)
	if q := queueOf(t, client, "el-hold"); len(q) != 0 {
		t.Errorf("left in the queue: %v", q)
	}
}

func TestElectBadArguments(t *testing.T) {
	for _, args := range [][]string{{"elect"}, {"elect", "x"}, {"elect", "x", "v", "w"}, {"elect", "x", "--", "true"},
		{"elect", "-l"}, {"elect", "-l", "x", "v"}} {
		r := start(t, options{}, args...)
		r.wantCode(t, 128)
		r.wantOneLine(t, "Error: ")
	}
}
