package service_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/internal/memstore"
)

func (c *cluster) queue(name string) (q []recipes.Entry) {
	c.member.Do(func(s *memstore.Store) { q = recipes.Queue(s, name) })
	return q
}

func (c *cluster) wantLength(name string, n int) {
	c.Helper()
	for end := time.Now().Add(long); len(c.queue(name)) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("queue of %q: %+v, want %d entries", name, c.queue(name), n)
		}
	}
}

func (c *cluster) session(cl *client.Client, opts ...client.SessionOption) *client.Session {
	c.Helper()
	s, err := cl.NewSession(c.Context(), opts...)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

func (c *cluster) acquire(s *client.Session, name string) *client.Held {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), long)
	defer cancel()
	held, err := s.Lock(name).Acquire(ctx)
	if err != nil {
		c.Fatal(err)
	}
	return held
}

func TestSDKLock(t *testing.T) {
	c := startCluster(t, 1)
	cl := c.client(c.wires...)
	a, b := c.session(cl), c.session(cl)
	first := c.acquire(a, "job")
	if _, err := b.Lock("job").TryAcquire(t.Context()); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("try of a held lock: %v", err)
	}
	if _, err := b.Lock("job").Acquire(t.Context(), client.Wait(30*time.Millisecond)); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("timed acquire of a held lock: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	if _, err := b.Lock("job").Acquire(ctx, client.OnQueued(func(int64, string) { cancel(why) })); !errors.Is(err, why) {
		t.Errorf("cancelled acquire: %v", err)
	}
	if q := c.queue("job"); len(q) != 1 || q[0].Key != first.Key() || q[0].Token != first.Token() {
		t.Errorf("somebody left a ghost: %+v", q)
	}
	if ok, err := a.Lock("job").Check(t.Context(), first.Key(), first.Token()); !ok || err != nil {
		t.Errorf("check: %v, %v", ok, err)
	}
	for range 2 {
		if err := first.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := first.Err(); !errors.Is(err, client.ErrReleased) || errors.Is(err, client.ErrLost) {
		t.Errorf("after release: %v", err)
	}
	second, err := b.Lock("job").TryAcquire(t.Context())
	if err != nil || second.Token() <= first.Token() {
		t.Fatalf("try of a free lock: %v, token %d after %d", err, second.Token(), first.Token())
	}
	if err := first.Release(t.Context()); err != nil || len(c.queue("job")) != 1 {
		t.Errorf("L8: stale release: %v, queue %+v", err, c.queue("job"))
	}
	if _, err := a.Lock("job/").Acquire(t.Context()); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := a.Lock("").TryAcquire(t.Context()); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
}

