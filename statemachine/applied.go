package statemachine

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// EntryResult tells what became of one entry of the log, with a result for each of its commands.
type EntryResult struct {
	Member, Boot, Start, Number uint64
	// Duplicate: the entry had been executed before, or its proposer had given it up; nothing was done now. Results is
	// nil.
	Duplicate bool
	// Displaced: another start of the proposer's data directory counts, so nothing was done, and no later entry of this
	// start will ever run. Results is nil.
	Displaced bool
	// Results is filled only where Member is the machine's own member id, and Boot and Start name its process: nobody
	// else waits for them. It is as long as the entry's commands.
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

// SessionChange says that a session ended, or was attached to another stream.
type SessionChange struct {
	ID      LeaseID
	Created uint64
	Stream  uint64 // to which it was attached before
	Ended   bool   // expired or ended; else attached to another stream
}

// Event is one change of one key. PrevKv is the key's previous version, nil where there was none (a create) or where it
// has been compacted. Kv of a delete has only Key and ModRevision. Events are shared: nobody may change them.
type Event struct {
	Type   mvccpb.Event_EventType
	Kv     *mvccpb.KeyValue
	PrevKv *mvccpb.KeyValue
	// Sweep, if it is not nil, are many deletes at once, one of each of its keys, in their order. Kv has only
	// ModRevision then, and what the keys were is not kept: who wants to know reads the history, see View.KeyChanges.
	// Only Applied.Events have such events.
	Sweep Sweep
}

// Sweep names many keys that were deleted in one revision. It never changes.
type Sweep interface {
	// Len is how many keys were deleted, and Size about how many bytes of memory the sweep takes.
	Len() int
	Size() int
	// Key is the i-th key, in key order. Shared: nobody may change it.
	Key(i int) []byte
	// Has reports whether key was deleted.
	Has(key []byte) bool
	// Within are the indexes [from, to) of the keys that are key, or in [key, end) if end is not empty, or >= key if it
	// is "\x00".
	Within(key, end []byte) (from, to int)
}

// Observer learns what the machine did. Calls come from the goroutine that applies the log, in order, and must not
// block for long.
type Observer interface {
	// Applied is called after each batch, and first by Open with what was found in the store: nothing may come to be
	// applied for long, and leases go on meanwhile.
	Applied(*Applied)
	// Recovered is called after the whole state was replaced by a snapshot: revision, leases, members, anything may
	// have jumped ahead. executed reports whether the snapshot says that the entry (own member id, own start, number)
	// ran.
	Recovered(a *Applied, executed func(number uint64) bool)
}
