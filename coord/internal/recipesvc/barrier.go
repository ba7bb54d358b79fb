package recipesvc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// barrierServer implements coordv1.BarrierServer; see the proto for the contract of each method.
type barrierServer struct {
	coordv1.UnsafeBarrierServer
	queueServer
}

func (s *Service) barrierServer() barrierServer {
	return barrierServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_BARRIER}}
}

func (bs barrierServer) Enter(
	req *coordv1.BarrierEnterRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	return bs.service.acquire(&acquisition{req, bs.kind, recipes.BarrierEnter, &coordv1.BarrierEnter{
		Name: req.Name, OwnerId: req.OwnerId, Owner: req.Owner, Labels: req.Labels, Parties: req.Parties,
		Lease: req.Lease, ResumeToken: req.ResumeToken,
	}}, stream)
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
	view, err := s.current(ctx)
	if err != nil {
		return 0, err
	}
	queue, err := readQueue(ctx, view, coordv1.QueueKind_QUEUE_BARRIER, req.Name)
	rev := view.Revision()
	view.Close()
	if err != nil {
		return 0, err
	}
	if _, inside := queue.Granted(req.Key); !inside {
		if e, ok := queue.Entry(req.Key); ok && e.Token == req.Token {
			return 0, statemachine.NewRefusal(coordv1.Error_REASON_NOT_HOLDER,
				fmt.Sprintf("%v: %q waits", recipes.ErrNotHolder, req.Key))
		}
	}
	release := &coordv1.Release{Entries: []*coordv1.Guard{{Name: req.Name, Key: req.Key, Token: req.Token}}}
	if err := s.call(ctx, recipes.Release, release, &coordv1.Released{}); err != nil {
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
