package client

import "errors"

// Errors of this package, by when they occur; test for them with errors.Is. The error's text has the details: which
// name, which key, which member. An error of a call that changes something, with neither ErrOutcomeUnknown nor ErrLost
// in it, says that nothing was changed. Errors of etcd's API are found, too, as with etcd's client (rpctypes); the end
// of a context by its own error and its cause.

// Errors of the configuration. Trying again does not help.
var (
	// ErrConfig: New was given a Config that it cannot work with. Change the Config.
	ErrConfig = errors.New("client config")
	// ErrClusterVersion: the cluster is too old for what was asked, or for a feature in Config.Features; the text says
	// what. Upgrade all its members, or do without. It can come from every call.
	ErrClusterVersion = errors.New("the cluster is too old")
)

// Errors of opening a session, by NewSession, and by whatever is the first to need the shared session.
var (
	// ErrTooManySessions: the connection has as many sessions as the server allows. Share sessions, or close some.
	ErrTooManySessions = errors.New("too many sessions")
)

// Errors of acquiring: Acquire, TryAcquire, Do, Campaign, TryCampaign, Run and Enter. Nothing is held, and nothing of
// the request stays in the queue. ErrLost is one of them: the session ended, or somebody removed the entry, while it
// waited.
var (
	// ErrNotAcquired: somebody else holds or leads (TryAcquire, TryCampaign), or did so until WithMaxWait was over. Try
	// again later.
	ErrNotAcquired = errors.New("not acquired")
	// ErrForeignKey: a key that no session made stands directly below the name and is in the way, as it is for etcd's
	// clients. It may never go: find out who made it, the text names it, and delete it. It comes with ErrNotAcquired.
	ErrForeignKey = errors.New("a key of another client is in the way")
	// ErrKeyTaken: a key that is no entry of the session stands where the entry would. Use another name, or delete the
	// key.
	ErrKeyTaken = errors.New("key is taken")
	// ErrWrongKind: the name is used as another kind of recipe. Use another name.
	ErrWrongKind = errors.New("name is used as another kind of recipe")
	// ErrUpgrade: who reads under a read-write lock cannot become its writer: two of them would wait for each other.
	// Release, acquire to write, and read again what was read.
	ErrUpgrade = errors.New("a reader cannot become a writer")
	// ErrTooManyPermits: more permits than the semaphore has in all. Ask for fewer, or resize it.
	ErrTooManyPermits = errors.New("more permits than the semaphore has")
	// ErrBarrierFull: the barrier is open, and not all have left; or it is in use and cannot be deleted. Wait until
	// they have.
	ErrBarrierFull = errors.New("the barrier has all its parties")
	// ErrPartiesMismatch: those who are at the barrier wait for another number of parties. All have to agree on one.
	ErrPartiesMismatch = errors.New("the barrier is for another number of parties")
)

// Errors of holding and losing: of Err, of the cause of a context, of Release and Resign, and of calls that only the
// holder may make. Whoever gets one stops the work that the hold protects; what was under way may still have an effect
// elsewhere, unless the resource checks the fencing token (package fence).
var (
	// ErrLost: what was held is held no more, or cannot be guaranteed any more. It wraps the reason: ErrSessionExpired,
	// ErrSessionElsewhere, ErrSessionClosed, ErrClosed, ErrRemoved or ErrTransferred. Acquire anew to go on.
	ErrLost = errors.New("lost")
	// ErrSessionExpired: the session ended on the server, or could not be renewed in time. It stays lost: open another
	// one. The shared session is replaced by itself.
	ErrSessionExpired = errors.New("session expired")
	// ErrSessionElsewhere: another process attached the session. Two processes never use one: find out which is a copy
	// of the other.
	ErrSessionElsewhere = errors.New("session is used by another process")
	// ErrSessionClosed: the session was closed by this process.
	ErrSessionClosed = errors.New("session closed")
	// ErrRemoved: somebody else deleted the entry: an operator, or an etcd client. Whether to acquire anew is up to the
	// program.
	ErrRemoved = errors.New("entry was removed")
	// ErrTransferred: leadership was transferred to another candidate. Campaign again to be the leader another time.
	ErrTransferred = errors.New("leadership was transferred")
	// ErrReleased: the lock was released, or the leader resigned, by this process. It is the end that was asked for.
	ErrReleased = errors.New("released")
	// ErrFenced: the grant that guards a write (KV of what is held) does not hold any more; the write had no effect.
	// Stop.
	ErrFenced = errors.New("fenced: the grant does not hold any more")
	// ErrNotHolder: a request that only the holder may make came from somebody else; or nobody holds who could be
	// asked.
	ErrNotHolder = errors.New("not the holder")
	// ErrTokenMismatch: the token was never granted to the entry. It is of another entry, or made up.
	ErrTokenMismatch = errors.New("token does not belong to the entry")
)

// Errors of calls of whatever kind.
var (
	// ErrOutcomeUnknown: the request may have been executed, or not, or may be still. It wraps why nobody knows: the
	// end of the context, or of the session. Read what became of it before asking for it again. What is certain has no
	// such error.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrInvalid: the request is malformed: a bad name, or a value out of its range. Change it.
	ErrInvalid = errors.New("invalid request")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client closed")
	// ErrBacklog: the session has too many outcomes on the server that nobody acknowledged. It is tried again until the
	// context ends.
	ErrBacklog = errors.New("too many outcomes are not acknowledged")
	// ErrNotSet: there is nothing of this name: nobody set it, or it was deleted. Set it: a latch by Set, a semaphore's
	// limit by acquiring or resizing it; or join the group again.
	ErrNotSet = errors.New("not set")
	// ErrOverflow: a counter or a sequence would leave the range of its numbers; nothing was changed.
	ErrOverflow = errors.New("out of range")
	// ErrValueMismatch: a counter has another value than the one expected. Read it, and decide anew.
	ErrValueMismatch = errors.New("another value than expected")
	// ErrLatchState: a latch that counts cannot be set; or it is in another generation. Read its State, and decide
	// anew.
	ErrLatchState = errors.New("the latch is in another state")
	// ErrMemberExists: another session is the member of this id. If it died, it is the member until its TTL is over:
	// try again then.
	ErrMemberExists = errors.New("another session's member")
	// ErrLimitBelowHeld: a semaphore would have fewer permits than are held, or than somebody waits for. Drain it
	// instead, or wait.
	ErrLimitBelowHeld = errors.New("fewer permits than are held or waited for")
	// ErrNoLeader: nobody leads.
	ErrNoLeader = errors.New("no leader")
	// ErrNoCandidate: the target of a transfer is no candidate. Describe who is, or wait until it campaigns.
	ErrNoCandidate = errors.New("no such candidate")
	// ErrForeignCandidate: an etcd client's candidate stands before the target of a transfer, and cannot be put behind
	// it; the text names its key. It has to resign.
	ErrForeignCandidate = errors.New("a candidate of an etcd client stands between")
)