// TestSDKContenders: two goroutines in each of 25 sessions, at most one inside at any time, tokens in order.
func TestSDKContenders(t *testing.T) {
	c := startCluster(t, 2)
	clients := []*client.Client{c.client(c.wires...), c.client(c.wires...)}
	var inside, entered atomic.Int64
	var last int64 // guarded by the lock under test
	var group sync.WaitGroup
	for i := range 25 {
		s := c.session(clients[i%2])
		for range 2 {
			group.Go(func() {
				err := s.Lock("job").Do(t.Context(), func(_ context.Context, held *client.Held) error {
					if n := inside.Add(1); n != 1 {
						t.Errorf("L1: %d inside", n)
					}
					if held.Token() <= last {
						t.Errorf("L2: token %d after %d", held.Token(), last)
					}
					last = held.Token()
					time.Sleep(time.Millisecond)
					entered.Add(1)
					inside.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	if entered.Load() != 50 || len(c.queue("job")) != 0 {
		t.Errorf("%d entered, queue %+v", entered.Load(), c.queue("job"))
	}
}

// TestSDKLosesBeforeTheServerExpires: L9. All members fall silent; the context of the holder ends, with its cause,
// before the lease does.
func TestSDKLosesBeforeTheServerExpires(t *testing.T) {
	c := startCluster(t, 2)
	states := make(chan client.State, 100)
	s := c.session(c.client(c.wires...), client.WithTTL(time.Second), client.WithOnState(func(st client.State) { states <- st }))
	held := c.acquire(s, "job")
	var lostAt time.Time
	err := func() error {
		return s.Lock("other").Do(t.Context(), func(ctx context.Context, _ *client.Held) error {
			for _, w := range c.wires {
				w.silence(true)
			}
			<-ctx.Done()
			lostAt = time.Now()
			if cause := context.Cause(ctx); !errors.Is(cause, client.ErrLost) || !errors.Is(cause, client.ErrSessionExpired) {
				t.Errorf("cause: %v", cause)
			}
			return nil
		})
	}()
	if !errors.Is(err, client.ErrLost) {
		t.Errorf("Do: %v", err)
	}
	<-held.Lost()
	if err := held.Err(); !errors.Is(err, client.ErrLost) || !errors.Is(err, client.ErrSessionExpired) || !held.Deadline().IsZero() {
		t.Errorf("held: %v, deadline %v", err, held.Deadline())
	}
	c.wantLength("job", 0)
	expired := c.leases.expiredAt(int64(s.Lease()))
	if !lostAt.Before(expired) {
		t.Errorf("lost %v after the server expired the lease", lostAt.Sub(expired))
	}
	t.Logf("lost %v before the server expired the lease", expired.Sub(lostAt))
	if got := []client.State{<-states, <-states}; !slices.Equal(got, []client.State{client.Jeopardy, client.Lost}) {
		t.Errorf("states: %v", got)
	}
	for _, w := range c.wires {
		w.silence(false)
	}
}

// TestSDKLeavesASilentMember: the member in use falls silent; the session and the waiter go on through another one,
// and the waiter keeps its place.
func TestSDKLeavesASilentMember(t *testing.T) {
	for what, harm := range map[string]func(*wire){
		"silent":  func(w *wire) { w.silence(true) },
		"cut":     func(w *wire) { w.cut() },
		"stopped": func(w *wire) { _ = w.listener.Close(); w.cut() },
	} {
		t.Run(what, func(t *testing.T) {
			c := startCluster(t, 3)
			steady := c.session(c.client(c.wires[2]))
			holder := c.acquire(steady, "job")
			cl := c.client(c.wires[:2]...)
			s := c.session(cl)
			own := c.acquire(s, "own")
			granted := make(chan *client.Held, 1)
			go func() {
				held, err := s.Lock("job").Acquire(t.Context())
				if err != nil {
					t.Error(err)
				}
				granted <- held
			}()
			c.wantLength("job", 2)
			token := c.queue("job")[1].Token
			behind := make(chan *client.Held, 1)
			go func() {
				held, err := steady.Lock("job").Acquire(t.Context())
				if err != nil {
					t.Error(err)
				}
				behind <- held
			}()
			c.wantLength("job", 3)
			inUse := slices.IndexFunc(c.wires, func(w *wire) bool { return w.listener.Addr().String() == cl.Endpoints()[0] })
			harm(c.wires[inUse])
			time.Sleep(3500 * time.Millisecond) // longer than the TTL
			if s.State() != client.Healthy || own.Err() != nil {
				t.Fatalf("session %v, %v, held %v", s.State(), s.Err(), own.Err())
			}
			if err := holder.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			held := <-granted
			if held.Token() != token {
				t.Errorf("L4: the waiter lost its place: token %d, was %d", held.Token(), token)
			}
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
			if err := (<-behind).Release(t.Context()); err != nil {
				t.Error(err)
			}
			c.wires[inUse].silence(false)
		})
	}
}

// TestSDKLeavesNoGhostBehindSilence: requests that end while no server answers are cleaned up once one does: a timed one,
// a cancelled one that never heard of its entry, and a try whose outcome was hidden.
func TestSDKLeavesNoGhostBehindSilence(t *testing.T) {
	c := startCluster(t, 1)
	var hide atomic.Bool
	c.member.BeforePropose = func(_ context.Context, procedure string) (drop bool, err error) {
		if hide.Load() && procedure == recipes.LockAcquire {
			err = memstore.ErrUnknown
		}
		return false, err
	}
	cl := c.client(c.wires...)
	holder := c.session(cl, client.WithTTL(60*time.Second))
	held := c.acquire(holder, "job")
	for what, c2 := range map[string]struct {
		ctx  time.Duration
		opts []client.AcquireOption
		want error
	}{
		"timed":     {long, []client.AcquireOption{client.Wait(20 * time.Millisecond)}, client.ErrNotAcquired},
		"cancelled": {50 * time.Millisecond, nil, context.DeadlineExceeded},
	} {
		s := c.session(cl, client.WithTTL(6*time.Second))
		c.wires[0].silence(true)
		ctx, cancel := context.WithTimeout(t.Context(), c2.ctx)
		if _, err := s.Lock("job").Acquire(ctx, c2.opts...); !errors.Is(err, c2.want) {
			t.Errorf("%s acquire while nobody answers: %v", what, err)
		}
		cancel()
		c.wires[0].silence(false)
		c.wantLength("job", 1)
		if held.Err() != nil || s.Err() != nil {
			t.Fatalf("%s: held %v, session %v", what, held.Err(), s.Err())
		}
	}
	s := c.session(cl, client.WithTTL(6*time.Second))
	hide.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Lock("free").TryAcquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("try with a hidden outcome: %v", err)
	}
	if len(c.queue("free")) != 1 {
		t.Error("the hidden try did not acquire: this test shows nothing")
	}
	hide.Store(false)
	c.wantLength("free", 0)
	c.wantLength("job", 1)
	if again := c.acquire(s, "free"); again.Release(t.Context()) != nil {
		t.Errorf("release: %v", again.Err())
	}
}

// TestSDKIsToldOfTheEnd: by the server, at once, however the entry ends.
func TestSDKIsToldOfTheEnd(t *testing.T) {
	c := startCluster(t, 1)
	cl := c.client(c.wires...)
	a, b, d := c.session(cl, client.WithTTL(60*time.Second)), c.session(cl, client.WithTTL(60*time.Second)), c.session(cl)
	first := c.acquire(a, "job")
	waiting := make(chan error, 1)
	go func() {
		_, err := b.Lock("job").Acquire(t.Context())
		waiting <- err
	}()
	c.wantLength("job", 2)
	c.leases.revoke(int64(b.Lease()))
	if err := <-waiting; !errors.Is(err, client.ErrLost) || !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("L7: waiter of a dead session: %v", err)
	}
	if err := b.Err(); !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("dead session: %v", err)
	}
	if _, err := b.Lock("job").TryAcquire(t.Context()); !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("try in a dead session: %v", err)
	}
	c.member.Do(func(s *memstore.Store) { s.Delete(first.Key()) })
	<-first.Lost()
	if err := first.Err(); !errors.Is(err, client.ErrLost) || !errors.Is(err, client.ErrRemoved) {
		t.Errorf("removed holder: %v", err)
	}
	if err := first.Release(t.Context()); !errors.Is(err, client.ErrLost) {
		t.Errorf("release of what was lost: %v", err)
	}
	third := c.acquire(d, "job")
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-third.Lost()
	if err := third.Err(); !errors.Is(err, client.ErrSessionClosed) || len(c.queue("job")) != 0 {
		t.Errorf("closed session: %v, queue %+v", err, c.queue("job"))
	}
}

// TestSDKDo: it waits for the function before it releases, and releases when the function panics.
func TestSDKDo(t *testing.T) {
	c := startCluster(t, 1)
	cl := c.client(c.wires...)
	bad := errors.New("bad")
	err := cl.Lock("job").Do(t.Context(), func(ctx context.Context, held *client.Held) error {
		c.member.Do(func(s *memstore.Store) { s.Delete(held.Key()) })
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), client.ErrRemoved) {
			t.Errorf("cause: %v", context.Cause(ctx))
		}
		return bad
	})
	if !errors.Is(err, bad) || !errors.Is(err, client.ErrLost) {
		t.Errorf("Do: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = cl.Lock("job").Do(ctx, func(ctx context.Context, _ *client.Held) error {
		cancel()
		<-ctx.Done()
		if len(c.queue("job")) != 1 {
			t.Error("released before the function returned")
		}
		return nil
	})
	if err != nil || len(c.queue("job")) != 0 {
		t.Errorf("Do: %v, queue %+v", err, c.queue("job"))
	}
	func() {
		defer func() { _ = recover() }()
		_ = cl.Lock("job").Do(t.Context(), func(context.Context, *client.Held) error { panic("oh") })
	}()
	if len(c.queue("job")) != 0 {
		t.Errorf("queue after a panic: %+v", c.queue("job"))
	}
}

