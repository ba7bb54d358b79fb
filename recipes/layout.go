package recipes

import (
	"strings"
)

// Reserved begins the keys that are not in etcd's layout; no name does.
const Reserved = "_coord/"

// Prefixes of the reserved keys, see the package doc.
const (
	electionPrefix = Reserved + "elections/"
	askPrefix      = Reserved + "asks/"
	transferPrefix = Reserved + "transfers/"
	leaderSuffix   = "/leader" // not hex, so no candidate's
)

// QueueOf is the queue of a name: the name itself for a lock or an election, a reserved key for an election with
// priorities.
func QueueOf(name string, byPriority bool) string {
	if byPriority {
		return electionPrefix + name
	}
	return name
}

// ByPriority says whether queue is that of an election with priorities.
func ByPriority(queue string) bool { return strings.HasPrefix(queue, electionPrefix) }

// NameOf is the name of a queue.
func NameOf(queue string) string { return strings.TrimPrefix(queue, electionPrefix) }

// QueueOfKey is the queue that the key of an entry, or of a leader, would belong to: all before its last slash.
func QueueOfKey(key string) (queue string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i <= 0 {
		return "", false
	}
	return key[:i], true
}

// LeaderKey is the key that says who leads an election with priorities.
func LeaderKey(queue string) string { return queue + leaderSuffix }

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
	for _, queue := range []string{name, QueueOf(name, true)} {
		if _, _, ok := ParseKey(queue, key); ok {
			return queue, nil
		}
	}
	return "", invalid("key %q is not one of an entry of %q", key, name)
}

// checkEntry is entryQueue for an entry with a token.
func checkEntry(name, key string, token int64) (queue string, err error) {
	queue, err = entryQueue(name, key)
	if err == nil && token <= 0 {
		err = invalid("token %d is not positive", token)
	}
	return queue, err
}
