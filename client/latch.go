package client

import (
	"context"
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// Latch lets who waits go on when it was counted down to zero. It holds no state: any number may exist for one name.
// Safe for concurrent use.
//
// Setting it begins a generation, which is possible while it is at zero: who waits for one generation is not held up by
// the next. Changes are executed exactly once; the error of one that may have been executed wraps ErrOutcomeUnknown. A
// count-down is of no session: who dies before it counts down keeps the others waiting.
type Latch struct {
	object
	generation int64 // 0: whichever there is
}

// Latch returns the latch of that name, written through the client's shared session. A name is not empty and does not
// end in a slash.
func (c *Client) Latch(name string) *Latch {
	return &Latch{object: object{recipe{client: c}, layout.Latch, name}}
}

// Latch returns the latch of that name, written through this session.
func (s *Session) Latch(name string) *Latch {
	return &Latch{object: object{recipe{s.client, s}, layout.Latch, name}}
}

// In returns the latch for one generation: CountDown counts in no other, and Await waits for its end, whatever came
// after it.
func (l *Latch) In(generation int64) *Latch { return &Latch{l.object, generation} }

// Set begins a generation that counts down from count, >= 0, and returns its number. The error wraps ErrLatchState
// while the latch counts.
func (l *Latch) Set(ctx context.Context, count int64) (generation int64, err error) {
	resp := &coordv1.LatchState{}
	if _, err := l.change(ctx, coordv1.Kind_KIND_LATCH_SET, &coordv1.LatchSet{Name: l.name, Count: count},
		resp); err != nil {
		return 0, fmt.Errorf("set latch %q to %d: %w", l.name, count, err)
	}
	return resp.Generation, nil
}

// CountDown takes n, >= 1, off what remains and returns the rest. At zero it has no effect. The error wraps ErrNotSet
// if the latch was never set, and ErrLatchState if it is not in the generation of In.
func (l *Latch) CountDown(ctx context.Context, n int64) (remaining int64, err error) {
	req, resp := &coordv1.LatchCountDown{Name: l.name, Count: n, Generation: l.generation}, &coordv1.LatchState{}
	if _, err := l.change(ctx, coordv1.Kind_KIND_LATCH_COUNT_DOWN, req, resp); err != nil {
		return 0, fmt.Errorf("count down latch %q: %w", l.name, err)
	}
	return resp.Remaining, nil
}

// State returns the latch as it is. The error wraps ErrNotSet if it was never set.
func (l *Latch) State(ctx context.Context) (LatchState, error) {
	kv, rev, err := l.read(ctx)
	if err != nil {
		return LatchState{}, fmt.Errorf("latch %q: %w", l.name, err)
	}
	state, err := objects.Latch(kv)
	if err != nil {
		return LatchState{}, fmt.Errorf("latch %q: %w", l.name, objectError(err))
	}
	return LatchState{state.Generation, state.Count, state.Remaining, rev}, nil
}

// Await returns when the latch is at zero: the generation that there is when it begins, or that of In. At zero it
// returns at once. The error wraps ErrNotSet if the latch was never set, or its key was deleted meanwhile, or the cause
// of ctx.
func (l *Latch) Await(ctx context.Context) error {
	wait := objects.LatchWait{Generation: l.generation}
	if err := l.await(ctx, wait.See); err != nil {
		return fmt.Errorf("await latch %q: %w", l.name, err)
	}
	return nil
}

// Delete deletes the latch, and reports whether it was there. Who waits gets ErrNotSet.
func (l *Latch) Delete(ctx context.Context) (bool, error) {
	return l.remove(ctx, coordv1.DeleteObjectRequest_LATCH, l.name)
}
