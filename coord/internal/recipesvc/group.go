package recipesvc

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// groupServer implements coordv1.GroupServer; see the proto for the contract of each method.
type groupServer struct {
	coordv1.UnimplementedGroupServer
	service *Service
}

func (gs groupServer) Join(ctx context.Context, req *coordv1.GroupJoin) (*coordv1.GroupJoined, error) {
	return called(ctx, gs.service, recipes.GroupJoin, req, &coordv1.GroupJoined{})
}

func (gs groupServer) Update(ctx context.Context, req *coordv1.GroupUpdate) (*coordv1.GroupUpdated, error) {
	return called(ctx, gs.service, recipes.GroupUpdate, req, &coordv1.GroupUpdated{})
}

func (gs groupServer) Leave(ctx context.Context, req *coordv1.GroupLeave) (*coordv1.GroupLeft, error) {
	return called(ctx, gs.service, recipes.GroupLeave, req, &coordv1.GroupLeft{})
}

func (gs groupServer) Members(
	ctx context.Context, req *coordv1.GroupMembersRequest,
) (*coordv1.GroupMembersResponse, error) {
	if err := recipes.CheckName(req.Name); err != nil {
		return nil, wireError(err)
	}
	key, end := layout.Group.Range(req.Name).Bytes()
	kvs, rev, err := gs.service.readNow(ctx, key, end)
	if err != nil {
		return nil, wireError(err)
	}
	return &coordv1.GroupMembersResponse{Members: objects.Members(req.Name, kvs), Revision: rev}, nil
}

func (gs groupServer) Watch(
	req *coordv1.GroupWatchRequest, stream grpc.ServerStreamingServer[coordv1.GroupChange],
) error {
	if err := recipes.CheckName(req.Name); err != nil {
		return wireError(err)
	}
	key, end := layout.Group.Range(req.Name).Bytes()
	f := groupFollower{objects.NewRoll(req.Name), stream.Send}
	return wireError(gs.service.follow(stream.Context(), key, end, f))
}

// groupFollower sends what happens to a group.
type groupFollower struct {
	roll *objects.Roll
	send func(*coordv1.GroupChange) error
}

func (f groupFollower) whole(rev statemachine.Revision, kvs []*mvccpb.KeyValue) (bool, error) {
	return false, f.send(f.roll.Take(rev, kvs))
}

func (f groupFollower) changed(rev statemachine.Revision, events []*mvccpb.Event) (bool, error) {
	if c := f.roll.Apply(rev, events); c != nil {
		return false, f.send(c)
	}
	return false, nil
}
