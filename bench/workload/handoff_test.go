package workload

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coord-dev/coord/bench/driver"
)

// fakeLock is one of several contenders for mu, which takes a while to be handed on.
type fakeLock struct {
	mu   *sync.Mutex
	hand time.Duration
}

func (l fakeLock) Lock(context.Context) error {
	l.mu.Lock()
	time.Sleep(l.hand)
	return nil
}

func (l fakeLock) Unlock(context.Context) error {
	l.mu.Unlock()
	return nil
}

func TestHandoffIsFromReleaseToGrant(t *testing.T) {
	const hand = 5 * time.Millisecond
	var mu sync.Mutex
	h := NewHandoff([]driver.Locker{fakeLock{&mu, hand}, fakeLock{&mu, hand}, fakeLock{&mu, hand}})
	res, err := Loop{
		Clients: 3, Op: h.Op, WarmUp: 100 * time.Millisecond, Window: 300 * time.Millisecond,
		Edge: func() error { h.Toggle(); return nil },
	}.Run(context.Background())
	if err != nil || res.Errors > 0 {
		t.Fatalf("%v, %d errors: %v", err, res.Errors, res.FirstError)
	}
	got := h.Latency()
	if p50 := got.Quantile(50); p50 < hand*99/100 || p50 > 20*hand {
		t.Errorf("p50 is %s for a lock that takes %s from hand to hand", p50, hand)
	}
	if most := int64(res.Window/hand) + 1; got.Count() == 0 || got.Count() > most {
		t.Errorf("%d hand-offs of %s counted in %s", got.Count(), hand, res.Window)
	}
	// A contender waits for all others, which is not what is measured.
	if p50 := res.Latency.Quantile(50); p50 < 2*hand {
		t.Errorf("contenders waited %s only: nobody contended", p50)
	}
}

func TestTwoHoldersAreAnError(t *testing.T) {
	var mu sync.Mutex
	h := NewHandoff([]driver.Locker{fakeLock{&mu, 0}})
	h.held.Store(true) // somebody else, who holds
	if err := h.Op(context.Background(), 0, nil); err == nil || !strings.Contains(err.Error(), "two contenders") {
		t.Errorf("error %v", err)
	}
	mu.Lock() // the lock was given back
}
