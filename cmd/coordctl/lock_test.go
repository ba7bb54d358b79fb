//go:build unix

package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// holdLock starts a coordctl that holds the lock until the test ends it, and returns its entry.
func holdLock(t *testing.T, client *clientv3.Client, name string, args ...string) (*run, entry) {
	t.Helper()
	r := start(t, options{}, append([]string{"lock", name}, args...)...)
	r.waitOut(t, name+"/")
	q := queueOf(t, client, name)
	if len(q) == 0 {
		t.Fatalf("lock %s: nothing in the queue; error output %q", name, &r.err)
	}
	return r, q[0]
}

func TestLockExitCodes(t *testing.T) {
	client := newClient(t)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		argv []string
		want int
	}{
		{"success", []string{"true"}, 0},
		{"failure", []string{"sh", "-c", "exit 3"}, 3},
		{"code of ours", []string{"sh", "-c", "exit 75"}, 75},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
		{"terminated", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15},
		{"not found", []string{"no-such-command-anywhere"}, 127},
		{"not executable", []string{plain}, 126},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := "codes/" + strings.ReplaceAll(c.name, " ", "-")
			r := start(t, options{}, append([]string{"lock", name, "--"}, c.argv...)...)
			r.wantCode(t, c.want)
			if q := queueOf(t, client, name); len(q) != 0 {
				t.Errorf("left in the queue: %v", q)
			}
		})
	}
}

func TestLockBadArguments(t *testing.T) {
	for _, args := range [][]string{{"lock"}, {"lock", ""}, {"lock", "x", "--"}, {"lock", "x", "y", "--", "true"},
		{"lock", "--", "true"}, {"lock", "x", "--ttl", "0", "--", "true"}} {
		r := start(t, options{}, args...)
		r.wantCode(t, 128)
		r.wantOneLine(t, "Error: ")
	}
}

func TestLockWithoutDashesAsEtcdctl(t *testing.T) {
	if got := ok(t, "lock", "nodash", "echo", "hello"); got != "hello\n" {
		t.Errorf("printed %q", got)
	}
}

func TestLockTryAndWait(t *testing.T) {
	client := newClient(t)
	holder, held := holdLock(t, client, "busy")
	for _, flags := range [][]string{{"--try"}, {"--wait", "0"}, {"--wait", "1"}, {"--wait", "300ms"}} {
		r := start(t, options{}, append([]string{"lock", "busy"}, append(flags, "--", "echo", "ran")...)...)
		r.wantCode(t, 75)
		r.wantOneLine(t, "lock busy not acquired")
		if r.out.String() != "" {
			t.Errorf("%v: the command ran", flags)
		}
		if q := queueOf(t, client, "busy"); len(q) != 1 || q[0] != held {
			t.Errorf("%v: the queue is %v, want the holder %v alone", flags, q, held)
		}
	}
	waiter := start(t, options{}, "lock", "busy", "--wait", "60", "--", "echo", "ran")
	waitQueue(t, client, "busy", 2)
	holder.signal(t, syscall.SIGTERM)
	holder.wantCode(t, 0)
	waiter.wantCode(t, 0)
	waiter.waitOut(t, "ran")
	if got := ok(t, "lock", "busy", "--try", "--", "echo", "free"); got != "free\n" {
		t.Errorf("--try on a free lock printed %q", got)
	}
}

