package recipesvc

import (
	"context"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
)

// electionServer implements coordv1.ElectionServer; see the proto for the contract of each method.
type electionServer struct {
	coordv1.UnimplementedElectionServer
	service *Service
}

func (es electionServer) Campaign(
	req *coordv1.CampaignRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent],
) error {
	return es.service.acquire(&acquisition{req, coordv1.QueueKind_QUEUE_ELECTION, recipes.Campaign, &coordv1.Campaign{
		Name: req.Name, OwnerId: req.OwnerId, Value: req.Value, Lease: req.Lease, ResumeToken: req.ResumeToken,
	}}, stream)
}

func (es electionServer) Proclaim(ctx context.Context, req *coordv1.Proclaim) (*coordv1.Proclaimed, error) {
	return called(ctx, es.service, recipes.Proclaim, req, &coordv1.Proclaimed{})
}

func (es electionServer) Resign(ctx context.Context, req *coordv1.Release) (*coordv1.Released, error) {
	return called(ctx, es.service, recipes.Release, req, &coordv1.Released{})
}

func (es electionServer) Leader(ctx context.Context, req *coordv1.LeaderRequest) (*coordv1.LeaderResponse, error) {
	return read(ctx, es.service, req, es.service.reads.Leader)
}

func (es electionServer) Observe(
	req *coordv1.ObserveRequest, stream grpc.ServerStreamingServer[coordv1.ObserveEvent],
) error {
	return wireError(es.service.observe(stream.Context(), req, stream.Send))
}
