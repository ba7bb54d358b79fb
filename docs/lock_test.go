//go:build unix

package docs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/client"
)

// connect is both clients of a member of the test's own: ours, and etcd's.
func connect(t *testing.T) (context.Context, *client.Client, *clientv3.Client) {
	t.Helper()
	endpoint, _ := startMember(t)
	return connectTo(t, endpoint)
}

func connectTo(t *testing.T, endpoint string) (context.Context, *client.Client, *clientv3.Client) {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{endpoint}}) // host:port of one member or more
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx, c, etcd
}

// The code of recipes/lock.md.
func TestCodeOfLock(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	do := func() error {
		return c.Lock("jobs/nightly").Do(ctx, func(ctx context.Context, held *client.Held) error {
			// ctx ends, with cause client.ErrLost, before the servers can give the lock to anybody else.
			_, err := held.KV().Put(ctx, "results/nightly", "yes") // client.ErrFenced, and no effect, if the lock is lost
			return err
		})
	}
	if err := do(); err != nil {
		t.Error(err)
	}

	byHand := func() error {
		held, err := c.Lock("jobs/nightly").Acquire(ctx,
			client.WithMaxWait(time.Minute),   // client.ErrNotAcquired when it is over; the place in the queue is given up
			client.WithDelay(5*time.Second),   // if we die, nobody holds for another 5 s
			client.WithOwner("backup on db1")) // for people who look at the queue
		if err != nil {
			return err
		}
		defer held.Release(context.WithoutCancel(ctx))
		ctx, stop := held.Context(ctx) // ends when the lock is lost
		defer stop()
		return work(ctx, held.Token())
	}
	if err := byHand(); err != nil {
		t.Error(err)
	}

	together := func() error {
		return c.Locks("account/1", "account/2").Do(ctx, func(ctx context.Context, held *client.HeldLocks) error {
			return work(ctx, held.Token("account/1"))
		})
	}
	if err := together(); err != nil {
		t.Error(err)
	}

	inEtcd := func() error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		mutex := concurrency.NewMutex(session, "jobs/nightly")
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		defer mutex.Unlock(context.WithoutCancel(ctx))
		resp, err := etcd.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("results/nightly", "yes")).Commit()
		if err == nil && !resp.Succeeded {
			err = errors.New("the lock is lost")
		}
		return err // and watch session.Done() meanwhile: nothing else tells that the lock is lost
	}
	if err := inEtcd(); err != nil {
		t.Error(err)
	}
}

// work is what is done under a lock; it wants a token to be fenced by.
func work(ctx context.Context, token int64) error {
	if token == 0 {
		return errors.New("no token")
	}
	return ctx.Err()
}
