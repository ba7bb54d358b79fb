package group

import (
	"context"
	"errors"
)

// Raft is what the rest of the server needs of a replicated log. Group implements
// it with Dragonboat; a fake can stand in for it in tests.
type Raft interface {
	// Propose offers an entry to the log. A nil error promises nothing: the entry
	// may be lost, and its outcome is known only when it is applied. The caller
	// proposes the same bytes again until it sees them. An error says that the
	// entry certainly did not get in: ErrBusy or ErrClosed. The caller may reuse
	// the bytes when Propose returns.
	Propose(entry []byte) error
	// ReadIndex returns when the local state machine has applied everything that
	// was committed when it was called.
	ReadIndex(ctx context.Context) error
	// Status returns what this member knows at once, without asking anyone.
	Status() Status
	// Membership returns the members as of everything committed at the call.
	Membership(ctx context.Context) (Membership, error)
	// AddLearner adds a member without a vote. The changes of membership return
	// nil when the change was applied, ErrRejected when it was not and will not be,
	// ErrUnknown when ctx ended before that was known, and both when check refused
	// after a request that may still be executed. check, if not nil, is asked
	// about the members that the change is made to: should they have changed when
	// the log comes to the change, it is asked again about those.
	AddLearner(ctx context.Context, member uint64, check Check) error
	// Promote gives a learner a vote.
	Promote(ctx context.Context, member uint64, check Check) error
	// Remove removes a member; its id can never be used again.
	Remove(ctx context.Context, member uint64, check Check) error
	// Exclude makes sure that an id that is no member's never becomes one: a request to add it may be under way, of
	// somebody who did not learn its outcome. ErrRejected says that it is a member's.
	Exclude(ctx context.Context, member uint64) error
	// TransferLeadership makes target the leader and returns when it is.
	TransferLeadership(ctx context.Context, target uint64, hold Hold) error
}

var _ Raft = (*Group)(nil)

var (
	// ErrBusy is returned by Propose when the queue of proposals is full or the
	// replica is still starting.
	ErrBusy = errors.New("raft is busy")
	// ErrClosed is returned by everything after Close, or after this member was
	// removed from the group.
	ErrClosed = errors.New("raft is closed")
	// ErrRejected is returned for a change of membership that was refused: made
	// from a view of the members that is out of date, adding a member that exists
	// or was removed, or removing the last voter.
	ErrRejected = errors.New("membership change rejected")
	// ErrUnknown is returned when a change of membership may or may not happen.
	ErrUnknown = errors.New("outcome of membership change unknown")
	// ErrNoMoreMembers is returned with ErrRejected for a member that is added when too many were removed before.
	ErrNoMoreMembers = errors.New("no more members can be added")
	// ErrNoLeader is returned when an operation needs a leader and none is known.
	ErrNoLeader = errors.New("no leader")
)

// Status is what a member knows about its group.
type Status struct {
	// Leader is the leader's id, 0 when none is known. Term is its term.
	Leader, Term uint64
	// Self is this member's id.
	Self uint64
	// Learner says that this member has no vote (yet).
	Learner bool
	// Applied is the index of the last entry given to the state machine.
	Applied uint64
	// FirstIndex and LastIndex bound the log on disk, both inclusive. The log is
	// empty when FirstIndex is LastIndex+1.
	FirstIndex, LastIndex uint64
	// Snapshot is the index of the newest snapshot, 0 for none.
	Snapshot uint64
}

// IsLeader says whether this member believes that it leads.
func (s Status) IsLeader() bool { return s.Leader != 0 && s.Leader == s.Self }

// Membership is the members of a group.
type Membership struct {
	// Version is the log index of the last change.
	Version uint64
	// Voters, Learners and Removed are ids in ascending order.
	Voters, Learners, Removed []uint64
}

// Check returns why a change of membership must not be made to m, or nil. The error
// is part of the one that the change returns.
type Check func(m Membership) error

// Hold stops the proposals of this member and returns the function that lets
// them go on. It returns after those in the making have been proposed.
type Hold func() (release func())
