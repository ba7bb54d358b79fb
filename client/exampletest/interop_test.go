package exampletest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// long is how long a test waits for what must happen.
const long = 60 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, endpoints ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// clocked starts a fake server, and returns with it a client that has its clock.
func clocked(t *testing.T) (*coordtest.Fake, *client.Client) {
	t.Helper()
	fake := coordtest.NewFake(t)
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}, Clock: fake.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return fake, c
}

func newSession(t *testing.T, c *client.Client, ttl time.Duration) *client.Session {
	t.Helper()
	s, err := c.NewSession(bounded(t), client.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

func etcdSession(t *testing.T, c *client.Client, ttl int) *concurrency.Session {
	t.Helper()
	etcd, err := c.Etcd()
	if err != nil {
		t.Fatal(err)
	}
	s, err := concurrency.NewSession(etcd, concurrency.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// waitFor waits until n keys are below the name.
func waitFor(t *testing.T, c *client.Client, name string, n int64) {
	t.Helper()
	for ctx := bounded(t); ; time.Sleep(2 * time.Millisecond) {
		resp, err := c.Get(ctx, name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatalf("queue of %q, want %d: %v", name, n, err)
		}
		if resp.Count == n {
			return
		}
	}
}

// TestMutexOfEtcdAndOursExclude: one queue, and hand-off in both directions.
func TestMutexOfEtcdAndOursExclude(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	s := newSession(t, c, 30*time.Second)
	theirs := concurrency.NewMutex(etcdSession(t, c, 30), "interop")
	for range 3 {
		if err := theirs.Lock(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock("interop").TryAcquire(ctx); !errors.Is(err, client.ErrNotAcquired) {
			t.Fatalf("try of what an etcd client holds: %v", err)
		}
		granted := make(chan *client.Held, 1)
		go func() {
			held, err := s.Lock("interop").Acquire(ctx)
			if err != nil {
				t.Error(err)
			}
			granted <- held
		}()
		waitFor(t, c, "interop", 2)
		if err := theirs.Unlock(ctx); err != nil {
			t.Fatal(err)
		}
		held := <-granted
		if held == nil {
			return
		}
		if err := theirs.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
			t.Fatalf("etcd's try of what we hold: %v", err)
		}
		locked := make(chan error, 1)
		go func() { locked <- theirs.Lock(ctx) }()
		waitFor(t, c, "interop", 2)
		if err := held.Release(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-locked; err != nil {
			t.Fatal(err)
		}
		if err := theirs.Unlock(ctx); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, c, "interop", 0)
}

// TestFiftyMixedContenders: every second one is etcd's mutex; at most one is inside (L1), tokens grow (L2), and the
// order is that of the queue (L4).
func TestFiftyMixedContenders(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	gate, err := newSession(t, c, 60*time.Second).Lock("fifty").Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var inside atomic.Int64
	var last int64 // guarded by the lock under test
	enter := func(token int64) {
		if n := inside.Add(1); n != 1 {
			t.Errorf("L1: %d inside", n)
		}
		if token <= last {
			t.Errorf("L2, L4: token %d after %d", token, last)
		}
		last = token
		inside.Add(-1)
	}
	var group sync.WaitGroup
	for i := range 50 {
		if i%2 == 0 {
			s := newSession(t, c, 60*time.Second)
			group.Go(func() {
				err := s.Lock("fifty").Do(ctx, func(_ context.Context, held *client.Held) error {
					enter(held.Token())
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			continue
		}
		m := concurrency.NewMutex(etcdSession(t, c, 60), "fifty")
		group.Go(func() {
			if err := m.Lock(ctx); err != nil {
				t.Error(err)
				return
			}
			resp, err := c.Get(ctx, m.Key())
			if err != nil || len(resp.Kvs) != 1 {
				t.Errorf("own key: %v, %v", resp, err)
				return
			}
			enter(resp.Kvs[0].CreateRevision)
			if err := m.Unlock(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, c, "fifty", 51)
	if err := gate.Release(ctx); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	waitFor(t, c, "fifty", 0)
}

// TestHandOffOnEveryRemoval: release, revoke, expiry, and a plain delete by an etcd client (L5, L6).
func TestHandOffOnEveryRemoval(t *testing.T) {
	for what, remove := range map[string]func(*testing.T, *client.Client, *client.Held, *client.Session) error{
		"release": func(t *testing.T, _ *client.Client, h *client.Held, _ *client.Session) error {
			return h.Release(bounded(t))
		},
		"close": func(t *testing.T, _ *client.Client, _ *client.Held, s *client.Session) error {
			return s.Close(bounded(t))
		},
		"revoke": func(t *testing.T, c *client.Client, _ *client.Held, s *client.Session) error {
			_, err := c.Revoke(bounded(t), s.Lease())
			return err
		},
		"delete": func(t *testing.T, c *client.Client, h *client.Held, _ *client.Session) error {
			_, err := c.Delete(bounded(t), h.Key())
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			c, ctx, name := dial(t, endpoint), bounded(t), "removal-"+what
			doomed := newSession(t, c, 30*time.Second)
			held, err := doomed.Lock(name).Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			next := make(chan error, 1)
			go func() {
				_, err := c.Lock(name).Acquire(ctx)
				next <- err
			}()
			waitFor(t, c, name, 2)
			if err := remove(t, c, held, doomed); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := <-next; err != nil {
				t.Fatal(err)
			}
			t.Logf("handed on in %v", time.Since(began))
			select {
			case <-held.Lost():
			case <-ctx.Done():
				t.Error("the old holder was not told")
			}
		})
	}
	t.Run("expiry", func(t *testing.T) {
		c, ctx := dial(t, endpoint), bounded(t)
		dead := etcdSession(t, c, 2)
		if err := concurrency.NewMutex(dead, "removal-expiry").Lock(ctx); err != nil {
			t.Fatal(err)
		}
		dead.Orphan()
		began := time.Now()
		held, err := c.Lock("removal-expiry").Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("handed on in %v", time.Since(began))
		if err := held.Release(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestPausedHolderIsFenced: L3. A holder that was stopped for longer than its TTL still believes that it holds. What it
// writes without a fence arrives; what it writes with its token does not.
func TestPausedHolderIsFenced(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, ctx := dial(t, fake.Endpoint()), bounded(t)
	lease, err := c.Grant(ctx, 5) // and nobody renews it
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Conn()
	if err != nil {
		t.Fatal(err)
	}
	unary := coordv1.NewLockClient(conn)
	resp, err := unary.TryAcquire(ctx, &coordv1.AcquireRequest{Name: "fenced", Lease: int64(lease.ID)})
	if err != nil || resp.Granted == nil {
		t.Fatalf("%v, %v", resp, err)
	}
	paused := resp.Granted
	guard := clientv3.Compare(clientv3.CreateRevision(paused.Key), "=", paused.Token)
	write := func(value string, guards ...clientv3.Cmp) bool {
		resp, err := c.Txn(ctx).If(guards...).Then(clientv3.OpPut("fenced-row", value)).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp.Succeeded
	}
	if !write("while held", guard) {
		t.Error("the guard failed while the lock was held")
	}
	fake.Advance(5 * time.Second)
	lock := newSession(t, c, time.Minute).Lock("fenced")
	held, err := lock.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if held.Token() <= paused.Token {
		t.Errorf("L2: token %d after %d", held.Token(), paused.Token)
	}
	if write("by the paused one, guarded", guard) {
		t.Error("a stale holder's guarded write went through")
	}
	if !write("by the paused one, unguarded") {
		t.Error("an unguarded write failed: this test shows nothing")
	}
	if !write("by the holder", held.Guards()...) {
		t.Error("the holder's guard failed")
	}
	for _, check := range []struct {
		key   string
		token int64
		want  bool
	}{{paused.Key, paused.Token, false}, {held.Key(), held.Token(), true}} {
		if ok, err := lock.Check(ctx, check.key, check.token); err != nil || ok != check.want {
			t.Errorf("check of token %d: %v, %v", check.token, ok, err)
		}
	}
	if _, err := unary.Release(ctx,
		&coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "fenced", Key: paused.Key, Token: paused.Token}},
		}); err != nil {
		t.Errorf("L8: stale release: %v", err)
	}
	if held.Err() != nil {
		t.Errorf("L8: the stale release freed a newer grant: %v", held.Err())
	}
}

// TestElectionsOfEtcdAndOurs: they lead in turn, and each one's observers see the other's leaders.
func TestElectionsOfEtcdAndOurs(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	theirs := concurrency.NewElection(etcdSession(t, c, 30), "el")
	ours := newSession(t, c, 30*time.Second).Election("el")
	watched := theirs.Observe(ctx)
	wantTheirs := func(value string) {
		t.Helper()
		if resp, ok := <-watched; !ok || string(resp.Kvs[0].Value) != value {
			t.Fatalf("etcd's observer saw %v, want %q", resp, value)
		}
	}
	seen := make(chan client.Leader, 10)
	var group sync.WaitGroup
	observing, stop := context.WithCancel(ctx)
	group.Go(func() {
		for o, err := range ours.Observe(observing) {
			if err == nil {
				seen <- o.Leader
			}
		}
	})
	want := func(value string) client.Leader {
		t.Helper()
		select {
		case l := <-seen:
			if string(l.Value) != value {
				t.Fatalf("our observer saw %q, want %q", l.Value, value)
			}
			return l
		case <-ctx.Done():
			t.Fatalf("our observer did not see %q", value)
			return client.Leader{}
		}
	}
	want("")
	if err := theirs.Campaign(ctx, "etcd"); err != nil {
		t.Fatal(err)
	}
	if l := want("etcd"); l.Key != theirs.Key() || l.Term != theirs.Rev() {
		t.Errorf("our observer saw %+v, etcd's leader is %q in term %d", l, theirs.Key(), theirs.Rev())
	}
	wantTheirs("etcd")
	if err := theirs.Proclaim(ctx, "etcd2"); err != nil {
		t.Fatal(err)
	}
	want("etcd2")
	wantTheirs("etcd2")
	elected := make(chan *client.Leadership, 1)
	group.Go(func() {
		term, err := ours.Campaign(ctx, []byte("ours"))
		if err != nil {
			t.Error(err)
		}
		elected <- term
	})
	waitFor(t, c, "el", 2)
	if err := theirs.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	term := <-elected
	if term == nil {
		t.FailNow()
	}
	want("ours")
	wantTheirs("ours")
	if err := term.Proclaim(ctx, []byte("ours2")); err != nil {
		t.Fatal(err)
	}
	want("ours2")
	wantTheirs("ours2")
	if resp, err := theirs.Leader(ctx); err != nil || string(resp.Kvs[0].Value) != "ours2" {
		t.Errorf("etcd's leader: %v, %v", resp, err)
	}
	if err := term.Resign(ctx); err != nil {
		t.Error(err)
	}
	want("")
	stop()
	group.Wait()
}

// TestContentionWhileMembersStop: three members, one leader after the other stops and comes back, while eight
// contenders take turns all the time. Nobody is ever inside together, tokens grow, nobody is forgotten, no session is
// lost.
func TestContentionWhileMembersStop(t *testing.T) {
	const contenders = 8
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	ctx, cancel := context.WithTimeout(t.Context(), 3*long)
	defer cancel()
	var inside, guarded atomic.Int64
	var last int64 // guarded by the lock under test
	var group sync.WaitGroup
	turns := make([]atomic.Int64, contenders)
	stop := make(chan struct{})
	for i := range contenders {
		c := dial(t, cluster.Endpoints()...)
		s := newSession(t, c, 30*time.Second) // far more than a change of leader takes on a busy machine
		work := func(ctx context.Context, held *client.Held) error {
			if n := inside.Add(1); n != 1 {
				t.Errorf("L1: %d inside", n)
			}
			defer inside.Add(-1)
			if held.Token() <= last {
				t.Errorf("L2: token %d after %d", held.Token(), last)
			}
			last = held.Token()
			bounded, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			resp, err := c.Txn(bounded).If(held.Guards()...).Then(clientv3.OpPut("turn", strconv.Itoa(i))).Commit()
			if err != nil {
				return nil // a member stopped with the request in its hands
			}
			guarded.Add(1)
			if !resp.Succeeded {
				return fmt.Errorf("guard of token %d failed while it was held", held.Token())
			}
			return nil
		}
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Lock("turns").Do(ctx, work); err != nil {
					t.Errorf("contender %d, turn %d: %v", i, turns[i].Load(), err)
					return
				}
				turns[i].Add(1)
			}
		})
	}
	everybody := func(when string) {
		t.Helper()
		for i := range turns {
			for before := turns[i].Load(); turns[i].Load() < before+2; time.Sleep(2 * time.Millisecond) {
				if ctx.Err() != nil || t.Failed() {
					t.Fatalf("contender %d is stuck %s", i, when)
				}
			}
		}
	}
	everybody("at the start")
	for range 3 {
		leader := cluster.WaitLeader()
		cluster.StopMember(leader)
		everybody("with a member less")
		cluster.StartMember(leader)
		everybody("after the member came back")
	}
	close(stop)
	group.Wait()
	waitFor(t, dial(t, cluster.Endpoints()...), "turns", 0)
	if guarded.Load() == 0 {
		t.Error("no guarded write was answered")
	}
	var sum int64
	for i := range turns {
		sum += turns[i].Load()
	}
	t.Logf("%d turns", sum)
}
