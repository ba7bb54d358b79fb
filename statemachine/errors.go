package statemachine

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Refusals: results of commands and reads that had no effect. They are values of Result.Err, never errors of Update.
var (
	ErrCompacted     = errors.New("required revision has been compacted")
	ErrFutureRev     = errors.New("required revision is a future revision")
	ErrKeyNotFound   = errors.New("key not found")
	ErrLeaseNotFound = errors.New("lease not found")
	ErrLeaseExist    = errors.New("lease already exists")
	ErrNoSpace       = errors.New("database space exceeded")            // the NOSPACE alarm is raised
	ErrCorrupt       = errors.New("corrupt cluster")                    // the CORRUPT alarm is raised
	ErrTooManyOps    = errors.New("too many operations in txn request") // see Budget
	ErrTooManyAlarms = errors.New("too many alarms are raised")         // see MaxAlarms
	ErrMemberExists  = errors.New("member id exists")                   // of a member that is added
	ErrPeerURLExists = errors.New("peer URL exists")                    // of another member
	ErrInvalid       = errors.New("invalid command")                    // wraps what was wrong with it

	ErrSessionNotFound  = errors.New("session not found")
	ErrSessionElsewhere = errors.New("session is attached to another stream")
	ErrFenced           = errors.New("a grant that guards the request does not hold any more")
	ErrSequencePast     = errors.New("the outcome of this sequence number was acknowledged before")
	ErrSequenceFuture   = errors.New("the sequence number is too far ahead of what is acknowledged")
	ErrBacklog          = errors.New("too many outcomes of the session are not acknowledged")
	ErrTooManySessions  = errors.New("too many sessions")
	ErrWithdrawn        = errors.New("the request was withdrawn")
	ErrQueueBroken      = errors.New("what must follow from a deletion cannot be done")
	// ErrRefusedByOperator: the command is in the list of those that are refused, see Refused.
	ErrRefusedByOperator = errors.New("the operator of the cluster has refused this command, at which its " +
		"members ended")
	ErrResponseTooLarge = errors.New("the response would be too large to be kept for the session")
)

// Other errors of readers.
var (
	// ErrClosed: the machine was closed, or has not been opened yet.
	ErrClosed = errors.New("state machine is closed")
)

// ErrUnkept is the refusal of a request of which nobody knows any more whether it ran. To clients it is
// ErrSequencePast.
var ErrUnkept = roomError{ErrSequencePast, coordv1.Error_REASON_SEQUENCE_PAST, codes.OutOfRange,
	"whether the request ran is not known any more: so many outcomes were not acknowledged that those of what was " +
		"freed were not kept"}

// brokenError is the refusal of a step because of what a reaction to it cannot do. It implements Refusal.
type brokenError struct{ text string }

// NewQueueBroken is the refusal of a command for which the reaction of a queue failed. It wraps ErrQueueBroken.
func NewQueueBroken(queue string, err error) error {
	return brokenError{fmt.Sprintf("%v: queue %q: %v", ErrQueueBroken, queue, err)}
}

func (e brokenError) Error() string                { return e.text }
func (e brokenError) Reason() coordv1.Error_Reason { return coordv1.Error_REASON_QUEUE_BROKEN }
func (e brokenError) Is(target error) bool         { return target == ErrQueueBroken }

// roomError is a refusal at a bound. It implements Refusal.
type roomError struct {
	kind   error
	reason coordv1.Error_Reason
	code   codes.Code
	text   string
}

func (e roomError) Error() string                { return e.text }
func (e roomError) Is(target error) bool         { return target == e.kind }
func (e roomError) Reason() coordv1.Error_Reason { return e.reason }
func (e roomError) Code() codes.Code             { return e.code }
