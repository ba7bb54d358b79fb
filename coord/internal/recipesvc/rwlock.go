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
	return rwLockServer{queueServer: queueServer{s, coordv1.QueueKind_QUEUE_RWLOCK}}
}

func (rs rwLockServer) Acquire(
	req *coordv1.RWAcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	return rs.service.acquire(rs.acquisition(req, false), stream)
}

func (rs rwLockServer) TryAcquire(
	ctx context.Context, req *coordv1.RWAcquireRequest,
) (*coordv1.TryAcquireResponse, error) {
	return rs.service.try(ctx, rs.acquisition(req, req.WaitMs == 0))
}

func (rs rwLockServer) acquisition(req *coordv1.RWAcquireRequest, try bool) *acquisition {
	return &acquisition{req, rs.kind, recipes.RWAcquire, &coordv1.RWAcquire{
		Name: req.Name, OwnerId: req.OwnerId, Owner: req.Owner, Labels: req.Labels, Try: try, Write: req.Write,
		Lease: req.Lease, ResumeToken: req.ResumeToken,
	}}
}

func (rs rwLockServer) Downgrade(ctx context.Context, req *coordv1.RWDowngrade) (*coordv1.RWDowngraded, error) {
	return called(ctx, rs.service, recipes.RWDowngrade, req, &coordv1.RWDowngraded{})
}