func TestLockEnvironment(t *testing.T) {
	const script = `echo $COORD_FENCING_TOKEN $COORD_LOCK_KEY $ETCD_LOCK_KEY $ETCD_LOCK_REV; ` +
		`"$CTL" get --prefix env-lock/ -w fields; echo endpoints $ETCDCTL_ENDPOINTS`
	env := []string{"CTL=" + binary, "ETCDCTL_ENDPOINTS=" + endpoint(t)}
	var last int64
	for range 3 {
		out := okWith(t, options{env: env}, "lock", "env-lock", "--", "sh", "-c", script)
		first, rest, _ := strings.Cut(out, "\n")
		fields := strings.Fields(first)
		if len(fields) != 4 {
			t.Fatalf("the command saw %q", out)
		}
		token, rev := atoi(t, fields[0]), atoi(t, fields[3])
		if !strings.Contains(rest, fmt.Sprintf("\"CreateRevision\" : %d\n", token)) {
			t.Errorf("token %d is not the create revision of the entry:\n%s", token, rest)
		}
		if !strings.HasPrefix(fields[1], "env-lock/") || fields[1] != fields[2] ||
			!strings.Contains(rest, strconv.Quote(fields[1])) {
			t.Errorf("lock keys %q and %q; the store has\n%s", fields[1], fields[2], rest)
		}
		if rev < token || token <= last {
			t.Errorf("token %d after %d, held at revision %d", token, last, rev)
		}
		if !strings.Contains(rest, "endpoints "+endpoint(t)) {
			t.Errorf("the command lost its environment:\n%s", rest)
		}
		last = token
	}
}

func TestLockPassesStreams(t *testing.T) {
	r := start(t, options{stdin: "line 1\nline 2\n"}, "lock", "streams", "--", "sh", "-c", "cat; echo problem >&2")
	r.wantCode(t, 0)
	if r.out.String() != "line 1\nline 2\n" || r.err.String() != "problem\n" {
		t.Errorf("out %q, err %q", &r.out, &r.err)
	}
}

func TestLockPassesSignals(t *testing.T) {
	client := newClient(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("signals/%d", sig)
			// The loop ends on its own should the test fail to kill it.
			script := fmt.Sprintf(`trap 'echo got; exit 40' %d; echo ready; for i in $(seq 300); do sleep 0.1; done`, sig)
			r := start(t, options{}, "lock", name, "--", "sh", "-c", script)
			r.waitOut(t, "ready")
			r.signal(t, sig)
			r.wantCode(t, 40)
			if r.out.String() != "ready\ngot\n" {
				t.Errorf("the command printed %q", &r.out)
			}
			waitQueue(t, client, name, 0)
		})
	}
}

func TestLockSignalKillsCommand(t *testing.T) {
	r := start(t, options{}, "lock", "killed", "--", "sh", "-c", "echo ready; sleep 100 & wait")
	r.waitOut(t, "ready")
	r.signal(t, syscall.SIGTERM)
	r.wantCode(t, 128+15)
}

// lose takes the lock away from outside.
var lose = map[string]func(context.Context, *clientv3.Client, entry) error{
	"revoke": func(ctx context.Context, client *clientv3.Client, e entry) error {
		_, err := client.Revoke(ctx, e.lease)
		return err
	},
	"delete": func(ctx context.Context, client *clientv3.Client, e entry) error {
		_, err := client.Delete(ctx, e.key)
		return err
	},
}

func TestLockLostStopsCommand(t *testing.T) {
	client := newClient(t)
	for how, take := range lose {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			name := "lost/" + how
			r := start(t, options{}, "lock", name, "--", "sh", "-c",
				"trap 'echo termed; exit 0' TERM; echo ready; for i in $(seq 300); do sleep 0.1; done")
			r.waitOut(t, "ready")
			if err := take(t.Context(), client, queueOf(t, client, name)[0]); err != nil {
				t.Fatal(err)
			}
			r.wantCode(t, 76)
			// beside what the shell says of its killed sleep
			if !strings.Contains(r.err.String(), "Error: lock "+name+" lost") {
				t.Errorf("error output %q", &r.err)
			}
			r.waitOut(t, "termed")
			waitQueue(t, client, name, 0)
		})
	}
}

