package client

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Semaphore gives out at most so many permits at a time, strictly in the order in which they were asked for. It holds
// no state. Safe for concurrent use.
//
// The limit belongs to the name: whoever acquires first sets it, and from then on only Resize and Drain change it.
type Semaphore struct {
	recipe
	name  string
	limit int64
}

// Semaphore returns the semaphore of that name, acquired through the client's shared session; see Lock. limit is how
// many permits it shall have if it has no limit yet; 0: then acquiring fails with ErrNotSet.
func (c *Client) Semaphore(name string, limit int64) *Semaphore {
	return &Semaphore{recipe{client: c}, name, limit}
}

// Semaphore returns the semaphore of that name, acquired through this session.
func (s *Session) Semaphore(name string, limit int64) *Semaphore {
	return &Semaphore{recipe{s.client, s}, name, limit}
}

// Permits are permits that are held, and released all at once. Others hold some, too, so Token orders nothing: Guards
// and KV say that this grant still lives. Safe for concurrent use.
type Permits struct {
	Held
	n int64
}

// N is how many.
func (p *Permits) N() int64 { return p.n }

// Acquire waits until n permits, >= 1, are ours. Errors are those of Lock.Acquire, ErrTooManyPermits and ErrNotSet.
func (s *Semaphore) Acquire(ctx context.Context, n int64, opts ...SemaphoreOption) (*Permits, error) {
	return s.acquire(ctx, n, ofAcquire(s.client, opts))
}

// TryAcquire takes n permits if there are so many and nobody waits, and never waits. The error wraps ErrNotAcquired if
// not.
func (s *Semaphore) TryAcquire(ctx context.Context, n int64, opts ...SemaphoreOption) (*Permits, error) {
	return s.acquire(ctx, n, ofTry(s.client, opts))
}

func (s *Semaphore) acquire(ctx context.Context, n int64, o options) (*Permits, error) {
	c, err := s.recipe.acquire(ctx, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, s.name, o, func(owner string) proto.Message {
		return &coordv1.SemaphoreAcquire{
			Name: s.name, OwnerId: owner, Owner: o.owner, Labels: o.labels, Try: o.try,
			LingerMs: o.delay.Milliseconds(),
			Permits:  n, Limit: s.limit,
		}
	})
	if err != nil {
		return nil, err
	}
	return &Permits{Held{Grant{c}, false}, n}, nil
}

// Do runs fn while n permits are held, see Lock.Do.
func (s *Semaphore) Do(ctx context.Context, n int64, fn func(ctx context.Context, held *Permits) error,
	opts ...SemaphoreOption) error {
	held, err := s.Acquire(ctx, n, opts...)
	if err != nil {
		return err
	}
	return held.run(ctx, func(ctx context.Context) error { return fn(ctx, held) })
}

// Resize sets the limit, >= 1; what more there is goes to those who wait at once. The error wraps ErrLimitBelowHeld if
// more is held, or if somebody waits for more.
func (s *Semaphore) Resize(ctx context.Context, limit int64) (Resized, error) {
	return s.resize(ctx, &coordv1.SemaphoreResize{Name: s.name, Limit: limit})
}

// Drain is Resize to less than is held, too: who holds keeps what it has, and nobody else gets anything until what is
// held fits.
func (s *Semaphore) Drain(ctx context.Context, limit int64) (Resized, error) {
	return s.resize(ctx, &coordv1.SemaphoreResize{Name: s.name, Limit: limit, Drain: true})
}

func (s *Semaphore) resize(ctx context.Context, req *coordv1.SemaphoreResize) (Resized, error) {
	resp := &coordv1.SemaphoreResized{}
	if _, err := s.change(ctx, coordv1.Kind_KIND_SEMAPHORE_RESIZE, req, resp); err != nil {
		return Resized{}, fmt.Errorf("resize semaphore %q: %w", s.name, err)
	}
	return Resized{Before: resp.Before, Held: resp.Held, Revision: resp.Revision}, nil
}

// Describe returns the limit, who holds and who waits.
func (s *Semaphore) Describe(ctx context.Context) (SemaphoreState, error) {
	resp, err := s.describe(ctx, coordv1.QueueKind_QUEUE_SEMAPHORE, s.name)
	if err != nil {
		return SemaphoreState{}, fmt.Errorf("describe semaphore %q: %w", s.name, err)
	}
	info := resp.GetSemaphore()
	return SemaphoreState{queueOf(resp), info.GetLimit(), info.GetHeld(), info.GetWanted()}, nil
}

// Delete deletes the limit of a semaphore that nobody holds or waits for, and reports whether there was one.
// ErrLimitBelowHeld.
func (s *Semaphore) Delete(ctx context.Context) (bool, error) {
	return s.remove(ctx, coordv1.DeleteObjectRequest_SEMAPHORE, s.name)
}
