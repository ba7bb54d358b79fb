package statemachine

import (
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// Revision counts the changes of one keyspace. A fresh store is at revision 1; each command that changes a key adds one.
type Revision = int64

// LeaseID identifies a lease. 0 means no lease; clients may choose any other, negative ones too, but for those of which Lingers
// says that they are the state machine's own.
type LeaseID = int64

// Lingers says whether a key on this lease is a place that is kept for one that died: the state machine put it there when the
// key's own lease expired, see Attachment.LingerMS. It goes by the id alone, which no command can grant: to clients such a
// lease exists already, and is not found. It lives as long as its one key is on it, or until its time is over.
func Lingers(id LeaseID) bool { return lease.Lingering(id) }

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
	ErrRefusedByOperator = errors.New("the operator of the cluster has refused this command, at which its members ended")
	ErrResponseTooLarge  = errors.New("the response would be too large to be kept for the session")
)

// Other errors of readers.
var (
	// ErrClosed: the machine was closed, or has not been opened yet.
	ErrClosed = errors.New("state machine is closed")
)

// Event is one change of one key. PrevKv is the key's previous version, nil where there was none (a create) or where it
// has been compacted. Kv of a delete has only Key and ModRevision. Events are shared: nobody may change them.
type Event struct {
	Type   mvccpb.Event_EventType
	Kv     *mvccpb.KeyValue
	PrevKv *mvccpb.KeyValue
	// Sweep, if it is not nil, are many deletes at once, one of each of its keys, in their order. Kv has only ModRevision then, and what
	// the keys were is not kept: who wants to know reads the history, see View.KeyChanges. Only Applied.Events have such events.
	Sweep *Sweep
}

// Sweep names many keys that were deleted in one revision.
type Sweep = mvcc.Sweep

// Result is the outcome of one command. Exactly one of Response and Err is set. Response is, by kind of command:
// *pb.PutResponse, *pb.DeleteRangeResponse, *pb.TxnResponse, *pb.CompactionResponse, *pb.AlarmResponse, LeaseGranted,
// LeaseRevoked, LeasesRenewed, Ticked, MemberChanged, VersionRaised, HistoryBegun, Hashed, Called, SessionOpened, SessionsAttached, SessionEnded,
// StreamsRenewed, RequestsDone. Header.Revision of the etcd responses is filled,
// the rest of the header is not.
type Result struct {
	Response any
	Err      error
}

// LeaseGranted answers LeaseGrant.
type LeaseGranted struct {
	ID       LeaseID
	TTL      int64 // milliseconds
	Revision Revision
}

// LeaseRevoked answers LeaseRevoke. Revision is the store's after the revocation.
type LeaseRevoked struct{ Revision Revision }

// LeasesRenewed answers LeaseRenew: the TTL of each lease in milliseconds, in the order of the request; 0 where the
// lease does not exist or is overdue, so that the renewal had no effect.
type LeasesRenewed struct {
	TTLs     []int64
	Revision Revision
}

// Ticked answers Tick. Applied is false where the number was not the next one.
type Ticked struct {
	Applied bool
	Number  uint64 // of the last applied tick
}

// MemberChanged answers MemberPut and MemberRemove.
type MemberChanged struct{ Members []*raftv1.Member }

// HistoryBegun answers HistoryBegin.
type HistoryBegun struct{ ID uint64 }

// VersionRaised answers VersionRaise.
type VersionRaised struct{ Version raftv1.Version }

// Hashed answers StateHash: the point of the log whose full state is being hashed on every replica. The hash itself is
// computed in the background and handed to Options.OnHash.
type Hashed struct {
	Index    uint64
	Revision Revision
	Hash     uint64 // 0 in the answer to the command
}

// Called answers Call: what the procedure returned. Revision is the store's after the call.
type Called struct {
	Response []byte
	Revision Revision
}

// SessionOpened answers SessionOpen.
type SessionOpened struct {
	ID       LeaseID
	Created  uint64 // log index: with the ID it names this session and no later one of the same ID
	TTL      int64  // milliseconds
	Epoch    uint64
	Revision Revision
}

// AttachOutcome is what became of one item of a SessionAttach.
type AttachOutcome byte

// The outcomes of attaching a session.
const (
	Attached        AttachOutcome = iota + 1
	AttachNotFound                // there is no such session, or it is overdue
	AttachEpochPast               // it was attached with this epoch or a greater one
)

