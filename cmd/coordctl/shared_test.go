//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Verbs that run a command while several may hold. Their queues are read by their keys.

func rwQueue(name string) string        { return "_coord/rwlocks/" + name }
func semaphoreQueue(name string) string { return "_coord/semaphores/" + name }
func barrierQueue(name string) string   { return "_coord/barriers/" + name }

// waitEntries waits until a queue has n entries, records apart, and returns them.
func waitEntries(t *testing.T, client *clientv3.Client, queue string, n int) (entries []entry) {
	t.Helper()
	eventually(t, func() bool {
		entries = nil
		for _, e := range queueOf(t, client, queue) {
			if e.lease != 0 {
				entries = append(entries, e)
			}
		}
		return len(entries) == n
	}, "%d entries of %s", n, queue)
	return entries
}

func TestRWLockVerb(t *testing.T) {
	t.Parallel()
	client, name := newClient(t), "rw/a"
	const script = "echo $COORD_RWLOCK_MODE $COORD_FENCING_TOKEN $COORD_RWLOCK_KEY; read line; echo $line; exit 9"
	fields := func(r *run, mode string) []string {
		t.Helper()
		r.waitOut(t, mode+" ")
		eventually(t, func() bool { return len(strings.Fields(r.out.String())) >= 3 }, "three words in %q", &r.out)
		return strings.Fields(r.out.String())
	}
	one := start(t, options{}, "rwlock", name, "--read", "--", "sh", "-c",
		"echo $COORD_RWLOCK_MODE 1 2; exec sleep 100")
	fields(one, "read")
	two := start(t, options{}, "rwlock", name, "--read")
	two.waitOut(t, rwQueue(name)+"/") // beside the first one, and prints its key
	writer := start(t, options{stdin: "through\n"}, "rwlock", name, "--write", "--wait", "60", "--", "sh", "-c", script)
	entries := waitEntries(t, client, rwQueue(name), 3)

	// behind the writer
	fails(t, 75, "read-write lock rw/a not acquired: held by another", "rwlock", name, "--read", "--try", "--", "true")
	// which may be over before the cluster answers
	fails(t, 75, "not acquired: ", "rwlock", name, "--write", "--wait", "300ms", "--", "true")
	shown := ok(t, "rwlock", "show", name)
	wantLine(t, shown, "", "OWNER", "MODE", "TOKEN", "SESSION", "SINCE", "KEY")
	for i, place := range []string{"holds", "holds", "1"} {
		if !strings.Contains(shown, fmt.Sprintf("\n%s ", place)) || !strings.Contains(shown, entries[i].key+"\n") {
			t.Errorf("rwlock show printed\n%s", shown)
		}
	}
	for _, list := range [][]string{{"rwlock", "ls", "rw/"}, {"locks", "ls", "rw/"}} {
		if got := ok(t, list...); !strings.Contains(got, "rw/a  rwlock  ") ||
			!strings.Contains(got, " reads and 1 more ") || strings.Count(got, "\n") != 2 {
			t.Errorf("%q printed\n%s", list, got)
		}
	}
	if got := ok(t, "why", "rwlock/"+name); !strings.HasPrefix(got, `read-write lock "rw/a" is held for reading by 2, `) {
		t.Errorf("why printed %q", got)
	}
	fails(t, 128, "2 hold rwlock/rw/a: --token says which", "rwlock", "release", name, "--reason", "stuck")
	if got := ok(t, "rwlock", "release", name, "--reason", "stuck", "--token",
		fmt.Sprint(entries[0].token)); !strings.HasPrefix(got, "read-write lock rw/a released: ") {
		t.Errorf("release printed %q", got)
	}
	one.wantCode(t, 76)
	if !strings.Contains(one.err.String(), "Error: read-write lock rw/a lost") {
		t.Errorf("error output %q", &one.err)
	}
	two.signal(t, syscall.SIGTERM)
	two.wantCode(t, 0)
	writer.wantCode(t, 9)
	if got := fields(writer, "write"); got[1] != fmt.Sprint(entries[2].token) || got[2] != entries[2].key ||
		got[3] != "through" {
		t.Errorf("the writer saw %q, its entry is %v", got, entries[2])
	}
	waitEntries(t, client, rwQueue(name), 0)
}

