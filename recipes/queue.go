package recipes

import (
	"cmp"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// Limits of what requests may carry.
const (
	MaxNames    = 64        // of one acquire
	MaxLingerMS = 3_600_000 // milliseconds
	MaxValueLen = 1 << 20   // bytes, of a candidate
	MaxTextLen  = 1024      // bytes, of what is said to a holder
)

// Entry is one holder or waiter, or the place of one that died.
type Entry struct {
	Key     string
	Token   int64                // create revision
	Claim   int64                // mod revision
	Lease   statemachine.LeaseID // the one in the key; of a foreign key the one that it is attached to, 0 if to none
	OwnerID string
	Value   []byte // shared: do not change it
	// Lingers: the lease has expired and the place is kept for a while. It is never granted.
	Lingers bool
	// Foreign: a key that counts in the queue and is not the entry of the lease in its name. Who acts by it is not
	// known here, so it is never granted, and goes when whoever put it deletes it or its lease ends.
	Foreign bool
	// Of elections with priorities: the candidate's, and whether it was made the leader.
	Priority int64
	Elected  bool
	Write    bool  // of a read-write lock
	Permits  int64 // of a semaphore
}

// Compare orders entries as they came.
func (e Entry) Compare(o Entry) int {
	return cmp.Or(cmp.Compare(e.Token, o.Token), cmp.Compare(e.Key, o.Key))
}

// Reader reads the latest versions of keys at one revision. A statemachine.Step is one.
type Reader interface {
	// Get returns key, nil if there is none.
	Get(key []byte) *mvccpb.KeyValue
	// Children calls fn for the keys directly below parent by create revision, and then by key, until fn returns false.
	// It does not read what is behind, nor what stands deeper below.
	Children(parent []byte, fn func(*mvccpb.KeyValue) bool)
}

// CheckName says whether name can name a queue. The error wraps statemachine.ErrInvalid.
func CheckName(name string) error {
	if err := layout.CheckName(name); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// CheckOwnerID says whether id can tell apart owners in a session. The error wraps statemachine.ErrInvalid.
func CheckOwnerID(id string) error {
	if err := layout.CheckOwnerID(id); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// ParseEntry returns what kv is in a queue; ok is false if it is nothing there. In etcd's layout every key directly
// below the queue's name counts, as etcd's clients count it.
func ParseEntry(queue string, kv *mvccpb.KeyValue) (e Entry, ok bool) {
	if of, ok := layout.QueueOfKey(string(kv.Key)); !ok || of != queue {
		return Entry{}, false
	}
	e = Entry{Key: string(kv.Key), Token: kv.CreateRevision, Claim: kv.ModRevision, Lease: kv.Lease, Value: kv.Value}
	lease, ownerID, ok := layout.ParseEntryKey(queue, e.Key)
	e.Lingers = ok && statemachine.Lingers(kv.Lease)
	k := kindOf(queue)
	switch {
	case ok && (lease == kv.Lease || e.Lingers):
		e.Lease, e.OwnerID = lease, ownerID
		return e, k.decode == nil || k.decode(&e)
	case k == plain:
		e.Foreign = true
		return e, true
	}
	return Entry{}, false
}

// Queue returns the entries of queue, oldest first.
func Queue(r Reader, queue string) []Entry {
	var entries []Entry
	eachEntry(r, queue, func(e Entry) bool {
		entries = append(entries, e)
		return true
	})
	return entries
}

// eachEntry calls fn for the entries of queue, oldest first, until fn returns false.
func eachEntry(r Reader, queue string, fn func(Entry) bool) {
	r.Children([]byte(queue), func(kv *mvccpb.KeyValue) bool {
		e, ok := ParseEntry(queue, kv)
		return !ok || fn(e)
	})
}

func entryOf(queue string, kv *mvccpb.KeyValue) (Entry, bool) {
	if kv == nil {
		return Entry{}, false
	}
	return ParseEntry(queue, kv)
}
