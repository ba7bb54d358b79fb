package recipesvc

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// stateAt is what is answered of an object's key, nil if there is none, at a revision. Its errors are those of package
// objects.
type stateAt[State any] func(rev statemachine.Revision, kv *mvccpb.KeyValue) (State, error)

// get reads a named object, linearizably. The error is one for the wire.
func get[State any](
	ctx context.Context, s *Service, kind layout.Kind, name string, at stateAt[State],
) (none State, err error) {
	if err := recipes.CheckName(name); err != nil {
		return none, wireError(err)
	}
	kvs, rev, err := s.readNow(ctx, []byte(kind.Key(name)), nil)
	if err != nil {
		return none, wireError(err)
	}
	state, err := at(rev, one(kvs))
	if err != nil {
		return none, wireError(recipes.ObjectError(name, err))
	}
	return state, nil
}

// await reads a named object and then its changes until over says that it is as the caller waits for, and answers it as
// it is then. The error is one for the wire.
func await[State any](
	ctx context.Context, s *Service, kind layout.Kind, name string,
	over func(*mvccpb.KeyValue) (bool, error), at stateAt[State],
) (none State, err error) {
	var state State
	see := func(rev statemachine.Revision, kv *mvccpb.KeyValue) (done bool, err error) {
		if done, err = over(kv); err == nil && done {
			state, err = at(rev, kv)
		}
		return done, recipes.ObjectError(name, err)
	}
	if err := s.follow(ctx, []byte(kind.Key(name)), nil, keyFollower(see)); err != nil {
		return none, wireError(err)
	}
	return state, nil
}
