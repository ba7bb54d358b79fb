package recipesvc

import (
	"context"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// semaphoreServer implements coordv1.SemaphoreServer; see the proto for the contract of each method.
type semaphoreServer struct {
	coordv1.UnsafeSemaphoreServer
	queueServer
}

func (s *Service) semaphoreServer() semaphoreServer {
	return semaphoreServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_SEMAPHORE}}
}

func (ss semaphoreServer) Acquire(
	req *coordv1.SemaphoreAcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	return ss.service.acquire(ss.acquisition(req, false), stream)
}

func (ss semaphoreServer) TryAcquire(
	ctx context.Context, req *coordv1.SemaphoreAcquireRequest,
) (*coordv1.TryAcquireResponse, error) {
	return ss.service.try(ctx, ss.acquisition(req, req.WaitMs == 0))
}

func (ss semaphoreServer) acquisition(req *coordv1.SemaphoreAcquireRequest, try bool) *acquisition {
	return &acquisition{req, ss.kind, recipes.SemaphoreAcquire, &coordv1.SemaphoreAcquire{
		Name: req.Name, OwnerId: req.OwnerId, Owner: req.Owner, Labels: req.Labels, Try: try, Permits: req.Permits,
		Limit: req.Limit, Lease: req.Lease, ResumeToken: req.ResumeToken,
	}}
}

func (ss semaphoreServer) Resize(ctx context.Context, req *coordv1.SemaphoreResize) (*coordv1.SemaphoreResized, error) {
	return called(ctx, ss.service, recipes.Resize, req, &coordv1.SemaphoreResized{})
}
