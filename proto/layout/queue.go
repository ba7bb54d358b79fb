package layout

import (
	"strconv"
	"strings"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// QueueOf is the queue of a kind and a name: the name itself for a lock or an election, a reserved key for the others.
func QueueOf(kind coordv1.QueueKind, name string) string {
	for k := firstReserved; k <= lastQueue; k++ {
		if table[k].queue == kind {
			return table[k].dir + name
		}
	}
	return name
}

// ElectionQueue is the queue of an election; with priorities if that of a candidate is not 0.
func ElectionQueue(name string, priority int64) string {
	if priority != 0 {
		return table[Election].dir + name
	}
	return name
}

// KindOf is the kind of a queue, or of the queue that a key is in. All in etcd's layout are QUEUE_ETCD here: what else
// they are is noted with their entries. So is what is reserved and no queue, which has no entries.
func KindOf(queue string) coordv1.QueueKind { return table[kindOf(queue)].queue }

func kindOf(queue string) Kind {
	if strings.HasPrefix(queue, Reserved) {
		for k := firstReserved; k <= lastQueue; k++ {
			if strings.HasPrefix(queue, table[k].dir) {
				return k
			}
		}
	}
	return Lock
}

// QueueKinds are the kinds of queues that KindOf tells apart.
func QueueKinds() []coordv1.QueueKind {
	var kinds []coordv1.QueueKind
	for k := Lock; k <= lastQueue; k++ {
		kinds = append(kinds, table[k].queue)
	}
	return kinds
}

// NameOf is the name of a queue.
func NameOf(queue string) string { return queue[len(table[kindOf(queue)].dir):] }

// QueueOfKey is the queue that the key of an entry, or of a record, would belong to: all before its last slash.
func QueueOfKey(key string) (queue string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i <= 0 {
		return "", false
	}
	return key[:i], true
}

// QueueOfName is the queue of a name to which a key belongs, if it does: the name is one of several kinds, and the key
// says of which.
func QueueOfName(name, key string) string { return table[kindOf(key)].dir + name }

// EntryKey is the key of an entry of queue.
func EntryKey(queue string, lease int64, ownerID string) string {
	key := queue + "/" + strconv.FormatInt(lease, 16)
	if ownerID != "" {
		key += "." + ownerID
	}
	return key
}

// ParseEntryKey takes apart the key of an entry of queue. It is strict: two keys never mean the same lease and owner.
func ParseEntryKey(queue, key string) (lease int64, ownerID string, ok bool) {
	rest, ok := strings.CutPrefix(key, queue)
	if !ok || rest == "" || rest[0] != '/' {
		return 0, "", false
	}
	return parseEntry(rest[1:])
}

func parseEntry(id string) (lease int64, ownerID string, ok bool) {
	hex, ownerID, dot := strings.Cut(id, ".")
	lease, err := strconv.ParseInt(hex, 16, 64)
	if err != nil || lease <= 0 || CheckOwnerID(ownerID) != nil || dot && ownerID == "" {
		return 0, "", false
	}
	var room [16]byte
	return lease, ownerID, hex == string(strconv.AppendInt(room[:0], lease, 16))
}

// RecordKey is the key of a record that stands beside the entries of a queue.
func RecordKey(queue string, record Part) string { return queue + "/" + string(record) }

// AskKey is the key under which the holder with this entry is asked to release.
func AskKey(entry string) string { return asks + entry }

// Asks is where all notes stand that ask a holder to release, of queues of all kinds.
func Asks() Range { return below(asks) }

// AskedEntry is the key of the entry whose holder is asked by key.
func AskedEntry(key string) (entry string, ok bool) { return strings.CutPrefix(key, asks) }

// TransferKey is the key that tells of the last transfer in a queue.
func TransferKey(queue string) string { return transfers + queue }

// TransferredQueue is the queue of whose last transfer key tells.
func TransferredQueue(key string) (queue string, ok bool) { return strings.CutPrefix(key, transfers) }
