package recipesvc

import (
	"context"
	"fmt"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// queue reads a queue at the latest revision of this member.
func (s *Service) queue(ctx context.Context, queue string) (*recipes.Snapshot, statemachine.Revision, error) {
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read queue of %q: %w", layout.NameOf(queue), err)
	}
	defer view.Close()
	q, err := mirror.Read(ctx, view, queue)
	if err != nil {
		return nil, 0, fmt.Errorf("read queue of %q: %w", layout.NameOf(queue), err)
	}
	return q, view.Revision(), nil
}

// currentQueue is queue after everything that was committed before the call.
func (s *Service) currentQueue(
	ctx context.Context, kind coordv1.QueueKind, name string,
) (*recipes.Snapshot, statemachine.Revision, error) {
	if err := recipes.CheckName(name); err != nil {
		return nil, 0, err
	}
	if err := s.backend.ReadIndex(ctx); err != nil {
		return nil, 0, fmt.Errorf("read index: %w", err)
	}
	return s.queue(ctx, layout.QueueOf(kind, name))
}
