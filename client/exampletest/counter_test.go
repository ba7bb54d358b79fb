package exampletest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
	"github.com/coord-dev/coord/coord/crashtest/history"
	"github.com/coord-dev/coord/proto/layout"
)

// everywhere runs a test against the fake server and against a real member, where nothing has a name below sdk/.
func everywhere(t *testing.T, test func(t *testing.T, c *client.Client)) {
	t.Run("fake", func(t *testing.T) { test(t, dial(t, coordtest.NewFake(t).Endpoint())) })
	t.Run("member", func(t *testing.T) {
		c := dial(t, endpoint)
		for prefix, remove := range map[string]func(name string) error{
			layout.Counter.Dir(): func(name string) error {
				_, err := c.Counter(name).Delete(bounded(t))
				return err
			},
			layout.Sequence.Dir(): func(name string) error {
				_, err := c.Sequence(name).Delete(bounded(t))
				return err
			},
			layout.Latch.Dir(): func(name string) error { _, err := c.Latch(name).Delete(bounded(t)); return err },
			layout.Gate.Dir():  func(name string) error { _, err := c.Gate(name).Open(bounded(t)); return err },
			layout.Semaphore.Dir(): func(name string) error {
				_, err := c.Semaphore(path.Dir(name), 0).Delete(bounded(t))
				return err
			},
			layout.Barrier.Dir(): func(name string) error {
				_, err := c.Barrier(path.Dir(name), 1).Delete(bounded(t))
				return err
			},
		} {
			left, err := c.Get(bounded(t), prefix+"sdk/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
			if err != nil {
				t.Fatal(err)
			}
			for _, kv := range left.Kvs {
				if err := remove(strings.TrimPrefix(string(kv.Key), prefix)); err != nil {
					t.Fatal(err)
				}
			}
		}
		test(t, c)
	})
}

// wants checks the error of a call.
func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestCounter(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx := bounded(t)
		hits := c.Counter("sdk/hits")
		for _, step := range []struct{ delta, want int64 }{{0, 0}, {5, 5}, {-7, -2},
			{math.MaxInt64, math.MaxInt64 - 2}} {
			if got, err := hits.Add(ctx, step.delta); err != nil || got != step.want {
				t.Fatalf("add %d: %d, %v, want %d", step.delta, got, err, step.want)
			}
		}
		_, err := hits.Add(ctx, 3)
		wants(t, "add beyond the end", err, client.ErrOverflow)
		wants(t, "another value", hits.CompareAndSet(ctx, 4, 1), client.ErrValueMismatch)
		if err := hits.CompareAndSet(ctx, math.MaxInt64-2, 1); err != nil {
			t.Error(err)
		}
		if got, err := newSession(t, c, time.Minute).Counter("sdk/hits").Get(ctx); err != nil || got != 1 {
			t.Errorf("get: %d, %v", got, err)
		}
		if err := hits.Set(ctx, -9); err != nil {
			t.Error(err)
		}
		if got, err := hits.Get(ctx); err != nil || got != -9 {
			t.Errorf("after set: %d, %v", got, err)
		}
		if was, err := hits.Delete(ctx); err != nil || !was {
			t.Errorf("delete: %t, %v", was, err)
		}
		if got, err := hits.Add(ctx, 1); err != nil || got != 1 {
			t.Errorf("after it was deleted: %d, %v", got, err)
		}
		for _, bad := range []string{"", "a/", "_coord/a"} {
			_, err := c.Counter(bad).Add(ctx, 1)
			wants(t, "add to "+bad, err, client.ErrInvalid)
			_, err = c.Counter(bad).Get(ctx)
			wants(t, "get "+bad, err, client.ErrInvalid)
		}
	})
}

func TestSequence(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, ids := bounded(t), c.Sequence("sdk/ids")
		if last, err := ids.Last(ctx); err != nil || last != 0 {
			t.Errorf("last of a new one: %d, %v", last, err)
		}
		for want := range int64(3) {
			if n, err := ids.Next(ctx); err != nil || n != want+1 {
				t.Errorf("next: %d, %v", n, err)
			}
		}
		if r, err := ids.Reserve(ctx, 1<<32); err != nil || r != (client.Range{First: 4, Count: 1 << 32}) {
			t.Errorf("reserve: %v, %v", r, err)
		}
		if last, err := ids.Last(ctx); err != nil || last != 1<<32+3 {
			t.Errorf("last: %d, %v", last, err)
		}
		for _, n := range []int64{0, -1, 1<<32 + 1} {
			_, err := ids.Reserve(ctx, n)
			wants(t, "reserve a wrong number", err, client.ErrInvalid)
			_, err = ids.Blocks(n).Next(ctx)
			wants(t, "blocks of a wrong size", err, client.ErrInvalid)
		}
		_, err := c.Sequence("").Last(ctx)
		wants(t, "last of nothing", err, client.ErrInvalid)
	})
}

