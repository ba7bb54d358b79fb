package recipesvc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// barrierServer implements coordv1.BarrierServer; see the proto for the contract of each method.
type barrierServer struct {
	coordv1.UnsafeBarrierServer
	queueServer
}

func (s *Service) barrierServer() barrierServer {
	return barrierServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_BARRIER, recipes.BarrierEnter}}
}

func (bs barrierServer) Enter(
	req *coordv1.BarrierEnterRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	a, err := bs.acquisition(req, req.WaitMs, req.GraceMs)
	if err != nil {
		return wireError(err)
	}
	a.ResumeToken, a.Parties = req.ResumeToken, req.Parties
	return wireError(bs.service.acquire(stream.Context(), a, acquireStream{stream}, true))
}

func (bs barrierServer) Leave(
	ctx context.Context, req *coordv1.BarrierLeaveRequest,
) (*coordv1.BarrierLeaveResponse, error) {
	rev, err := bs.service.leave(ctx, req)
	if err != nil {
		return nil, wireError(err)
	}
	return &coordv1.BarrierLeaveResponse{Revision: rev}, nil
}

// leave removes a party's entry and waits until the generation that has its token is over. That shows in who is inside:
// nobody, or somebody with a greater token than that generation has.
func (s *Service) leave(ctx context.Context, req *coordv1.BarrierLeaveRequest) (statemachine.Revision, error) {
	queue, rev, err := s.currentQueue(ctx, coordv1.QueueKind_QUEUE_BARRIER, req.Name)
	if err != nil {
		return 0, err
	}
	if _, inside := queue.Granted(req.Key); !inside {
		if e, ok := queue.Entry(req.Key); ok && e.Token == req.Token {
			return 0, fmt.Errorf("%w: %q waits", recipes.ErrNotHolder, req.Key)
		}
	}
	remove := &recipesv1.Remove{Name: req.Name, Key: req.Key, Token: req.Token}
	if _, err := s.call(ctx, recipes.LockRelease, remove, &recipesv1.Removed{}); err != nil {
		return 0, err
	}
	state := recipes.BarrierState(queue.Record())
	if !state.Open || req.Token < state.First || req.Token > state.Last {
		return rev, nil
	}
	return s.untilOver(ctx, queue.Queue, state.Last, rev)
}

// untilOver waits until nobody with a token up to last is inside, which somebody was at rev. It returns the revision of
// that.
func (s *Service) untilOver(
	ctx context.Context, queue string, last int64, rev statemachine.Revision,
) (statemachine.Revision, error) {
	o := s.backend.Mirrors.Observe(queue)
	defer o.Close()
	for {
		select {
		case <-o.Wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-s.ctx.Done():
			return 0, errStopped
		}
		events, err := o.Take()
		if err != nil {
			return 0, err
		}
		for _, ev := range events {
			if ev.Revision > rev && (ev.Leader == nil || ev.Leader.Token > last) {
				return ev.Revision, nil
			}
		}
	}
}
