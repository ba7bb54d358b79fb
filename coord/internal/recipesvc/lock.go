package recipesvc

import (
	"context"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// lockServer implements coordv1.LockServer; see the proto for the contract of each method.
type lockServer struct {
	coordv1.UnsafeLockServer
	queueServer
}

func (s *Service) lockServer() lockServer {
	return lockServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_LOCK, recipes.LockAcquire}}
}

func (ls lockServer) Acquire(
	req *coordv1.AcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	a, err := ls.acquisition(req, req.WaitMs, req.GraceMs)
	if err != nil {
		return wireError(err)
	}
	a.ResumeToken = req.ResumeToken
	return wireError(ls.service.acquire(stream.Context(), a, acquireStream{stream}, true))
}

func (ls lockServer) TryAcquire(
	ctx context.Context, req *coordv1.TryAcquireRequest,
) (*coordv1.TryAcquireResponse, error) {
	a, err := ls.acquisition(req, req.WaitMs, 0)
	if err != nil {
		return nil, wireError(err)
	}
	return ls.service.try(ctx, a)
}

// acquireStream is the listener of Acquire.
type acquireStream struct {
	stream grpc.ServerStreamingServer[coordv1.AcquireEvent]
}

func (a acquireStream) queued(ev *coordv1.Queued) error {
	ev.Holder = recipes.WithIdentity(ev.Holder)
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Queued{Queued: ev}})
}

func (a acquireStream) granted(ev *coordv1.Granted) error {
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Granted{Granted: ev}})
}

func (a acquireStream) notAcquired(ev *coordv1.NotAcquired) error {
	ev.Holder = recipes.WithIdentity(ev.Holder)
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_NotAcquired{NotAcquired: ev}})
}

func (a acquireStream) lost(ev *coordv1.Lost) error {
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Lost{Lost: ev}})
}

// tryAnswer is the listener of TryAcquire.
type tryAnswer struct {
	resp *coordv1.TryAcquireResponse
}

func (a tryAnswer) queued(*coordv1.Queued) error { return nil }

func (a tryAnswer) granted(ev *coordv1.Granted) error {
	a.resp.Granted = ev
	return nil
}

func (a tryAnswer) notAcquired(ev *coordv1.NotAcquired) error {
	ev.Holder = recipes.WithIdentity(ev.Holder)
	a.resp.NotAcquired = ev
	return nil
}

// lost: a waiter that was removed by somebody else did not acquire; one whose session died is told so.
func (a tryAnswer) lost(ev *coordv1.Lost) error {
	if ev.Reason == coordv1.Lost_REASON_SESSION_ENDED {
		return statemachine.ErrLeaseNotFound
	}
	a.resp.NotAcquired = &coordv1.NotAcquired{Revision: ev.Revision}
	return nil
}
