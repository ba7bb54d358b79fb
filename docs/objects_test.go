//go:build unix

package docs_test

import (
	"context"
	"errors"
	"log"
	"math"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/coord-dev/coord/client"
)

// The code of recipes/counter.md.
func TestCodeOfCounter(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	ours := func() error {
		done := c.Counter("jobs/done")
		sum, err := done.Add(ctx, 1) // client.ErrOverflow if the sum does not fit; the counter keeps its value then
		if err != nil {
			return err
		}
		if sum == 100 {
			return done.CompareAndSet(ctx, 100, 0) // client.ErrValueMismatch if it is not 100 any more
		}
		return nil
	}
	for range 101 {
		if err := ours(); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := c.Counter("jobs/done").Add(ctx, math.MaxInt64); !errors.Is(err, client.ErrOverflow) {
		t.Errorf("%d, %v", sum, err)
	}
	if sum, err := c.Counter("jobs/done").Get(ctx); err != nil || sum != 1 {
		t.Errorf("%d, %v", sum, err)
	}

	theirs := func() error {
		for {
			resp, err := etcd.Get(ctx, "jobs/done")
			if err != nil {
				return err
			}
			sum, revision := int64(1), int64(0)
			if len(resp.Kvs) > 0 {
				old, err := strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
				if err != nil {
					return err
				}
				sum, revision = old+1, resp.Kvs[0].ModRevision
			}
			unchanged := clientv3.Compare(clientv3.ModRevision("jobs/done"), "=", revision)
			done, err := etcd.Txn(ctx).If(unchanged).Then(clientv3.OpPut("jobs/done", strconv.FormatInt(sum, 10))).Commit()
			if err != nil {
				return err // and it may have been counted
			}
			if done.Succeeded {
				return nil
			}
		}
	}
	for range 2 {
		if err := theirs(); err != nil {
			t.Error(err)
		}
	}
	if resp, err := etcd.Get(ctx, "jobs/done"); err != nil || string(resp.Kvs[0].Value) != "2" {
		t.Errorf("%v, %v", resp, err)
	}
}

// The code of recipes/sequence.md.
func TestCodeOfSequence(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)
	var got []int64

	ours := func() error {
		orders := c.Sequence("orders")
		id, err := orders.Next(ctx)
		if err != nil {
			return err
		}
		block, err := orders.Reserve(ctx, 1000) // block.First and the 999 behind it, up to 2^32 in all
		if err != nil {
			return err
		}
		got = append(got, id, block.First)
		return nil
	}
	blocks := func() error {
		ids := c.Sequence("orders").Blocks(1000) // share it: it is safe for concurrent use
		id, err := ids.Next(ctx)
		got = append(got, id)
		return err
	}
	theirs := func() error {
		resp, err := etcd.Put(ctx, "orders/next", "")
		if err != nil {
			return err
		}
		id := resp.Header.Revision // grows, with holes as large as all other writes
		got = append(got, id)
		return nil
	}
	for _, fn := range []func() error{ours, blocks, theirs} {
		if err := fn(); err != nil {
			t.Fatal(err)
		}
	}
	if got[0] != 1 || got[1] != 2 || got[2] != 1002 || got[3] == 0 {
		t.Error(got)
	}
}

