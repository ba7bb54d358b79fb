package client

import (
	"context"
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// Sequence gives out the numbers 1, 2, 3 and so on, each once. It need not be made. It holds no state: any number may
// exist for one name. Safe for concurrent use.
//
// Each request is one commit. The error of one that may have been executed wraps ErrOutcomeUnknown: its numbers are
// then given to nobody. So nothing is given twice, and gaps are possible.
type Sequence struct{ object }

// Sequence returns the sequence of that name, used through the client's shared session. A name is not empty and does
// not end in a slash.
func (c *Client) Sequence(name string) *Sequence {
	return &Sequence{object{recipe{client: c}, layout.Sequence, name}}
}

// Sequence returns the sequence of that name, used through this session.
func (s *Session) Sequence(name string) *Sequence {
	return &Sequence{object{recipe{s.client, s}, layout.Sequence, name}}
}

// Range is the numbers in [First, First+Count).
type Range struct{ First, Count int64 }

// Next takes the next number. The error wraps ErrOverflow if there is none left.
func (s *Sequence) Next(ctx context.Context) (int64, error) {
	r, err := s.Reserve(ctx, 1)
	return r.First, err
}

// Reserve takes the next n numbers, 1 <= n <= 2^32. The error wraps ErrOverflow if so many are not left; then none is
// taken.
func (s *Sequence) Reserve(ctx context.Context, n int64) (Range, error) {
	resp := &coordv1.SequenceRange{}
	if _, err := s.change(ctx, coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{Name: s.name, Count: n},
		resp); err != nil {
		return Range{}, fmt.Errorf("take %d of sequence %q: %w", n, s.name, err)
	}
	return Range{resp.First, resp.Count}, nil
}

// Last returns the last number that was taken by anybody, 0 if none was.
func (s *Sequence) Last(ctx context.Context) (int64, error) {
	kv, _, err := s.read(ctx)
	if err != nil {
		return 0, fmt.Errorf("last of sequence %q: %w", s.name, err)
	}
	last, err := objects.Sequence(kv)
	if err != nil {
		return 0, fmt.Errorf("last of sequence %q: %w", s.name, objectError(err))
	}
	return last, nil
}

// Blocks returns an allocator that reserves n numbers at a time, 1 <= n <= 2^32.
func (s *Sequence) Blocks(n int64) *Allocator {
	return &Allocator{sequence: s, size: n, lock: make(chan struct{}, 1)}
}

// Allocator gives out numbers of a sequence from a block that it has reserved, and asks the cluster only when that is
// used up. Each number is given once, in ascending order by one allocator; beside other allocators they are unique, but
// in no order. What is left of its block when the process ends is never given out. Safe for concurrent use.
type Allocator struct {
	sequence *Sequence
	size     int64
	lock     chan struct{} // capacity 1: a mutex that a context can give up on; it guards left
	left     Range
}

// Next returns the next number. Errors as Sequence.Reserve.
func (a *Allocator) Next(ctx context.Context) (int64, error) {
	select {
	case a.lock <- struct{}{}:
	case <-ctx.Done():
		return 0, cause(ctx)
	}
	defer func() { <-a.lock }()
	if a.left.Count == 0 {
		block, err := a.sequence.Reserve(ctx, a.size)
		if err != nil {
			return 0, err
		}
		a.left = block
	}
	n := a.left.First
	a.left.First++
	a.left.Count--
	return n, nil
}

// Delete deletes the sequence, which gives out its numbers again then, from 1 on, and reports whether it was there.
func (s *Sequence) Delete(ctx context.Context) (bool, error) {
	return s.remove(ctx, coordv1.DeleteObjectRequest_SEQUENCE, s.name)
}
