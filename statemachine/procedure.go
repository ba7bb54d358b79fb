package statemachine

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Procedure is a recipe's step: it runs inside the apply of a Call command, at one point of the log, so that what it
// reads and what it writes is one commit. It must be deterministic: the same state and request give the same writes and
// the same response, on every replica and in every later binary. A procedure that must change its behaviour gets a new
// name (by convention a version suffix, as in "lock.acquire.v1"), because the old log is applied again with the new binary.
type Procedure interface {
	// Name is how a Call names it.
	Name() string
	// Run reads and writes through step and answers. An error is a refusal: it becomes the result, and Run must not have
	// written anything. It must not panic on any request.
	Run(step Step, request []byte) (response []byte, err error)
}

// Step is what a procedure sees: the store as it stands at its point of the log, including the effects of the commands
// before it in the same batch, and its own writes.
type Step interface {
	// Revision is the store's revision before the step. The first write of the step takes Revision()+1 and all writes of
	// one step share it, until NextRevision.
	Revision() Revision
	// NextRevision closes the step's current revision, so that the following writes take one of their own. Without a write
	// before it, it does nothing.
	NextRevision()
	// Get returns the latest version of key, nil if there is none. The result is shared: do not change it.
	Get(key []byte) *mvccpb.KeyValue
	// Scan calls fn for the latest versions in [key, end) in key order until fn returns false; end "\x00" means all keys
	// >= key. fn must not write.
	Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool)
	// Put writes key, attached to lease (0: none), and returns the revision of the write. The lease must be alive, see
	// LeaseAlive; ErrLeaseNotFound otherwise. ErrInvalid if the key was already written at this revision, ErrNoSpace while
	// the NOSPACE alarm is raised.
	Put(key, value []byte, lease LeaseID) (Revision, error)
	// Touch writes the latest version of key once more, value and lease as they are, and returns the revision of the write.
	// It is not refused for space: who has something must be able to say so at any time. ErrKeyNotFound if there is no such
	// key, ErrInvalid if it was already written at this revision.
	Touch(key []byte) (Revision, error)
	// Delete deletes key and reports whether it existed. ErrInvalid if the key was already written at this revision.
	Delete(key []byte) (bool, error)
	// LeaseAlive reports whether the lease exists and is not overdue.
	LeaseAlive(LeaseID) bool
	// LeaseKeys returns the keys attached to the lease in key order.
	LeaseKeys(LeaseID) [][]byte
	// ClockMS is log time in milliseconds. It is for records and comparisons inside the state machine, not for people.
	ClockMS() int64
}
