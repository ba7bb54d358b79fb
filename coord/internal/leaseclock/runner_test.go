package leaseclock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// What a tick left to do is done at once, but not by asking again and again where nothing is accepted.
func TestRunnerKeepsItsIntervalWhileTicksAreRefused(t *testing.T) {
	for name, accepted := range map[string]bool{"refused": false, "accepted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				began := time.Now()
				clock := New(1, func() time.Duration { return time.Since(began) })
				clock.Applied(&statemachine.Applied{
					Leases: statemachine.LeaseFacts{Count: 1, MinTTL: 2000, Overdue: true},
				})
				asked := 0
				runner := &Runner{
					Clock: clock, Leads: func() bool { return true }, Patience: time.Second,
					Propose: func(context.Context, raftv1.Kind, []byte) (any, error) {
						if asked++; !accepted {
							return nil, errors.New("too many requests")
						}
						if asked == 10 {
							cancel()
						}
						return nil, nil
					},
				}
				runner.Run(ctx)
				if took := time.Since(began); accepted && (asked < 10 || took > 0) {
					t.Errorf("%d ticks were proposed in %v", asked, took)
				} else if !accepted && (asked == 0 || asked > 5) { // every 200 ms
					t.Errorf("%d ticks were proposed in %v", asked, took)
				}
			})
		})
	}
}
