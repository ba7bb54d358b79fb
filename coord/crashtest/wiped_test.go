package crashtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestWipedMemberRefusesToStart wipes a member's directory in every way, under load. The member says why it does not
// start, and comes back as a new one.
func TestWipedMemberRefusesToStart(t *testing.T) {
	c := startCluster(t, 3)
	w := startWriters(t, c, 2, 5*time.Second)
	victim := c.follower()
	victim.kill()
	whole := filepath.Join(c.dir, "kept")
	if err := os.Rename(victim.dir, whole); err != nil {
		t.Fatal(err)
	}
	for _, wipe := range []struct {
		what   string
		do     func(t *testing.T)
		reason string
	}{
		{"everything", func(t *testing.T) { remove(t, victim.dir) }, "must not start from data directory"},
		{"the raft log", func(t *testing.T) { remove(t, filepath.Join(victim.dir, "member/wal")) }, "part wal"},
		{"what is in the raft log's directory", func(t *testing.T) {
			empty(t, filepath.Join(victim.dir, "member/wal"))
		}, "part wal"},
		{"the store", func(t *testing.T) { remove(t, filepath.Join(victim.dir, "member/db")) }, "part db"},
		{"the metadata", func(t *testing.T) {
			remove(t, filepath.Join(victim.dir, "member/meta.json"))
		}, "meta.json\" is missing"},
	} {
		t.Run(wipe.what, func(t *testing.T) {
			copyDir(t, whole, victim.dir)
			wipe.do(t)
			refused := victim.mustNotStart(t)
			if !strings.Contains(refused, wipe.reason) || !strings.Contains(refused, "add it again as a learner") {
				t.Errorf("refused with %q; the reason has to have %q and say what to do", refused, wipe.reason)
			}
			t.Log(refused)
		})
	}
	c.replace(t, victim)
	w.calm(0)
	for _, m := range c.members { // until nobody is left who founded the cluster
		if m != victim {
			m.kill()
			c.replace(t, m)
			w.calm(0)
		}
	}
	w.check(c.dial())
	c.checkEqual()
}

// mustNotStart starts a member that has to end by itself, and returns the one line with which it did.
func (m *member) mustNotStart(t *testing.T) string {
	t.Helper()
	before := 0
	if b, err := os.ReadFile(m.log); err == nil {
		before = len(b)
	}
	m.start(t)
	if code := m.exit(t); code <= 0 {
		t.Errorf("exit code %d of a member that must not start", code)
	}
	return complaint(t, m.output()[before:])
}

// complaint is the line of the output that is not a log line: what went wrong, as a person reads it.
func complaint(t *testing.T, output string) string {
	t.Helper()
	var plain []string
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "{") {
			plain = append(plain, strings.TrimSpace(line))
		}
	}
	if len(plain) != 1 || !strings.HasPrefix(plain[0], "coordd: ") {
		t.Errorf("there has to be one line that says what is wrong, not %q", plain)
	}
	return strings.Join(plain, "\n")
}

// replace rebuilds a member the safe way: removed, added as a learner, started with an empty directory, promoted.
func (c *cluster) replace(t *testing.T, m *member) {
	t.Helper()
	cli := c.dial()
	ctx := within(t, 2*patience)
	old := idOf(t, cli, m.name)
	if _, err := cli.MemberRemove(ctx, old); err != nil {
		t.Fatalf("remove the member: %v", err)
	}
	added, err := cli.MemberAddAsLearner(ctx, []string{"http://" + m.peer})
	if err != nil {
		t.Fatalf("add the learner: %v", err)
	}
	if added.Member.ID == old {
		t.Fatalf("the new member has the old one's id %x", old)
	}
	remove(t, m.dir)
	m.flags = append(m.flags, "--initial-cluster-state=existing")
	m.start(t)
	promote(t, cli, added.Member.ID)
	m.waitReady(t)
	if got := idOf(t, cli, m.name); got != added.Member.ID {
		t.Errorf("%s has id %x, added was %x", m.name, got, added.Member.ID)
	}
}

// promote promotes a learner as soon as it has caught up.
func promote(t *testing.T, cli *clientv3.Client, id uint64) {
	t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err = cli.MemberPromote(ctx, id)
		cancel()
		// One that timed out may have been done all the same.
		if err == nil || errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return
		}
	}
	t.Fatalf("promote the learner: %v", err)
}

// idOf is the id of the member of that name. A new member publishes its name while it serves already.
func idOf(t *testing.T, cli *clientv3.Client, name string) uint64 {
	t.Helper()
	var list *clientv3.MemberListResponse
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(20 * time.Millisecond) {
		var err error
		if list, err = cli.MemberList(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for _, m := range list.Members {
			if m.Name == name {
				return m.ID
			}
		}
	}
	t.Fatalf("no member %s in %v", name, list.Members)
	return 0
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// empty removes what is in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		remove(t, filepath.Join(dir, e.Name()))
	}
}

// copyDir replaces to by a copy of from.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	remove(t, to)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
