package api

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/statemachine"
)

func TestWireError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want wants
	}{
		{nil, wants{}},
		{statemachine.ErrCompacted, wants{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"}},
		{statemachine.ErrFutureRev,
			wants{codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"}},
		{statemachine.ErrKeyNotFound, wantKeyNotFound},
		{statemachine.ErrLeaseNotFound, wants{codes.NotFound, "etcdserver: requested lease not found"}},
		{statemachine.ErrLeaseExist, wants{codes.FailedPrecondition, "etcdserver: lease already exists"}},
		{statemachine.ErrNoSpace, wants{codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"}},
		{statemachine.ErrCorrupt, wants{codes.DataLoss, "etcdserver: corrupt cluster"}},
		{statemachine.ErrMemberExists, wants{codes.FailedPrecondition, "etcdserver: member ID already exist"}},
		{statemachine.ErrPeerURLExists, wants{codes.FailedPrecondition, "etcdserver: Peer URLs already exists"}},
		{statemachine.ErrClosed, wants{codes.Unavailable, "etcdserver: server stopped"}},
		{fmt.Errorf("%w: what", statemachine.ErrInvalid),
			wants{codes.InvalidArgument, "etcdserver: invalid command: what"}},
		{fmt.Errorf("grant: %w", statemachine.ErrLeaseExist), wants{codes.FailedPrecondition,
			"etcdserver: lease already exists"}},
		{ErrTimeout, wants{codes.Unavailable, "etcdserver: request timed out"}},
		{ErrStopped, wants{codes.Unavailable, "etcdserver: server stopped"}},
		{ErrNoLeader, wants{codes.Unavailable, "etcdserver: no leader"}},
		{ErrNotLeader, wants{codes.FailedPrecondition, "etcdserver: not leader"}},
		{ErrLeaderChanged, wants{codes.Unavailable, "etcdserver: leader changed"}},
		{ErrTooManyRequests, wants{codes.Unknown, "etcdserver: too many requests"}},
		{ErrMemberNotFound, wants{codes.NotFound, "etcdserver: member not found"}},
		{ErrMemberExists, wants{codes.FailedPrecondition, "etcdserver: member ID already exist"}},
		{ErrPeerURLExists, wants{codes.FailedPrecondition, "etcdserver: Peer URLs already exists"}},
		{fmt.Errorf("%w: add", ErrNoMoreMembers), wants{codes.FailedPrecondition,
			"etcdserver: too many members were removed from " +
				"this cluster, whose ids are kept for ever: restore a snapshot into a new cluster, which begins " +
				"without them"}},
		{ErrMemberNotLearner, wants{codes.FailedPrecondition, "etcdserver: can only promote a learner member"}},
		{ErrLearnerNotReady, wants{codes.FailedPrecondition, "etcdserver: can only promote a learner member which is " +
			"in sync with leader"}},
		{ErrTooManyLearners, wants{codes.FailedPrecondition, "etcdserver: too many learner members in cluster"}},
		{ErrNotEnoughStarted, wants{codes.Unknown, "etcdserver: re-configuration failed due to not enough started " +
			"members"}},
		{ErrUnhealthy, wants{codes.Unavailable, "etcdserver: unhealthy cluster"}},
		{ErrBadTransferee, wants{codes.FailedPrecondition, "etcdserver: bad leader transferee"}},
		{ErrTransferTimeout, wants{codes.Unknown, "etcdserver: request timed out, leader transfer took too long"}},
		{status.Error(codes.Aborted, "as it is"), wants{codes.Aborted, "as it is"}},
		{errors.New("anything"), wants{codes.Unknown, "anything"}},
	} {
		t.Run(fmt.Sprint(c.err), func(t *testing.T) { c.want.check(t, wireError(c.err)) })
	}
}

// A read that the client gives up is told in gRPC's words, a proposal in etcd's, because it may still be executed.
func TestContextErrors(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		if got := wireError(fmt.Errorf("read: %w", err)); !errors.Is(got, err) {
			t.Errorf("wireError(%v) = %v", err, got)
		}
	}
	wants{codes.Canceled, "etcdserver: request canceled"}.check(t, waitError(context.Canceled))
	wants{codes.Unavailable, "etcdserver: request timed out"}.check(t, waitError(context.DeadlineExceeded))
}
