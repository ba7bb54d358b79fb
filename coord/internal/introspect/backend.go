package introspect

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Backend is the member behind the service. All functions are safe for concurrent use; none may be nil.
type Backend struct {
	// Propose replicates a command and returns the Response of its result or its refusal. Any other error means that
	// the outcome is unknown.
	Propose func(ctx context.Context, kind raftv1.Kind, body []byte) (any, error)
	// ReadIndex returns once a View taken afterwards shows everything that was committed before the call.
	ReadIndex func(ctx context.Context) error
	// View is a consistent view at the latest revision. The caller closes it.
	View func(ctx context.Context) (View, error)
	// Remaining is the time that a lease has left, in milliseconds; 0 for one that is gone.
	Remaining func(statemachine.LeaseID) int64
	Logger    *zap.Logger
}

// View is a *machine.View.
type View interface {
	Revision() statemachine.Revision
	Get(key []byte) (*mvccpb.KeyValue, error)
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	Page(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	BrokenQueues() []statemachine.BrokenQueue
	Children(ctx context.Context, parent []byte, fn func(*mvccpb.KeyValue) bool) error
	Lease(statemachine.LeaseID) (statemachine.LeaseRow, bool, error)
	Leases(after statemachine.LeaseID, sessions bool, fn func(statemachine.LeaseRow) bool) error
	Attachment(statemachine.LeaseID, []byte) (statemachine.Attachment, error)
	AttachedKeys(ctx context.Context, lease statemachine.LeaseID, key []byte,
		fn func(statemachine.AttachedKey) bool) error
	Close()
}
