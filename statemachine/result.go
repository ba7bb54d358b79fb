package statemachine

import (
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Result is the outcome of one command. Exactly one of Response and Err is set. Response is, by kind of command:
// *pb.PutResponse, *pb.DeleteRangeResponse, *pb.TxnResponse, *pb.CompactionResponse, *pb.AlarmResponse, LeaseGranted,
// LeaseRevoked, LeasesRenewed, Ticked, MemberChanged, VersionRaised, HistoryBegun, Hashed, Called, SessionOpened,
// SessionsAttached, SessionEnded, StreamsRenewed, RequestsDone. Header.Revision of the etcd responses is filled, the
// rest of the header is not.
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

// RequestsDone answers Requests: for each request in order its outcome, the encoding of a coordv1.Outcome. An outcome
// that was there already is the same bytes. Shared: do not change them.
type RequestsDone struct {
	Outcomes [][]byte
	Revision Revision
}
