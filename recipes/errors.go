package recipes

import (
	"fmt"

	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Refusals of the procedures, beside those of statemachine (ErrInvalid, ErrLeaseNotFound, ErrNoSpace). Each is a
// statemachine.Refusal. Outcomes are stored, so the texts are never changed.
var (
	// ErrTokenMismatch: the token was never granted to the entry.
	ErrTokenMismatch error = &refusal{
		reason: coordv1.Error_REASON_TOKEN_MISMATCH, text: "token does not belong to the entry",
	}
	// ErrNotHolder: the entry does not hold, or no longer exists.
	ErrNotHolder error = &refusal{reason: coordv1.Error_REASON_NOT_HOLDER, text: "not the holder"}
	// ErrKeyTaken: at the entry's key stands a key that is no entry, because it is not attached to the lease in its
	// name; or, where several names are acquired, the owner has entries of its own that are not exactly these.
	ErrKeyTaken error = &refusal{
		reason: coordv1.Error_REASON_KEY_TAKEN, text: "another key stands at the entry's place",
	}
	// ErrSuperseded: the entry was taken over since the request that names its claim.
	ErrSuperseded error = &refusal{
		reason: coordv1.Error_REASON_SUPERSEDED, code: codes.Aborted,
		text: "a later request of the same owner took the entry over",
	}
	// ErrWrongKind: the name is used as another recipe.
	ErrWrongKind error = &refusal{reason: coordv1.Error_REASON_WRONG_KIND, text: "the name is used as another recipe"}
	// ErrNoLeader: nobody leads, or the place of a leader that died is kept. The text is etcd's.
	ErrNoLeader error = &refusal{
		reason: coordv1.Error_REASON_NO_LEADER, code: codes.NotFound, text: "election: no leader",
	}
	// ErrNoCandidate: the target of a transfer is no candidate, or a dead one.
	ErrNoCandidate error = &refusal{reason: coordv1.Error_REASON_NO_CANDIDATE, text: "not a candidate"}
	// ErrOverflow: a counter or a sequence would leave the range of its numbers.
	ErrOverflow error = &refusal{reason: coordv1.Error_REASON_OVERFLOW, code: codes.OutOfRange, text: "out of range"}
	// ErrValueMismatch: a counter has another value than the one expected.
	ErrValueMismatch error = &refusal{reason: coordv1.Error_REASON_VALUE_MISMATCH, text: "another value than expected"}
	// ErrNotSet: there is nothing of this name.
	ErrNotSet error = &refusal{reason: coordv1.Error_REASON_NOT_SET, code: codes.NotFound, text: "not set"}
	// ErrForeignKey: what holds is a key that no session of this name made.
	ErrForeignKey error = &refusal{
		reason: coordv1.Error_REASON_FOREIGN_KEY, text: "a key that is not the entry of the lease in its name stands " +
			"first: delete it by its full key",
	}
	// ErrTooManyMoved: a transfer would put too many candidates behind its target.
	ErrTooManyMoved error = &refusal{
		reason: coordv1.Error_REASON_TOO_MANY_OPERATIONS, text: "too many candidates stand before the target",
	}
	// ErrForeignCandidate: a candidate that cannot be put behind stands between the leader and the target of a
	// transfer.
	ErrForeignCandidate error = &refusal{
		reason: coordv1.Error_REASON_FOREIGN_CANDIDATE,
		text: "a key that is not that of a session's candidate stands " +
			"before the target",
	}
)

// refusal implements statemachine.Refusal. One with details wraps the one without.
type refusal struct {
	reason coordv1.Error_Reason
	code   codes.Code // 0: FailedPrecondition
	text   string
	of     *refusal
}

// refuse returns a refusal with details.
func refuse(of error, format string, args ...any) error {
	r := of.(*refusal) // it is one of those above
	return &refusal{reason: r.reason, code: r.code, text: r.text + ": " + fmt.Sprintf(format, args...), of: r}
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

// Reason implements statemachine.Refusal.
func (r *refusal) Reason() coordv1.Error_Reason { return r.reason }

// Code is what the unary API answers.
func (r *refusal) Code() codes.Code {
	if r.code == codes.OK {
		return codes.FailedPrecondition
	}
	return r.code
}

// Unwrap implements errors.Is.
func (r *refusal) Unwrap() error {
	if r.of == nil {
		return nil
	}
	return r.of
}

// invalid returns an error that wraps statemachine.ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", statemachine.ErrInvalid, fmt.Sprintf(format, args...))
}
