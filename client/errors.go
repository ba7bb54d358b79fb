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

// Errors of this package; test for them with errors.Is. A write that fails with none of ErrOutcomeUnknown and
// ErrNotAcquired in its error had no effect.
var (
	// ErrNotAcquired: somebody else holds the lock or leads (TryAcquire), or did so until the time to wait was over.
	ErrNotAcquired = errors.New("not acquired")
	// ErrLost: what was held is held no more, or cannot be guaranteed any more. It wraps the reason: ErrSessionExpired,
	// ErrSessionElsewhere, ErrSessionClosed, ErrRemoved or ErrTransferred.
	ErrLost = errors.New("lost")
	// ErrOutcomeUnknown: the request may have been executed, or not, or may be still. It wraps why nobody knows: the end of
	// the context, or of the session. What is certain has no such error.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrSessionExpired: the session ended on the server, or could not be renewed in time.
	ErrSessionExpired = errors.New("session expired")
	// ErrSessionElsewhere: another process attached the session.
	ErrSessionElsewhere = errors.New("session is used by another process")
	// ErrSessionClosed: the session was closed by this process.
	ErrSessionClosed = errors.New("session closed")
	// ErrRemoved: somebody else deleted the entry: an operator, or an etcd client.
	ErrRemoved = errors.New("entry was removed")
	// ErrTransferred: leadership was transferred to another candidate.
	ErrTransferred = errors.New("leadership was transferred")
	// ErrReleased: the lock was released, or the leader resigned, by this process.
	ErrReleased = errors.New("released")
	// ErrFenced: the grant that guards a write does not hold any more; the write had no effect.
	ErrFenced = errors.New("fenced: the grant does not hold any more")
	// ErrNotHolder: a request that only the holder may make came from somebody else.
	ErrNotHolder = errors.New("not the holder")
	// ErrTokenMismatch: the token was never granted to the entry.
	ErrTokenMismatch = errors.New("token does not belong to the entry")
	// ErrForeignCandidate: an etcd client's candidate stands before the target of a transfer; the error's text names its key.
	ErrForeignCandidate = errors.New("a candidate of an etcd client stands between")
	// ErrForeignKey: a key that no session made stands directly below the name and is in the way, as it is for etcd's clients. It
	// may never go; the error's text names it.
	ErrForeignKey = errors.New("a key of another client is in the way")
	// ErrNoCandidate: the target of a transfer is no candidate.
	ErrNoCandidate = errors.New("no such candidate")
	// ErrWrongKind: the name is used as another kind of recipe.
	ErrWrongKind = errors.New("name is used as another kind of recipe")
	// ErrKeyTaken: a key that is no entry of the session stands where the entry would.
	ErrKeyTaken = errors.New("key is taken")
	// ErrNoLeader: nobody leads.
	ErrNoLeader = errors.New("no leader")
	// ErrBacklog: the session has too many outcomes on the server that nobody acknowledged.
	ErrBacklog = errors.New("too many outcomes are not acknowledged")
	// ErrTooManySessions: the connection has as many sessions as the server allows.
	ErrTooManySessions = errors.New("too many sessions")
	// ErrOverflow: a counter or a sequence would leave the range of its numbers; nothing was changed.
	ErrOverflow = errors.New("out of range")
	// ErrValueMismatch: a counter has another value than the one expected.
	ErrValueMismatch = errors.New("another value than expected")
	// ErrNotSet: there is nothing of this name: nobody set it, or it was deleted.
	ErrNotSet = errors.New("not set")
	// ErrLatchState: a latch that counts cannot be set; or it is in another generation.
	ErrLatchState = errors.New("the latch is in another state")
	// ErrMemberExists: another session is the member of this id.
	ErrMemberExists = errors.New("another session's member")
	// ErrUpgrade: who reads under a read-write lock cannot become its writer without releasing it first.
	ErrUpgrade = errors.New("a reader cannot become a writer")
	// ErrTooManyPermits: more permits than the semaphore has in all.
	ErrTooManyPermits = errors.New("more permits than the semaphore has")
	// ErrLimitBelowHeld: a semaphore would have fewer permits than are held, or than somebody waits for.
	ErrLimitBelowHeld = errors.New("fewer permits than are held or waited for")
	// ErrBarrierFull: the barrier is open, and not all have left.
	ErrBarrierFull = errors.New("the barrier has all its parties")
	// ErrPartiesMismatch: those who are at the barrier wait for another number of parties.
	ErrPartiesMismatch = errors.New("the barrier is for another number of parties")
	// ErrClusterVersion: the cluster is too old for what was asked, or for a feature in Config.Features; the error's text says what.
	// All its members have to be upgraded first.
	ErrClusterVersion = errors.New("the cluster is too old")
	// ErrInvalid: the server refused a malformed request.
	ErrInvalid = errors.New("invalid request")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client closed")
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
	return &refusedError{reason: r.GetReason(), meaning: reasons[r.GetReason()], status: status.New(codes.Code(r.GetCode()), r.GetMessage())}
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
var errTooLarge = &refusedError{reason: coordv1.Error_REASON_TOO_LARGE, status: status.Convert(rpctypes.ErrGRPCRequestTooLarge)}

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
