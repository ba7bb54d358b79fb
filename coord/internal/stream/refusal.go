package stream

import (
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/propose"
	statuses "github.com/coord-dev/coord/coord/internal/refusal"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// proposerErrors are those of commands that the state machine does not know. Where the outcome is unknown the client
// sends the request again, which is safe: it runs once.
var proposerErrors = []struct {
	err    error
	reason coordv1.Error_Reason
	code   codes.Code
}{
	{propose.ErrTooManyRequests, coordv1.Error_REASON_TOO_MANY_REQUESTS, codes.ResourceExhausted},
	{propose.ErrTooLarge, coordv1.Error_REASON_TOO_LARGE, codes.InvalidArgument},
	{propose.ErrTimeout, coordv1.Error_REASON_OUTCOME_UNKNOWN, codes.Unavailable},
	{propose.ErrStopped, coordv1.Error_REASON_OUTCOME_UNKNOWN, codes.Unavailable},
}

// etcdReasons are the reasons of those errors of etcd's checks that have one of their own.
var etcdReasons = map[error]coordv1.Error_Reason{
	rpctypes.ErrGRPCKeyNotFound:     coordv1.Error_REASON_KEY_NOT_FOUND,
	rpctypes.ErrGRPCNoSpace:         coordv1.Error_REASON_NO_SPACE,
	rpctypes.ErrGRPCTooManyOps:      coordv1.Error_REASON_TOO_MANY_OPERATIONS,
	rpctypes.ErrGRPCRequestTooLarge: coordv1.Error_REASON_TOO_LARGE,
	rpctypes.ErrGRPCCompacted:       coordv1.Error_REASON_COMPACTED,
	rpctypes.ErrGRPCFutureRev:       coordv1.Error_REASON_FUTURE_REVISION,
}

// refusal is what the client is told of err, which is one of a check, of a command or of a read.
func refusal(err error) *coordv1.Refusal {
	for _, row := range proposerErrors {
		if errors.Is(err, row.err) {
			return refuse(row.reason, row.code, err.Error())
		}
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); !ok {
		if r := statemachine.RefusalOf(err); r.Reason != coordv1.Error_REASON_UNSPECIFIED {
			return refuse(r.Reason, codes.Code(r.Code), r.Message)
		}
	}
	wire := api.WireError(err)
	st := status.Convert(wire)
	reason, ok := etcdReasons[wire]
	switch {
	case ok:
	case st.Code() == codes.Unavailable || st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded:
		return refuse(coordv1.Error_REASON_OUTCOME_UNKNOWN, codes.Unavailable, st.Message())
	default:
		reason = detailed(st)
	}
	return refuse(reason, st.Code(), st.Message())
}

// detailed is the reason that a status of our own services carries.
func detailed(st *status.Status) coordv1.Error_Reason {
	for _, detail := range st.Details() {
		if e, ok := detail.(*coordv1.Error); ok {
			return e.Reason
		}
	}
	return coordv1.Error_REASON_ETCD
}

func refuse(reason coordv1.Error_Reason, code codes.Code, message string) *coordv1.Refusal {
	// What a client sent may be quoted in it.
	return &coordv1.Refusal{Reason: reason, Code: uint32(code), Message: strings.ToValidUTF8(message, "\uFFFD")}
}

// tooMuch is the refusal at a limit of this member, which err names.
func tooMuch(err error) *coordv1.Refusal {
	return refuse(coordv1.Error_REASON_TOO_MANY_REQUESTS, codes.ResourceExhausted, err.Error())
}

// invalid is the refusal of a request that is malformed.
func invalid(format string, args ...any) *coordv1.Refusal {
	return refuse(coordv1.Error_REASON_INVALID, codes.InvalidArgument, fmt.Sprintf(format, args...))
}

// ending is the status of a stream that the member ends, with a reason.
func ending(code codes.Code, reason coordv1.Error_Reason, message string) error {
	return statuses.WithReason(code, reason, message)
}

// broken is the status of a stream whose client does not keep to the protocol.
func broken(format string, args ...any) error {
	return ending(codes.InvalidArgument, coordv1.Error_REASON_PROTOCOL, "protocol: "+fmt.Sprintf(format, args...))
}

var errSlowConsumer = ending(codes.ResourceExhausted, coordv1.Error_REASON_SLOW_CONSUMER,
	"the client does not read what it is sent")
