package configsvc

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// refuse is a refusal of this package.
func refuse(code codes.Code, reason coordv1.Error_Reason, format string, args ...any) error {
	return refusal.WithReason(code, reason, fmt.Sprintf("config: "+format, args...))
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

// storeErrors are those of etcd's API, through which the store is read, that have a reason of ours.
var storeErrors = []struct {
	err    error
	reason coordv1.Error_Reason
}{
	{rpctypes.ErrGRPCRequestTooLarge, coordv1.Error_REASON_TOO_LARGE},
	{rpctypes.ErrGRPCNoSpace, coordv1.Error_REASON_NO_SPACE},
}

// writeError is what the client gets for an error of a procedure. What is no refusal leaves the outcome open.
func writeError(err error) error {
	for _, row := range storeErrors {
		if errors.Is(err, row.err) {
			return refusal.WithReason(status.Code(row.err), row.reason, status.Convert(row.err).Message())
		}
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated,
		codes.ResourceExhausted:
		return err
	}
	if refusal.Is(err) {
		return refusal.Status(err)
	}
	return refusal.WithReason(codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, status.Convert(err).Message())
}