// TestSDKElection: terms, values, observers, through a broken connection.
func TestSDKElection(t *testing.T) {
	c := startCluster(t, 2)
	cl, other := c.client(c.wires...), c.client(c.wires...)
	e := c.session(cl).Election("boss")
	if _, err := e.Leader(t.Context()); !errors.Is(err, client.ErrNoLeader) {
		t.Errorf("no leader: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	seen := make(chan client.Observation, 100)
	var group sync.WaitGroup
	group.Go(func() {
		for o, err := range other.Election("boss").Observe(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			seen <- o
		}
	})
	want := func(value string, gap bool) client.Observation {
		t.Helper()
		select {
		case o := <-seen:
			if string(o.Leader.Value) != value || o.Gap != gap {
				t.Fatalf("observed %q in term %d, gap %v; want %q, %v", o.Leader.Value, o.Leader.Term, o.Gap, value, gap)
			}
			return o
		case <-ctx.Done():
			t.Fatalf("did not observe %q", value)
			return client.Observation{}
		}
	}
	want("", false)
	first, err := e.Campaign(ctx, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if o := want("a", false); o.Leader.Term != first.Term() || o.Leader.Key != first.Key() {
		t.Errorf("observed %+v, term %d", o, first.Term())
	}
	if err := first.Proclaim(ctx, []byte("a2")); err != nil {
		t.Fatal(err)
	}
	want("a2", false)
	for _, w := range c.wires {
		w.cut()
	}
	want("a2", true) // by the observer's new stream, and the leader's own did not set the value back
	second := make(chan error, 1)
	group.Go(func() {
		second <- other.Election("boss").Run(ctx, []byte("b"), func(_ context.Context, term *client.Leadership) error {
			if term.Term() <= first.Term() {
				t.Errorf("E2: term %d after %d", term.Term(), first.Term())
			}
			return nil
		})
	})
	c.wantLength("boss", 2)
	if err := first.Resign(ctx); err != nil {
		t.Error(err)
	}
	if err := first.Proclaim(ctx, []byte("late")); !errors.Is(err, client.ErrReleased) {
		t.Errorf("proclaim after resign: %v", err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	want("b", false)
	want("", false)
	cancel()
	group.Wait()
}
