package recipesvc

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// latchServer implements coordv1.LatchServer; see the proto for the contract of each method.
type latchServer struct {
	coordv1.UnimplementedLatchServer
	service *Service
}

func (ls latchServer) Set(ctx context.Context, req *coordv1.LatchSet) (*coordv1.LatchState, error) {
	return called(ctx, ls.service, recipes.LatchSet, req, &coordv1.LatchState{})
}

func (ls latchServer) CountDown(ctx context.Context, req *coordv1.LatchCountDown) (*coordv1.LatchState, error) {
	return called(ctx, ls.service, recipes.LatchCountDown, req, &coordv1.LatchState{})
}

func (ls latchServer) Get(ctx context.Context, req *coordv1.LatchGet) (*coordv1.LatchState, error) {
	return get(ctx, ls.service, layout.Latch, req.Name, latchAt)
}

func latchAt(rev statemachine.Revision, kv *mvccpb.KeyValue) (*coordv1.LatchState, error) {
	state, err := objects.Latch(kv)
	if err == nil {
		state.Revision = rev
	}
	return state, err
}

func (ls latchServer) Await(ctx context.Context, req *coordv1.LatchAwait) (*coordv1.LatchState, error) {
	if err := recipes.CheckName(req.Name); err != nil {
		return nil, wireError(err)
	}
	if req.Generation < 0 {
		return nil, wireError(fmt.Errorf("%w: generation %d is negative", statemachine.ErrInvalid, req.Generation))
	}
	wait := objects.LatchWait{Generation: req.Generation}
	return await(ctx, ls.service, layout.Latch, req.Name, wait.See, latchAt)
}
