package recipes

import (
	"math"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of counters.
const (
	CounterAdd = "counter.add.v1" // coordv1.CounterAdd, CounterValue
	CounterSet = "counter.set.v1" // coordv1.CounterSet, CounterValue
)

func counterProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(CounterAdd, coordv1.Kind_KIND_COUNTER_ADD, counterAdd)),
		growing(requested(CounterSet, coordv1.Kind_KIND_COUNTER_SET, counterSet)),
	}
}

// counterAdd adds to a counter; coordv1's service Counter is its contract.
func counterAdd(step statemachine.Step, req *coordv1.CounterAdd) (proto.Message, error) {
	key, old, err := counterOf(step, req.Name)
	switch {
	case err != nil:
		return nil, err
	case req.Delta == 0:
		return &coordv1.CounterValue{Value: old, Revision: step.Revision()}, nil
	case req.Delta > 0 && old > math.MaxInt64-req.Delta, req.Delta < 0 && old < math.MinInt64-req.Delta:
		return nil, refuse(ErrOverflow, "%q is %d, %d cannot be added", req.Name, old, req.Delta)
	}
	return putCounter(step, key, old+req.Delta)
}

// counterSet gives a counter a value.
func counterSet(step statemachine.Step, req *coordv1.CounterSet) (proto.Message, error) {
	key, old, err := counterOf(step, req.Name)
	if err != nil {
		return nil, err
	}
	if req.Expected != nil && old != *req.Expected {
		return nil, refuse(ErrValueMismatch, "%q is %d, not %d", req.Name, old, *req.Expected)
	}
	return putCounter(step, key, req.Value)
}

func counterOf(step statemachine.Step, name string) (key []byte, value int64, err error) {
	if key, err = object(layout.Counter, name); err != nil {
		return nil, 0, err
	}
	if value, err = objects.Counter(step.Get(key)); err != nil {
		return nil, 0, ObjectError(name, err)
	}
	return key, value, nil
}

func putCounter(step statemachine.Step, key []byte, value int64) (proto.Message, error) {
	rev, err := putObject(step, key, &recipesv1.Counter{Value: value}, 0)
	if err != nil {
		return nil, err
	}
	return &coordv1.CounterValue{Value: value, Revision: rev}, nil
}
