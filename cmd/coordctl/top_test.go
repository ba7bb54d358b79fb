//go:build unix

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/coord/coordtest"
)

type topPicture struct {
	Members []struct {
		Name, Role, Version string
		Lag                 uint64
		DBSize              int64 `json:"db_size"`
	}
	Sessions struct {
		Count   int
		Soonest []struct {
			ID, Host, Process string
			LeftMS            int64 `json:"left_ms"`
		}
	}
	Locks, Elections topQueues
	Services         []struct {
		Service   string
		Instances int
		States    map[string]int
	}
	Errors map[string]string
}

type topQueues struct {
	Count   int
	Waiting int64
	Longest []struct {
		Name, Owner, Host string
		Token, Waiting    int64
		AgeMS             int64 `json:"age_ms"`
	}
}

// topOnce is a picture, in which some part may be missing.
func topOnce(t *testing.T, args ...string) *topPicture {
	t.Helper()
	now := &topPicture{}
	text := ok(t, append([]string{"top", "-w", "json", "--command-timeout", "60s"}, args...)...)
	if err := json.Unmarshal([]byte(text), now); err != nil {
		t.Fatalf("top -w json printed %q: %v", text, err)
	}
	return now
}

func TestTopOnce(t *testing.T) {
	s, waiting := newSession(t, "top1"), newSession(t, "top2")
	held := acquire(t, s, "top/lock")
	enqueue(t, waiting, "top/lock")
	leader, err := s.Election("top/election").Campaign(t.Context(), []byte("10.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = waiting.Election("top/election").Campaign(ctx, []byte("10.0.0.2"))
	}()
	defer func() { cancel(); <-done }()
	waitQueue(t, newClient(t), "top/election", 2)
	start(t, options{}, "service", "register", "top-svc", "--addr", "127.0.0.1:1").waitOut(t, "registered")

	now := topOnce(t, "--rows", "1000")
	if now.Errors != nil {
		t.Errorf("top could not see %v", now.Errors)
	}
	if len(now.Members) != 1 || now.Members[0].Role != "leader" || now.Members[0].Version == "" ||
		now.Members[0].DBSize == 0 {
		t.Errorf("members: %+v", now.Members)
	}
	if now.Sessions.Count < 2 || len(now.Sessions.Soonest) != now.Sessions.Count {
		t.Errorf("sessions: %+v", now.Sessions)
	}
	for i, s := range now.Sessions.Soonest[1:] {
		if s.LeftMS < now.Sessions.Soonest[i].LeftMS {
			t.Errorf("the sessions do not stand by the time that is left: %+v", now.Sessions.Soonest)
		}
	}
	find := func(q topQueues, name string) any {
		for _, one := range q.Longest {
			if one.Name == name {
				one.AgeMS = 0
				return one
			}
		}
		return nil
	}
	if got, want := fmt.Sprint(find(now.Locks, "top/lock")), fmt.Sprintf("{top/lock top1-owner top1 %d 1 0}",
		held.Token()); got != want {
		t.Errorf("lock %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(find(now.Elections, "top/election")), fmt.Sprintf("{top/election 10.0.0.1 top1 %d 1 0}",
		leader.Term()); got != want {
		t.Errorf("election %s, want %s", got, want)
	}
	services := fmt.Sprint(now.Services)
	if !strings.Contains(services, "{top-svc 1 map[passing:1]}") {
		t.Errorf("services %s", services)
	}
	text := ok(t, "top", "--rows", "1000") // once, for there is no terminal
	wantLine(t, text, "NAME", "KIND", "HOLDER", "HOST", "AGE", "TOKEN", "WAITING")
	wantLine(t, text, "top-svc", "1", "1", "0", "0", "0")
	if strings.Contains(text, "\x1b") {
		t.Errorf("a terminal's sequences where there is none: %q", text)
	}
	for _, args := range [][]string{{"top", "x"}, {"top", "--interval", "0"}, {"top", "--rows", "0"}} {
		r := start(t, options{}, args...)
		r.wantCode(t, 128)
	}
	r := start(t, options{}, "--endpoints", freeAddr(), "--dial-timeout", "200ms", "--command-timeout", "200ms", "top",
		"--once")
	r.wantCode(t, 1)
	r.wantOneLine(t, "no answer from the cluster")
}

// TestTopOfManyLocks: all are counted, and those with the longest queues are shown.
func TestTopOfManyLocks(t *testing.T) {
	const locks, batch = 10_000, 100
	c := newClient(t)
	var leases []clientv3.LeaseID
	for range 3 {
		lease, err := c.Grant(t.Context(), 600)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, lease.ID)
	}
	defer func() {
		for _, id := range leases {
			_, _ = c.Revoke(context.Background(), id)
		}
	}()
	entry := func(name string, lease clientv3.LeaseID) clientv3.Op { // as etcd's clients make it
		return clientv3.OpPut(fmt.Sprintf("%s/%x", name, int64(lease)), "", clientv3.WithLease(lease))
	}
	for i := 0; i < locks; i += batch {
		var ops []clientv3.Op
		for j := i; j < i+batch; j++ {
			ops = append(ops, entry(fmt.Sprintf("many/%05d", j), leases[0]))
		}
		if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Txn(t.Context()).Then(entry("many/09999", leases[1]), entry("many/09999", leases[2]),
		entry("many/05000", leases[1])).Commit(); err != nil {
		t.Fatal(err)
	}
	now := topOnce(t, "--rows", "2")
	if now.Locks.Count < locks || len(now.Locks.Longest) != 2 || now.Locks.Longest[0].Name != "many/09999" ||
		now.Locks.Longest[0].Waiting != 2 {
		t.Errorf("%d locks, and first %+v", now.Locks.Count, now.Locks.Longest)
	}
}

// TestTopWithAMemberDown: it is shown as down, whoever was asked; also by a member that has lost all others.
func TestTopWithAMemberDown(t *testing.T) {
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	leader := cluster.WaitLeader()
	gone := (leader + 1) % 3
	args := []string{"--endpoints=" + cluster.Endpoints()[leader]}
	roles := func() string {
		var all []string
		for _, m := range topOnce(t, args...).Members {
			all = append(all, m.Role)
		}
		return strings.Join(all, " ")
	}
	eventually(t,
		func() bool {
			r := roles()
			return strings.Count(r, "follower") == 2 &&
				strings.Contains(r, "leader")
		}, "a leader and two followers")
	cluster.StopMember(gone)
	eventually(t, func() bool { r := roles(); return strings.Count(r, "down") == 1 && strings.Contains(r, "leader") },
		"a leader, a follower and one down")
	cluster.StopMember((leader + 2) % 3)
	args = append(args, "--command-timeout=500ms") // for what only a majority can say
	eventually(t, func() bool { r := roles(); return strings.Count(r, "down") == 2 && strings.Contains(r, "follower") },
		"two down and one that follows nobody")
}
