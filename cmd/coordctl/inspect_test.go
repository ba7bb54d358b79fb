//go:build unix

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

// newSession opens a session of a host, which ends with the test.
func newSession(t *testing.T, host string) *client.Session {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{endpoint(t)}, Owner: host + "-owner"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.NewSession(t.Context(), client.WithTTL(time.Minute), client.WithIdentity(host, "tester[1]"),
		client.WithLabel("team", "a"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func acquire(t *testing.T, s *client.Session, name string) *client.Held {
	t.Helper()
	held, err := s.Lock(name).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// enqueue makes the session wait for the lock, and returns when it does. The wait ends with the test.
func enqueue(t *testing.T, s *client.Session, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Lock(name).Acquire(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	waits := fmt.Sprintf("%s/%x", name, s.Lease())
	eventually(t, func() bool {
		resp, err := newClient(t).Get(t.Context(), waits, clientv3.WithPrefix())
		return err == nil && len(resp.Kvs) == 1
	}, "an entry %s", waits)
}

func hexID(s *client.Session) string { return fmt.Sprintf("%016x", int64(s.Lease())) }

// wantLine checks that some line of a table has these cells, in order.
func wantLine(t *testing.T, table string, cells ...string) {
	t.Helper()
	for i := range cells {
		cells[i] = regexp.QuoteMeta(cells[i])
	}
	if !regexp.MustCompile(`(?m)^` + strings.Join(cells, `\s+`) + `\s*$`).MatchString(table) {
		t.Errorf("no line with %q in\n%s", cells, table)
	}
}

func TestSessionsVerb(t *testing.T) {
	s := newSession(t, "db1")
	acquire(t, s, "inspect/sessions")
	table := ok(t, "sessions", "ls")
	if !strings.HasPrefix(table, "SESSION ") || !strings.Contains(table, hexID(s)+"  db1 ") ||
		!strings.Contains(table, "team=a") {
		t.Errorf("sessions ls printed\n%s", table)
	}
	wantLine(t, ok(t, "sessions", "ls", "-w", "table"), "SESSION", "HOST", "PROCESS", "TTL", "LEFT", "HOLDS", "WAITS",
		"KEYS", "LABELS")
	shown := ok(t, "sessions", "show", hexID(s))
	wantLine(t, shown, "session:", hexID(s))
	wantLine(t, shown, "host:", "db1")
	wantLine(t, shown, "labels:", "team=a")
	wantLine(t, shown, "ttl:", "1m0s")
	if !strings.Contains(shown, "lock/inspect/sessions") {
		t.Errorf("sessions show printed\n%s", shown)
	}
	var resp struct {
		Session struct {
			ID       string
			Identity struct{ Host string }
			Holds    string
		}
		Entries []struct {
			Kind, Name string
			Holds      bool
		}
	}
	if err := json.Unmarshal([]byte(ok(t, "sessions", "show", hexID(s), "-w", "json")), &resp); err != nil {
		t.Fatal(err)
	}
	if resp.Session.ID != fmt.Sprint(int64(s.Lease())) || resp.Session.Identity.Host != "db1" ||
		resp.Session.Holds != "1" ||
		len(resp.Entries) != 1 || resp.Entries[0].Kind != "QUEUE_LOCK" || !resp.Entries[0].Holds {
		t.Errorf("sessions show -w json gave %+v", resp)
	}
	// A plain lease is listed when it is asked for.
	lease, err := newClient(t).Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%016x", int64(lease.ID))
	if strings.Contains(table, id) || !strings.Contains(ok(t, "sessions", "ls", "--leases"), id) {
		t.Error("leases are listed with --leases, and else not")
	}
}

func TestSessionsEnd(t *testing.T) {
	s := newSession(t, "db2")
	acquire(t, s, "inspect/end")
	if got := ok(t, "sessions", "end", hexID(s)); got != "session "+hexID(s)+" ended\n" {
		t.Errorf("sessions end printed %q", got)
	}
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Error("the session does not know that it was ended")
	}
	r := start(t, options{}, "sessions", "end", hexID(s), "--yes")
	r.wantCode(t, 1)
	r.wantOneLine(t, "session not found")
	for _, id := range []string{"x", ""} {
		r = start(t, options{}, "sessions", "show", id)
		r.wantCode(t, 128)
		r.wantOneLine(t, "hex")
	}
}

func TestLocksVerb(t *testing.T) {
	holder, waiter := newSession(t, "db3"), newSession(t, "db4")
	held := acquire(t, holder, "inspect/locks/a")
	enqueue(t, waiter, "inspect/locks/a")
	acquire(t, waiter, "inspect/locks/b")
	table := ok(t, "locks", "ls", "inspect/locks/")
	if n := strings.Count(table, "\n"); n != 3 {
		t.Errorf("locks ls of a prefix printed %d lines:\n%s", n, table)
	}
	if !strings.Contains(table, fmt.Sprintf("db3-owner  %d", held.Token())) {
		t.Errorf("locks ls printed\n%s", table)
	}
	shown := ok(t, "locks", "show", "inspect/locks/a")
	if lines := strings.Split(shown,
		"\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], "holds  db3-owner  ") ||
		!strings.HasPrefix(lines[2], "1      db4-owner  ") {
		t.Errorf("locks show printed\n%s", shown)
	}

	r := start(t, options{}, "locks", "release", "inspect/locks/a", "--yes")
	r.wantCode(t, 128)
	r.wantOneLine(t, "--reason")
	r = start(t, options{}, "locks", "release", "inspect/locks/a", "--reason", "stuck", "--token", "1")
	r.wantCode(t, 1)
	r.wantOneLine(t, "not the holder")
	if got := ok(t, "locks", "release", "inspect/locks/a", "--reason", "stuck"); !strings.Contains(got,
		fmt.Sprintf("db3-owner with token %d", held.Token())) {
		t.Errorf("locks release printed %q", got)
	}
	select {
	case <-held.Lost():
	case <-time.After(patience):
		t.Error("the holder does not know that its lock was released")
	}
	if shown := ok(t, "locks", "show", "inspect/locks/a"); !strings.Contains(shown, "\nholds  db4-owner") {
		t.Errorf("after the release:\n%s", shown)
	}
	r = start(t, options{}, "locks", "release", "inspect/locks/none", "--reason", "stuck", "--yes")
	r.wantCode(t, 1)
	r.wantOneLine(t, "is free")
}

func TestElectionsVerb(t *testing.T) {
	one, two := newSession(t, "db5"), newSession(t, "db6")
	leader, err := one.Election("inspect/election").Campaign(t.Context(), []byte("10.0.0.5"))
	if err != nil {
		t.Fatal(err)
	}
	elected := make(chan error, 1)
	go func() {
		_, err := two.Election("inspect/election").Campaign(t.Context(), []byte("10.0.0.6"))
		elected <- err
	}()
	candidate := waitQueue(t, newClient(t), "inspect/election", 2)[1]
	if table := ok(t, "elections", "ls", "inspect/"); !strings.Contains(table,
		fmt.Sprintf("election  10.0.0.5  %d", leader.Term())) {
		t.Errorf("elections ls printed\n%s", table)
	}
	if table := ok(t, "locks", "ls", "inspect/election"); strings.Contains(table, "10.0.0.5") {
		t.Errorf("locks ls lists an election:\n%s", table)
	}
	if shown := ok(t, "elections", "show", "inspect/election"); !strings.Contains(shown, candidate.key) {
		t.Errorf("elections show printed\n%s", shown)
	}
	if why := ok(t, "why", "election/inspect/election"); !strings.HasPrefix(why, `election "inspect/election" is led by "10.0.0.5" (host "db5"`) {
		t.Errorf("why printed %q", why)
	}
	r := start(t, options{}, "elections", "transfer", "inspect/election")
	r.wantCode(t, 128)
	r.wantOneLine(t, "--to")
	r = start(t, options{}, "elections", "transfer", "inspect/election", "--to", "10.0.0.5") // its value
	r.wantCode(t, 128)
	r.wantOneLine(t, "elections show inspect/election")
	r = start(t, options{}, "elections", "transfer", "inspect/election", "--to", "inspect/election/77")
	r.wantCode(t, 1)
	r.wantOneLine(t, "not a candidate")
	if got := ok(t, "elections", "transfer", "inspect/election", "--to", candidate.key); !strings.Contains(got,
		candidate.key) {
		t.Errorf("elections transfer printed %q", got)
	}
	select {
	case err := <-elected:
		if err != nil {
			t.Errorf("the target of the transfer: %v", err)
		}
	case <-time.After(patience):
		t.Error("the target of the transfer does not know that it leads")
	}
	select {
	case <-leader.Lost():
	case <-time.After(patience):
		t.Error("the old leader does not know that it leads no more")
	}
}

func TestWhyAndDeadlocks(t *testing.T) {
	one, two := newSession(t, "db7"), newSession(t, "db8")
	acquire(t, one, "inspect/why/a")
	acquire(t, two, "inspect/why/b")
	enqueue(t, two, "inspect/why/a")
	sentence := ok(t, "why", "lock/inspect/why/a")
	want := fmt.Sprintf(`^lock "inspect/why/a" is held by "db7-owner" \(host "db7", process "tester\[1\]", team "a", session %x\) with token \d+ `+
		`since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; 1 waits; it becomes free by a release, or by the expiry of session %[1]x in at most [0-9m.s]+ unless it is renewed\n$`, int64(one.Lease()))
	if !regexp.MustCompile(want).MatchString(sentence) {
		t.Errorf("why printed %q\nwant %s", sentence, want)
	}
	wantLine(t, ok(t, "deadlocks"), hexID(two), hexID(one), "inspect/why/a")
	if got := ok(t, "deadlocks"); !strings.HasSuffix(got, "no deadlock\n") {
		t.Errorf("deadlocks printed\n%s", got)
	}
	enqueue(t, one, "inspect/why/b")
	if got := ok(t, "deadlocks"); strings.Contains(got, "no deadlock") || !strings.Contains(got, "deadlock: ") {
		t.Errorf("deadlocks printed\n%s", got)
	}
	if got := ok(t, "why", "lock/inspect/why/a"); !strings.Contains(got, "; deadlock: ") {
		t.Errorf("why printed %q", got)
	}
	r := start(t, options{}, "why", "inspect/why/a")
	r.wantCode(t, 128)
	r.wantOneLine(t, "lock/NAME")
	r = start(t, options{}, "why", "election/inspect/why/a")
	r.wantCode(t, 1)
	r.wantOneLine(t, "used as another")
	if got := ok(t, "why", "lock/inspect/why/none"); got != "lock \"inspect/why/none\" is free; nobody waits\n" {
		t.Errorf("why of a free lock printed %q", got)
	}
}

// What somebody chose as a name does nothing to a terminal.
func TestNamesAreQuotedWhereTheyMust(t *testing.T) {
	acquire(t, newSession(t, "db9"), "inspect/esc\x1b[2J\n")
	for _, args := range [][]string{{"locks", "ls", "inspect/esc"}, {"locks", "show", "inspect/esc\x1b[2J\n"},
		{"why", "lock/inspect/esc\x1b[2J\n"}} {
		if got := ok(t, args...); strings.Contains(got, "\x1b") || !strings.Contains(got, `inspect/esc\x1b[2J\n`) {
			t.Errorf("%q printed %q", args, got)
		}
	}
}
