package exampletest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
)

// got receives what must come.
func got[T any](t *testing.T, ctx context.Context, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	return v
}

// going runs fn and hands over what it returns.
func going[T any](t *testing.T, fn func() (T, error)) <-chan T {
	out := make(chan T, 1)
	go func() {
		v, err := fn()
		if err != nil {
			t.Error(err)
		}
		out <- v
	}()
	return out
}

// queued is an option and the channel that it sends to when the request waits.
func queued() (client.QueueOption, <-chan int64) {
	position := make(chan int64, 16)
	return client.OnQueued(func(n int64, _ string) { position <- n }), position
}

func TestRWLock(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, lock := bounded(t), c.RWLock("sdk/rw")
		first, err := lock.Acquire(ctx, client.Read)
		if err != nil {
			t.Fatal(err)
		}
		second, err := lock.TryAcquire(ctx, client.Read)
		if err != nil || second.Token() <= first.Token() || second.Writes() {
			t.Fatalf("a second reader: %v, %v", second, err)
		}
		_, err = lock.TryAcquire(ctx, client.Write)
		wants(t, "write while they read", err, client.ErrNotAcquired)
		wait, waits := queued()
		writing := going(t, func() (*client.RWHeld, error) { return lock.Acquire(ctx, client.Write, wait) })
		got(t, ctx, waits)
		_, err = lock.Acquire(ctx, client.Read, client.WithMaxWait(time.Millisecond))
		wants(t, "read behind a writer", err, client.ErrNotAcquired)
		for _, h := range []*client.RWHeld{first, second} {
			if err := h.Release(ctx); err != nil {
				t.Error(err)
			}
		}
		writer := got(t, ctx, writing)
		if ok, err := c.CheckToken(ctx, "sdk/rw", writer.Key(), writer.Token()); err != nil || !ok || !writer.Writes() {
			t.Errorf("check of the writer: %v, %v", ok, err)
		}
		wait, waits = queued()
		reading := going(t, func() (*client.RWHeld, error) { return lock.Acquire(ctx, client.Read, wait) })
		got(t, ctx, waits)
		for range 2 {
			if err := writer.Downgrade(ctx); err != nil || writer.Writes() {
				t.Fatalf("downgrade: %v", err)
			}
		}
		reader := got(t, ctx, reading)
		if d, err := lock.Describe(ctx); err != nil || d.Holding != 2 || d.Holder().Key != writer.Key() ||
			d.Holder().Writes {
			t.Errorf("described: %v, %v", d, err)
		}
		if _, err := writer.KV().Put(ctx, "sdk/rw/key", "by a reader"); err != nil {
			t.Errorf("a write under the guard of a reader: %v", err)
		}
		if err := errors.Join(writer.Release(ctx), reader.Release(ctx)); err != nil {
			t.Error(err)
		}
		wants(t, "downgrade of what was released", writer.Downgrade(ctx), client.ErrReleased)
		if _, err := writer.KV().Put(ctx, "sdk/rw/key", "too late"); !errors.Is(err, client.ErrFenced) {
			t.Errorf("a write under the guard of who was a reader: %v", err)
		}
	})
}

