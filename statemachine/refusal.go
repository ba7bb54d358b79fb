package statemachine

import (
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Refusal is an error with a reason that goes into the outcome of a request, see RefusalOf.
type Refusal interface {
	error
	Reason() coordv1.Error_Reason
}

// NewRefusal returns an error for errors.Is with a reason.
func NewRefusal(reason coordv1.Error_Reason, text string) error { return &refusal{reason, text} }

type refusal struct {
	reason coordv1.Error_Reason
	text   string
}

func (r *refusal) Error() string                { return r.text }
func (r *refusal) Reason() coordv1.Error_Reason { return r.reason }

// refusals says what clients are told of each refusal: the reason, the code of the unary API, and the text, by which
// etcd's clients know etcd's errors; the error's own where it is empty.
var refusals = []struct {
	err    error
	reason coordv1.Error_Reason
	code   codes.Code
	text   string
}{
	{ErrCompacted, coordv1.Error_REASON_COMPACTED, codes.OutOfRange, "etcdserver: mvcc: required revision has been " +
		"compacted"},
	{ErrFutureRev, coordv1.Error_REASON_FUTURE_REVISION, codes.OutOfRange, "etcdserver: mvcc: required revision is a " +
		"future revision"},
	{ErrKeyNotFound, coordv1.Error_REASON_KEY_NOT_FOUND, codes.InvalidArgument, "etcdserver: key not found"},
	{ErrLeaseNotFound, coordv1.Error_REASON_LEASE_NOT_FOUND, codes.NotFound, "etcdserver: requested lease not found"},
	{ErrLeaseExist, coordv1.Error_REASON_LEASE_EXISTS, codes.FailedPrecondition, "etcdserver: lease already exists"},
	{ErrNoSpace, coordv1.Error_REASON_NO_SPACE, codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
	{ErrCorrupt, coordv1.Error_REASON_CORRUPT, codes.DataLoss, "etcdserver: corrupt cluster"},
	{ErrTooManyOps, coordv1.Error_REASON_TOO_MANY_OPERATIONS, codes.InvalidArgument,
		"etcdserver: too many operations in txn request"},

	{ErrSessionNotFound, coordv1.Error_REASON_SESSION_NOT_FOUND, codes.NotFound, ""},
	{ErrSessionElsewhere, coordv1.Error_REASON_SESSION_ELSEWHERE, codes.FailedPrecondition, ""},
	{ErrFenced, coordv1.Error_REASON_FENCED, codes.FailedPrecondition, ""},
	{ErrSequencePast, coordv1.Error_REASON_SEQUENCE_PAST, codes.OutOfRange, ""},
	{ErrSequenceFuture, coordv1.Error_REASON_SEQUENCE_FUTURE, codes.OutOfRange, ""},
	{ErrBacklog, coordv1.Error_REASON_BACKLOG, codes.ResourceExhausted, ""},
	{ErrTooManySessions, coordv1.Error_REASON_TOO_MANY_SESSIONS, codes.ResourceExhausted, ""},
	{ErrWithdrawn, coordv1.Error_REASON_WITHDRAWN, codes.Aborted, ""},
	{ErrRefusedByOperator, coordv1.Error_REASON_REFUSED_BY_OPERATOR, codes.FailedPrecondition, ""},
	{ErrResponseTooLarge, coordv1.Error_REASON_TOO_LARGE, codes.InvalidArgument, ""},
}

// RefusalOf says how a client is told of err: that of a command, a request, a procedure or a reader of this package.
// Errors of a procedure that are a Refusal have its reason, and its code where it has a method Code() codes.Code, else
// FailedPrecondition. Anything else has no reason, and the code Unknown.
//
// Refusals are stored as outcomes, and must be the same bytes on every member, whatever build it runs: so their texts
// are never changed, and procedures make theirs of what is in the request and in the state alone.
func RefusalOf(err error) *coordv1.Refusal {
	var own Refusal
	if errors.As(err, &own) {
		code := codes.FailedPrecondition
		if coded, ok := own.(interface{ Code() codes.Code }); ok {
			code = coded.Code()
		}
		return newRefusal(own.Reason(), code, own.Error())
	}
	for _, row := range refusals {
		if !errors.Is(err, row.err) {
			continue
		}
		text := row.text
		if text == "" {
			text = row.err.Error()
		}
		return newRefusal(row.reason, row.code, text)
	}
	if errors.Is(err, raftv1.ErrEarly) {
		return newRefusal(coordv1.Error_REASON_CLUSTER_VERSION, codes.FailedPrecondition, err.Error())
	}
	if errors.Is(err, ErrInvalid) {
		return newRefusal(coordv1.Error_REASON_INVALID, codes.InvalidArgument, "etcdserver: "+err.Error())
	}
	return newRefusal(coordv1.Error_REASON_UNSPECIFIED, codes.Unknown, err.Error())
}

// maxRefusalText bounds the text of a refusal, in bytes: it can quote names and keys of any length, and is kept. With
// it a refusal has RefusalSize at most.
const maxRefusalText = RefusalSize - 24

// newRefusal mends the one thing that differs between builds by intention: errors of protobuf have a blank or a
// non-breaking one after their prefix, so that nobody relies on them.
func newRefusal(reason coordv1.Error_Reason, code codes.Code, text string) *coordv1.Refusal {
	text = strings.ReplaceAll(text, "\u00a0", " ")
	if n := maxRefusalText; len(text) > n {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	return &coordv1.Refusal{Reason: reason, Code: uint32(code), Message: text}
}
