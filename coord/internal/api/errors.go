package api

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Errors of a Backend, beside those of package statemachine. They may be wrapped.
var (
	ErrTimeout         = errors.New("request timed out") // outcome unknown
	ErrStopped         = errors.New("server stopped")
	ErrTooManyRequests = errors.New("too many requests")
	ErrNoLeader        = errors.New("no leader")
	ErrNotLeader       = errors.New("not leader")
	ErrLeaderChanged   = errors.New("leader changed")

	ErrMemberNotFound   = errors.New("member not found")
	ErrMemberExists     = errors.New("member id exists")
	ErrPeerURLExists    = errors.New("peer URL exists")
	ErrNoMoreMembers    = errors.New("too many members were removed from this cluster")
	ErrMemberNotLearner = errors.New("member is not a learner")
	ErrLearnerNotReady  = errors.New("learner is not in sync with the leader")
	ErrTooManyLearners  = errors.New("too many learners")
	ErrNotEnoughStarted = errors.New("not enough started members")
	ErrUnhealthy        = errors.New("unhealthy cluster")
	ErrBadTransferee    = errors.New("bad leader transferee")
	ErrTransferTimeout  = errors.New("etcdserver: request timed out, leader transfer took too long")
)

// errorTable says what goes over the wire for an error. Clients know errors by their text and retry by their code.
var errorTable = []struct{ err, wire error }{
	{statemachine.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{statemachine.ErrFutureRev, rpctypes.ErrGRPCFutureRev},
	{statemachine.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{statemachine.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{statemachine.ErrLeaseExist, rpctypes.ErrGRPCLeaseExist},
	{statemachine.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{statemachine.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{statemachine.ErrTooManyOps, rpctypes.ErrGRPCTooManyOps},
	{statemachine.ErrTooManyAlarms, status.Error(codes.ResourceExhausted,
		fmt.Sprintf("etcdserver: too many alarms are raised, at most %d: disarm some", statemachine.MaxAlarms))},
	{statemachine.ErrMemberExists, rpctypes.ErrGRPCMemberExist},
	{statemachine.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{statemachine.ErrClosed, rpctypes.ErrGRPCStopped},

	{ErrTimeout, rpctypes.ErrGRPCTimeout},
	{ErrStopped, rpctypes.ErrGRPCStopped},
	{ErrNoLeader, rpctypes.ErrGRPCNoLeader},
	{ErrNotLeader, rpctypes.ErrGRPCNotLeader},
	{ErrLeaderChanged, rpctypes.ErrGRPCLeaderChanged},

	{ErrMemberNotFound, rpctypes.ErrGRPCMemberNotFound},
	{ErrMemberExists, rpctypes.ErrGRPCMemberExist},
	{ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{ErrNoMoreMembers, status.Error(codes.FailedPrecondition, "etcdserver: too many members were removed from this "+
		"cluster, "+
		"whose ids are kept for ever: restore a snapshot into a new cluster, which begins without them")},
	{ErrMemberNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
	{ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{ErrBadTransferee, rpctypes.ErrGRPCBadLeaderTransferee},

	// etcd answers these two with its client-side errors, which carry no status: on the wire the code is Unknown.
	{ErrTooManyRequests, status.Error(codes.Unknown, rpctypes.ErrTooManyRequests.Error())},
	{ErrNotEnoughStarted, status.Error(codes.Unknown, rpctypes.ErrMemberNotEnoughStarted.Error())},
}

// wireError is what the client gets for err. Errors that carry a status stay as they are, as do those of a context,
// which gRPC turns into Canceled and DeadlineExceeded.
func wireError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			return row.wire
		}
	}
	if errors.Is(err, raftv1.ErrEarly) {
		return status.Error(codes.FailedPrecondition, "etcdserver: "+err.Error())
	}
	if errors.Is(err, statemachine.ErrInvalid) {
		return status.Error(codes.InvalidArgument, "etcdserver: "+err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

// waitError is wireError for an operation that waited for Raft under a deadline of ours: the end of the time, ours or
// the client's, is etcd's timeout.
func waitError(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return rpctypes.ErrGRPCTimeout
	case errors.Is(err, context.Canceled):
		return rpctypes.ErrGRPCCanceled
	}
	return wireError(err)
}
