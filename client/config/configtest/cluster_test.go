package configtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/coord/coordtest"
)

var (
	_ config.Store = (*clientv3.Client)(nil)
	_ config.Store = (*client.Client)(nil)
)

func dial(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, c *clientv3.Client, bundle string, n int) config.Version {
	t.Helper()
	v, err := config.Put(bounded(t), c.ActiveConnection(), bundle, config.Documents{"d.json": fmt.Appendf(nil, `{"max_connections":%d}`, n)}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s never came", what)
		}
	}
}

// TestWatchThroughMembersThatStop: each member of three stops in turn, the history is compacted up to the last version
// each time, and every follower, whichever member it began with, has each version in the end and never an earlier one
// after a later.
func TestWatchThroughMembersThatStop(t *testing.T) {
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	all := cluster.Endpoints()
	publisher := dial(t, all...)
	put(t, publisher, "svc", 1)
	var followers []*config.Value[Limits]
	for i := range 3 {
		order := append(append([]string{}, all[i:]...), all[:i]...)
		last, mu := int64(0), sync.Mutex{}
		v, err := config.Watch[Limits](t.Context(), dial(t, order...), "svc", config.Patience(time.Minute),
			config.Refresh(2*time.Second),
			config.OnChange(func(before, now config.Snapshot[Limits]) {
				mu.Lock()
				defer mu.Unlock()
				if now.Version.Revision <= last || now.Version.Revision <= before.Version.Revision ||
					int64(now.Value.MaxConnections) != now.Version.Number {
					t.Errorf("revision %d after %d, value %d of version %d", now.Version.Revision,
						before.Version.Revision, now.Value.MaxConnections, now.Version.Number)
				}
				last = now.Version.Revision
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Close)
		followers = append(followers, v)
	}
	n := 1
	next := func() {
		n++
		v := put(t, publisher, "svc", n)
		if _, err := publisher.Compact(bounded(t), v.Revision); err != nil {
			t.Logf("compact: %v", err) // a member may have stopped under it
		}
		for i, f := range followers {
			waitFor(t, fmt.Sprintf("version %d at follower %d", n, i), func() bool { return f.Version() == int64(n) })
		}
	}
	for member := range 3 {
		next()
		cluster.StopMember(member)
		next()
		next()
		cluster.StartMember(member)
	}
	next()
	history, err := config.History(bounded(t), publisher.ActiveConnection(), "svc", 0)
	if err != nil || len(history) != n {
		t.Errorf("after the compactions there are %d versions of %d, %v", len(history), n, err)
	}
}

// TestColdStart: a process that starts while the cluster is down begins with its copy, and follows on when the cluster
// is back.
func TestColdStart(t *testing.T) {
	cluster, path := coordtest.Start(t, coordtest.Options{}), filepath.Join(t.TempDir(), "copy")
	follow := func(patience time.Duration) *config.Value[Limits] {
		t.Helper()
		v, err := config.Watch[Limits](t.Context(), dial(t, cluster.Endpoints()...), "svc",
			config.Copy(path), config.Patience(patience), config.Refresh(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	c := dial(t, cluster.Endpoints()...)
	put(t, c, "svc", 1)
	first := follow(time.Minute)
	put(t, c, "svc", 2)
	waitFor(t, "version 2", func() bool { return first.Version() == 2 })
	first.Close()
	cluster.StopMember(0)
	v := follow(2 * time.Second)
	defer v.Close()
	if v.Load().MaxConnections != 2 || v.Version() != 2 || !v.Stale() {
		t.Errorf("from the copy: %+v, stale %v", v.Current(), v.Stale())
	}
	cluster.StartMember(0)
	waitFor(t, "the confirmation", func() bool { return !v.Stale() })
	put(t, c, "svc", 3)
	waitFor(t, "version 3", func() bool { return v.Version() == 3 })
}

// TestReportGoesWithTheSession: the refusal of a client is to be seen until its session ends.
func TestReportGoesWithTheSession(t *testing.T) {
	c := connect()
	defer c.Close()
	put(t, c, "reported", 1)
	sdk, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer sdk.Close()
	session, err := sdk.NewSession(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sdk.Conn()
	if err != nil {
		t.Fatal(err)
	}
	v, err := config.Watch[Limits](t.Context(), sdk, "reported", config.Validate(Limits.Check),
		config.Report(conn, "node-1", session.Lease))
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "reported", 0)
	var statuses []config.Status
	read := func() {
		t.Helper()
		if statuses, err = config.Statuses(bounded(t), c, "reported"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the refusal", func() bool { read(); return len(statuses) == 1 && statuses[0].Error != "" })
	if s := statuses[0]; s.Client != "node-1" || s.Seen != 2 || s.Applied != 1 || v.Version() != 1 ||
		!errors.Is(v.Err(), config.ErrRefused) {
		t.Errorf("reported %+v, error %v", s, v.Err())
	}
	v.Close()
	if err := session.Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the report", func() bool { read(); return len(statuses) == 0 })
}

// TestLostAnswers: a publication whose first answers are lost is made once, and known to be; so is a rollback.
func TestLostAnswers(t *testing.T) {
	c := connect()
	defer c.Close()
	conn := &lossy{ClientConnInterface: c.ActiveConnection()}
	ctx := bounded(t)
	const versions = 20
	for n := range int64(versions) {
		v, err := config.Put(ctx, conn, "lossy", config.Documents{"d": fmt.Append(nil, n+1)}, "test", config.Expect(n))
		if err != nil || v.Number != n+1 {
			t.Fatalf("version %d: %+v, %v", n+1, v, err)
		}
	}
	if v, err := config.Rollback(ctx, conn, "lossy", 1,
		"test"); err != nil || v.Number != versions+1 || v.RollbackOf != 1 {
		t.Errorf("rollback: %+v, %v", v, err)
	}
	history, err := config.History(ctx, conn, "lossy", 0)
	if err != nil || len(history) != versions+1 || conn.lost == 0 {
		t.Errorf("%d versions, %v; %d answers were lost", len(history), err, conn.lost)
	}
}

// lossy is a connection that loses two answers of three.
type lossy struct {
	grpc.ClientConnInterface
	calls, lost int
}

func (l *lossy) Invoke(ctx context.Context, method string, req, resp any, opts ...grpc.CallOption) error {
	err := l.ClientConnInterface.Invoke(ctx, method, req, resp, opts...)
	if l.calls++; l.calls%3 != 0 {
		l.lost++
		return status.Error(codes.Unavailable, "the answer was lost")
	}
	return err
}