// TestBlocks: goroutines of two allocators get each number once, and few of them ask the cluster.
func TestBlocks(t *testing.T) {
	c, ctx := dial(t, coordtest.NewFake(t).Endpoint()), bounded(t)
	ids := c.Sequence("blocks")
	const goroutines, each, block = 8, 500, 100
	taken := make(chan int64, goroutines*each)
	var group sync.WaitGroup
	allocators := []*client.Allocator{ids.Blocks(block), ids.Blocks(block)}
	for i := range goroutines {
		group.Go(func() {
			before := int64(0)
			for range each {
				n, err := allocators[i%2].Next(ctx)
				if err != nil || n <= before {
					t.Errorf("%d after %d: %v", n, before, err)
					return
				}
				before = n
				taken <- n
			}
		})
	}
	group.Wait()
	close(taken)
	seen := map[int64]bool{}
	for n := range taken {
		if seen[n] {
			t.Errorf("%d was given twice", n)
		}
		seen[n] = true
	}
	if last, err := ids.Last(ctx); err != nil || last != goroutines*each {
		t.Errorf("reserved up to %d, %v, for %d numbers", last, err, goroutines*each)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := ids.Blocks(1).Next(ended)
	wants(t, "a context that ended", err, context.Canceled)
}

// TestCountersGoOnInTheNextSession: the client's own session dies; the next change goes through another one.
func TestCountersGoOnInTheNextSession(t *testing.T) {
	fake, c := clocked(t)
	ctx := bounded(t)
	own, err := c.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want <= 3; want++ {
		if got, err := c.Counter("n").Add(ctx, 1); err != nil || got != want {
			t.Fatalf("add: %d, %v, want %d", got, err, want)
		}
		shared, err := c.Session(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fake.Advance(time.Hour)
		<-shared.Done()
	}
	<-own.Done()
	_, err = own.Counter("n").Add(ctx, 1)
	wants(t, "through a session that is lost", err, client.ErrSessionExpired)
	if errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("nothing was sent: %v", err)
	}
}

// TestCountersAndSequencesAreLinearizable: guarantees §1, counters and sequences, as clients see it, while answers get
// lost and connections break: there is an order in which each change was executed once, between its call and its
// return. All sessions live, so that every outcome is known.
func TestCountersAndSequencesAreLinearizable(t *testing.T) {
	fake := coordtest.NewFake(t)
	counts := counting(t, 6, 40, []string{fake.Endpoint()}, func(rng *rand.Rand) {
		switch rng.IntN(10) {
		case 0:
			fake.LoseResponses(1 + rng.IntN(2))
		case 1:
			fake.DropConnections()
		}
	})
	for _, o := range counts {
		if o.Outcome != history.OK {
			t.Errorf("not known: %+v", o)
		}
	}
	if err := history.LinearizableCounts(counts, time.Minute); err != nil {
		t.Error(err)
	}
}

// TestCountersSurviveTheirLeader is the same through three members, of which the leader stops.
func TestCountersSurviveTheirLeader(t *testing.T) {
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	var operations atomic.Int64
	const clients, each = 4, 60
	counts := counting(t, clients, each, cluster.Endpoints(), func(*rand.Rand) {
		if operations.Add(1) == clients*each/3 {
			leader := cluster.Leader()
			for ; leader < 0; leader = cluster.Leader() { // it may just change
				time.Sleep(time.Millisecond)
			}
			cluster.StopMember(leader)
		}
	})
	if err := history.LinearizableCounts(counts, time.Minute); err != nil {
		t.Error(err)
	}
}

// counting has some clients do operations each on one counter and one sequence, and calls disturb before each.
// Operations whose outcome nobody knows are told as such.
func counting(t *testing.T, clients, operations int, endpoints []string, disturb func(*rand.Rand)) []history.Count {
	t.Helper()
	ctx, began := bounded(t), time.Now()
	var mu sync.Mutex
	var counts []history.Count
	var group sync.WaitGroup
	for i := range clients {
		c, rng := dial(t, endpoints...), rand.New(rand.NewPCG(uint64(i), 3))
		group.Go(func() {
			for range operations {
				disturb(rng)
				o := history.Count{Client: i, Name: []string{"counter", "sequence"}[rng.IntN(2)], Delta: rng.Int64N(4),
					Outcome: history.OK}
				o.Call = int64(time.Since(began))
				var err error
				o.Value, err = count(ctx, c, o.Name, o.Delta)
				o.Return = int64(time.Since(began))
				switch {
				case errors.Is(err, client.ErrOutcomeUnknown):
					o.Outcome = history.Unknown
				case err != nil:
					t.Errorf("%+v: %v", o, err)
					return
				}
				mu.Lock()
				counts = append(counts, o)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return counts
}

// count adds to an object, or reads it if delta is 0, and returns its value.
func count(ctx context.Context, c *client.Client, name string, delta int64) (int64, error) {
	switch {
	case name == "counter" && delta == 0:
		return c.Counter(name).Get(ctx)
	case name == "counter":
		return c.Counter(name).Add(ctx, delta)
	case delta == 0:
		return c.Sequence(name).Last(ctx)
	}
	r, err := c.Sequence(name).Reserve(ctx, delta)
	return r.First + r.Count - 1, err
}

// TestForeignCounter: what stands at the key of a counter and is none is not taken for one.
func TestForeignCounter(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, ctx := dial(t, fake.Endpoint()), bounded(t)
	if err := fake.Overwrite(layout.Counter.Key("foreign"), []byte("\xff")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Counter("foreign").Get(ctx)
	wants(t, "get what is no counter", err, client.ErrWrongKind)
	_, err = c.Counter("foreign").Add(ctx, 1)
	wants(t, "add to what is no counter", err, client.ErrWrongKind)
}
