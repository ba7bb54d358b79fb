package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Loop is a closed loop: Clients of them, each doing its next operation when the last one was acknowledged.
type Loop struct {
	Clients int
	Op      Op
	// WarmUp passes before the window in which operations are counted.
	WarmUp, Window time.Duration
	// Seed makes the sequence of keys of each client repeatable.
	Seed uint64
	// Edge, when set, is called as the window opens and as it closes.
	Edge func() error
}

// Result is what a loop did in its window.
type Result struct {
	// Window is the measured length.
	Window time.Duration
	// Latency holds one value for each operation acknowledged in the window.
	Latency *Latency
	// Errors counts operations that failed in the window; FirstError is one of them.
	Errors     int
	FirstError error
}

// PerSecond returns the operations acknowledged a second.
func (r Result) PerSecond() float64 { return float64(r.Latency.Count()) / r.Window.Seconds() }

// drainTimeout is how long operations in flight at the end of the window may take.
const drainTimeout = 30 * time.Second

// errorPause keeps clients of a server that refuses everything from spinning.
const errorPause = 10 * time.Millisecond

// Phases of a loop.
const (
	warming int32 = iota
	measuring
	finished
)

// Run runs the loop. Operations that fail are counted in the result; the error is that of ctx or of Edge.
func (l Loop) Run(ctx context.Context) (Result, error) {
	opCtx, cancel := context.WithTimeout(ctx, l.WarmUp+l.Window+drainTimeout)
	defer cancel()
	var phase atomic.Int32
	var wg sync.WaitGroup
	clients := make([]Result, l.Clients)
	for i := range clients {
		wg.Go(func() { clients[i] = l.client(opCtx, i, &phase) })
	}
	window, err := l.schedule(ctx, &phase)
	phase.Store(finished)
	if err != nil {
		cancel()
	}
	wg.Wait()
	return sum(window, clients), err
}

// schedule takes the loop through its phases and returns the measured length of the window.
func (l Loop) schedule(ctx context.Context, phase *atomic.Int32) (time.Duration, error) {
	if err := sleep(ctx, l.WarmUp); err != nil {
		return 0, err
	}
	if err := l.edge(); err != nil {
		return 0, err
	}
	begin := time.Now()
	phase.Store(measuring)
	if err := sleep(ctx, l.Window); err != nil {
		return 0, err
	}
	phase.Store(finished)
	window := time.Since(begin)
	return window, l.edge()
}

func (l Loop) edge() error {
	if l.Edge == nil {
		return nil
	}
	return l.Edge()
}

// client is one closed loop. An operation counts when it was acknowledged inside the window.
func (l Loop) client(ctx context.Context, i int, phase *atomic.Int32) Result {
	res := Result{Latency: NewLatency()}
	r := rand.New(rand.NewPCG(l.Seed, uint64(i)))
	for phase.Load() != finished && ctx.Err() == nil {
		begin := time.Now()
		err := l.Op(ctx, i, r)
		took := time.Since(begin)
		if phase.Load() != measuring {
			continue
		}
		if err == nil {
			res.Latency.Record(took)
			continue
		}
		res.Errors++
		if res.FirstError == nil {
			res.FirstError = err
		}
		_ = sleep(ctx, errorPause)
	}
	return res
}

// sum adds up the results of all clients.
func sum(window time.Duration, clients []Result) Result {
	total := Result{Window: window, Latency: NewLatency()}
	for _, c := range clients {
		total.Latency.Add(c.Latency)
		total.Errors += c.Errors
		if total.FirstError == nil {
			total.FirstError = c.FirstError
		}
	}
	return total
}

// sleep waits for d, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", ctx.Err())
	}
}
