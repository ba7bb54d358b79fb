package driver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// Permits is how many the semaphore has that all callers share.
const Permits = 64

// Shared is what callers do with something that all of them want at once.
type Shared interface {
	// Count adds one to a counter.
	Count(ctx context.Context, caller int) error
	// Permit takes one of Permits permits and gives it back.
	Permit(ctx context.Context, caller int) error
	// Party returns one of so many parties of the barrier of that name. The name is used once.
	Party(ctx context.Context, name string, parties int) (Party, error)
}

// Party is one party of a barrier. Enter waits until all have entered, Leave until all have left. Not safe for
// concurrent use.
type Party interface {
	Enter(ctx context.Context) error
	Leave(ctx context.Context) error
}

// Names of what all callers share.
const (
	sharedCounter = "shared-counter"
	sharedPermits = "shared-permits"
)

// register is a number that many change by compare and swap: what a counter and a semaphore are where the server has
// none.
type register interface {
	// read returns the number, and the version to swap with.
	read(ctx context.Context) (n int, version int64, err error)
	// swap replaces the number if the version is still that one.
	swap(ctx context.Context, n int, version int64) (swapped bool, err error)
}

// change adds delta to a register, as soon as the sum is not above limit. Who fails pauses for a random while, longer
// each time: without that, hundreds of callers get through a few times a second.
func change(ctx context.Context, r register, delta, limit int) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		n, version, err := r.read(ctx)
		if err != nil {
			return err
		}
		if n+delta <= limit {
			if swapped, err := r.swap(ctx, n+delta, version); swapped || err != nil {
				return err
			}
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Pauses of a caller whose swap failed.
const (
	minPause = time.Millisecond
	maxPause = 250 * time.Millisecond
)

// noLimit is that of a counter.
const noLimit = int(^uint(0) >> 1)

// permit takes a permit from a register and gives it back.
func permit(ctx context.Context, r register) error {
	if err := change(ctx, r, 1, Permits); err != nil {
		return err
	}
	return change(ctx, r, -1, noLimit)
}

func parseNumber(value []byte) (int, error) {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return 0, fmt.Errorf("what all share is not a number: %w", err)
	}
	return n, nil
}
