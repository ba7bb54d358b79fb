package coordtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// TestFeatureThatTheClusterLacks: the SDK does not go on asking, whatever it was about to do: the error says which
// feature it is.
func TestFeatureThatTheClusterLacks(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}, Features: []string{"made-up"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for what, do := range map[string]func(context.Context) error{
		"put":     func(ctx context.Context) error { _, err := c.Put(ctx, "k", "v"); return err },
		"get":     func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
		"lock":    func(ctx context.Context) error { _, err := c.Lock("job").Acquire(ctx); return err },
		"session": func(ctx context.Context) error { _, err := c.NewSession(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := do(ctx)
		if !errors.Is(err, client.ErrClusterVersion) || !strings.Contains(err.Error(), `the feature "made-up"`) ||
			ctx.Err() != nil {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
}