// Under a hold, others of the same lock can be entered again, and what would wait for itself is refused.
func TestRWLockReentrant(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, lock := bounded(t), c.RWLock("sdk/rw/again")
		nothing := func(context.Context, *client.RWHeld) error { return nil }
		err := lock.Do(ctx, client.Read, func(ctx context.Context, held *client.RWHeld) error {
			wants(t, "write under a reader", lock.Do(ctx, client.Write, nothing), client.ErrUpgrade)
			return lock.Do(ctx, client.Read, nothing, client.WithReentry())
		})
		if err != nil {
			t.Error(err)
		}
		err = lock.Do(ctx, client.Write, func(ctx context.Context, held *client.RWHeld) error {
			return errors.Join(lock.Do(ctx, client.Write, nothing, client.WithReentry()),
				lock.Do(ctx, client.Read, nothing, client.WithReentry()))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestSemaphore(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, sem := bounded(t), c.Semaphore("sdk/semaphore", 4)
		_, err := c.Semaphore("sdk/semaphore", 0).Acquire(ctx, 1)
		wants(t, "acquire without a limit", err, client.ErrNotSet)
		_, err = sem.Acquire(ctx, 5)
		wants(t, "more than there are", err, client.ErrTooManyPermits)
		_, err = sem.Acquire(ctx, 0)
		wants(t, "none", err, client.ErrInvalid)
		three, err := sem.Acquire(ctx, 3)
		if err != nil || three.N() != 3 {
			t.Fatal(err)
		}
		_, err = sem.TryAcquire(ctx, 2)
		wants(t, "try two of one", err, client.ErrNotAcquired)
		wait, waits := queued()
		taking := going(t, func() (*client.Permits, error) { return sem.Acquire(ctx, 2, wait) })
		if n := got(t, ctx, waits); n != 1 {
			t.Errorf("%d before it", n)
		}
		_, err = sem.Acquire(ctx, 1, client.WithMaxWait(time.Millisecond))
		wants(t, "one behind two", err, client.ErrNotAcquired)
		_, err = sem.Resize(ctx, 2)
		wants(t, "less than is held", err, client.ErrLimitBelowHeld)
		if r, err := sem.Resize(ctx, 5); err != nil || r.Before != 4 || r.Held != 5 {
			t.Errorf("resize: %v, %v", r, err)
		}
		two := got(t, ctx, taking)
		if r, err := sem.Drain(ctx, 2); err != nil || r.Held != 5 {
			t.Errorf("drain: %v, %v", r, err)
		}
		if err := three.Release(ctx); err != nil {
			t.Error(err)
		}
		if d, err := sem.Describe(ctx); err != nil || d.Limit != 2 || d.Held != 2 || d.Holder().Key != two.Key() {
			t.Errorf("described: %v, %v", d, err)
		}
		_, err = sem.TryAcquire(ctx, 1)
		wants(t, "try while all are held", err, client.ErrNotAcquired)
		if err := two.Release(ctx); err != nil {
			t.Error(err)
		}
		err = sem.Do(ctx, 2, func(ctx context.Context, held *client.Permits) error { return ctx.Err() })
		if err != nil {
			t.Error(err)
		}
	})
}

// TestSemaphoreDeadSessionReturnsPermits: its permits go to who waits, once; its own context ends with the reason.
func TestSemaphoreDeadSessionReturnsPermits(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, name := bounded(t), "sdk/semaphore/dead"
		s, err := c.NewSession(ctx)
		if err != nil {
			t.Fatal(err)
		}
		began, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- s.Semaphore(name, 2).Do(ctx, 2, func(ctx context.Context, held *client.Permits) error {
				close(began)
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		got(t, ctx, began)
		wait, waits := queued()
		taking := going(t, func() (*client.Permits, error) { return c.Semaphore(name, 0).Acquire(ctx, 1, wait) })
		got(t, ctx, waits)
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		wants(t, "Do of a session that ended", got(t, ctx, ended), client.ErrLost)
		one := got(t, ctx, taking)
		if d, err := c.Semaphore(name, 0).Describe(ctx); err != nil || d.Held != 1 || d.Holding != 1 {
			t.Errorf("described: %v, %v", d, err)
		}
		if err := one.Release(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestBarrier: nobody leaves Enter before all are there, nor Leave before all have left; a session that ends inside is
// as one that has left; the next generation begins anew.
func TestBarrier(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, barrier := bounded(t), c.Barrier("sdk/barrier", 3)
		s, err := c.NewSession(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wait, waits := queued()
		entering := going(t, func() (*client.Party, error) { return barrier.Enter(ctx, wait) })
		got(t, ctx, waits)
		_, err = c.Barrier("sdk/barrier", 2).Enter(ctx)
		wants(t, "another number of parties", err, client.ErrPartiesMismatch)
		_, err = barrier.Enter(ctx, client.WithMaxWait(time.Millisecond))
		wants(t, "enter for a moment", err, client.ErrNotAcquired)
		wait, waits = queued()
		dying := going(t, func() (*client.Party, error) { return s.Barrier("sdk/barrier", 3).Enter(ctx, wait) })
		got(t, ctx, waits)
		if d, err := barrier.Describe(ctx); err != nil || d.Arrived != 2 || d.Holding != 0 {
			t.Errorf("described: %v, %v", d, err)
		}
		third, err := barrier.Enter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		first, dead := got(t, ctx, entering), got(t, ctx, dying)
		_, err = barrier.Enter(ctx)
		wants(t, "a fourth party", err, client.ErrBarrierFull)
		leaving := going(t, func() (int, error) { return 0, first.Leave(ctx) })
		short, cancel := context.WithCancel(ctx)
		left := make(chan error, 1)
		go func() { left <- third.Leave(short) }()
		for arrived := int64(3); arrived > 1; {
			d, err := barrier.Describe(ctx)
			if err != nil {
				t.Fatal(err)
			}
			arrived = d.Arrived
		}
		cancel()
		wants(t, "leave while one is inside", got(t, ctx, left), context.Canceled)
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		got(t, ctx, leaving)
		if err := third.Leave(ctx); err != nil {
			t.Errorf("leave again: %v", err)
		}
		wants(t, "leave by a session that ended", dead.Leave(ctx), client.ErrLost)
		if d, err := barrier.Describe(ctx); err != nil || d.Generation != 1 || d.Open {
			t.Errorf("described: %v, %v", d, err)
		}
		alone, err := c.Barrier("sdk/barrier", 1).Enter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(alone.Leave(ctx), third.Leave(ctx)); err != nil {
			t.Error(err)
		}
	})
}

// Many parties enter and leave together, generation after generation.
func TestBarrierOfMany(t *testing.T) {
	parties := 300
	if testing.Short() {
		parties = 50
	}
	c := dial(t, endpoint)
	ctx, barrier := bounded(t), c.Barrier("sdk/barrier/many", int64(parties))
	var mu sync.Mutex
	inside := 0
	var running sync.WaitGroup
	for range parties {
		running.Go(func() {
			for range 2 {
				party, err := barrier.Enter(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				mu.Unlock()
				if err := party.Leave(ctx); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if inside%parties != 0 {
					t.Errorf("one has left when %d were inside", inside)
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
}