func TestSemaphoreVerb(t *testing.T) {
	t.Parallel()
	client, name := newClient(t), "sem/a"
	fails(t, 75, "it has no limit yet: say --limit", "semaphore", name, "--", "true")
	two := start(t, options{}, "semaphore", name, "-n", "2", "--limit", "3", "-w", "json")
	two.waitOut(t, `"permits":2}`)
	one := start(t, options{}, "semaphore", name, "--limit", "100", "--", "sh", "-c",
		"echo $COORD_SEMAPHORE_PERMITS $COORD_SEMAPHORE_KEY $COORD_FENCING_TOKEN; trap 'exit 40' USR1; echo ready; "+
			"for i in $(seq 600); do sleep 0.1; done")
	one.waitOut(t, "ready")
	entries := waitEntries(t, client, semaphoreQueue(name), 2)
	if want := fmt.Sprintf("1 %s %d\n", entries[1].key, entries[1].token); !strings.HasPrefix(one.out.String(), want) {
		t.Errorf("the command saw %q, want %q", &one.out, want)
	}
	fails(t, 75, "held by another", "semaphore", name, "--try", "--", "true") // 3 of 3, whatever the second limit said
	fails(t, 75, "more permits than the semaphore has", "semaphore", name, "-n", "4", "--", "true")
	waiter := start(t, options{}, "semaphore", name, "-n", "2", "--", "echo", "ran")
	waitEntries(t, client, semaphoreQueue(name), 3)

	if got := ok(t, "semaphore", "show", name); !strings.HasPrefix(got, "3 of 3 permits held, 2 wanted\n") ||
		!strings.Contains(got, " PERMITS ") {
		t.Errorf("semaphore show printed\n%s", got)
	}
	if got := ok(t, "semaphore", "ls", "sem/"); !strings.Contains(got, "HELD  LIMIT  WANTED\n") ||
		!strings.Contains(got, " and 1 more ") {
		t.Errorf("semaphore ls printed\n%s", got)
	}
	if got := ok(t, "why", "semaphore/"+name); !strings.HasPrefix(got, `semaphore "sem/a" has 3 of 3 permits held by 2, `) {
		t.Errorf("why printed %q", got)
	}
	fails(t, 1, "3 are held", "semaphore", "resize", name, "2")
	prints(t, `{"name":"sem/a","limit":2,"before":3,"held":3}`, "semaphore", "resize", name, "2", "--drain", "-w", "json")
	fails(t, 1, "waits for 2", "semaphore", "resize", name, "1", "--drain")
	prints(t, "semaphore sem/a has 3 permits, of which 3 are held", "semaphore", "resize", name, "3")
	one.signal(t, syscall.SIGUSR1)
	one.wantCode(t, 40)
	if waitEntries(t, client, semaphoreQueue(name), 2); waiter.out.String() != "" {
		t.Error("it got 2 permits where 1 is free")
	}
	prints(t, "semaphore sem/a has 4 permits, of which 4 are held", "semaphore", "resize", name, "4")
	waiter.wantCode(t, 0)
	two.signal(t, syscall.SIGTERM)
	two.wantCode(t, 0)
	if got := ok(t, "semaphore", "show", name); !strings.HasPrefix(got, "0 of 4 permits held, 0 wanted\n") {
		t.Errorf("semaphore show printed\n%s", got)
	}
}

