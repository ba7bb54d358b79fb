package exampletest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// TestUnreachableEndpoints: with one endpoint that works among three everything works, with and without a user,
// whichever the client begins with; with none, calls end with their context.
func TestUnreachableEndpoints(t *testing.T) {
	dead := coordtest.FreePorts(t, 2)
	unreachable := []string{fmt.Sprintf("127.0.0.1:%d", dead[0]), fmt.Sprintf("127.0.0.1:%d", dead[1])}
	for i := range 4 {
		config := client.Config{Endpoints: append([]string{endpoint}, unreachable...), DialTimeout: 10 * time.Second,
			SessionTTL: time.Minute}
		if i%2 == 0 {
			config.Username, config.Password = "somebody", "secret" // authentication is off, so anybody may
		}
		c, err := client.New(config)
		if err != nil {
			t.Fatal(err)
		}
		held, err := c.Lock("reachable").Acquire(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Release(bounded(t)); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Lock("reachable").Acquire(bounded(t)); !errors.Is(err, client.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	c := dial(t, unreachable...)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Lock("reachable").Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody there: %v", err)
	}
}
