package recipesvc

import (
	"context"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/recipes"
)

// counterServer implements coordv1.CounterServer; see the proto for the contract of each method.
type counterServer struct {
	coordv1.UnimplementedCounterServer
	service *Service
}

func (cs counterServer) Add(ctx context.Context, req *coordv1.CounterAdd) (*coordv1.CounterValue, error) {
	return called(ctx, cs.service, recipes.CounterAdd, req, &coordv1.CounterValue{})
}

func (cs counterServer) Set(ctx context.Context, req *coordv1.CounterSet) (*coordv1.CounterValue, error) {
	return called(ctx, cs.service, recipes.CounterSet, req, &coordv1.CounterValue{})
}

func (cs counterServer) Get(ctx context.Context, req *coordv1.CounterGet) (*coordv1.CounterValue, error) {
	kv, rev, err := cs.service.object(ctx, layout.Counter, req.Name)
	if err != nil {
		return nil, wireError(err)
	}
	value, err := objects.Counter(kv)
	if err != nil {
		return nil, wireError(recipes.ObjectError(req.Name, err))
	}
	return &coordv1.CounterValue{Value: value, Revision: rev}, nil
}

// sequenceServer implements coordv1.SequenceServer; see the proto for the contract of each method.
type sequenceServer struct {
	coordv1.UnimplementedSequenceServer
	service *Service
}

func (ss sequenceServer) Next(ctx context.Context, req *coordv1.SequenceNext) (*coordv1.SequenceRange, error) {
	return called(ctx, ss.service, recipes.SequenceNext, req, &coordv1.SequenceRange{})
}

func (ss sequenceServer) Get(ctx context.Context, req *coordv1.SequenceGet) (*coordv1.SequenceState, error) {
	kv, rev, err := ss.service.object(ctx, layout.Sequence, req.Name)
	if err != nil {
		return nil, wireError(err)
	}
	last, err := objects.Sequence(kv)
	if err != nil {
		return nil, wireError(recipes.ObjectError(req.Name, err))
	}
	return &coordv1.SequenceState{Last: last, Revision: rev}, nil
}
