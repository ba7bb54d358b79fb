package exampletest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// endpoint is the member that the examples talk to.
var endpoint string

// TestMain starts one member for all examples: they have no testing.TB of their own.
func TestMain(m *testing.M) {
	os.Exit(coordtest.RunMain(m, coordtest.Options{}, func(c *coordtest.Cluster) { endpoint = c.Endpoints()[0] }))
}

// connect is client.New with the error where an example can do without it.
func connect() *client.Client {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		panic(err)
	}
	return c
}

// A function runs under a lock. Its context ends before anybody else can hold the lock.
func ExampleLock_Do() {
	c := connect()
	defer c.Close()
	err := c.Lock("examples/do").Do(context.Background(), func(ctx context.Context, held *client.Held) error {
		fmt.Println("working under", held.Key() != "", held.Token() > 0, ctx.Err())
		return nil
	})
	fmt.Println(err)
	// Output:
	// working under true true <nil>
	// <nil>
}

// A lock is acquired and released by hand. The second session does not get it meanwhile.
func ExampleLock_TryAcquire() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	held, err := c.Lock("examples/try").Acquire(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Lock("examples/try").TryAcquire(ctx)
	fmt.Println(errors.Is(err, client.ErrNotAcquired))
	_, err = c.Lock("examples/try").Acquire(ctx, client.WithMaxWait(20*time.Millisecond))
	fmt.Println(errors.Is(err, client.ErrNotAcquired))
	fmt.Println(held.Release(ctx))
	// Output:
	// true
	// true
	// <nil>
}

// A write to the store happens only if the lock is still held at that very moment: the guard is part of the
// transaction.
func ExampleHeld_guard() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	held, err := c.Lock("examples/guard").Acquire(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	write := func(value string) bool {
		resp, err := c.Txn(ctx).If(held.Guards()...).Then(clientv3.OpPut("examples/row", value)).Commit()
		return err == nil && resp.Succeeded
	}
	fmt.Println(write("guarded"))
	_ = held.Release(ctx)
	fmt.Println(write("too late"))
	// Output:
	// true
	// false
}

// A resource outside of the store refuses smaller fencing tokens than the largest it has seen.
func ExampleHeld_Token() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	var highest int64
	write := func(token int64) bool {
		if token < highest {
			return false
		}
		highest = token
		return true
	}
	var tokens []int64
	for range 2 {
		_ = c.Lock("examples/token").Do(ctx, func(_ context.Context, held *client.Held) error {
			tokens = append(tokens, held.Token())
			return nil
		})
	}
	fmt.Println(write(tokens[1]), write(tokens[0]))
	// Output: true false
}

// A leader works until its term ends, and then the next candidate does.
func ExampleElection_Run() {
	c := connect()
	defer c.Close()
	for _, candidate := range []string{"node-1", "node-2"} {
		err := c.Election("examples/boss").Run(context.Background(), []byte(candidate),
			func(ctx context.Context, term *client.Leadership) error {
				leader, err := c.Election("examples/boss").Leader(ctx)
				fmt.Printf("%s leads, %v\n", leader.Value, leader.Term == term.Term())
				return err
			})
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// node-1 leads, true
	// node-2 leads, true
}

// An observer sees every change of leader and value.
func ExampleElection_Observe() {
	c := connect()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	election := c.Election("examples/observed")
	for seen, err := range election.Observe(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if seen.Leader.Term != 0 {
			fmt.Printf("%s leads\n", seen.Leader.Value)
			return
		}
		fmt.Println("nobody leads")
		go func() { _, _ = election.Campaign(ctx, []byte("node-1")) }()
	}
	// Output:
	// nobody leads
	// node-1 leads
}

// A session of one's own has its own TTL, and says when it is in danger.
func ExampleClient_NewSession() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	session, err := c.NewSession(ctx, client.WithTTL(30*time.Second),
		client.OnState(func(s client.State) { fmt.Println(s) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(session.State(), time.Until(session.Deadline()) > 20*time.Second)
	err = session.Close(ctx)
	fmt.Println(err, c.Close()) // the client's Close waits for who is told of the session's
	// Output:
	// healthy true
	// lost
	// <nil> <nil>
}
