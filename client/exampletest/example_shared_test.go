package exampletest

import (
	"context"
	"fmt"
	"sync"

	"github.com/coord-dev/coord/client"
)

// A writer downgrades: what it wrote it goes on reading, together with others, and no other writer comes in between.
func ExampleRWHeld_Downgrade() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	table := c.RWLock("examples/table")
	err := table.Do(ctx, client.Write, func(ctx context.Context, held *client.RWHeld) error {
		fmt.Println("writes:", held.Writes())
		if err := held.Downgrade(ctx); err != nil {
			return err
		}
		other, err := table.TryAcquire(context.Background(), client.Read)
		if err != nil {
			return err
		}
		fmt.Println("writes:", held.Writes(), "another reads:", !other.Writes())
		return other.Release(ctx)
	})
	fmt.Println(err)
	// Output:
	// writes: true
	// writes: false another reads: true
	// <nil>
}

// At most two of these five work at a time, in whatever process they are.
func ExampleSemaphore_Do() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	slots := c.Semaphore("examples/slots", 2)
	var mu sync.Mutex
	working, most, done := 0, 0, 0
	var workers sync.WaitGroup
	for range 5 {
		workers.Go(func() {
			err := slots.Do(ctx, 1, func(ctx context.Context, held *client.Permits) error {
				mu.Lock()
				working++
				most = max(most, working)
				mu.Unlock()
				// Work, until ctx ends.
				mu.Lock()
				working--
				done++
				mu.Unlock()
				return nil
			})
			if err != nil {
				fmt.Println(err)
			}
		})
	}
	workers.Wait()
	fmt.Println(done, "have worked, at most two at a time:", most <= 2)
	// Output:
	// 5 have worked, at most two at a time: true
}

// Three begin together and end together.
func ExampleBarrier_Enter() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	round := c.Barrier("examples/round", 3)
	var parties sync.WaitGroup
	for range 3 {
		parties.Go(func() {
			inside, err := round.Enter(ctx)
			if err != nil {
				fmt.Println(err)
				return
			}
			// Work. Whoever dies here is not waited for.
			if err := inside.Leave(ctx); err != nil {
				fmt.Println(err)
			}
		})
	}
	parties.Wait()
	d, err := round.Describe(ctx)
	fmt.Println(d.Arrived, "are inside", err)
	// Output:
	// 0 are inside <nil>
}