func TestLockLostKillsWholeGroup(t *testing.T) {
	client := newClient(t)
	// The command and a process it started ignore TERM; their pids are printed.
	script := `trap '' TERM; sh -c 'trap "" TERM; echo grandchild $$; exec sleep 100' & echo child $$; wait`
	r := start(t, options{}, "lock", "stubborn", "--grace", "500ms", "--", "sh", "-c", script)
	r.waitOut(t, "child ")
	r.waitOut(t, "grandchild ")
	var pids []int
	eventually(t, func() bool { pids = pidsIn(r.out.String()); return len(pids) == 2 }, "two pids in %q", &r.out)
	began := time.Now()
	if _, err := client.Revoke(t.Context(), queueOf(t, client, "stubborn")[0].lease); err != nil {
		t.Fatal(err)
	}
	r.wantCode(t, 76)
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("killed after %v, before the grace was over", took)
	}
	for _, pid := range pids {
		eventually(t, func() bool { return !alive(pid) }, "the end of process %d", pid)
	}
}

func pidsIn(out string) []int {
	var pids []int
	for _, line := range strings.Split(out, "\n") {
		if _, num, found := strings.Cut(line, "child "); found {
			if pid, err := strconv.Atoi(num); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// alive reports whether a process runs; one that waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestLockLostBeforeRelease takes the entry away while coordctl is stopped, and lets the command end: whichever it
// hears of first when it goes on, the lock was lost while the command ran. It runs several times, to meet both orders.
func TestLockLostBeforeRelease(t *testing.T) {
	client := newClient(t)
	for i := range 10 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			name, release := fmt.Sprintf("paused/%d", i), filepath.Join(t.TempDir(), "go")
			r := start(t, options{}, "lock", name, "--ttl", "60", "--", "sh", "-c",
				"echo ready; until [ -e "+release+" ]; do sleep 0.05; done")
			r.waitOut(t, "ready")
			r.signal(t, syscall.SIGSTOP)
			if _, err := client.Delete(t.Context(), queueOf(t, client, name)[0].key); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(release, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond) // let the command end by itself
			r.signal(t, syscall.SIGCONT)
			r.wantCode(t, 76)
		})
	}
}

// TestLockLostToSilence stops coordctl for longer than the TTL: when it goes on it must not believe that it holds.
func TestLockLostToSilence(t *testing.T) {
	client := newClient(t)
	r := start(t, options{}, "lock", "silent", "--ttl", "4", "--", "sh", "-c",
		"echo ready; for i in $(seq 600); do sleep 0.1; done")
	r.waitOut(t, "ready")
	r.signal(t, syscall.SIGSTOP)
	waitQueue(t, client, "silent", 0)
	if got := ok(t, "lock", "silent", "--", "echo", "next"); got != "next\n" {
		t.Errorf("the next holder printed %q", got)
	}
	r.signal(t, syscall.SIGCONT)
	r.wantCode(t, 76)
}

// TestLockOutlivesItsTTL shows that a silent command keeps the lock for longer than the TTL.
func TestLockOutlivesItsTTL(t *testing.T) {
	if got := ok(t, "lock", "renewed", "--ttl", "5", "--", "sh", "-c", "sleep 7; echo done"); got != "done\n" {
		t.Errorf("printed %q", got)
	}
}

func TestLockTTL(t *testing.T) {
	client := newClient(t)
	// etcd's API shows whole seconds
	for text, want := range map[string]int64{"30": 30, "10s": 10, "22500ms": 22, "1m": 60} {
		t.Run(text, func(t *testing.T) {
			_, held := holdLock(t, client, "ttl/"+text, "--ttl", text)
			resp, err := client.TimeToLive(t.Context(), held.lease)
			if err != nil {
				t.Fatal(err)
			}
			if resp.GrantedTTL != want {
				t.Errorf("--ttl %s granted %d s, want %d", text, resp.GrantedTTL, want)
			}
		})
	}
}

