package recipes

import (
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// kind is what there is to know of a kind of queue beside where it stands, which is package layout's.
type kind struct {
	rule Rule
	// decode takes apart the value of an entry; false if no recipe wrote it. nil: any value will do.
	decode func(*Entry) bool
	// identity says that the value of an entry is what EncodeIdentity makes.
	identity bool
}

// plain is the kind of queues in etcd's layout: locks, elections, and those that only etcd's clients use.
var plain = &kind{rule: oldest{}}

// kinds are those that layout.KindOf tells apart.
var kinds = [...]*kind{
	coordv1.QueueKind_QUEUE_ETCD:              plain,
	coordv1.QueueKind_QUEUE_PRIORITY_ELECTION: {rule: byRecord{}, decode: decodeCandidate},
	coordv1.QueueKind_QUEUE_RWLOCK:            {rule: readWrite, decode: memberOf(KindRWLock, nil), identity: true},
	coordv1.QueueKind_QUEUE_SEMAPHORE: {
		rule: byPermits, decode: memberOf(KindSemaphore, wantsPermits), identity: true,
	},
	coordv1.QueueKind_QUEUE_BARRIER: {rule: allTogether, decode: memberOf(KindBarrier, nil), identity: true},
}

// part is what a kind adds to what the log can call.
type part struct {
	procedures []statemachine.Procedure
	// remains is the key that stays under a name when nobody is there any more, and which an operator can delete; the
	// error says why not now. nil: nothing stays.
	remains func(step statemachine.Step, name string) (key string, err error)
	object  coordv1.DeleteObjectRequest_Kind // what the operator calls it
}

// parts has a row for each kind that is more than a queue in etcd's layout.
func parts() []part {
	return []part{
		{procedures: rwLockProcedures()},
		{semaphoreProcedures(), semaphoreRemains, coordv1.DeleteObjectRequest_SEMAPHORE},
		{barrierProcedures(), barrierRemains, coordv1.DeleteObjectRequest_BARRIER},
		{counterProcedures(), always(layout.Counter), coordv1.DeleteObjectRequest_COUNTER},
		{sequenceProcedures(), always(layout.Sequence), coordv1.DeleteObjectRequest_SEQUENCE},
		{latchProcedures(), always(layout.Latch), coordv1.DeleteObjectRequest_LATCH},
		{procedures: gateProcedures()},
		{procedures: groupProcedures()},
		{procedures: registryProcedures()},
		{procedures: configProcedures()},
	}
}

// kindOf is the kind of a queue, or of the queue that a key is in.
func kindOf(queue string) *kind { return kinds[layout.KindOf(queue)] }

// ByPriority says whether queue is that of an election with priorities.
func ByPriority(queue string) bool {
	return layout.KindOf(queue) == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
}

// RuleOf is the rule of a queue.
func RuleOf(queue string) Rule { return kindOf(queue).rule }

// HasIdentity says whether the entries of a kind of queue say who their owner is; those of elections have a value
// instead.
func HasIdentity(is coordv1.QueueKind) bool {
	return is == coordv1.QueueKind_QUEUE_LOCK || is == coordv1.QueueKind_QUEUE_ETCD ||
		kindOf(layout.QueueOf(is, "")).identity
}

// entryQueue is the queue of a name to which the key of an entry belongs. The error wraps statemachine.ErrInvalid.
func entryQueue(name, key string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	queue := layout.QueueOfName(name, key)
	if _, _, ok := layout.ParseEntryKey(queue, key); !ok {
		return "", invalid("key %q is not one of an entry of %q", key, name)
	}
	return queue, nil
}

// checkEntry is entryQueue for an entry with a token.
func checkEntry(name, key string, token int64) (queue string, err error) {
	queue, err = entryQueue(name, key)
	if err == nil && token <= 0 {
		err = invalid("token %d is not positive", token)
	}
	return queue, err
}
