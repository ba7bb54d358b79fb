package recipesvc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/principal"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

const maxGrace = time.Minute

// Pause between two attempts to remove an entry whose fate is unknown.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// acquirer is what goes into the log: the request of a session for one entry, with the lease of the caller.
type acquirer interface {
	proto.Message
	GetLease() int64
	GetOwnerId() string
	GetResumeToken() int64
}

// waiter is what a call asks for beside it, whatever the kind.
type waiter interface {
	GetName() string
	GetWaitMs() int64
	GetGraceMs() int64
}

// acquisition is what a call wants of one queue: an entry that holds, now or after having waited.
type acquisition struct {
	waiter
	kind      coordv1.QueueKind
	procedure string
	request   acquirer
}

func (a *acquisition) queue() string { return layout.QueueOf(a.kind, a.GetName()) }

// wait is for how long it waits; 0: for ever.
func (a *acquisition) wait() time.Duration {
	return time.Duration(min(a.GetWaitMs(), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// check checks what the procedure does not.
func (a *acquisition) check() error {
	switch wait, grace := a.GetWaitMs(), a.GetGraceMs(); {
	case wait < 0:
		return fmt.Errorf("%w: wait_ms %d is negative", statemachine.ErrInvalid, wait)
	case grace < 0 || grace > maxGrace.Milliseconds():
		return fmt.Errorf("%w: grace_ms %d is not between 0 and %d", statemachine.ErrInvalid, grace,
			maxGrace.Milliseconds())
	}
	return nil
}

// made is the entry that an acquisition made, or took over.
type made struct {
	*coordv1.AcquiredEntry
	claim statemachine.Revision
}

// madeOf is the answer to a request for one entry. Without an entry its state is NONE.
func madeOf(resp *coordv1.Acquired) (made, error) {
	if len(resp.Entries) != 1 {
		return made{}, fmt.Errorf("%d entries instead of one", len(resp.Entries))
	}
	return made{resp.Entries[0], resp.Revision}, nil
}

// enqueue proposes the entry. The proposal is not cut short when the client goes: its entry would stay behind.
// Instead it goes on in the background, and then the entry is given up.
func (s *Service) enqueue(ctx context.Context, a *acquisition) (made, error) {
	type answer struct {
		made
		err error
	}
	answers := make(chan answer) // unbuffered: either the request takes the answer, or the background does
	started := s.start(func() {
		resp := &coordv1.Acquired{}
		err := s.call(principal.For(s.ctx, ctx), a.procedure, a.request, resp)
		var e made
		if err == nil {
			e, err = madeOf(resp)
		}
		select {
		case answers <- answer{e, err}:
		case <-ctx.Done():
			if err == nil && e.State != coordv1.AcquiredEntry_NONE {
				s.giveUp(a, e)
			}
		}
	})
	if !started {
		return made{}, errStopped
	}
	select {
	case a := <-answers:
		if a.err != nil && s.ctx.Err() != nil {
			return made{}, errStopped // cut short by Close, not by the client
		}
		return a.made, a.err
	case <-ctx.Done():
		return made{}, ctx.Err()
	}
}

// giveUp removes, after its grace, the entry of an acquisition whose client has gone. It returns at once.
func (s *Service) giveUp(a *acquisition, e made) {
	s.start(func() {
		if sleep(s.ctx, time.Duration(a.GetGraceMs())*time.Millisecond) {
			_, _, _ = s.remove(s.ctx, e)
		}
	})
}

// remove removes the entry by token and claim, again and again until the outcome is known or ctx ends. removed is false
// if it was gone. ErrSuperseded if a later request has taken it over.
func (s *Service) remove(ctx context.Context, e made) (removed bool, rev statemachine.Revision, err error) {
	req := &coordv1.Release{
		Entries: []*coordv1.Guard{{Name: e.Name, Key: e.Key, Token: e.Token}}, Claim: e.claim,
	}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		resp := &coordv1.Released{}
		err := s.call(ctx, recipes.Release, req, resp)
		switch {
		case err == nil:
			return resp.Removed > 0, resp.Revision, nil
		case errors.Is(err, recipes.ErrSuperseded):
			return false, 0, err
		case refusal.Is(err) && !transient(err):
			s.backend.Logger.Error("remove the entry of a request", zap.String("key", e.Key),
				zap.Int64("token", e.Token), zap.Error(err))
			return false, 0, err
		case !sleep(ctx, pause):
			return false, 0, ctx.Err()
		}
	}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
