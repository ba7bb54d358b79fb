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
	kv, rev, err := gs.service.object(ctx, layout.Gate, req.Name)
	if err != nil {
		return nil, wireError(err)
	}
	state, err := gateAt(rev, req.Name, kv)
	return state, wireError(err)
}

func gateAt(rev statemachine.Revision, name string, kv *mvccpb.KeyValue) (*coordv1.GateState, error) {
	state, err := objects.Gate(kv)
	if err != nil {
		return nil, recipes.ObjectError(name, err)
	}
	state.Revision = rev
	return state, nil
}

func (gs gateServer) Await(ctx context.Context, req *coordv1.GateAwait) (*coordv1.GateState, error) {
	if err := recipes.CheckName(req.Name); err != nil {
		return nil, wireError(err)
	}
	if req.Since < 0 {
		return nil, wireError(fmt.Errorf("%w: since %d is negative", statemachine.ErrInvalid, req.Since))
	}
	wait := objects.GateWait{Since: req.Since}
	var state *coordv1.GateState
	see := func(rev statemachine.Revision, kv *mvccpb.KeyValue) (over bool, err error) {
		if over = wait.See(kv); over {
			state, err = gateAt(rev, req.Name, kv)
		}
		return over, err
	}
	if err := gs.service.follow(ctx, []byte(layout.Gate.Key(req.Name)), nil, keyFollower(see)); err != nil {
		return nil, wireError(err)
	}
	return state, nil
}
