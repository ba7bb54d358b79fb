package exampletest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

func TestLatch(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, latch := bounded(t), c.Latch("sdk/latch")
		_, err := latch.CountDown(ctx, 1)
		wants(t, "count down what was not set", err, client.ErrNotSet)
		_, err = latch.State(ctx)
		wants(t, "state of what was not set", err, client.ErrNotSet)
		wants(t, "await what was not set", latch.Await(ctx), client.ErrNotSet)
		first, err := latch.Set(ctx, 2)
		if err != nil {
			t.Fatal(err)
		}
		_, err = latch.Set(ctx, 2)
		wants(t, "set while it counts", err, client.ErrLatchState)
		for want := int64(1); want >= 0; want-- {
			if left, err := latch.In(first).CountDown(ctx, 1); err != nil || left != want {
				t.Errorf("count down: %d, %v, want %d", left, err, want)
			}
		}
		if left, err := latch.CountDown(ctx, 1); err != nil || left != 0 {
			t.Errorf("count down at zero: %d, %v", left, err)
		}
		if err := latch.Await(ctx); err != nil {
			t.Errorf("await at zero: %v", err)
		}
		second, err := latch.Set(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := latch.In(first).Await(ctx); err != nil {
			t.Errorf("await the first one: %v", err)
		}
		_, err = latch.In(first).CountDown(ctx, 1)
		wants(t, "count down the first one", err, client.ErrLatchState)
		if s, err := latch.State(ctx); err != nil || s.Generation != second || s.Count != 1 || s.Remaining != 1 {
			t.Errorf("state: %v, %v", s, err)
		}
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		wants(t, "await for too long", latch.Await(short), context.DeadlineExceeded)
		_, err = latch.Set(ctx, -1)
		wants(t, "set to less than nothing", err, client.ErrInvalid)
		_, err = latch.CountDown(ctx, 0)
		wants(t, "count nothing", err, client.ErrInvalid)
		wants(t, "await without a name", c.Latch("").Await(ctx), client.ErrInvalid)
	})
}

// TestLatchWakesAllByOneCommit: a thousand who wait, some of them through another connection that breaks meanwhile, go
// on by one commit.
func TestLatchWakesAllByOneCommit(t *testing.T) {
	fake := coordtest.NewFake(t)
	waiters, worker, ctx := []*client.Client{dial(t, fake.Endpoint()), dial(t, fake.Endpoint())}, dial(t,
		fake.Endpoint()), bounded(t)
	watches := [2]<-chan struct{}{watchesOf(waiters[0]), watchesOf(waiters[1])}
	generation, err := worker.Latch("start").Set(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	const many = 1000
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() {
			if err := waiters[i%2].Latch("start").Await(ctx); err != nil {
				t.Error(err)
			}
		})
		if i == many/2 {
			fake.DropConnections()
		}
	}
	for i := range many {
		<-watches[i%2]
	}
	before, err := worker.Latch("start").State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := worker.Latch("start").CountDown(ctx, 1); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	after, err := worker.Latch("start").State(ctx)
	if err != nil || after.Revision != before.Revision+1 || after.Generation != generation {
		t.Errorf("from %v to %v, %v", before, after, err)
	}
}

// TestLatchIsAwaitedThroughCompactions: the history in which a generation ended, or in which the latch was deleted, is
// compacted while the one who waits is cut off.
func TestLatchIsAwaitedThroughCompactions(t *testing.T) {
	for what, c := range map[string]struct {
		deleted bool
		want    error
	}{"ended": {false, nil}, "deleted": {true, client.ErrNotSet}} {
		t.Run(what, func(t *testing.T) {
			fake := coordtest.NewFake(t)
			w := newWire(t, fake.Endpoint())
			apart, direct, ctx := dial(t, w.address()), dial(t, fake.Endpoint()), bounded(t)
			set := func() {
				t.Helper()
				if _, err := direct.Latch("l").Set(ctx, 1); err != nil {
					t.Fatal(err)
				}
			}
			set()
			done, watches := make(chan error, 1), watchesOf(apart)
			go func() { done <- apart.Latch("l").Await(ctx) }()
			<-watches
			w.silence(true)
			w.cut()
			if c.deleted {
				if _, err := direct.Latch("l").Delete(ctx); err != nil {
					t.Fatal(err)
				}
			} else if _, err := direct.Latch("l").CountDown(ctx, 1); err != nil {
				t.Fatal(err)
			}
			set()
			compact(t, ctx, direct)
			w.silence(false)
			select {
			case err := <-done:
				if !errors.Is(err, c.want) {
					t.Errorf("awaited: %v, want %v", err, c.want)
				}
			case <-ctx.Done():
				t.Error("waits for a generation that is over")
			}
		})
	}
}

// watchesOf tells of each watch that the client begins: what it has read before it has seen.
func watchesOf(c *client.Client) <-chan struct{} {
	began := make(chan struct{}, 10000)
	c.Watcher = tapped{c.Watcher, began}
	return began
}

type tapped struct {
	clientv3.Watcher
	began chan<- struct{}
}

func (w tapped) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	w.began <- struct{}{}
	return w.Watcher.Watch(ctx, key, opts...)
}

// compact compacts all that was written.
func compact(t *testing.T, ctx context.Context, c *client.Client) {
	t.Helper()
	resp, err := c.Put(ctx, "last", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(ctx, resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
}
