package leaseclock

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Runner proposes ticks while this member leads and leases exist. A cluster without leases writes nothing.
type Runner struct {
	Clock *Clock
	// Leads reports whether this member is the leader, as far as it knows. A stale answer does no harm: two ticks of
	// one number do not both apply.
	Leads func() bool
	// Propose sends a command through the log and waits for its result.
	Propose func(ctx context.Context, kind raftv1.Kind, body []byte) (any, error)
	// Patience bounds the wait for one tick's result; then the next is measured.
	Patience time.Duration
}

// Run proposes ticks until ctx ends.
func (r *Runner) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.Clock.sooner:
		}
		began := time.Now()
		facts := r.Clock.Facts()
		ticked := facts.Count > 0 && r.Leads() && r.tick(ctx)
		facts = r.Clock.Facts()
		wait := Interval(facts.MinTTL)
		if facts.Count == 0 {
			wait = MaxInterval
		}
		if facts.Overdue && ticked {
			wait = 0 // the last tick left some of its work
		}
		timer.Reset(max(wait-time.Since(began), 0))
	}
}

// tick reports whether the tick went through the log.
func (r *Runner) tick(ctx context.Context) bool {
	body, err := proto.Marshal(r.Clock.Measure())
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	// A tick that fails is followed by the next one, which accounts for its time too.
	_, err = r.Propose(ctx, raftv1.KindTick, body)
	return err == nil
}

var _ statemachine.Observer = (*Clock)(nil)
