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

// electionServer implements coordv1.ElectionServer; see the proto for the contract of each method.
type electionServer struct {
	coordv1.UnimplementedElectionServer
	service *Service
}

func (es electionServer) Campaign(
	req *coordv1.CampaignRequest, stream grpc.ServerStreamingServer[coordv1.CampaignEvent],
) error {
	if err := checkValue(req.Value); err != nil {
		return wireError(err)
	}
	a, err := newAcquisition(req.WaitMs, req.GraceMs)
	if err != nil {
		return wireError(err)
	}
	a.Name, a.Lease, a.OwnerId, a.Value, a.ResumeToken = req.Name, req.Lease, req.OwnerId, req.Value, req.ResumeToken
	a.queue, a.enqueueBy, a.removeBy = req.Name, recipes.ElectionCampaign, recipes.ElectionResign
	return wireError(es.service.acquire(stream.Context(), a, campaignStream{stream}, true))
}

func (es electionServer) Proclaim(
	ctx context.Context, req *coordv1.ProclaimRequest,
) (*coordv1.ProclaimResponse, error) {
	if err := checkValue(req.Value); err != nil {
		return nil, wireError(err)
	}
	call := &recipesv1.Proclaim{Name: req.Name, Key: req.Key, Term: req.Term, Value: req.Value}
	rev, err := es.service.call(ctx, recipes.ElectionProclaim, call, &recipesv1.Proclaimed{})
	if err != nil {
		return nil, wireError(err)
	}
	return &coordv1.ProclaimResponse{Revision: rev}, nil
}

func (es electionServer) Resign(ctx context.Context, req *coordv1.ResignRequest) (*coordv1.ResignResponse, error) {
	resp := &recipesv1.Removed{}
	rev, err := es.service.call(ctx, recipes.ElectionResign,
		&recipesv1.Remove{Name: req.Name, Key: req.Key, Token: req.Term}, resp)
	if err != nil {
		return nil, wireError(err)
	}
	return &coordv1.ResignResponse{Resigned: resp.Outcome == recipesv1.Removed_REMOVED, Revision: rev}, nil
}

func (es electionServer) Leader(ctx context.Context, req *coordv1.LeaderRequest) (*coordv1.LeaderResponse, error) {
	queue, rev, err := es.service.currentQueue(ctx, electionKind(req.Priority), req.Name)
	if err != nil {
		return nil, wireError(err)
	}
	leader, ok := queue.Holder()
	if !ok {
		return nil, wireError(recipes.ErrNoLeader)
	}
	return &coordv1.LeaderResponse{Leader: leader.Proto(), Revision: rev}, nil
}

func (es electionServer) Observe(
	req *coordv1.ObserveRequest, stream grpc.ServerStreamingServer[coordv1.ObserveEvent],
) error {
	return wireError(es.service.observe(stream.Context(), req, stream.Send))
}

// electionKind is the kind of an election, with priorities if that of a candidate is not 0.
func electionKind(priority int64) coordv1.QueueKind {
	if priority != 0 {
		return coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
	}
	return coordv1.QueueKind_QUEUE_ELECTION
}

// maxValue bounds a candidate's value, in bytes.
const maxValue = 1 << 20

func checkValue(value []byte) error {
	if len(value) > maxValue {
		return fmt.Errorf("%w: value has %d bytes, more than %d", statemachine.ErrInvalid, len(value), maxValue)
	}
	return nil
}

// campaignStream is the listener of Campaign.
type campaignStream struct {
	stream grpc.ServerStreamingServer[coordv1.CampaignEvent]
}

func (c campaignStream) queued(ev *coordv1.Queued) error {
	return c.stream.Send(&coordv1.CampaignEvent{Event: &coordv1.CampaignEvent_Queued{Queued: ev}})
}

func (c campaignStream) granted(ev *coordv1.Granted) error {
	return c.stream.Send(&coordv1.CampaignEvent{Event: &coordv1.CampaignEvent_Elected{Elected: ev}})
}

func (c campaignStream) notAcquired(ev *coordv1.NotAcquired) error {
	return c.stream.Send(&coordv1.CampaignEvent{Event: &coordv1.CampaignEvent_NotElected{NotElected: ev}})
}

func (c campaignStream) lost(ev *coordv1.Lost) error {
	return c.stream.Send(&coordv1.CampaignEvent{Event: &coordv1.CampaignEvent_Lost{Lost: ev}})
}
