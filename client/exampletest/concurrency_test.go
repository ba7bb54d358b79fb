package exampletest

import (
	"errors"
	"sync"
	"testing"

	etcd "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/concurrency"
)

func mirrorSession(t *testing.T, c *client.Client) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(30), concurrency.WithContext(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestMirrorOfEtcdsMutex: it excludes etcd's and its own, and says what etcd's says.
func TestMirrorOfEtcdsMutex(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	a, b := mirrorSession(t, c), mirrorSession(t, c)
	m, other, theirs := concurrency.NewMutex(a, "mirror"), concurrency.NewMutex(b,
		"mirror"), etcd.NewMutex(etcdSession(t, c, 30), "mirror")
	if err := m.Unlock(ctx); !errors.Is(err, concurrency.ErrLockReleased) {
		t.Errorf("unlock of what is not locked: %v", err)
	}
	if err := m.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := theirs.TryLock(ctx); !errors.Is(err, etcd.ErrLocked) {
		t.Errorf("etcd's: %v", err)
	}
	if err := other.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("another session: %v", err)
	}
	if resp, err := c.Txn(ctx).If(m.IsOwner()).Commit(); err != nil || !resp.Succeeded || m.Header().Revision == 0 {
		t.Errorf("%v, %v, header %v", resp, err, m.Header())
	}
	key := m.Key()
	if resp, err := c.Get(ctx, key); err != nil || len(resp.Kvs) != 1 || resp.Kvs[0].Lease != int64(a.Lease()) {
		t.Errorf("key %s: %v, %v", key, resp, err)
	}
	locked := make(chan error, 1)
	go func() { locked <- theirs.Lock(ctx) }()
	waitFor(t, c, "mirror", 2)
	if err := m.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Txn(ctx).If(m.IsOwner()).Commit(); err != nil || resp.Succeeded {
		t.Errorf("owner after unlock: %v, %v", resp, err)
	}
	if err := theirs.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	<-a.Done()
	<-a.Ctx().Done()
	if err := m.Lock(ctx); !errors.Is(err, concurrency.ErrSessionExpired) {
		t.Errorf("lock in a closed session: %v", err)
	}
}

func TestMirrorOfEtcdsLocker(t *testing.T) {
	c := dial(t, endpoint)
	s := mirrorSession(t, c)
	inside := 0
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			l := concurrency.NewLocker(s, "locker")
			l.Lock()
			defer l.Unlock()
			if inside++; inside != 1 {
				t.Errorf("%d inside", inside)
			}
			inside--
		})
	}
	group.Wait()
	waitFor(t, c, "locker", 0)
}

// TestMirrorOfEtcdsElection: one election with etcd's, seen by both sides.
func TestMirrorOfEtcdsElection(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	e, theirs := concurrency.NewElection(mirrorSession(t, c), "mirror-el"), etcd.NewElection(etcdSession(t, c, 30),
		"mirror-el")
	if _, err := e.Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Errorf("no leader: %v", err)
	}
	if err := e.Proclaim(ctx, "x"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Errorf("proclaim: %v", err)
	}
	seen := e.Observe(ctx)
	for _, value := range []string{"a", "b", "c"} { // who leads already proclaims
		if err := e.Campaign(ctx, value); err != nil {
			t.Fatal(err)
		}
		if resp := <-seen; resp == nil || string(resp.Kvs[0].Value) != value || resp.Kvs[0].CreateRevision != e.Rev() {
			t.Errorf("observed %v, want %s of term %d", resp, value, e.Rev())
		}
	}
	if resp, err := theirs.Leader(ctx); err != nil || string(resp.Kvs[0].Key) != e.Key() || e.Header().Revision == 0 {
		t.Errorf("etcd's sees %v, %v", resp, err)
	}
	campaigned := make(chan error, 1)
	go func() { campaigned <- theirs.Campaign(ctx, "theirs") }()
	waitFor(t, c, "mirror-el", 2)
	if err := e.Resign(ctx); err != nil || e.Key() != "" {
		t.Fatal(err)
	}
	if err := <-campaigned; err != nil {
		t.Fatal(err)
	}
	for resp := range seen { // nobody led for a moment; that is not told
		if string(resp.Kvs[0].Value) == "theirs" {
			break
		}
	}
	if err := theirs.Resign(ctx); err != nil {
		t.Error(err)
	}
}
