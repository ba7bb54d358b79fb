package client

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Errors of this package; test for them with errors.Is. Those that a server reported wrap its gRPC status, too.
var (
	// ErrNotAcquired: somebody else holds the lock or leads (TryAcquire), or did so until the time to wait was over.
	ErrNotAcquired = errors.New("not acquired")
	// ErrLost: what was held is held no more, or cannot be guaranteed any more. It wraps the reason: ErrSessionExpired,
	// ErrRemoved or ErrSessionClosed.
	ErrLost = errors.New("lost")
	// ErrSessionExpired: the session ended on the server, or could not be renewed in time.
	ErrSessionExpired = errors.New("session expired")
	// ErrSessionClosed: the session was closed by this process.
	ErrSessionClosed = errors.New("session closed")
	// ErrRemoved: somebody else deleted the entry: an operator, or an etcd client.
	ErrRemoved = errors.New("entry was removed")
	// ErrReleased: the lock was released, or the leader resigned, by this process.
	ErrReleased = errors.New("released")
	// ErrNotHolder: a request that only the holder may make came from somebody else.
	ErrNotHolder = errors.New("not the holder")
	// ErrTokenMismatch: the token was never granted to the entry.
	ErrTokenMismatch = errors.New("token does not belong to the entry")
	// ErrNoLeader: nobody leads.
	ErrNoLeader = errors.New("no leader")
	// ErrInvalid: the server refused a malformed request.
	ErrInvalid = errors.New("invalid request")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client closed")
)

// errSuperseded: another request of the same owner took the entry over; it is ours, so we take it back.
var errSuperseded = errors.New("superseded")

var sentinels = map[coordv1.Error_Reason]error{
	coordv1.Error_REASON_INVALID:           ErrInvalid,
	coordv1.Error_REASON_SESSION_NOT_FOUND: ErrSessionExpired,
	coordv1.Error_REASON_TOKEN_MISMATCH:    ErrTokenMismatch,
	coordv1.Error_REASON_NOT_HOLDER:        ErrNotHolder,
	coordv1.Error_REASON_NO_LEADER:         ErrNoLeader,
	coordv1.Error_REASON_SUPERSEDED:        errSuperseded,
}

// serverError is a status with what it means.
type serverError struct {
	meaning error
	status  error
}

func (e *serverError) Error() string   { return status.Convert(e.status).Message() }
func (e *serverError) Unwrap() []error { return []error{e.meaning, e.status} }

// fromWire turns what a server answered back into the errors of this package.
func fromWire(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, d := range st.Details() {
		if detail, ok := d.(*coordv1.Error); ok && sentinels[detail.Reason] != nil {
			return &serverError{meaning: sentinels[detail.Reason], status: err}
		}
	}
	switch st.Code() {
	case codes.Canceled:
		return &serverError{meaning: context.Canceled, status: err}
	case codes.DeadlineExceeded:
		return &serverError{meaning: context.DeadlineExceeded, status: err}
	}
	return err
}

// retryable says whether a failed request, already fromWire, may succeed when it is repeated: everything but a clear
// refusal. Requests are idempotent, so an unknown outcome is no reason to stop.
func retryable(err error) bool {
	if _, ok := errors.AsType[gone](err); ok {
		return false
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated,
		codes.Unimplemented, codes.ResourceExhausted, codes.OutOfRange, codes.DataLoss:
		return false
	}
	return true
}
