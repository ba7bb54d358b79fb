package introspect

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// ForceRelease implements coordv1.IntrospectionServer.
func (s *Service) ForceRelease(
	ctx context.Context, req *coordv1.ForceReleaseRequest,
) (*coordv1.ForceReleaseResponse, error) {
	resp := &coordv1.ForceReleaseResponse{}
	if err := s.call(ctx, recipes.ForceRelease, req, resp); err != nil {
		return nil, refusal.Status(err)
	}
	s.backend.Logger.Warn("a holder was removed by force", zap.String("name", req.Name),
		zap.String("reason", req.Reason),
		zap.String("key", resp.GetRemoved().GetKey()), zap.Bool("named by key", len(req.Key) > 0),
		zap.Int64("token", resp.GetRemoved().GetToken()))
	return resp, nil
}

// TransferLeadership implements coordv1.IntrospectionServer.
func (s *Service) TransferLeadership(ctx context.Context, req *coordv1.Transfer) (*coordv1.Transferred, error) {
	resp := &coordv1.Transferred{}
	if err := s.call(ctx, recipes.Transfer, req, resp); err != nil {
		return nil, refusal.Status(err)
	}
	return resp, nil
}

// AskHolder implements coordv1.IntrospectionServer.
func (s *Service) AskHolder(ctx context.Context, req *coordv1.AskRelease) (*coordv1.Asked, error) {
	resp := &coordv1.Asked{}
	if err := s.call(ctx, recipes.AskRelease, req, resp); err != nil {
		return nil, refusal.Status(err)
	}
	return resp, nil
}

// DeleteObject implements coordv1.IntrospectionServer.
func (s *Service) DeleteObject(
	ctx context.Context, req *coordv1.DeleteObjectRequest,
) (*coordv1.DeleteObjectResponse, error) {
	resp := &coordv1.DeleteObjectResponse{}
	if err := s.call(ctx, recipes.DeleteObject, req, resp); err != nil {
		return nil, refusal.Status(err)
	}
	return resp, nil
}

// call runs a procedure outside of a session.
func (s *Service) call(ctx context.Context, procedure string, req, resp proto.Message) error {
	request, err := proto.Marshal(req)
	if err != nil {
		return fmt.Errorf("%w: request of %s: %v", statemachine.ErrInvalid, procedure, err)
	}
	body, err := proto.Marshal(&raftv1.Call{Procedure: procedure, Request: request, UnixMs: time.Now().UnixMilli()})
	if err != nil {
		return fmt.Errorf("encode call of %s: %w", procedure, err)
	}
	result, err := s.backend.Propose(ctx, raftv1.KindCall, body)
	if err != nil {
		return err
	}
	called, ok := result.(statemachine.Called)
	if !ok {
		return fmt.Errorf("%s was answered by %T", procedure, result)
	}
	return proto.Unmarshal(called.Response, resp)
}

// hex writes an id as etcdctl writes that of a lease.
func hex(id int64) string { return strconv.FormatUint(uint64(id), 16) }
