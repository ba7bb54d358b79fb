package introspect

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// wireError is what the client gets for err: a refusal with its reason. Anything else leaves the outcome open.
func wireError(err error) error {
	if refusal := statemachine.RefusalOf(err); refusal.Reason != coordv1.Error_REASON_UNSPECIFIED {
		return withReason(codes.Code(refusal.Code), refusal.Reason, refusal.Message)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return withReason(codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, err.Error())
}

func withReason(code codes.Code, reason coordv1.Error_Reason, text string) error {
	st := status.New(code, text)
	if detailed, err := st.WithDetails(&coordv1.Error{Reason: reason}); err == nil {
		st = detailed
	}
	return st.Err()
}
