package service

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Backend is the member behind the services. All functions are safe for concurrent use; none may be nil.
type Backend struct {
	// Propose replicates a command and returns the Response of its result (statemachine.Called for a Call) or its refusal.
	// Any other error means that the outcome is unknown.
	Propose func(ctx context.Context, kind raftv1.Kind, body []byte) (any, error)
	// ReadIndex returns once a View taken afterwards shows everything that was committed before the call.
	ReadIndex func(ctx context.Context) error
	// View is a consistent view at the latest revision. The caller closes it.
	View func() (View, error)
	// LeaseAlive reports whether a lease exists and is not overdue.
	LeaseAlive func(statemachine.LeaseID) bool
	// Subscribe calls fn for all changes in [key, end) after the returned revision, in order, until cancel is called; a
	// last call may be under way then. A View taken after Subscribe returned, or in answer to a delivery, is not older than
	// the returned revision or the delivery. fn does not block.
	Subscribe func(key, end []byte, fn func(Delivery)) (revision statemachine.Revision, cancel func(), err error)
	Logger    *zap.Logger
}

// Delivery is what a subscriber gets: the events of one revision that match, or the notice that some may be missing up to
// Revision, after which the state must be read anew.
type Delivery struct {
	Revision statemachine.Revision
	Events   []statemachine.Event
	Gap      bool
}

// View is a *statemachine.View, or a fake of it.
type View interface {
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	Revision() statemachine.Revision
	Close()
}
