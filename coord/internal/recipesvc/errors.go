package recipesvc

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Errors of the services that the procedures do not know.
var (
	errSuperseded = errors.New("a later request of the same owner took the entry over")
	errStopped    = errors.New("the member is stopping: repeat the request")
)

// errorTable says what goes over the wire for a refusal that has no reason of its own. An empty text stands for that of
// the error.
var errorTable = []struct {
	err    error
	code   codes.Code
	reason coordv1.Error_Reason
	text   string
}{
	{statemachine.ErrLeaseNotFound, codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND,
		rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound)},
	{errSuperseded, codes.Aborted, coordv1.Error_REASON_SUPERSEDED, ""},
	{raftv1.ErrEarly, codes.FailedPrecondition, coordv1.Error_REASON_CLUSTER_VERSION, ""},
	{statemachine.ErrInvalid, codes.InvalidArgument, coordv1.Error_REASON_INVALID, ""},
	{statemachine.ErrNoSpace, codes.ResourceExhausted, 0, rpctypes.ErrorDesc(rpctypes.ErrGRPCNoSpace)},
	{statemachine.ErrCorrupt, codes.DataLoss, 0, rpctypes.ErrorDesc(rpctypes.ErrGRPCCorrupt)},
}

// refusal is one of recipes.
type refusal interface {
	statemachine.Refusal
	Code() codes.Code
}

// refused says whether err is the result of a command that was executed and had no effect.
func refused(err error) bool {
	if errors.As(err, new(refusal)) {
		return true
	}
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			return true
		}
	}
	return false
}

// wireError is what the client gets for err. What is not in the table leaves the outcome open; as every request can be
// repeated, the client is told to.
func wireError(err error) error {
	var r refusal
	if errors.As(err, &r) {
		return withReason(r.Code(), r.Reason(), err.Error())
	}
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			text := row.text
			if text == "" {
				text = err.Error()
			}
			return withReason(row.code, row.reason, text)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return withReason(codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, err.Error())
}

func withReason(code codes.Code, reason coordv1.Error_Reason, text string) error {
	st := status.New(code, text)
	if reason != 0 {
		if detailed, err := st.WithDetails(&coordv1.Error{Reason: reason}); err == nil {
			st = detailed
		}
	}
	return st.Err()
}

// transient says whether a refused command may go through later.
func transient(err error) bool {
	return errors.Is(err, statemachine.ErrNoSpace) || errors.Is(err, statemachine.ErrCorrupt)
}