// TestBarrierEnterVerb: nobody runs its command before all are there, and nobody ends before all have left.
func TestBarrierEnterVerb(t *testing.T) {
	t.Parallel()
	client, name := newClient(t), "dbl/a"
	release := filepath.Join(t.TempDir(), "go")
	first := start(t, options{stdin: "through\n"}, "barrier", "enter", name, "2", "--", "sh", "-c",
		"echo in; cat; exit 0")
	waitEntries(t, client, barrierQueue(name), 1)
	fails(t, 75, "barrier dbl/a not entered: the barrier is for another number", "barrier", "enter", name, "3", "--",
		"true")
	if got := ok(t, "barrier", "show", name); !strings.HasPrefix(got, "generation 0 is over, 1 of 2 parties there\n") {
		t.Errorf("barrier show printed\n%s", got)
	}
	if first.out.String() != "" {
		t.Error("it went in alone")
	}
	second := start(t, options{}, "barrier", "enter", name, "2", "--", "sh", "-c",
		"echo $COORD_BARRIER_KEY $COORD_FENCING_TOKEN; until [ -e "+release+" ]; do sleep 0.05; done; exit 7")
	first.waitOut(t, "in\nthrough\n")
	second.waitOut(t, barrierQueue(name)+"/")
	inside := waitEntries(t, client, barrierQueue(name), 1)[0] // the first one has left
	if got := second.out.String(); got != fmt.Sprintf("%s %d\n", inside.key, inside.token) {
		t.Errorf("the command saw %q, the entry is %v", got, inside)
	}
	fails(t, 75, "the barrier has all its parties", "barrier", "enter", name, "2", "--", "true")
	ok(t, "barrier", "close", name, "--reason", "upgrade")
	if got := ok(t, "why", "barrier/"+name); !strings.Contains(got, `is open for the 1. time, with 1 of 2 parties inside`) || !strings.Contains(got, `it was closed at revision `) || !strings.Contains(got, `("upgrade")`) {
		t.Errorf("why printed %q", got)
	}
	select {
	case <-first.done:
		t.Error("it did not wait for the other one to leave")
	default:
	}
	if err := os.WriteFile(release, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	first.wantCode(t, 0)
	second.wantCode(t, 7)
	if got := ok(t, "barrier", "show", name); !strings.HasPrefix(got, "generation 1 is over, nobody is there\n") {
		t.Errorf("barrier show printed\n%s", got)
	}
}

// TestBarrierEnterEnds: a party that is lost ends with 76, and who waits for others stops when it is told to.
func TestBarrierEnterEnds(t *testing.T) {
	t.Parallel()
	client, name := newClient(t), "dbl/b"
	loser := start(t, options{}, "barrier", "enter", name, "3", "--", "sh", "-c", "echo in; exec sleep 100")
	stopped := start(t, options{}, "barrier", "enter", name, "3", "--", "echo", "done")
	stays := start(t, options{}, "barrier", "enter", name, "3", "--", "sh", "-c", "exec sleep 100")
	loser.waitOut(t, "in\n")
	stopped.waitOut(t, "done\n")
	inside := waitEntries(t, client, barrierQueue(name), 2)
	stopped.signal(t, syscall.SIGTERM)
	stopped.wantCode(t, 75)
	stopped.wantOneLine(t, "barrier dbl/b: not all have left: stopped by signal")
	for _, e := range inside {
		if _, err := client.Revoke(t.Context(), e.lease); err != nil {
			t.Fatal(err)
		}
	}
	loser.wantCode(t, 76)
	loser.wantOneLine(t, "barrier dbl/b lost")
	stays.wantCode(t, 76)
	fails(t, 75, "barrier dbl/b not entered: ", "barrier", "enter", name, "2", "--wait", "300ms", "--", "true")
}

// TestNamesOfSubcommands: what a subcommand would not run it refuses, and --name runs it.
func TestNamesOfSubcommands(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"semaphore", "ls", "--", "true"}, {"semaphore", "l", "--", "true"}, {"semaphore", "show", "--", "true"},
		{"rwlock", "ls", "--read", "--", "true"},
	} {
		fails(t, 128, "say --name to run a command under that name", args...)
	}
	if got := ok(t, "semaphore", "--name", "ls", "--limit", "1", "--", "echo", "ran"); got != "ran\n" {
		t.Errorf("printed %q", got)
	}
	if got := ok(t, "rwlock", "--write", "--name", "show", "--", "echo", "ran"); got != "ran\n" {
		t.Errorf("printed %q", got)
	}
}

func TestSharedBadArguments(t *testing.T) {
	t.Parallel()
	for text, lines := range map[string][][]string{
		"takes the name of a": {{"rwlock", "--read"}, {"semaphore"}, {"semaphore", "x", "y", "--", "true"},
			{"barrier", "enter", "x", "2"}, {"semaphore", "resize", "x"}},
		"the name is empty": {{"rwlock", "", "--read"}, {"semaphore", "--name", ""},
			{"barrier", "enter", "", "2", "--", "true"}},
		"one of --read and --write": {{"rwlock", "x", "--", "true"},
			{"rwlock", "x", "--read", "--write", "--", "true"}},
		"-n is at least 1":              {{"semaphore", "x", "-n", "0", "--", "true"}},
		`number of parties "x"`:         {{"barrier", "enter", "x", "x", "--", "true"}},
		"at least one":                  {{"barrier", "enter", "x", "0", "--", "true"}},
		"why takes lock/NAME":           {{"why", "semaphore"}, {"why", "latch/x"}},
		"release needs a --reason":      {{"semaphore", "release", "x"}},
		"--ttl must be greater than ze": {{"semaphore", "x", "--ttl", "0", "--", "true"}},
	} {
		for _, args := range lines {
			fails(t, 128, text, args...)
		}
	}
	fails(t, 4, "unsupported output format", "semaphore", "x", "-w", "fields")
	fails(t, 127, "command not found", "rwlock", "x", "--read", "--", "no-such-command-anywhere")
}
