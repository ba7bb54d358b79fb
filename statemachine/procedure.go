package statemachine

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Program is what the log can call and what it is bounded by. It decides, with the log, what a state comes to: all
// members of a cluster have the same.
type Program struct {
	// Procedures are what a Call, and a request of a session, can name.
	Procedures []Procedure
	// Guard reports whether a grant holds at the step's point of the log. Nil: none does.
	Guard func(Step, *coordv1.Guard) bool
	// Reactor may be nil.
	Reactor Reactor
	// Since has what came later than with version 1 of the cluster; raftv1.Since if nil.
	Since map[string]raftv1.Version
	// Budget bounds transactions; DefaultBudget if it is the zero value.
	Budget Budget
	// Room bounds what all sessions hold; DefaultRoom if it is the zero value.
	Room Room
}

// EnsureDefaults sets what was left out.
func (p *Program) EnsureDefaults() {
	if p.Since == nil {
		p.Since = raftv1.Since
	}
	if p.Budget == (Budget{}) {
		p.Budget = DefaultBudget
	}
	if p.Room == (Room{}) {
		p.Room = DefaultRoom
	}
}

// Procedure is a recipe's step: it runs inside the apply of a Call command, at one point of the log, so that what it
// reads and what it writes is one commit. It must be deterministic: the same state and request give the same writes and
// the same response, on every replica and in every later binary. A procedure that must change its behaviour gets a new
// name (by convention a version suffix, as in "acquire.v1"), because the old log is applied again with the new
// binary.
type Procedure interface {
	// Name is how a Call names it.
	Name() string
	// Kind is how a request of a session names it; KIND_UNSPECIFIED if none can.
	Kind() coordv1.Kind
	// Request is an empty message of what its request encodes; nil: bytes without fields.
	Request() proto.Message
	// Frees says that it only gives something back. Then what it deletes stays deleted even where what has to follow
	// from that cannot be done, see Reactor.
	Frees() bool
	// Run reads and writes through step and answers. An error is a refusal: it becomes the result, and whatever Run has
	// written, at however many revisions, is undone. It must not panic on any request.
	Run(step Step, request []byte) (response []byte, err error)
}

// Step is what a procedure sees: the store as it stands at its point of the log, including the effects of the commands
// before it in the same batch, and its own writes.
type Step interface {
	// Revision is the store's revision before the step. The first write of the step takes Revision()+1 and all writes
	// of one step share it, until NextRevision.
	Revision() Revision
	// NextRevision closes the step's current revision, so that the following writes take one of their own. Without a
	// write before it, it does nothing.
	NextRevision()
	// Attempt calls do and returns its error; if it is one, what do has written is undone, and the step goes on from
	// there.
	Attempt(do func() error) error
	// Broken reports whether a reaction failed for the queue, and none has succeeded since. Mend says that it is in
	// order again.
	Broken(queue string) bool
	Mend(queue string)
	// Get returns the latest version of key, nil if there is none. The result is shared: do not change it.
	Get(key []byte) *mvccpb.KeyValue
	// Scan calls fn for the latest versions in [key, end) in key order until fn returns false; end "\x00" means all
	// keys >= key. fn must not write.
	Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool)
	// Children calls fn for the latest versions of the keys directly below parent (parent, a slash, and what has none)
	// by create revision, and by key where a transaction created several at once, until fn returns false. Its cost does
	// not depend on the keys behind, nor on those that stand deeper below. fn must not write.
	Children(parent []byte, fn func(*mvccpb.KeyValue) bool)
	// ChildrenFrom is Children for those that were created at revision from or later; it does not read what is before
	// either.
	ChildrenFrom(parent []byte, from Revision, fn func(*mvccpb.KeyValue) bool)
	// Put writes key, attached to lease (0: none), and returns the revision of the write. The lease must be alive, see
	// LeaseAlive; ErrLeaseNotFound otherwise. ErrInvalid if the key was already written at this revision, ErrNoSpace
	// while the NOSPACE alarm is raised.
	Put(key, value []byte, lease LeaseID) (Revision, error)
	// Touch writes the latest version of key once more, value and lease as they are, and returns the revision of the
	// write. It is not refused for space: who has something must be able to say so at any time. What PutEntry noted
	// stays. ErrKeyNotFound if there is no such key, ErrInvalid if it was already written at this revision.
	Touch(key []byte) (Revision, error)
	// Delete deletes key and reports whether it existed. ErrInvalid if the key was already written at this revision.
	Delete(key []byte) (bool, error)
	// PutEntry is Put, and notes with the attachment of key to lease, which is not 0, what a is. A plain Put or another
	// command's write of key forgets it. SinceUnixMS and Sequence of a are filled in where they are 0.
	PutEntry(key, value []byte, lease LeaseID, a Attachment) (Revision, error)
	// Attachment is what PutEntry noted; the zero value where it noted nothing.
	Attachment(lease LeaseID, key []byte) Attachment
	// Session is the session whose request the step is, 0 for a Call outside of sessions. It is alive.
	Session() LeaseID
	// IsSession reports whether the lease is that of a session.
	IsSession(LeaseID) bool
	// LeaseAlive reports whether the lease exists and is not overdue.
	LeaseAlive(LeaseID) bool
	// LeaseKeys returns the keys attached to the lease in key order.
	LeaseKeys(LeaseID) [][]byte
	// ClockMS is log time in milliseconds. It is for records and comparisons inside the state machine, not for people.
	ClockMS() int64
}

// Attachment is what a recipe notes about a key that is attached to a lease.
//
//	row value: uvarint kind | uvarint sequence | uvarint since | uvarint linger     empty: nothing was noted
type Attachment struct {
	Kind        uint64 // the recipe's own
	Sequence    uint64 // of the request that wrote the entry; 0 outside of sessions
	SinceUnixMS int64  // when the entry was made, by the wall clock of the member that proposed it; for people
	LingerMS    int64  // how long the key stays, on a lease of its own, if the lease expires; 0: not at all
}

// Reactor runs after each command that deleted keys with its prefix, in the command's last revision; after each request
// of a session and each lease that expires likewise. It must be deterministic, and may write any key with the prefix
// that was not written at that revision, or go on to the next one. It is not run for what it deletes itself. Its writes
// are not refused for space: they pass on what was there.
type Reactor interface {
	Prefix() []byte
	// QueueOf names what a key with the prefix belongs to. Each queue has a reaction of its own.
	QueueOf(key []byte) string
	// Deleted gets what the keys of a queue were, in the order in which they were deleted, each once. It must not
	// change them. An error undoes what it wrote. It refuses the command or request that deleted the keys, with
	// ErrQueueBroken, so that all of that is undone, unless that only gives something back: a lease that expires or is
	// revoked, the end of a session, a deletion by itself, a withdrawal, a Procedure that frees. Then the deletion
	// stands and the queue is broken, see BrokenQueue.
	Deleted(step Step, queue string, were []*mvccpb.KeyValue) error
}
