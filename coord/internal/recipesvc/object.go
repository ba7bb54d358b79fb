package recipesvc

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// called runs a procedure whose request and response are those of the RPC.
func called[Resp proto.Message](
	ctx context.Context, s *Service, procedure string, req proto.Message, resp Resp,
) (Resp, error) {
	if _, err := s.call(ctx, procedure, req, resp); err != nil {
		var none Resp
		return none, wireError(err)
	}
	return resp, nil
}

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
