package recipesvc

import (
	"context"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
)

// observe sends the state and every change of it until ctx ends.
func (s *Service) observe(
	ctx context.Context, req *coordv1.ObserveRequest, send func(*coordv1.ObserveEvent) error,
) error {
	if err := recipes.CheckName(req.Name); err != nil {
		return err
	}
	if err := s.backend.ReadIndex(ctx); err != nil {
		return err
	}
	o := s.backend.Mirrors.Observe(layout.ElectionQueue(req.Name, req.Priority))
	defer o.Close()
	for {
		select {
		case <-o.Wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errStopped
		}
		events, err := o.Take()
		if err != nil {
			return err
		}
		for _, ev := range events {
			if err := send(ev); err != nil {
				return err
			}
		}
	}
}
