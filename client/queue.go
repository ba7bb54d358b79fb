package client

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/objects"
)

// QueueEntry is who holds something, or waits for it, as the queue of its name shows it to everybody.
type QueueEntry struct {
	// Key is the entry's key in the store. One that is not UTF-8, which only another client can make, is in quotes.
	Key string
	// Token is the key's create revision: the fencing token, or the term, if the entry holds.
	Token int64
	// Session is the lease of the session that holds or waits; NoLease for a key that no lease ends.
	Session clientv3.LeaseID
	// Owner and Labels are what WithOwner and WithLabel said. An election has none.
	Owner  string
	Labels map[string]string
	// Value is an election's candidate's.
	Value []byte
	// Since is when the entry was made, by the clock of a member: for people. AskRelease tells it of who was asked;
	// Describe does not, and leaves the zero time.
	Since time.Time
	// Writes: the entry is a writer's of a read-write lock.
	Writes bool
	// Permits is how many of a semaphore's the entry holds or waits for.
	Permits int64
	// Foreign: the entry is a key of another client, which stands in the queue as etcd's clients count it. ForeignKey
	// is the whole key. Nothing here can take its client for dead: it goes when its lease ends, or when somebody
	// deletes it.
	Foreign    bool
	ForeignKey []byte
}

// Queue is who holds and who waits, as of one revision.
type Queue struct {
	Revision int64
	// Holders are those who hold, oldest first, and Holding their number, of which Holders may have the first ones
	// only.
	Holders []QueueEntry
	Holding int64
	// Waiters are those who wait, in the order in which they will be granted, and Waiting their number, likewise.
	Waiters []QueueEntry
	Waiting int64
}

// Holder is the oldest who holds. Its Token is 0 if nobody does.
func (q *Queue) Holder() QueueEntry {
	if len(q.Holders) == 0 {
		return QueueEntry{}
	}
	return q.Holders[0]
}

func queueOf(resp *coordv1.DescribeResponse) Queue {
	return Queue{
		Revision: resp.Revision, Holding: resp.Holding, Waiting: resp.Waiting,
		Holders: entriesOf(resp.Holders), Waiters: entriesOf(resp.Waiters),
	}
}

func entriesOf(wire []*coordv1.Entry) []QueueEntry {
	entries := make([]QueueEntry, len(wire))
	for i, e := range wire {
		entries[i] = entryOf(e)
	}
	return entries
}

func entryOf(e *coordv1.Entry) QueueEntry {
	entry := QueueEntry{
		Key: e.Key, Token: e.Token, Session: clientv3.LeaseID(e.Lease), Owner: e.Owner, Labels: e.Labels,
		Value:  e.Value,
		Writes: e.Write, Permits: e.Permits, Foreign: len(e.ForeignKey) > 0, ForeignKey: e.ForeignKey,
	}
	if e.SinceUnixMs != 0 {
		entry.Since = time.UnixMilli(e.SinceUnixMs)
	}
	return entry
}

// SemaphoreState is a semaphore, who holds its permits and who waits.
type SemaphoreState struct {
	Queue
	// Limit is how many permits there are in all; 0: it was never set.
	Limit int64
	// Held permits include those that are kept for holders that died (WithDelay). More than Limit only while it drains.
	Held int64
	// Wanted permits are waited for.
	Wanted int64
}

// BarrierState is a barrier and who is there.
type BarrierState struct {
	Queue
	// Generation is how often it has opened.
	Generation int64
	// Parties is how many it is for; 0: nobody is there, so the next one says it.
	Parties int64
	// Arrived is how many are there: if it is open, who has not left.
	Arrived int64
	// Open: it has opened, and not all have left.
	Open bool
}

// Resized is what Semaphore.Resize and Drain did.
type Resized struct {
	Before   int64 // the limit; 0: there was none
	Held     int64 // permits, at the new limit
	Revision int64
}

// LatchState is a latch at one revision.
type LatchState struct {
	Generation int64 // the revision at which it was set
	Count      int64 // as it was set
	Remaining  int64 // 0: who waits goes on
	Revision   int64
}

// GateState is a gate at one revision.
type GateState struct {
	Closed   bool
	Since    int64            // the revision since which it is closed without a break; 0 if it is not
	Reason   string           // of the last Close
	Session  clientv3.LeaseID // that it is bound to; NoLease: to none
	Revision int64
}

// Member is a member of a group.
type Member struct {
	ID      string
	Data    []byte
	Joined  int64            // the revision at which it joined
	Updated int64            // the revision at which its data was written last
	Session clientv3.LeaseID // that it is a member by
}

func membersOf(wire []*coordv1.GroupMember) []Member {
	if wire == nil {
		return nil
	}
	members := make([]Member, len(wire))
	for i, m := range wire {
		members[i] = Member{m.Id, m.Data, m.Joined, m.Updated, clientv3.LeaseID(m.Session)}
	}
	return members
}

// holderText is what the holder's entry says, for people.
func holderText(e *coordv1.Entry) string {
	if text := objects.ForeignKey(e); text != "" {
		return text
	}
	if e.GetOwner() != "" {
		return e.Owner
	}
	return string(e.GetValue())
}
