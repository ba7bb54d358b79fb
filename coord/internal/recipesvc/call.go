package recipesvc

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// Pause between two attempts to remove an entry whose fate is unknown.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// grows are the procedures for which there must be space.
var grows = func() map[string]bool {
	grow := map[string]bool{}
	for _, p := range recipes.Procedures() {
		grow[p.Name()] = recipes.Grows(p)
	}
	return grow
}()

// Propose replicates a command, see Backend.
type Propose func(ctx context.Context, kind raftv1.Kind, body []byte) (any, error)

// call runs a procedure, unless it writes something new and there is no space for it.
func (s *Service) call(ctx context.Context, procedure string, req, resp proto.Message) (statemachine.Revision, error) {
	if grows[procedure] && !s.backend.Fits(proto.Size(req)) {
		return 0, statemachine.ErrNoSpace
	}
	return s.backend.Propose.Call(ctx, procedure, req, resp)
}

// Call runs a procedure outside of sessions and returns the store's revision after it. An error is a refusal, or leaves
// the outcome open.
func (propose Propose) Call(
	ctx context.Context, procedure string, req, resp proto.Message,
) (statemachine.Revision, error) {
	request, err := proto.Marshal(req)
	if err != nil {
		return 0, fmt.Errorf("encode request of %s: %w", procedure, err)
	}
	body, err := proto.Marshal(&raftv1.Call{Procedure: procedure, Request: request})
	if err != nil {
		return 0, fmt.Errorf("encode call of %s: %w", procedure, err)
	}
	result, err := propose(ctx, raftv1.KindCall, body)
	if err != nil {
		return 0, err
	}
	called, ok := result.(statemachine.Called)
	if !ok {
		return 0, fmt.Errorf("%s was answered by %T", procedure, result)
	}
	if err := proto.Unmarshal(called.Response, resp); err != nil {
		return 0, fmt.Errorf("decode response of %s: %w", procedure, err)
	}
	return called.Revision, nil
}

// enqueued is what became of an enqueue.
type enqueued struct {
	*recipesv1.Enqueued
	revision statemachine.Revision
}

// enqueue proposes the entry. The proposal is not cut short when the client goes: its entry would stay behind.
// Instead it goes on in the background, and then the entry is given up.
func (s *Service) enqueue(ctx context.Context, a *acquisition) (enqueued, error) {
	type answer struct {
		enqueued
		err error
	}
	answers := make(chan answer) // unbuffered: either the request takes the answer, or the background does
	started := s.start(func() {
		resp := &recipesv1.Enqueued{}
		rev, err := s.call(principal.For(s.ctx, ctx), a.enqueueBy, &a.Enqueue, resp)
		select {
		case answers <- answer{enqueued{resp, rev}, err}:
		case <-ctx.Done():
			if err == nil && resp.Token != 0 {
				s.giveUp(a, resp)
			}
		}
	})
	if !started {
		return enqueued{}, errStopped
	}
	select {
	case a := <-answers:
		if a.err != nil && s.ctx.Err() != nil {
			return enqueued{}, errStopped // cut short by Close, not by the client
		}
		return a.enqueued, a.err
	case <-ctx.Done():
		return enqueued{}, ctx.Err()
	}
}

// giveUp removes, after its grace, the entry of an acquisition whose client has gone. It returns at once.
func (s *Service) giveUp(a *acquisition, e *recipesv1.Enqueued) {
	s.start(func() {
		if sleep(s.ctx, a.grace) {
			_, _, _ = s.remove(s.ctx, a, e)
		}
	})
}

// remove removes the entry by token and claim, again and again until the outcome is known or ctx ends.
func (s *Service) remove(
	ctx context.Context, a *acquisition, e *recipesv1.Enqueued,
) (recipesv1.Removed_Outcome, statemachine.Revision, error) {
	req := &recipesv1.Remove{Name: a.Name, Key: e.Key, Token: e.Token, Claim: e.Claim}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		resp := &recipesv1.Removed{}
		rev, err := s.call(ctx, a.removeBy, req, resp)
		if err == nil {
			return resp.Outcome, rev, nil
		}
		if refused(err) && !transient(err) {
			s.backend.Logger.Error("remove the entry of a request", zap.String("key", e.Key),
				zap.Int64("token", e.Token), zap.Error(err))
			return 0, 0, err
		}
		if !sleep(ctx, pause) {
			return 0, 0, ctx.Err()
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
