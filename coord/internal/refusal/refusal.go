// Package refusal says what the clients of coord's own services get for an error. What an error means to a client, its
// reason, code and text, is statemachine.RefusalOf's, for the outcomes of sessions as for the calls of services; here
// is how a call tells it.
package refusal

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Is says whether err is a refusal: what it was of had no effect. Any other error leaves the outcome open.
func Is(err error) bool {
	return err != nil && statemachine.RefusalOf(err).Reason != coordv1.Error_REASON_UNSPECIFIED
}

// Status is what the client of a call gets for err: a refusal with its reason, the end of the call's time as such, and
// else that the outcome is open. nil stays nil.
func Status(err error) error {
	switch {
	case err == nil:
		return nil
	case Is(err):
		r := statemachine.RefusalOf(err)
		return WithReason(codes.Code(r.Code), r.Reason, r.Message)
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return WithReason(codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, err.Error())
}

// WithReason is a status that carries a machine-readable reason.
func WithReason(code codes.Code, reason coordv1.Error_Reason, text string) error {
	st := status.New(code, text)
	if detailed, err := st.WithDetails(&coordv1.Error{Reason: reason}); err == nil {
		st = detailed
	}
	return st.Err()
}
