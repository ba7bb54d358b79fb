package recipesvc

import (
	"context"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// queueServer has what the services of queues, whose entries say who their owner is, have in common.
type queueServer struct {
	service *Service
	kind    coordv1.QueueKind
}

// Release removes entries, each by its token.
func (qs queueServer) Release(ctx context.Context, req *coordv1.Release) (*coordv1.Released, error) {
	return called(ctx, qs.service, recipes.Release, req, &coordv1.Released{})
}

// CheckToken says whether an entry, in a queue of whatever kind, holds or waits.
func (qs queueServer) CheckToken(
	ctx context.Context, req *coordv1.CheckTokenRequest,
) (*coordv1.CheckTokenResponse, error) {
	return read(ctx, qs.service, req, qs.service.reads.CheckToken)
}

// Describe shows who holds and who waits; in a queue of the kind that the request says, if it says one.
func (qs queueServer) Describe(ctx context.Context, req *coordv1.DescribeRequest) (*coordv1.DescribeResponse, error) {
	describe := func(
		ctx context.Context, view mirror.View, req *coordv1.DescribeRequest,
	) (*coordv1.DescribeResponse, error) {
		return qs.service.reads.describe(ctx, view, qs.kind, req)
	}
	return read(ctx, qs.service, req, describe)
}
