package recipes

import (
	"strings"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Reserved begins the keys that are not in etcd's layout; no name does.
const Reserved = "_coord/"

// Prefixes of the reserved keys that belong to queues of all kinds, see the package doc.
const (
	askPrefix      = Reserved + "asks/"
	transferPrefix = Reserved + "transfers/"
)

// kind is a kind of queue.
type kind struct {
	is     coordv1.QueueKind
	prefix string // of its queues, before the name
	rule   Rule
	// decode takes apart the value of an entry; false if no recipe wrote it. nil: any value will do.
	decode func(*Entry) bool
	// identity says that the value of an entry is what EncodeIdentity makes.
	identity bool
}

// plain is the kind of queues in etcd's layout: locks, elections, and those that only etcd's clients use.
var plain = &kind{is: coordv1.QueueKind_QUEUE_ETCD, rule: oldest{}}

// reservedKinds are those that stand under prefixes of their own. The suffixes of records are not hex, so no record is an entry.
var reservedKinds = []*kind{
	{is: coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, prefix: Reserved + "elections/", rule: byRecord{}, decode: decodeCandidate},
	{is: coordv1.QueueKind_QUEUE_RWLOCK, prefix: Reserved + "rwlocks/", rule: readWrite, decode: memberOf(KindRWLock), identity: true},
	{is: coordv1.QueueKind_QUEUE_SEMAPHORE, prefix: Reserved + "semaphores/", rule: byPermits, decode: memberOf(KindSemaphore), identity: true},
	{is: coordv1.QueueKind_QUEUE_BARRIER, prefix: Reserved + "barriers/", rule: allTogether, decode: memberOf(KindBarrier), identity: true},
}

// kindOf is the kind of a queue, or of the queue that a key is in.
func kindOf(queue string) *kind {
	if strings.HasPrefix(queue, Reserved) {
		for _, k := range reservedKinds {
			if strings.HasPrefix(queue, k.prefix) {
				return k
			}
		}
	}
	return plain
}

// QueueOf is the queue of a kind and a name: the name itself for a lock or an election, a reserved key for the others.
func QueueOf(is coordv1.QueueKind, name string) string {
	for _, k := range reservedKinds {
		if k.is == is {
			return k.prefix + name
		}
	}
	return name
}

// ElectionQueue is the queue of an election; with priorities if that of a candidate is not 0.
func ElectionQueue(name string, priority int64) string {
	if priority != 0 {
		return QueueOf(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, name)
	}
	return name
}

// KindOf is the kind of a queue. All in etcd's layout are QUEUE_ETCD here: what else they are is noted with their entries.
func KindOf(queue string) coordv1.QueueKind { return kindOf(queue).is }

// Kinds are the kinds of queues that KindOf tells apart.
func Kinds() []coordv1.QueueKind {
	kinds := []coordv1.QueueKind{plain.is}
	for _, k := range reservedKinds {
		kinds = append(kinds, k.is)
	}
	return kinds
}

// ByPriority says whether queue is that of an election with priorities.
func ByPriority(queue string) bool {
	return KindOf(queue) == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
}

// NameOf is the name of a queue.
func NameOf(queue string) string { return strings.TrimPrefix(queue, kindOf(queue).prefix) }

// RuleOf is the rule of a queue.
func RuleOf(queue string) Rule { return kindOf(queue).rule }

// HasIdentity says whether the entries of a kind of queue say who their owner is; those of elections have a value instead.
func HasIdentity(is coordv1.QueueKind) bool {
	return is == coordv1.QueueKind_QUEUE_LOCK || is == coordv1.QueueKind_QUEUE_ETCD || kindOf(QueueOf(is, "")).identity
}

// QueueOfKey is the queue that the key of an entry, or of a record, would belong to: all before its last slash.
func QueueOfKey(key string) (queue string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i <= 0 {
		return "", false
	}
	return key[:i], true
}

// AskKey is the key under which the holder with this entry is asked to release.
func AskKey(entry string) string { return askPrefix + entry }

// TransferKey is the key that tells of the last transfer in a queue.
func TransferKey(queue string) string { return transferPrefix + queue }

// AskedEntry is the key of the entry whose holder is asked by key.
func AskedEntry(key string) (entry string, ok bool) { return strings.CutPrefix(key, askPrefix) }

// TransferredQueue is the queue of whose last transfer key tells.
func TransferredQueue(key string) (queue string, ok bool) {
	return strings.CutPrefix(key, transferPrefix)
}

// entryQueue is the queue of a name to which the key of an entry belongs. The error wraps statemachine.ErrInvalid.
func entryQueue(name, key string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	queue := kindOf(key).prefix + name
	if _, _, ok := ParseKey(queue, key); !ok {
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
