package statemachine

// LeaseInfo describes a lease to readers. Of a session, deadline and pending are those that its stream gives it.
type LeaseInfo struct {
	ID         LeaseID
	TTL        int64  // milliseconds, as granted
	DeadlineMS int64  // log time; meaningless while Pending
	Pending    bool   // no deadline yet: a full TTL remains
	Keys       int    // number of attached keys
	Owner      string // the user for whom it was granted; empty: nobody in particular
}

// LeaseRow is what a view knows of a lease: all but its time, which Machine.Lease tells.
type LeaseRow struct {
	ID  LeaseID
	TTL int64 // milliseconds, as granted
	// Of a session; Created is 0 for any other lease.
	Created  uint64
	Identity []byte // coordv1.Identity; shared
}

// SessionInfo describes a session to readers.
type SessionInfo struct {
	LeaseInfo
	Created  uint64
	Epoch    uint64
	Stream   uint64
	Identity []byte // coordv1.Identity; shared
}

// AttachedKey is a key that is attached to a lease, with what was noted with that.
type AttachedKey struct {
	Lease      LeaseID
	Key        []byte
	Attachment Attachment
}

// BrokenQueue is a queue for which what follows from a deletion could not be done: the deletion stands, as it frees
// something, and the queue is not what it should be. It is so until a later reaction, or Step.Mend, succeeds.
//
//	row: 0f queue → uvarint index | uvarint revision | text
type BrokenQueue struct {
	Queue    string
	Index    uint64   // of the log entry that broke it
	Revision Revision // of the deletion
	Err      string   // why
}
