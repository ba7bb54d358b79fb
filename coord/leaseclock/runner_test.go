package leaseclock

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// What a tick left to do is done at once, but not by asking again and again where nothing is accepted.
func TestRunnerKeepsItsIntervalWhileTicksAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		err error
		few bool
	}{
		"refused":  {errors.New("too many requests"), true},
		"accepted": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			clock := New(1, func() time.Duration { return time.Since(began) })
			clock.Applied(&statemachine.Applied{Leases: statemachine.LeaseFacts{Count: 1, MinTTL: 2000, Overdue: true}})
			var asked atomic.Int64
			runner := &Runner{
				Clock: clock, Leads: func() bool { return true }, Patience: time.Second,
				Propose: func(context.Context, raftv1.Kind, []byte) (any, error) {
					asked.Add(1)
					return nil, test.err
				},
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			runner.Run(ctx)
			if n := asked.Load(); n == 0 || (n <= 5) != test.few { // every 200 ms
				t.Errorf("%d ticks were proposed", n)
			}
		})
	}
}
