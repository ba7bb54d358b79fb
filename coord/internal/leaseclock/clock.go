// Package leaseclock turns the time that passes into ticks of the log.
//
// Lease time is log time and passes only while a quorum serves. The leader proposes Tick{number, nonce, delta, seen}
// every interval while leases exist; the state machine applies it only if it is the next one. Every member keeps ref,
// the instant up to which the log's clock accounts for the member's own time: the instant it measured the last applied
// tick, if it proposed that one, else the instant it applied it. A tick's delta is what passed since ref, at most cap:
// whatever is beyond it is dropped, because the process stood still, and nobody could renew.
//
// No step can be left out. Without the number, a delayed tick of an old leader counts time twice. Without seen, a
// renewal that was on its way while the tick was measured gets a deadline that begins before it. Without ref at apply,
// a new leader counts from its own last tick, long ago. Each of these was tried in simulation and expired leases early.
package leaseclock

import (
	"sync"
	"time"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Bounds of the interval between ticks.
const (
	MinInterval = 20 * time.Millisecond
	MaxInterval = 500 * time.Millisecond
)

// Interval is the time between ticks for a smallest TTL in milliseconds: a tenth of it, within the bounds.
func Interval(minTTL int64) time.Duration {
	return min(max(time.Duration(minTTL)*time.Millisecond/10, MinInterval), MaxInterval)
}

// Clock measures. It is safe for concurrent use.
type Clock struct {
	now func() time.Duration // monotonic, from any origin
	// sooner is signalled when the next tick may be due earlier than it was: a first lease, a shorter TTL.
	sooner chan struct{}

	mu struct {
		sync.Mutex
		ref time.Duration
		// measured holds, for the nonces of ticks proposed here and not yet applied or passed over, the ref they set.
		measured map[uint64]time.Duration
		nonce    uint64 // the next one
		applied  uint64 // applied index
		facts    statemachine.LeaseFacts
	}
}

// New returns a clock that accounts for time from now on. Nonces count up from nonce, which must differ between members
// and between starts of a member so widely that no two ever meet: a random number will do. now is monotonic time.
func New(nonce uint64, now func() time.Duration) *Clock {
	c := &Clock{now: now, sooner: make(chan struct{}, 1)}
	c.mu.measured = make(map[uint64]time.Duration)
	c.mu.nonce = nonce
	c.mu.ref = now()
	return c
}

// Applied takes note of a batch that was applied. It is called from the apply, in order.
func (c *Clock) Applied(a *statemachine.Applied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(a)
	for _, t := range a.Ticks {
		if ref, own := c.mu.measured[t.Nonce]; own {
			c.mu.ref = ref
		} else {
			c.mu.ref = c.now()
		}
		clear(c.mu.measured) // every other one was for this number or an earlier one: it will be refused
	}
}

func (c *Clock) note(a *statemachine.Applied) {
	before := c.mu.facts
	c.mu.applied, c.mu.facts = a.Index, a.Leases
	if a.Leases.Count > 0 && (before.Count == 0 || a.Leases.MinTTL < before.MinTTL) {
		select {
		case c.sooner <- struct{}{}:
		default:
		}
	}
}

// Recovered takes note of a state that a snapshot brought. Ticks passed that this member never saw.
func (c *Clock) Recovered(a *statemachine.Applied, _ func(uint64) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(a)
	c.mu.ref = c.now()
	clear(c.mu.measured)
}

// Facts are the lease facts of the last batch.
func (c *Clock) Facts() statemachine.LeaseFacts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.facts
}

// Measure returns the next tick to propose. Each call makes a tick of its own; at most one of those with the same
// number will apply.
func (c *Clock) Measure() *raftv1.Tick {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.mu.applied // before the clock: what is granted or renewed later gets its whole TTL from a later tick
	now := c.now()
	limit := 2 * Interval(c.mu.facts.MinTTL)
	elapsed, ref := now-c.mu.ref, now
	if elapsed <= limit {
		// Keep the remainder below a millisecond, so that it is not lost tick after tick.
		ref = c.mu.ref + elapsed.Truncate(time.Millisecond)
	}
	c.mu.nonce++
	c.mu.measured[c.mu.nonce] = ref
	return &raftv1.Tick{
		Number:  c.mu.facts.LastTick + 1,
		Nonce:   c.mu.nonce,
		DeltaMs: min(max(elapsed, 0), limit).Milliseconds(),
		Seen:    seen,
	}
}

// Remaining is how long the lease will live if nobody renews it, in milliseconds, as far as this member can know: <= 0
// for one that is overdue.
func (c *Clock) Remaining(l statemachine.LeaseInfo, clockMS int64) int64 {
	if l.Pending {
		return l.TTL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := min(max(c.now()-c.mu.ref, 0), 2*Interval(c.mu.facts.MinTTL))
	return l.DeadlineMS - clockMS - passed.Milliseconds()
}