func TestLockHoldsUntilSignal(t *testing.T) {
	client := newClient(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		r, held := holdLock(t, client, "held")
		if got, want := r.out.String(), held.key+"\n"+held.value+"\n"; got != want {
			t.Errorf("printed %q, want %q as etcdctl", got, want)
		}
		r.signal(t, sig)
		r.wantCode(t, 0)
		if q := queueOf(t, client, "held"); len(q) != 0 {
			t.Errorf("left in the queue: %v", q)
		}
		if resp, err := client.TimeToLive(t.Context(), held.lease); err != nil || resp.TTL != -1 {
			t.Errorf("the lease of the released lock has TTL %v, error %v", resp, err)
		}
	}
	r, held := holdLock(t, client, "held")
	if _, err := client.Revoke(t.Context(), held.lease); err != nil {
		t.Fatal(err)
	}
	r.wantCode(t, 76)
}

// TestLockWaiterLeavesNoGhost interrupts a waiter in the middle: the one behind it must get the lock from the holder.
func TestLockWaiterLeavesNoGhost(t *testing.T) {
	client := newClient(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		name := fmt.Sprintf("ghost/%d", sig)
		holder, _ := holdLock(t, client, name)
		waiter := start(t, options{}, "lock", name, "--ttl", "600", "--", "echo", "ran")
		waitQueue(t, client, name, 2)
		third := start(t, options{}, "lock", name, "--", "echo", "third")
		before := waitQueue(t, client, name, 3)
		waiter.signal(t, sig)
		waiter.wantCode(t, 75)
		waiter.wantOneLine(t, "stopped by signal")
		if q := queueOf(t, client, name); len(q) != 2 || q[0] != before[0] || q[1] != before[2] {
			t.Errorf("%v: the queue is %v, was %v", sig, q, before)
		}
		holder.signal(t, syscall.SIGINT)
		third.wantCode(t, 0)
		if waiter.out.String() != "" || third.out.String() != "third\n" {
			t.Errorf("%v: the waiter printed %q, the third %q", sig, &waiter.out, &third.out)
		}
	}
}

// TestLockWaiterIsToldOfItsEnd revokes a waiter's lease: it must not wait for ever.
func TestLockWaiterIsToldOfItsEnd(t *testing.T) {
	client := newClient(t)
	holdLock(t, client, "told")
	waiter := start(t, options{}, "lock", "told", "--", "echo", "ran")
	q := waitQueue(t, client, "told", 2)
	if _, err := client.Revoke(t.Context(), q[1].lease); err != nil {
		t.Fatal(err)
	}
	waiter.wantCode(t, 75)
	waiter.wantOneLine(t, "lost")
}

func TestLockIsFIFO(t *testing.T) {
	client := newClient(t)
	holder, _ := holdLock(t, client, "fifo")
	order := filepath.Join(t.TempDir(), "order")
	var waiters []*run
	for i := range 4 {
		w := start(t, options{}, "lock", "fifo", "--", "sh", "-c",
			fmt.Sprintf("echo %d $COORD_FENCING_TOKEN >> %s", i, order))
		waiters = append(waiters, w)
		waitQueue(t, client, "fifo", i+2)
	}
	holder.signal(t, syscall.SIGINT)
	for _, w := range waiters {
		w.wantCode(t, 0)
	}
	data, err := os.ReadFile(order)
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		num, token, _ := strings.Cut(line, " ")
		if atoi(t, num) != int64(i) || atoi(t, token) <= last {
			t.Fatalf("order and tokens:\n%s", data)
		}
		last = atoi(t, token)
	}
}

// TestLockExcludesEtcdMutex puts etcd's own client into the same queue, once in front and once behind.
func TestLockExcludesEtcdMutex(t *testing.T) {
	client := newClient(t)
	session, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "shared")
	if err := mutex.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := start(t, options{}, "lock", "shared", "--try", "--", "true")
	r.wantCode(t, 75)
	ours := start(t, options{}, "lock", "shared")
	waitQueue(t, client, "shared", 2)
	if err := mutex.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ours.waitOut(t, "shared/")
	if err := mutex.TryLock(t.Context()); err != concurrency.ErrLocked {
		t.Fatalf("etcd's mutex beside ours: %v, want %v", err, concurrency.ErrLocked)
	}
	ours.signal(t, syscall.SIGINT)
	ours.wantCode(t, 0)
	if err := mutex.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
}