// The code of recipes/latch.md.
func TestCodeOfLatch(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	var parts *client.Latch
	set := func() error {
		generation, err := c.Latch("import").Set(ctx, 3)
		if err != nil {
			return err // client.ErrLatchState while it counts
		}
		parts := c.Latch("import").In(generation) // what the workers are given
		use(&parts)
		return nil
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	if err := set(); !errors.Is(err, client.ErrLatchState) {
		t.Errorf("set while it counts: %v", err)
	}
	parts = c.Latch("import")
	await := func() error {
		if err := parts.Await(ctx); err != nil {
			return err
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- await() }()
	down := func() (int64, error) {
		remaining, err := parts.CountDown(ctx, 1) // in this generation only; client.ErrLatchState if it is over
		return remaining, err
	}
	for want := int64(2); want >= 0; want-- {
		if got, err := down(); err != nil || got != want {
			t.Errorf("%d, %v, want %d", got, err, want)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	theirs := func() error {
		for {
			left, err := etcd.Get(ctx, "import/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil {
				return err
			}
			if left.Count == 0 {
				return nil
			}
			changed := etcd.Watch(ctx, "import/", clientv3.WithPrefix(), clientv3.WithRev(left.Header.Revision+1))
			if resp := <-changed; resp.Err() != nil { // compacted meanwhile: read again
				return resp.Err()
			}
		}
	}
	if _, err := etcd.Put(ctx, "import/part", ""); err != nil {
		t.Fatal(err)
	}
	go func() { done <- theirs() }()
	if _, err := etcd.Delete(ctx, "import/part"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func use(any) {}

// The code of recipes/barrier.md.
func TestCodeOfBarrier(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	closes := func() error {
		gate := c.Gate("migration")
		if err := gate.Close(ctx, client.WithReason("the schema changes")); err != nil {
			return err
		}
		return nil
	}
	if err := closes(); err != nil {
		t.Fatal(err)
	}
	await := func() error {
		if err := c.Gate("migration").Await(ctx); err != nil { // at once if it is not closed
			return err
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- await() }()
	opens := func() error {
		_, err := c.Gate("migration").Open(ctx)
		return err
	}
	if err := opens(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	bound := func() error {
		session, err := c.NewSession(ctx, client.WithTTL(10*time.Second))
		if err != nil {
			return err
		}
		defer session.Close(context.WithoutCancel(ctx)) // opens it
		if err := session.Gate("migration").Close(ctx, client.WithSessionBound()); err != nil {
			return err
		}
		state, err := c.Gate("migration").State(ctx)
		if err == nil && !state.Closed {
			err = errors.New("open")
		}
		return err
	}
	if err := bound(); err != nil {
		t.Error(err)
	}
	if err := await(); err != nil {
		t.Error(err)
	}

	theirs := func() error {
		barrier := recipe.NewBarrier(etcd, "migration")
		if err := barrier.Hold(); err != nil {
			return err
		}
		go func() { _ = barrier.Release() }()
		return barrier.Wait() // without a context
	}
	if err := theirs(); err != nil {
		t.Error(err)
	}
}

// The code of recipes/group.md.
func TestCodeOfGroup(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)
	sized := make(chan int, 100)
	share := func(members []client.Member) { sized <- len(members) }
	wait := func(size int) {
		t.Helper()
		for {
			select {
			case got := <-sized:
				if got == size {
					return
				}
			case <-ctx.Done():
				t.Fatalf("never %d members", size)
			}
		}
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()

	watch := func(ctx context.Context) error {
		for change, err := range c.Group("workers").Watch(ctx) {
			if err != nil {
				return err
			}
			share(change.Members) // in the order in which they joined; the first change has all in Joined
			for _, m := range change.Left {
				log.Printf("%s left at revision %d", m.ID, change.Revision)
			}
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- watch(watching) }()
	join := func() error {
		me, err := c.Group("workers").Join(ctx, "w1", []byte("10.0.0.1"))
		if err != nil {
			return err // client.ErrMemberExists while another session is w1
		}
		defer me.Leave(context.WithoutCancel(ctx))
		if err := me.Update(ctx, []byte("10.0.0.1, busy")); err != nil {
			return err
		}
		wait(1)
		return nil
	}
	if err := join(); err != nil {
		t.Fatal(err)
	}
	wait(0)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	theirs := func(ctx context.Context) error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		if _, err := etcd.Put(ctx, "workers/w1", "10.0.0.1", clientv3.WithLease(session.Lease())); err != nil {
			return err
		}
		members, err := etcd.Get(ctx, "workers/", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for resp := range etcd.Watch(ctx, "workers/", clientv3.WithPrefix(), clientv3.WithRev(members.Header.Revision+1)) {
			if err := resp.Err(); err != nil {
				return err // compacted: read again, and find out the difference
			}
			for _, event := range resp.Events {
				log.Printf("%s %s", event.Type, event.Kv.Key)
			}
		}
		return nil
	}
	watching, stop = context.WithCancel(ctx)
	defer stop()
	go func() { done <- theirs(watching) }()
	for u, err := range c.WatchKey(ctx, "workers/w1") {
		if err != nil || len(u.KVs)+len(u.Events) > 0 {
			break
		}
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
