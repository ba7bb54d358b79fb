package configsvc

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// refuse is a status with its machine-readable reason.
func refuse(code codes.Code, reason coordv1.Error_Reason, format string, args ...any) error {
	return detailed(code, fmt.Sprintf("config: "+format, args...), &coordv1.Error{Reason: reason})
}

func detailed(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	st := status.New(code, text)
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st.Err()
}

func unknownBundle(bundle string) error {
	return refuse(codes.NotFound, coordv1.Error_REASON_CONFIG_UNKNOWN_BUNDLE, "there is no bundle %q", bundle)
}

func unknownVersion(bundle string, number int64) error {
	return refuse(codes.NotFound, coordv1.Error_REASON_CONFIG_UNKNOWN_VERSION,
		"bundle %q has no version %d: it was never published, or is not kept any more", bundle, number)
}

// storeErrors are refusals of the store that have a reason of ours.
var storeErrors = []struct {
	err    error
	code   codes.Code
	reason coordv1.Error_Reason
}{
	{rpctypes.ErrGRPCRequestTooLarge, codes.InvalidArgument, coordv1.Error_REASON_TOO_LARGE},
	{rpctypes.ErrGRPCNoSpace, codes.ResourceExhausted, coordv1.Error_REASON_NO_SPACE},
	{statemachine.ErrNoSpace, codes.ResourceExhausted, coordv1.Error_REASON_NO_SPACE},
	{statemachine.ErrCorrupt, codes.DataLoss, coordv1.Error_REASON_CORRUPT},
	{statemachine.ErrLeaseNotFound, codes.NotFound, coordv1.Error_REASON_LEASE_NOT_FOUND},
	{statemachine.ErrInvalid, codes.InvalidArgument, coordv1.Error_REASON_INVALID},
}

// writeError is what the client gets for an error of a procedure. What is no refusal leaves the outcome open.
func writeError(err error) error {
	for _, row := range storeErrors {
		if errors.Is(err, row.err) {
			return detailed(row.code, status.Convert(err).Message(), &coordv1.Error{Reason: row.reason})
		}
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated,
		codes.ResourceExhausted:
		return err
	}
	return detailed(codes.Unavailable, status.Convert(err).Message(),
		&coordv1.Error{Reason: coordv1.Error_REASON_OUTCOME_UNKNOWN})
}
