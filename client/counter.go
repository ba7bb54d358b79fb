package client

import (
	"context"
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// Counter is a named number that many add to: 0 until it is written, between the limits of int64. It holds no state:
// any number may exist for one name. Safe for concurrent use.
//
// Each change is one commit, executed exactly once; the error of one that may have been executed, or not, wraps
// ErrOutcomeUnknown. Any other error means that the counter was not changed.
type Counter struct{ object }

// Counter returns the counter of that name, written through the client's shared session. A name is not empty and does
// not end in a slash.
func (c *Client) Counter(name string) *Counter {
	return &Counter{object{recipe{client: c}, layout.Counter, name}}
}

// Counter returns the counter of that name, written through this session.
func (s *Session) Counter(name string) *Counter {
	return &Counter{object{recipe{s.client, s}, layout.Counter, name}}
}

// Add adds delta, which may be negative, and returns the sum. The error wraps ErrOverflow if the sum does not fit.
func (c *Counter) Add(ctx context.Context, delta int64) (int64, error) {
	resp := &coordv1.CounterValue{}
	if _, err := c.change(ctx, coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: c.name, Delta: delta},
		resp); err != nil {
		return 0, fmt.Errorf("add %d to counter %q: %w", delta, c.name, err)
	}
	return resp.Value, nil
}

// Set gives the counter a value.
func (c *Counter) Set(ctx context.Context, value int64) error {
	return c.set(ctx, &coordv1.CounterSet{Name: c.name, Value: value})
}

// CompareAndSet gives the counter a value if it has the expected one. The error wraps ErrValueMismatch if it has not.
func (c *Counter) CompareAndSet(ctx context.Context, expected, value int64) error {
	return c.set(ctx, &coordv1.CounterSet{Name: c.name, Value: value, Expected: &expected})
}

func (c *Counter) set(ctx context.Context, req *coordv1.CounterSet) error {
	if _, err := c.change(ctx, coordv1.Kind_KIND_COUNTER_SET, req, &coordv1.CounterValue{}); err != nil {
		return fmt.Errorf("set counter %q to %d: %w", c.name, req.Value, err)
	}
	return nil
}

// Get returns the value, with all changes that were acknowledged before the call.
func (c *Counter) Get(ctx context.Context) (int64, error) {
	kv, _, err := c.read(ctx)
	if err != nil {
		return 0, fmt.Errorf("get counter %q: %w", c.name, err)
	}
	value, err := objects.Counter(kv)
	if err != nil {
		return 0, fmt.Errorf("get counter %q: %w", c.name, objectError(err))
	}
	return value, nil
}

// Delete deletes the counter, which is 0 then, and reports whether it was there.
func (c *Counter) Delete(ctx context.Context) (bool, error) {
	return c.remove(ctx, coordv1.DeleteObjectRequest_COUNTER, c.name)
}
