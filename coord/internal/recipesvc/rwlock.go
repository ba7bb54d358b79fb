package recipesvc

import (
	"context"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// rwLockServer implements coordv1.RWLockServer; see the proto for the contract of each method.
type rwLockServer struct {
	coordv1.UnsafeRWLockServer
	queueServer
}

func (s *Service) rwLockServer() rwLockServer {
	return rwLockServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_RWLOCK, recipes.RWLockAcquire}}
}

func (rs rwLockServer) Acquire(
	req *coordv1.RWAcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	a, err := rs.acquisition(req, req.WaitMs, req.GraceMs)
	if err != nil {
		return wireError(err)
	}
	a.ResumeToken, a.Write = req.ResumeToken, req.Write
	return wireError(rs.service.acquire(stream.Context(), a, acquireStream{stream}, true))
}

func (rs rwLockServer) TryAcquire(
	ctx context.Context, req *coordv1.RWTryAcquireRequest,
) (*coordv1.TryAcquireResponse, error) {
	a, err := rs.acquisition(req, req.WaitMs, 0)
	if err != nil {
		return nil, wireError(err)
	}
	a.Write = req.Write
	return rs.service.try(ctx, a)
}

func (rs rwLockServer) Downgrade(ctx context.Context, req *coordv1.RWDowngrade) (*coordv1.RWDowngraded, error) {
	resp := &coordv1.RWDowngraded{}
	if _, err := rs.service.call(ctx, recipes.RWDowngrade, req, resp); err != nil {
		return nil, wireError(err)
	}
	return resp, nil
}
