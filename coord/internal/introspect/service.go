package introspect

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Service serves coord.v1.Introspection on one member; see the proto for the contract of each method. Safe for
// concurrent use. It has no goroutines.
type Service struct {
	coordv1.UnimplementedIntrospectionServer
	backend Backend
}

// New returns a Service.
func New(backend Backend) *Service { return &Service{backend: backend} }

// Register adds the service to a gRPC server.
func (s *Service) Register(server grpc.ServiceRegistrar) {
	coordv1.RegisterIntrospectionServer(server, s)
}

// maxPage is how much a page of a list has at most, and how many entries or keys of a session are shown.
const maxPage = 1000

// pageLimit is what a request's limit means.
func pageLimit(limit int32) (int, error) {
	if limit < 0 {
		return 0, fmt.Errorf("%w: limit %d is negative", statemachine.ErrInvalid, limit)
	}
	if limit == 0 || limit > maxPage {
		return maxPage, nil
	}
	return int(limit), nil
}

// look answers a request from one look at the state.
func look[Response any](ctx context.Context, s *Service, answer func(*state) (*Response, error)) (*Response, error) {
	if err := s.backend.ReadIndex(ctx); err != nil {
		return nil, refusal.Status(fmt.Errorf("read index: %w", err))
	}
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, refusal.Status(err)
	}
	defer view.Close()
	st := &state{View: view, ctx: ctx, remaining: s.backend.Remaining}
	resp, err := answer(st)
	if err == nil {
		err = st.err
	}
	if err != nil {
		return nil, refusal.Status(err)
	}
	return resp, nil
}
