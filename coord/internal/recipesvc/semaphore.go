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
	return semaphoreServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_SEMAPHORE, recipes.SemaphoreAcquire}}
}

func (ss semaphoreServer) Acquire(
	req *coordv1.SemaphoreAcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	a, err := ss.acquisition(req, req.WaitMs, req.GraceMs)
	if err != nil {
		return wireError(err)
	}
	a.ResumeToken, a.Permits, a.Limit = req.ResumeToken, req.Permits, req.Limit
	return wireError(ss.service.acquire(stream.Context(), a, acquireStream{stream}, true))
}

func (ss semaphoreServer) TryAcquire(
	ctx context.Context, req *coordv1.SemaphoreTryAcquireRequest,
) (*coordv1.TryAcquireResponse, error) {
	a, err := ss.acquisition(req, req.WaitMs, 0)
	if err != nil {
		return nil, wireError(err)
	}
	a.Permits, a.Limit = req.Permits, req.Limit
	return ss.service.try(ctx, a)
}

func (ss semaphoreServer) Resize(ctx context.Context, req *coordv1.SemaphoreResize) (*coordv1.SemaphoreResized, error) {
	resp := &coordv1.SemaphoreResized{}
	if _, err := ss.service.call(ctx, recipes.Resize, req, resp); err != nil {
		return nil, wireError(err)
	}
	return resp, nil
}
