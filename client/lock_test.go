package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func acquire(t *testing.T, l *Lock, opts ...LockOption) *Held {
	t.Helper()
	held, err := l.Acquire(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		a, b := open(t, c), open(t, c)
		first := acquire(t, a.Lock("job"))
		if _, err := b.Lock("job").TryAcquire(t.Context()); !errors.Is(err, ErrNotAcquired) {
			t.Errorf("try of a held lock: %v", err)
		}
		if _, err := b.Lock("job").Acquire(t.Context(),
			WithMaxWait(30*time.Millisecond)); !errors.Is(err, ErrNotAcquired) {
			t.Errorf("timed acquire of a held lock: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("changed my mind")
		if _, err := b.Lock("job").Acquire(ctx,
			OnQueued(func(int64, string) { cancel(why) })); !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled acquire: %v", err)
		}
		if q := f.queue("job"); !slices.Equal(q, []string{first.Key()}) {
			t.Errorf("somebody left a ghost: %v", q)
		}
		waiting := make(chan *Held)
		go func() { waiting <- acquire(t, a.Lock("job")) }()
		synctest.Wait()
		for range 2 {
			if err := first.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := first.Err(); !errors.Is(err, ErrReleased) || errors.Is(err, ErrLost) {
			t.Errorf("after release: %v", err)
		}
		second := <-waiting
		if second.Key() == first.Key() || second.Token() <= first.Token() {
			t.Errorf("second hold of the session: key %s, token %d after %d", second.Key(), second.Token(),
				first.Token())
		}
		if err := second.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if third := acquire(t, a.Lock("job")); third.Key() != first.Key() {
			t.Errorf("the first owner id was not used again: %s", third.Key())
		}
		for _, name := range []string{"", "job/"} {
			if _, err := b.Lock(name).Acquire(t.Context()); !errors.Is(err, ErrInvalid) {
				t.Errorf("name %q: %v", name, err)
			}
		}
		_ = c.Close()
	})
}

// TestL8CancelledAcquireLeavesNoKey: whether the request was never sent, was executed without a response, or waits.
func TestL8CancelledAcquireLeavesNoKey(t *testing.T) {
	for _, test := range []struct {
		name string
		hide func(*fakeCluster)
		show func(*fakeCluster)
		sent int
	}{
		{"not sent", func(f *fakeCluster) { f.silent["a"] = true }, func(f *fakeCluster) { f.silent["a"] = false }, 0},
		{"response lost", func(f *fakeCluster) { f.deaf["a"] = true }, func(f *fakeCluster) { f.deaf["a"] = false }, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			c := f.client(t, Config{})
			s := open(t, c, WithTTL(time.Minute))
			f.set(func() { test.hide(f) })
			if test.sent == 0 {
				f.cutAll()
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := s.Lock("job").Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", test.name, err)
			}
			if n := f.count(coordv1.Kind_KIND_ACQUIRE); n != test.sent {
				t.Errorf("%s: %d acquires were executed: this test shows nothing", test.name, n)
			}
			f.set(func() { test.show(f) })
			f.cutAll()
			time.Sleep(10 * time.Second)
			if q := f.queue("job"); len(q) != 0 || f.count(coordv1.Kind_KIND_ACQUIRE) != test.sent {
				t.Errorf("%s: a ghost: %v", test.name, q)
			}
			held := acquire(t, s.Lock("job"))
			if s.entries[held.Key()] == nil || held.owner != "" {
				t.Errorf("%s: the owner id was not given back: %s", test.name, held.Key())
			}
			_ = c.Close()
		})
	}
}

// TestL8WithdrawalIsNotOvertaken: the acquire is answered after it was given up, the withdrawal is lost with the link,
// and other requests acknowledge outcomes meanwhile.
func TestL8WithdrawalIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{}, "a", "b")
		s := open(t, c, WithTTL(time.Minute))
		f.set(func() {
			f.delay = time.Second
			f.lose = func(r *coordv1.Request) bool { return r.Kind == coordv1.Kind_KIND_WITHDRAW }
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.Lock("job").Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		f.set(func() { f.delay = 0 })
		time.Sleep(2 * time.Second)
		for range 3 {
			if _, err := s.KV().Put(t.Context(), "k", "v"); err != nil {
				t.Error(err)
			}
		}
		if len(f.queue("job")) != 1 {
			t.Error("nothing to withdraw: this test shows nothing")
		}
		f.set(func() { f.lose = nil })
		f.cutAll()
		time.Sleep(time.Second)
		if q := f.queue("job"); len(q) != 0 {
			t.Errorf("a ghost: %v", q)
		}
		if acquire(t, s.Lock("job")).owner != "" {
			t.Error("the owner id was not given back")
		}
		_ = c.Close()
	})
}

