package exampletest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// fresh is a client of a server of its own, so that what an example counts begins at nothing.
func fresh() freshClient {
	fake, err := coordtest.StartFake()
	if err != nil {
		panic(err)
	}
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}})
	if err != nil {
		panic(err)
	}
	return freshClient{c, fake}
}

type freshClient struct {
	*client.Client
	fake *coordtest.Fake
}

func (c freshClient) Close() error {
	defer c.fake.Close()
	return c.Client.Close()
}

// Many add to a counter; each gets the sum right after its own addition.
func ExampleCounter() {
	c, ctx := fresh(), context.Background()
	defer c.Close()
	hits := c.Counter("examples/hits")
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { _, _ = hits.Add(ctx, 2) })
	}
	group.Wait()
	fmt.Println(hits.Get(ctx))
	fmt.Println(hits.CompareAndSet(ctx, 20, 1))
	_, err := hits.Add(ctx, math.MaxInt64)
	fmt.Println(errors.Is(err, client.ErrOverflow))
	// Output:
	// 20 <nil>
	// <nil>
	// true
}

// A sequence gives out numbers, one or several at a time.
func ExampleSequence() {
	c, ctx := fresh(), context.Background()
	defer c.Close()
	orders := c.Sequence("examples/orders")
	fmt.Println(orders.Next(ctx))
	block, err := orders.Reserve(ctx, 100)
	fmt.Println(block.First, block.Count, err)
	fmt.Println(orders.Next(ctx))
	// Output:
	// 1 <nil>
	// 2 100 <nil>
	// 102 <nil>
}

// An allocator asks the cluster once for each block. What is left of its block when the process ends is never given
// out.
func ExampleSequence_Blocks() {
	c, ctx := fresh(), context.Background()
	defer c.Close()
	ids := c.Sequence("examples/ids").Blocks(1000)
	for range 3 {
		fmt.Println(ids.Next(ctx))
	}
	fmt.Println(c.Sequence("examples/ids").Last(ctx))
	// Output:
	// 1 <nil>
	// 2 <nil>
	// 3 <nil>
	// 1000 <nil>
}

// Who waits for a latch goes on when all workers have counted it down.
func ExampleLatch() {
	c, ctx := fresh(), context.Background()
	defer c.Close()
	generation, err := c.Latch("examples/loaded").Set(ctx, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	loaded := c.Latch("examples/loaded").In(generation)
	for range 3 {
		go func() { _, _ = loaded.CountDown(ctx, 1) }()
	}
	fmt.Println(loaded.Await(ctx))
	// Output: <nil>
}

// A gate holds up who comes while it is closed.
func ExampleGate() {
	c, ctx := fresh(), context.Background()
	defer c.Close()
	gate := c.Gate("examples/migration")
	if err := gate.Close(ctx, client.WithReason("the schema changes"), client.WithSessionBound()); err != nil {
		fmt.Println(err)
		return
	}
	state, err := gate.State(ctx)
	fmt.Println(state.Reason, err)
	go func() { _, _ = gate.Open(ctx) }()
	fmt.Println(gate.Await(ctx))
	// Output:
	// the schema changes <nil>
	// <nil>
}

// A watcher is told who is there, and then of everybody who comes and goes.
func ExampleGroup_Watch() {
	c := fresh()
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	workers := c.Group("examples/workers")
	if _, err := workers.Join(ctx, "worker-1", []byte("10.0.0.1:80")); err != nil {
		fmt.Println(err)
		return
	}
	for change, err := range workers.Watch(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, m := range change.Joined {
			fmt.Printf("%s joined at %s, one of %d\n", m.ID, m.Data, len(change.Members))
		}
		if len(change.Members) == 2 {
			return
		}
		go func() { _, _ = workers.Join(ctx, "worker-2", []byte("10.0.0.2:80")) }()
	}
	// Output:
	// worker-1 joined at 10.0.0.1:80, one of 1
	// worker-2 joined at 10.0.0.2:80, one of 2
}
