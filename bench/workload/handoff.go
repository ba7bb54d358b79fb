package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coord-dev/coord/bench/driver"
)

// Handoff measures how long a lock that many want takes from one holder to the next: from the moment the holder begins
// to release it until the next one knows that it holds. With enough contenders somebody waits at any time.
type Handoff struct {
	contenders []driver.Locker
	held       atomic.Bool // by somebody, as far as we know
	mu         struct {
		sync.Mutex
		released time.Time // zero while nobody has released
		latency  *Latency
		counts   bool
	}
}

// NewHandoff returns a measurement of one lock, whose contenders these are.
func NewHandoff(contenders []driver.Locker) *Handoff {
	h := &Handoff{contenders: contenders}
	h.mu.latency = NewLatency()
	return h
}

// Op takes the lock and releases it at once, as the contender of the client's number.
func (h *Handoff) Op(ctx context.Context, client int, _ *rand.Rand) error {
	c := h.contenders[client]
	if err := c.Lock(ctx); err != nil {
		return err
	}
	alone := h.held.CompareAndSwap(false, true)
	h.granted(time.Now())
	if alone {
		h.held.Store(false)
	}
	err := c.Unlock(ctx)
	if !alone {
		return errors.Join(errors.New("two contenders hold the lock"), err)
	}
	return err
}

// granted is called by the holder, which is about to release.
func (h *Handoff) granted(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.counts && !h.mu.released.IsZero() {
		h.mu.latency.Record(now.Sub(h.mu.released))
	}
	h.mu.released = now
}

// Toggle begins to count hand-offs, or ends it: it is for both edges of a window.
func (h *Handoff) Toggle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.counts = !h.mu.counts
}

// Latency returns what was counted. It is not to be called before the contenders have stopped.
func (h *Handoff) Latency() *Latency { return h.mu.latency }
