package coordtest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// A lock is lost when the TTL of its session passes without a renewal, which here is a matter of turning the clock. In
// a test, coordtest.NewFake(t) does without the error and the Close.
func ExampleFake_Advance() {
	fake, err := coordtest.StartFake()
	if err != nil {
		log.Fatal(err)
	}
	defer fake.Close()
	c, err := client.New(client.Config{
		Endpoints: []string{fake.Endpoint()}, Clock: fake.Clock, SessionTTL: 10 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// What is tested: a job that ends when it may not go on.
	job := func(ctx context.Context, _ *client.Held) error {
		fmt.Println("the job runs")
		fake.Advance(10 * time.Second)
		<-ctx.Done()
		fmt.Println("the job ends; the lock was lost:", errors.Is(context.Cause(ctx), client.ErrLost))
		return nil
	}
	err = c.Lock("job").Do(context.Background(), job)
	fmt.Println("and so says Do:", errors.Is(err, client.ErrLost))
	// Output:
	// the job runs
	// the job ends; the lock was lost: true
	// and so says Do: true
}
