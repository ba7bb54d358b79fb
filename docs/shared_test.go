//go:build unix

package docs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/coord-dev/coord/client"
)

// The code of recipes/rwlock.md.
func TestCodeOfRWLock(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	reads := func() error {
		return c.RWLock("catalog").Do(ctx, client.Read, func(ctx context.Context, held *client.RWHeld) error {
			// beside other readers; ctx ends, with cause client.ErrLost, before the servers can let a writer in
			catalog, err := held.KV().Get(ctx, "catalog")
			use(catalog)
			return err
		})
	}
	writes := func() error {
		return c.RWLock("catalog").Do(ctx, client.Write, func(ctx context.Context, held *client.RWHeld) error {
			if _, err := held.KV().Put(ctx, "catalog", "new"); err != nil {
				return err // client.ErrFenced, and no effect, if the lock is lost
			}
			if err := held.Downgrade(ctx); err != nil {
				return err
			}
			return report(ctx) // still nobody writes, and others read
		})
	}
	theirs := func() error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		lock := recipe.NewRWMutex(session, "catalog")
		if err := lock.RLock(); err != nil { // without a context; Lock to write
			return err
		}
		defer lock.RUnlock()
		return nil // watch session.Done() meanwhile: nothing else tells that the lock is lost
	}
	for _, fn := range []func() error{reads, writes, theirs} {
		if err := fn(); err != nil {
			t.Error(err)
		}
	}
	if resp, err := etcd.Get(ctx, "catalog"); err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "new" {
		t.Errorf("%v, %v", resp, err)
	}
	upgrade := c.RWLock("catalog").Do(ctx, client.Read, func(ctx context.Context, _ *client.RWHeld) error {
		_, err := c.RWLock("catalog").Acquire(ctx, client.Write)
		return err
	})
	if !errors.Is(upgrade, client.ErrUpgrade) {
		t.Errorf("a writer inside of a reader: %v", upgrade)
	}
}

func report(ctx context.Context) error { return ctx.Err() }

// The code of recipes/semaphore.md.
func TestCodeOfSemaphore(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	ours := func() error {
		exports := c.Semaphore("exports", 4) // 4 in all, if nobody has set the limit before
		return exports.Do(ctx, 1, func(ctx context.Context, held *client.Permits) error {
			// ctx ends, with cause client.ErrLost, before the servers can give the permit to anybody else
			_, err := held.KV().Put(ctx, "exports/last", "done") // client.ErrFenced, and no effect, if the permit is lost
			return err
		})
	}
	byHand := func() error {
		held, err := c.Semaphore("exports", 4).TryAcquire(ctx, 2) // client.ErrNotAcquired if 2 are not free now
		if err != nil {
			return err
		}
		return held.Release(context.WithoutCancel(ctx))
	}
	resizes := func() error {
		if _, err := c.Semaphore("exports", 0).Resize(ctx, 8); err != nil {
			return err
		}
		_, err := c.Semaphore("exports", 0).Drain(ctx, 2) // also if more are held: they stay, and nobody gets more until 2 fit
		return err
	}
	theirs := func() error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close() // gives it back
		mine := fmt.Sprintf("exports/queue/%x", session.Lease())
		if _, err := etcd.Put(ctx, mine, "", clientv3.WithLease(session.Lease())); err != nil {
			return err
		}
		for {
			first, err := etcd.Get(ctx, "exports/queue/", clientv3.WithPrefix(), clientv3.WithLimit(4),
				clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
			if err != nil {
				return err
			}
			if slices.ContainsFunc(first.Kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == mine }) {
				return nil // it is ours; and watch session.Done() meanwhile
			}
			watching, stop := context.WithCancel(ctx)
			changed := <-etcd.Watch(watching, "exports/queue/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision+1))
			stop()
			if err := changed.Err(); err != nil {
				return err
			}
		}
	}
	for _, fn := range []func() error{ours, byHand, resizes, theirs} {
		if err := fn(); err != nil {
			t.Error(err)
		}
	}
	resp, err := c.Semaphore("exports", 0).Describe(ctx)
	if err != nil || resp.Limit != 2 || resp.Holding != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

// The code of recipes/barrier.md that is about the double barrier.
func TestCodeOfDoubleBarrier(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	ours := func() error {
		session, err := c.NewSession(ctx)
		if err != nil {
			return err
		}
		defer session.Close(context.WithoutCancel(ctx))
		inside, err := session.Barrier("load-test", 3).Enter(ctx) // all three are there now
		if err != nil {
			return err
		}
		if err := phase(inside.Token()); err != nil {
			return err
		}
		return inside.Leave(ctx) // all have left, or died
	}
	theirs := func() error {
		session, err := concurrency.NewSession(etcd)
		if err != nil {
			return err
		}
		defer session.Close()
		barrier := recipe.NewDoubleBarrier(session, "load-test", 3)
		if err := barrier.Enter(); err != nil { // without a context
			return err
		}
		return barrier.Leave()
	}
	for _, party := range []func() error{ours, theirs} {
		done := make(chan error, 3)
		for range 3 {
			go func() { done <- party() }()
		}
		for range 3 {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-ctx.Done():
				t.Fatal("the parties did not leave")
			}
		}
	}
	if resp, err := c.Barrier("load-test", 3).Describe(ctx); err != nil || resp.Generation != 1 || resp.Arrived != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

func phase(token int64) error {
	if token == 0 {
		return errors.New("no token")
	}
	return nil
}
