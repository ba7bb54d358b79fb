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

// gateServer implements coordv1.GateServer; see the proto for the contract of each method.
type gateServer struct {
	coordv1.UnimplementedGateServer
	service *Service
}

func (gs gateServer) Close(ctx context.Context, req *coordv1.GateClose) (*coordv1.GateState, error) {
	return called(ctx, gs.service, recipes.GateClose, req, &coordv1.GateState{})
}

func (gs gateServer) Open(ctx context.Context, req *coordv1.GateOpen) (*coordv1.GateState, error) {
	return called(ctx, gs.service, recipes.GateOpen, req, &coordv1.GateState{})
}

func (gs gateServer) Get(ctx context.Context, req *coordv1.GateGet) (*coordv1.GateState, error) {
	return get(ctx, gs.service, layout.Gate, req.Name, gateAt)
}

func gateAt(rev statemachine.Revision, kv *mvccpb.KeyValue) (*coordv1.GateState, error) {
	state, err := objects.Gate(kv)
	if err == nil {
		state.Revision = rev
	}
	return state, err
}

func (gs gateServer) Await(ctx context.Context, req *coordv1.GateAwait) (*coordv1.GateState, error) {
	if err := recipes.CheckName(req.Name); err != nil {
		return nil, wireError(err)
	}
	if req.Since < 0 {
		return nil, wireError(fmt.Errorf("%w: since %d is negative", statemachine.ErrInvalid, req.Since))
	}
	wait := objects.GateWait{Since: req.Since}
	passed := func(kv *mvccpb.KeyValue) (bool, error) { return wait.See(kv), nil }
	return await(ctx, gs.service, layout.Gate, req.Name, passed, gateAt)
}
