package recipesvc

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
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
	return get(ctx, cs.service, layout.Counter, req.Name,
		func(rev statemachine.Revision, kv *mvccpb.KeyValue) (*coordv1.CounterValue, error) {
			value, err := objects.Counter(kv)
			return &coordv1.CounterValue{Value: value, Revision: rev}, err
		})
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
	return get(ctx, ss.service, layout.Sequence, req.Name,
		func(rev statemachine.Revision, kv *mvccpb.KeyValue) (*coordv1.SequenceState, error) {
			last, err := objects.Sequence(kv)
			return &coordv1.SequenceState{Last: last, Revision: rev}, err
		})
}
