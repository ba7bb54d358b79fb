package api

import (
	"context"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Backend is the member behind the services. All methods are safe for concurrent use.
type Backend interface {
	Log
	Store
	Cluster

	// Status is cheap: it is read for every response.
	Status() Status
	// LeaseRemaining is the time the lease has left on the lease clock, in milliseconds; not above 0 for a lease that
	// is due but not deleted yet.
	LeaseRemaining(statemachine.LeaseInfo) int64
}

// Log is the replicated log.
type Log interface {
	// Propose replicates a command and returns the Response of its result (see statemachine.Result), which the caller
	// then owns, or the refusal. With ErrTimeout or an error of ctx the outcome is unknown.
	Propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error)
	// ReadIndex returns once a View taken afterwards shows everything that was committed before the call.
	ReadIndex(ctx context.Context) error
}

// Store is this member's copy of the state. What reads it says by its context for whom, see package principal; the
// error of one that does not is principal.ErrNone.
type Store interface {
	// View is a consistent view at the latest revision. The caller closes it.
	View(ctx context.Context) (View, error)
	// Revision is the latest revision, which headers show.
	Revision() (statemachine.Revision, error)
	// Lease describes a lease and returns its keys in key order; nil if it does not exist.
	Lease(ctx context.Context, id statemachine.LeaseID) (*statemachine.LeaseInfo, [][]byte, error)
	// Leases is sorted by deadline, the earliest first.
	Leases(ctx context.Context) ([]statemachine.LeaseInfo, error)
	// WriteBackup writes a portable snapshot of the whole state. A reader of it must accept trailing zero bytes.
	WriteBackup(ctx context.Context, w io.Writer) error
	// DiskUsage is in bytes; inUse is without what compaction is about to give back.
	DiskUsage() (total, inUse int64)
	// CompactionDone is closed once the history before rev is physically gone.
	CompactionDone(rev statemachine.Revision) <-chan struct{}
}

// View is a *machine.View, or a fake of it.
type View interface {
	Close()
	Revision() statemachine.Revision
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	// Page is Range without a look behind r.Limit: Count is meaningless.
	Page(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	// Children calls fn for the keys directly below parent by create revision, and then by key, until fn returns false.
	Children(ctx context.Context, parent []byte, fn func(*mvccpb.KeyValue) bool) error
	// Txn executes a transaction that only reads.
	Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	HashKV(ctx context.Context, rev statemachine.Revision) (hash uint32, hashRev, compacted statemachine.Revision,
		err error)
	StateHash(context.Context) (uint64, error)
	Alarms() []*pb.AlarmMember
}

// MembersCheck returns why a change of the members must not be made to these, or nil.
type MembersCheck func([]*pb.Member) error

// Cluster changes who the members are. A change is made to the members that its check was asked about, or it is asked
// again about those that came to be meanwhile, through whatever member: so a bound that it keeps is kept by the
// cluster. What the check returns is returned. A slice of members is sorted by id and belongs to the caller.
type Cluster interface {
	// Members reads the members, through a linearizable read if asked for.
	Members(ctx context.Context, linearizable bool) ([]*pb.Member, error)
	// Connected reports whether this member has been in touch with the member for long enough to count on it; true for
	// itself.
	Connected(id uint64) bool
	// AddMember chooses the id of the new member. The URLs are valid. Nothing is left of a member that was not added,
	// in a while if it is unknown whether it was.
	AddMember(ctx context.Context, peerURLs []string, learner bool, check MembersCheck) (*pb.Member, error)
	// PromoteMember makes a voter of a learner: ErrLearnerNotReady if it lags behind.
	PromoteMember(ctx context.Context, id uint64, check MembersCheck) error
	RemoveMember(ctx context.Context, id uint64, check MembersCheck) error
	// UpdateMember replaces the peer URLs of a member. Its check is asked once, before; what is decided in
	// the log is that no two members have one URL.
	UpdateMember(ctx context.Context, id uint64, peerURLs []string, check MembersCheck) error
	// TransferLeader returns once target, a voter, leads.
	TransferLeader(ctx context.Context, target uint64) error
}

// Status is what Raft knows on this member.
type Status struct {
	Leader    uint64 // 0: none known
	Term      uint64
	Committed uint64 // index
	Applied   uint64 // index
	Learner   bool
}