// SessionsAttached answers SessionAttach, in the order of its items. TTLs are in milliseconds, 0 where not attached.
type SessionsAttached struct {
	Outcomes []AttachOutcome
	TTLs     []int64
	Revision Revision
}

// SessionEnded answers SessionEnd.
type SessionEnded struct{ Revision Revision }

// StreamsRenewed answers StreamRenew.
type StreamsRenewed struct{ Revision Revision }

// RequestsDone answers Requests: for each request in order its outcome, the encoding of a coordv1.Outcome. An outcome that
// was there already is the same bytes. Shared: do not change them.
type RequestsDone struct {
	Outcomes [][]byte
	Revision Revision
}

// SessionChange says that a session ended, or was attached to another stream.
type SessionChange struct {
	ID      LeaseID
	Created uint64
	Stream  uint64 // to which it was attached before
	Ended   bool   // expired or ended; else attached to another stream
}

// SessionInfo describes a session to readers.
type SessionInfo struct {
	LeaseInfo
	Created  uint64
	Epoch    uint64
	Stream   uint64
	Identity []byte // coordv1.Identity; shared
}

// EntryResult tells what became of one entry of the log, with a result for each of its commands.
type EntryResult struct {
	Member, Boot, Start, Number uint64
	// Duplicate: the entry had been executed before, or its proposer had given it up; nothing was done now. Results is nil.
	Duplicate bool
	// Displaced: another start of the proposer's data directory counts, so nothing was done, and no later entry of this start
	// will ever run. Results is nil.
	Displaced bool
	// Results is filled only where Member is the machine's own member id, and Boot and Start name its process: nobody else
	// waits for them. It is as long as the entry's commands.
	Results []Result
}

// Tick is a tick that was applied.
type Tick struct {
	Number, Nonce uint64
	Index         uint64 // of its log entry
	DeltaMS       int64
}

// Applied is what one batch of log entries did. It is handed to the observer after the batch is committed and
// published: a View taken now shows it. All slices are shared: nobody may change them.
type Applied struct {
	Index     uint64   // applied index after the batch
	Revision  Revision // revision after the batch
	Compacted Revision // compacted revision after the batch, -1 if nothing was ever compacted
	Entries   []EntryResult
	Events    []Event // in order: by main revision, then in the order of the change within it
	Ticks     []Tick  // applied ticks, in order
	// Sessions that ended or moved, in order. Whoever serves a stream hears of it before the results of the same batch.
	Sessions []SessionChange
	// Leases are facts for the lease clock after the batch.
	Leases LeaseFacts
	// MembersChanged and AlarmsChanged say that View.Members or View.Alarms differ from before.
	MembersChanged, AlarmsChanged bool
}

// LeaseFacts is what the lease clock needs to know of the lease table.
type LeaseFacts struct {
	Count      int    // leases that exist
	MinTTL     int64  // the smallest TTL of them, milliseconds; 0 if there is none
	Pending    int    // leases and streams whose grant or renewal no tick has settled
	Overdue    bool   // a lease is due but not deleted yet: the work of a tick is bounded, and the next goes on with it
	LastTick   uint64 // number of the last applied tick
	ClockMS    int64  // log time, milliseconds
	PendingMax uint64 // highest log index of a pending grant or renewal
}

// Observer learns what the machine did. Calls come from the goroutine that applies the log, in order, and must not
// block for long.
type Observer interface {
	// Applied is called after each batch, and first by Open with what was found in the store: nothing may come to be
	// applied for long, and leases go on meanwhile.
	Applied(*Applied)
	// Recovered is called after the whole state was replaced by a snapshot: revision, leases, members, anything may have
	// jumped ahead. executed reports whether the snapshot says that the entry (own member id, own start, number) ran.
	Recovered(a *Applied, executed func(number uint64) bool)
}

// LeaseInfo describes a lease to readers. Of a session, deadline and pending are those that its stream gives it.
type LeaseInfo struct {
	ID         LeaseID
	TTL        int64  // milliseconds, as granted
	DeadlineMS int64  // log time; meaningless while Pending
	Pending    bool   // no deadline yet: a full TTL remains
	Keys       int    // number of attached keys
	Owner      string // the user for whom it was granted; empty: nobody in particular
}
