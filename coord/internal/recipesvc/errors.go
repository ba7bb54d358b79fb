package recipesvc

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

var errStopped = errors.New("the member is stopping: repeat the request")

// wireError is what the client gets for err. What is no refusal leaves the outcome open; as every request can be
// repeated, the client is told to. The lease that a request names is its session.
func wireError(err error) error {
	if errors.Is(err, statemachine.ErrLeaseNotFound) {
		text := statemachine.RefusalOf(statemachine.ErrLeaseNotFound).Message
		return refusal.WithReason(codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND, text)
	}
	return refusal.Status(err)
}

// transient says whether a refused command may go through later.
func transient(err error) bool {
	return errors.Is(err, statemachine.ErrNoSpace) || errors.Is(err, statemachine.ErrCorrupt) ||
		errors.Is(err, statemachine.ErrQueueBroken)
}
