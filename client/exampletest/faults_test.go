package exampletest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// held returns a lock that is held.
func acquire(t *testing.T, s *client.Session, name string, opts ...client.LockOption) *client.Held {
	t.Helper()
	h, err := s.Lock(name).Acquire(bounded(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// acquiring acquires beside the test.
func acquiring(t *testing.T, s *client.Session, name string, opts ...client.LockOption) <-chan *client.Held {
	t.Helper()
	granted, ctx := make(chan *client.Held, 1), bounded(t)
	go func() {
		h, err := s.Lock(name).Acquire(ctx, opts...)
		if err != nil && t.Context().Err() == nil { // or the test has failed already
			t.Error(err)
		}
		granted <- h
	}()
	return granted
}

// TestL9LostBeforeTheServerGivesAway: a real server falls silent. The holder's context ends, with its cause, before the
// server deletes its entry, which another client sees. The two are a tenth of the TTL apart: what goes wrong while the
// machine stands still for long says nothing, and is tried again.
func TestL9LostBeforeTheServerGivesAway(t *testing.T) {
	for _, ttl := range []time.Duration{200 * time.Millisecond, time.Second} {
		t.Run(ttl.String(), func(t *testing.T) {
			for range 10 {
				stalls := watchStalls(t)
				wrong := fallSilent(t, ttl)
				if wrong == "" {
					return
				}
				if worst := stalls(); worst < ttl/20 {
					t.Fatal(wrong)
				} else {
					t.Logf("the machine stood still for %v, and %s", worst, wrong)
				}
			}
			t.Skipf("the machine is too slow for a TTL of %v", ttl)
		})
	}
}

// fallSilent says what is wrong with the end of a lock whose server falls silent, "" if nothing is.
func fallSilent(t *testing.T, ttl time.Duration) string {
	t.Helper()
	w := newWire(t, endpoint)
	c, direct, ctx := dial(t, w.address()), dial(t, endpoint), bounded(t)
	var states []client.State
	s, err := c.NewSession(ctx, client.WithTTL(ttl),
		client.OnState(func(st client.State) { states = append(states, st) }))
	if err != nil {
		t.Fatal(err)
	}
	held, err := s.Lock("l9").Acquire(ctx)
	if err != nil {
		return fmt.Sprintf("it was not acquired: %v", err)
	}
	inner, cancel := held.Context(ctx)
	defer cancel()
	time.Sleep(2 * ttl)
	if held.Err() != nil {
		return fmt.Sprintf("it was lost while the server spoke: %v", held.Err())
	}
	ended := make(chan bool, 1) // whether the holder's context had, when the entry was deleted
	go func() {
		for u, err := range direct.WatchKey(ctx, held.Key(), client.WithRevision(held.Revision()+1)) {
			if err != nil {
				t.Error(err)
				return
			}
			if u.Events[0].Type == mvccpb.Event_DELETE {
				ended <- inner.Err() != nil
				return
			}
		}
	}()
	w.silence(true)
	<-inner.Done()
	cause, lost := context.Cause(inner), time.Now()
	select {
	case first := <-ended:
		if !first {
			return "the holder's context had not ended when the server deleted the entry"
		}
		t.Logf("lost %v before it was known that the server deleted the entry", time.Since(lost))
	case <-ctx.Done():
		t.Fatal("the server keeps the entry")
	}
	w.silence(false)
	_ = c.Close() // whoever is told of states has been told then
	if !errors.Is(cause, client.ErrLost) || !errors.Is(cause, client.ErrSessionExpired) {
		return fmt.Sprintf("the cause is %v", cause)
	}
	if !slices.Equal(states[max(0, len(states)-2):], []client.State{client.Jeopardy, client.Lost}) {
		return fmt.Sprintf("the states are %v", states)
	}
	return ""
}

// watchStalls begins to look how long this process is kept from running; what it returns ends that and says the
// longest.
func watchStalls(t *testing.T) (worst func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		for last := time.Now(); ctx.Err() == nil; last = time.Now() {
			time.Sleep(time.Millisecond)
			most = max(most, time.Since(last))
		}
		longest <- most
	}()
	return func() time.Duration { cancel(); return <-longest }
}

// TestSilentAndBrokenMembers: the member in use falls silent, its connections break, or it is gone; the session and its
// waiter go on through another one, and the waiter keeps its place (L4).
func TestSilentAndBrokenMembers(t *testing.T) {
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	steady := newSession(t, dial(t, cluster.Endpoints()[2]), time.Minute)
	// all at once: it takes more than the TTL, which is long for busy machines
	for what, harm := range map[string]func(*wire){
		"silent": func(w *wire) { w.silence(true) }, "cut": (*wire).cut, "stopped": (*wire).stop,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const ttl = 9 * time.Second
			wires := []*wire{newWire(t, cluster.Endpoints()[0]), newWire(t, cluster.Endpoints()[1])}
			c := dial(t, wires[0].address(), wires[1].address())
			s := newSession(t, c, ttl)
			name := "members-" + what
			holder, own := acquire(t, steady, name), acquire(t, s, "own-"+what)
			granted := acquiring(t, s, name)
			waitFor(t, c, name, 2)
			behind := acquiring(t, steady, name)
			waitFor(t, c, name, 3)
			q, err := s.Lock(name).Describe(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range wires {
				if w.used() > 0 {
					harm(w)
				}
			}
			ctx := bounded(t)
			time.Sleep(ttl + ttl/2)
			if s.Err() != nil || own.Err() != nil {
				t.Fatalf("session %v, %v, held %v", s.State(), s.Err(), own.Err())
			}
			for s.State() != client.Healthy { // a heartbeat may be late just now
				if ctx.Err() != nil || s.Err() != nil {
					t.Fatalf("session %v, %v", s.State(), s.Err())
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := holder.Release(ctx); err != nil {
				t.Fatal(err)
			}
			held := <-granted
			if held == nil {
				return
			}
			if held.Token() != q.Waiters[0].Token {
				t.Errorf("L4: the waiter lost its place: token %d, was %d", held.Token(), q.Waiters[0].Token)
			}
			if err := held.Release(ctx); err != nil {
				t.Error(err)
			}
			if next := <-behind; next != nil {
				if err := next.Release(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestL8NoGhostBehindLostResponses: acquires that end while their responses are lost leave no key, and a try whose
// response is lost acquires once.
func TestL8NoGhostBehindLostResponses(t *testing.T) {
	fake := coordtest.NewFake(t)
	c := dial(t, fake.Endpoint())
	s := newSession(t, c, time.Hour)
	held := acquire(t, s, "job")
	fake.LoseResponses(1)
	if _, err := s.Lock("job").Acquire(bounded(t),
		client.WithMaxWait(20*time.Millisecond)); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("timed: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	fake.Pause()
	if _, err := s.Lock("job").Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	fake.Resume()
	waitFor(t, c, "job", 1)
	fake.LoseResponses(1)
	if _, err := s.Lock("job").TryAcquire(bounded(t)); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("try: %v", err)
	}
	fake.LoseResponses(1)
	if err := held.Release(bounded(t)); err != nil {
		t.Errorf("release: %v", err)
	}
	fake.LoseResponses(1)
	again, err := s.Lock("job").TryAcquire(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Release(bounded(t)); err != nil || again.Err() != nil {
		t.Errorf("the late release: %v, %v", err, again.Err())
	}
	waitFor(t, c, "job", 1)
}

// TestFakeClock: a program's test turns the clock: the holder is told, and the next one holds.
func TestFakeClock(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}, Clock: fake.Clock})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession(bounded(t), client.WithTTL(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	held := acquire(t, s, "job")
	fake.Advance(time.Minute)
	<-held.Lost()
	if err := held.Err(); !errors.Is(err, client.ErrLost) || !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("%v", err)
	}
	if next, err := c.Lock("job").TryAcquire(bounded(t)); err != nil || next.Token() <= held.Token() {
		t.Errorf("%v, %v", next, err)
	}
}

// TestManyContenders: two goroutines in each of 25 sessions over two streams; at most one is inside (L1), tokens grow
// (L2).
func TestManyContenders(t *testing.T) {
	clients := []*client.Client{dial(t, endpoint), dial(t, endpoint)}
	ctx := bounded(t)
	var inside, entered atomic.Int64
	var last int64 // guarded by the lock under test
	var group sync.WaitGroup
	for i := range 25 {
		s := newSession(t, clients[i%2], time.Minute)
		for range 2 {
			group.Go(func() {
				err := s.Lock("many").Do(ctx, func(_ context.Context, held *client.Held) error {
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
	waitFor(t, clients[0], "many", 0)
	if entered.Load() != 50 {
		t.Errorf("%d entered", entered.Load())
	}
}
