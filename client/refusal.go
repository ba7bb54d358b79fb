package client

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/objects"
)

// reasons is what the reasons of refusals mean. Those of etcd's API are known by their text, see refused; the ones
// missing here are answered by sending the request again.
var reasons = map[coordv1.Error_Reason]error{
	coordv1.Error_REASON_INVALID:           ErrInvalid,
	coordv1.Error_REASON_SESSION_NOT_FOUND: ErrSessionExpired,
	coordv1.Error_REASON_TOKEN_MISMATCH:    ErrTokenMismatch,
	coordv1.Error_REASON_NOT_HOLDER:        ErrNotHolder,
	coordv1.Error_REASON_NO_LEADER:         ErrNoLeader,
	coordv1.Error_REASON_OUTCOME_UNKNOWN:   ErrOutcomeUnknown,
	coordv1.Error_REASON_KEY_TAKEN:         ErrKeyTaken,
	coordv1.Error_REASON_SESSION_ELSEWHERE: ErrSessionElsewhere,
	coordv1.Error_REASON_FENCED:            ErrFenced,
	coordv1.Error_REASON_SEQUENCE_PAST:     ErrOutcomeUnknown,
	coordv1.Error_REASON_BACKLOG:           ErrBacklog,
	coordv1.Error_REASON_FOREIGN_CANDIDATE: ErrForeignCandidate,
	coordv1.Error_REASON_FOREIGN_KEY:       ErrForeignKey,
	coordv1.Error_REASON_NO_CANDIDATE:      ErrNoCandidate,
	coordv1.Error_REASON_WRONG_KIND:        ErrWrongKind,
	coordv1.Error_REASON_TOO_MANY_SESSIONS: ErrTooManySessions,
	coordv1.Error_REASON_OVERFLOW:          ErrOverflow,
	coordv1.Error_REASON_VALUE_MISMATCH:    ErrValueMismatch,
	coordv1.Error_REASON_NOT_SET:           ErrNotSet,
	coordv1.Error_REASON_LATCH_STATE:       ErrLatchState,
	coordv1.Error_REASON_MEMBER_EXISTS:     ErrMemberExists,
	coordv1.Error_REASON_UPGRADE:           ErrUpgrade,
	coordv1.Error_REASON_TOO_MANY_PERMITS:  ErrTooManyPermits,
	coordv1.Error_REASON_LIMIT_BELOW_HELD:  ErrLimitBelowHeld,
	coordv1.Error_REASON_BARRIER_FULL:      ErrBarrierFull,
	coordv1.Error_REASON_PARTIES_MISMATCH:  ErrPartiesMismatch,
	coordv1.Error_REASON_CLUSTER_VERSION:   ErrClusterVersion,
}

// refusedError is what a server said, with what it means.
type refusedError struct {
	reason  coordv1.Error_Reason
	meaning error // one of the sentinels, or nil
	status  *status.Status
}

func (e *refusedError) Error() string              { return e.status.Message() }
func (e *refusedError) GRPCStatus() *status.Status { return e.status }

// Is makes errors.Is find what etcd's client would have returned, too.
func (e *refusedError) Is(target error) bool {
	etcd, ok := target.(rpctypes.EtcdError)
	return ok && rpctypes.Error(e.status.Err()) == etcd
}

func (e *refusedError) Unwrap() error { return e.meaning }

// refused is the error of a refusal.
func refused(r *coordv1.Refusal) error {
	return &refusedError{reason: r.GetReason(), meaning: reasons[r.GetReason()],
		status: status.New(codes.Code(r.GetCode()), r.GetMessage())}
}

// fromWire finds the reason in the status of a call outside of the stream, or of the stream itself.
func fromWire(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, d := range st.Details() {
		if detail, ok := d.(*coordv1.Error); ok {
			return &refusedError{reason: detail.Reason, meaning: reasons[detail.Reason], status: st}
		}
	}
	return err
}

// again says whether a refused request shall simply be sent again: the server could not do it now, or does not know
// whether it did, which is for exactly once to sort out.
func again(r *coordv1.Refusal) bool {
	switch r.Reason {
	case coordv1.Error_REASON_OUTCOME_UNKNOWN, coordv1.Error_REASON_BACKLOG, coordv1.Error_REASON_SEQUENCE_FUTURE,
		coordv1.Error_REASON_TOO_MANY_REQUESTS:
		return true
	case coordv1.Error_REASON_UNSPECIFIED, coordv1.Error_REASON_ETCD:
		return codes.Code(r.Code) == codes.Unavailable
	}
	return false
}

// errTooLarge is for requests that the server would not even read.
var errTooLarge = &refusedError{reason: coordv1.Error_REASON_TOO_LARGE,
	status: status.Convert(rpctypes.ErrGRPCRequestTooLarge)}

// hopeless says whether the error of a connection will be the same next time: the caller should hear of it.
func hopeless(err error) bool {
	if errors.Is(err, ErrClusterVersion) {
		return true
	}
	code := status.Code(err)
	if etcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = etcd.Code()
	}
	switch code {
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument:
		return true
	}
	return false
}

func lost(reason error) error { return fmt.Errorf("%w: %w", ErrLost, reason) }

func unknown(reason error) error { return fmt.Errorf("%w: %w", ErrOutcomeUnknown, reason) }

// cause is why ctx ended, such that errors.Is finds both ctx.Err and the cause.
func cause(ctx context.Context) error {
	why, err := context.Cause(ctx), ctx.Err()
	if errors.Is(why, err) {
		return why
	}
	return &causeError{why: why, err: err}
}

type causeError struct{ why, err error }

func (e *causeError) Error() string   { return e.why.Error() }
func (e *causeError) Unwrap() []error { return []error{e.why, e.err} }

// objectError puts the sentinels of this package to the errors of package objects.
func objectError(err error) error {
	switch {
	case errors.Is(err, objects.ErrNotSet):
		return fmt.Errorf("%w: %w", ErrNotSet, err)
	case errors.Is(err, objects.ErrForeign):
		return fmt.Errorf("%w: %w", ErrWrongKind, err)
	}
	return err
}
