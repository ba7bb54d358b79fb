package recipesvc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// grows are the procedures for which there must be space.
var grows = func() map[string]bool {
	grow := map[string]bool{}
	for _, p := range recipes.Procedures() {
		grow[p.Name()] = recipes.Grows(p)
	}
	return grow
}()

// Propose replicates a command, see Backend.
type Propose func(ctx context.Context, kind raftv1.Kind, body []byte) (any, error)

// call runs a procedure, unless it writes something new and there is no space for it.
func (s *Service) call(ctx context.Context, procedure string, req, resp proto.Message) error {
	if grows[procedure] && !s.backend.Fits(proto.Size(req)) {
		return statemachine.ErrNoSpace
	}
	_, err := s.backend.Propose.Call(ctx, procedure, req, resp)
	return err
}

// called answers an RPC by a procedure.
func called[Resp proto.Message](
	ctx context.Context, s *Service, procedure string, req proto.Message, resp Resp,
) (Resp, error) {
	if err := s.call(ctx, procedure, req, resp); err != nil {
		var none Resp
		return none, wireError(err)
	}
	return resp, nil
}

// Call runs a procedure outside of sessions and returns the store's revision after it. An error is a refusal, or leaves
// the outcome open.
func (propose Propose) Call(
	ctx context.Context, procedure string, req, resp proto.Message,
) (statemachine.Revision, error) {
	request, err := proto.Marshal(req)
	if err != nil {
		return 0, fmt.Errorf("encode request of %s: %w", procedure, err)
	}
	body, err := proto.Marshal(&raftv1.Call{Procedure: procedure, Request: request})
	if err != nil {
		return 0, fmt.Errorf("encode call of %s: %w", procedure, err)
	}
	result, err := propose(ctx, raftv1.KindCall, body)
	if err != nil {
		return 0, err
	}
	called, ok := result.(statemachine.Called)
	if !ok {
		return 0, fmt.Errorf("%s was answered by %T", procedure, result)
	}
	if err := proto.Unmarshal(called.Response, resp); err != nil {
		return 0, fmt.Errorf("decode response of %s: %w", procedure, err)
	}
	return called.Revision, nil
}
