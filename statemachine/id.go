package statemachine

// Revision counts the changes of one keyspace. A fresh store is at revision 1; each command that changes a key adds
// one.
type Revision = int64

// LeaseID identifies a lease. 0 means no lease; clients may choose any other, negative ones too, but for those of which
// Lingers says that they are the state machine's own.
type LeaseID = int64

// Lingers says whether a key on this lease is a place that is kept for one that died: the state machine put it there
// when the key's own lease expired, see Attachment.LingerMS. It goes by the id alone, which no command can grant: to
// clients such a lease exists already, and is not found. It lives as long as its one key is on it, or until its time is
// over.
func Lingers(id LeaseID) bool { return id >= FirstLingering && id < FirstLingering+LingeringIDs }

// The ids of lingering leases: 2^40 in the middle of nowhere, far from what clients choose and from all round numbers.
const (
	FirstLingering LeaseID = 0xec696e<<40 - 1<<64
	LingeringIDs   LeaseID = 1 << 40 // so many
)