// TestL8LateReleaseFreesNothingNewer: the response of a release is lost, the release is sent again by itself, and again
// by the caller, after the lock was granted to the same session once more.
func TestL8LateReleaseFreesNothingNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{}, "a", "b")
		s := open(t, c)
		held := acquire(t, s.Lock("job"))
		f.set(func() { f.deaf["a"] = true })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := held.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("release whose response is lost: %v", err)
		}
		if q := f.queue("job"); len(q) != 0 {
			t.Errorf("queue %v: this test shows nothing", q)
		}
		f.cutAll()
		again := acquire(t, s.Lock("job"))
		if err := held.Release(t.Context()); err != nil {
			t.Errorf("second release: %v", err)
		}
		if q := f.queue("job"); !slices.Equal(q, []string{again.Key()}) || again.Err() != nil {
			t.Errorf("the newer grant was freed: %v, %v", q, again.Err())
		}
		if n := f.count(coordv1.Kind_KIND_RELEASE); n != 1 {
			t.Errorf("%d releases were executed", n)
		}
		_ = c.Close()
	})
}

// TestReconnectAgrees: what was granted, taken away or kept while there was no connection is known after it.
func TestReconnectAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{}, "a", "b")
		s, other := open(t, c, WithTTL(time.Minute)), open(t, c, WithTTL(time.Minute))
		keeps, loses := acquire(t, s.Lock("keeps")), acquire(t, s.Lock("loses"))
		blocks := acquire(t, other.Lock("waits"))
		granted := make(chan *Held, 1)
		go func() { granted <- acquire(t, s.Lock("waits")) }()
		removed := make(chan error, 1)
		go func() {
			_, err := s.Lock("keeps").Acquire(t.Context())
			removed <- err
		}()
		synctest.Wait()
		f.set(func() { f.deaf["a"], f.deaf["b"] = true, true })
		f.delete(loses.Key())
		f.delete(blocks.Key())
		f.delete(f.queue("keeps")[1])
		synctest.Wait()
		if loses.Err() != nil || len(granted) != 0 || len(removed) != 0 {
			t.Fatal("the client heard of it: this test shows nothing")
		}
		f.set(func() { clear(f.deaf) })
		f.cutAll()
		<-loses.Lost()
		if err := loses.Err(); !errors.Is(err, ErrRemoved) {
			t.Errorf("removed: %v", err)
		}
		<-blocks.Lost()
		if held := <-granted; held.Err() != nil || keeps.Err() != nil {
			t.Errorf("granted: %v, kept: %v", held.Err(), keeps.Err())
		}
		if err := <-removed; !errors.Is(err, ErrLost) || !errors.Is(err, ErrRemoved) {
			t.Errorf("removed waiter: %v", err)
		}
		_ = c.Close()
	})
}

// TestL7WaiterOfADeadSessionIsTold: at once, and never granted.
func TestL7WaiterOfADeadSessionIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		a, b := open(t, c), open(t, c)
		held := acquire(t, a.Lock("job"))
		waiting := make(chan error)
		go func() {
			_, err := b.Lock("job").Acquire(t.Context())
			waiting <- err
		}()
		synctest.Wait()
		f.expire(b.id)
		if err := <-waiting; !errors.Is(err, ErrLost) || !errors.Is(err, ErrSessionExpired) {
			t.Errorf("waiter: %v", err)
		}
		if _, err := b.Lock("job").TryAcquire(t.Context()); !errors.Is(err, ErrSessionExpired) {
			t.Errorf("try in a dead session: %v", err)
		}
		f.delete(held.Key())
		<-held.Lost()
		if err := held.Release(t.Context()); !errors.Is(err, ErrLost) || !errors.Is(err, ErrRemoved) {
			t.Errorf("release of what was lost: %v", err)
		}
		third := acquire(t, a.Lock("job"))
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := third.Err(); !errors.Is(err, ErrLost) || !errors.Is(err, ErrSessionClosed) ||
			len(f.queue("job")) != 0 {
			t.Errorf("closed session: %v, queue %v", err, f.queue("job"))
		}
		_ = c.Close()
	})
}

// TestWaiterOfTheSharedSessionQueuesAgain: when that is lost, in the next one.
func TestWaiterOfTheSharedSessionQueuesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		blocks := acquire(t, open(t, c).Lock("job"))
		var mu sync.Mutex
		queued := 0
		granted := make(chan *Held)
		go func() {
			granted <- acquire(t, c.Lock("job"), OnQueued(func(position int64, _ string) {
				mu.Lock()
				defer mu.Unlock()
				queued++
				if position != 1 {
					t.Errorf("position %d", position)
				}
			}))
		}()
		synctest.Wait()
		s, err := c.Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.expire(s.id)
		synctest.Wait()
		if q := f.queue("job"); len(q) != 2 {
			t.Errorf("queue %v", q)
		}
		if err := blocks.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if held := <-granted; held.Session() == s || held.Err() != nil || queued != 2 {
			t.Errorf("%v, queued %d times", held.Err(), queued)
		}
		_ = c.Close()
	})
}

