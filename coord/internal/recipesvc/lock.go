package recipesvc

import (
	"context"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// lockServer implements coordv1.LockServer; see the proto for the contract of each method.
type lockServer struct {
	coordv1.UnsafeLockServer
	queueServer
}

func (s *Service) lockServer() lockServer {
	return lockServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_LOCK}}
}

func (ls lockServer) Acquire(
	req *coordv1.AcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	return ls.service.acquire(ls.acquisition(req, false), stream)
}

func (ls lockServer) TryAcquire(
	ctx context.Context, req *coordv1.AcquireRequest,
) (*coordv1.TryAcquireResponse, error) {
	return ls.service.try(ctx, ls.acquisition(req, req.WaitMs == 0))
}

func (ls lockServer) acquisition(req *coordv1.AcquireRequest, try bool) *acquisition {
	return &acquisition{req, ls.kind, recipes.Acquire, &coordv1.Acquire{
		Names: []string{req.Name}, OwnerId: req.OwnerId, Owner: req.Owner, Labels: req.Labels, Try: try,
		Lease: req.Lease, ResumeToken: req.ResumeToken,
	}}
}
