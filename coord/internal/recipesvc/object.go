package recipesvc

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// object reads the key of a named object, nil if there is none, linearizably.
func (s *Service) object(
	ctx context.Context, kind layout.Kind, name string,
) (*mvccpb.KeyValue, statemachine.Revision, error) {
	if err := recipes.CheckName(name); err != nil {
		return nil, 0, err
	}
	kvs, rev, err := s.readNow(ctx, []byte(kind.Key(name)), nil)
	return one(kvs), rev, err
}