// TestDo: it waits for the function before it releases, releases when it panics, and its context ends with the reason.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		bad := errors.New("bad")
		err := c.Lock("job").Do(t.Context(), func(ctx context.Context, held *Held) error {
			f.delete(held.Key())
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrRemoved) {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
			return bad
		})
		if !errors.Is(err, bad) || !errors.Is(err, ErrLost) {
			t.Errorf("Do: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = c.Lock("job").Do(ctx, func(ctx context.Context, _ *Held) error {
			cancel()
			<-ctx.Done()
			if len(f.queue("job")) != 1 {
				t.Error("released before the function returned")
			}
			return nil
		})
		if err != nil || len(f.queue("job")) != 0 {
			t.Errorf("Do: %v, queue %v", err, f.queue("job"))
		}
		func() {
			defer func() { _ = recover() }()
			_ = c.Lock("job").Do(t.Context(), func(context.Context, *Held) error { panic("oh") })
		}()
		if len(f.queue("job")) != 0 {
			t.Errorf("queue after a panic: %v", f.queue("job"))
		}
		_ = c.Close()
	})
}

// TestReentrant: the same goroutine's context enters again, others wait; the outermost release releases.
func TestReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		lock := c.Lock("job")
		err := lock.Do(t.Context(), func(ctx context.Context, outer *Held) error {
			err := lock.Do(ctx, func(_ context.Context, inner *Held) error {
				if inner.Token() != outer.Token() {
					t.Errorf("tokens %d and %d", inner.Token(), outer.Token())
				}
				return nil
			}, WithReentry())
			if err != nil || outer.Err() != nil {
				t.Errorf("inner: %v, outer: %v", err, outer.Err())
			}
			if _, err := lock.Acquire(ctx, WithMaxWait(time.Second)); !errors.Is(err, ErrNotAcquired) {
				t.Errorf("without the option: %v", err)
			}
			if _, err := lock.Acquire(t.Context(), WithReentry(),
				WithMaxWait(time.Second)); !errors.Is(err, ErrNotAcquired) {
				t.Errorf("with another context: %v", err)
			}
			return nil
		})
		if err != nil || len(f.queue("job")) != 0 {
			t.Errorf("%v, queue %v", err, f.queue("job"))
		}
		_ = c.Close()
	})
}

// TestLocks: several names hold together or not at all; when one is lost, the others are given back.
func TestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		b := acquire(t, open(t, c).Lock("b"))
		if _, err := c.Locks("a",
			"b").TryAcquire(t.Context()); !errors.Is(err, ErrNotAcquired) || len(f.queue("a")) != 0 {
			t.Errorf("%v, queue %v", err, f.queue("a"))
		}
		got := make(chan *HeldLocks)
		go func() {
			held, err := c.Locks("a", "b").Acquire(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- held
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("holds without b")
		default:
		}
		if err := b.Release(t.Context()); err != nil {
			t.Error(err)
		}
		held := <-got
		if held.Token("a") == 0 || held.Token("b") == 0 || held.Token("c") != 0 || len(held.Guards()) != 4 ||
			held.Key("b") != f.queue("b")[0] {
			t.Errorf("tokens %d, %d, guards %v", held.Token("a"), held.Token("b"), held.Guards())
		}
		f.delete(held.Key("a"))
		<-held.Lost()
		synctest.Wait()
		if err := held.Err(); !errors.Is(err, ErrRemoved) || len(f.queue("b")) != 0 {
			t.Errorf("%v, queue of b %v", err, f.queue("b"))
		}
		_ = c.Close()
	})
}

// TestHooks: who waits, who acquires, who loses, who is asked.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var mu sync.Mutex
		var said []string
		say := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, what)
		}
		c := f.client(t, Config{Owner: "me", Hooks: Hooks{
			OnWait:    func(name string, _ int64, holder string) { say("waits " + name + " behind " + holder) },
			OnAcquire: func(name string, _ time.Duration) { say("acquires " + name) },
			OnLost:    func(name string, _ error) { say("loses " + name) },
			OnConnect: func(endpoint string) { say("connects " + endpoint) },
			Trace: func(ctx context.Context, operation, name string) (context.Context, func(error)) {
				say("begins " + operation + " " + name)
				return ctx, func(err error) { say("ends " + operation) }
			},
		}})
		a := acquire(t, open(t, c).Lock("job"), WithOwner("them"),
			OnAsked(func(from, reason string) { say(from + " asks: " + reason) }))
		if asked, err := c.Lock("job").AskRelease(t.Context(), "please"); err != nil || asked.Key != a.Key() {
			t.Errorf("%v, %v", asked, err)
		}
		if _, err := c.Lock("nobody").AskRelease(t.Context(), "please"); !errors.Is(err, ErrNotHolder) {
			t.Errorf("ask nobody: %v", err)
		}
		got := make(chan *Held)
		go func() { got <- acquire(t, c.Lock("job")) }()
		synctest.Wait()
		if err := a.Release(t.Context()); err != nil {
			t.Error(err)
		}
		f.delete((<-got).Key())
		synctest.Wait()
		_ = c.Close()
		want := []string{
			"begins acquire job", "connects a", "ends acquire", "acquires job", "me asks: please",
			"begins acquire job", "waits job behind them", "ends acquire", "acquires job", "loses job",
		}
		slices.Sort(said)
		slices.Sort(want)
		if !slices.Equal(said, want) {
			t.Errorf("said %q\nwant %q", said, want)
		}
	})
}
