package recipesvc

import (
	"context"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/mirror"
	"github.com/coord-dev/coord/proto/instances"
	"github.com/coord-dev/coord/statemachine"
)

// Backend is the member behind the services. What reads says by its context for whom, see package principal. All
// functions are safe for concurrent use; none may be nil.
type Backend struct {
	// Propose replicates a command and returns the Response of its result (statemachine.Called for a Call) or its
	// refusal. Any other error means that the outcome is unknown.
	Propose Propose
	// ReadIndex returns once a View taken afterwards shows everything that was committed before the call.
	ReadIndex func(ctx context.Context) error
	// View is a consistent view at the latest revision. The caller closes it.
	View func(ctx context.Context) (mirror.View, error)
	// Subscribe calls fn for all changes of key, or of [key, end) if end is not empty, after the returned revision, in
	// order. fn must not block; one call of it may be under way while cancel returns.
	Subscribe func(ctx context.Context, key, end []byte,
		fn func(mirror.Delivery)) (revision statemachine.Revision, cancel func(), err error)
	// LeaseAlive reports whether a lease exists and is not overdue.
	LeaseAlive func(statemachine.LeaseID) bool
	// Fits says whether there is space for something new that costs about that many bytes.
	Fits func(bytes int) bool
	// CheckProbe says why no member may probe the target of an instance, nil if one may.
	CheckProbe func(*instances.Probe) error
	// Mirrors tell what becomes of entries. Whoever made them closes them, after the service.
	Mirrors *mirror.Mirrors
	Logger  *zap.Logger
}
