package recipes

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

// Limits of what requests may carry.
const (
	MaxNameLen    = 1024 // bytes
	MaxOwnerIDLen = 64   // bytes
)

// Entry is one holder or waiter.
type Entry struct {
	Key     string
	Token   int64 // create revision
	Claim   int64 // mod revision
	Lease   statemachine.LeaseID
	OwnerID string
	Value   []byte // shared: do not change it
}

// Compare orders entries as they are granted.
func (e Entry) Compare(o Entry) int {
	return cmp.Or(cmp.Compare(e.Token, o.Token), cmp.Compare(e.Key, o.Key))
}

// Reader reads the latest versions of keys at one revision. A statemachine.Step is one.
type Reader interface {
	// Scan calls fn for the keys in [key, end) in key order until fn returns false.
	Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool)
}

// CheckName says whether name can name a lock or an election. The error wraps statemachine.ErrInvalid.
func CheckName(name string) error {
	switch {
	case name == "":
		return invalid("name is empty")
	case len(name) > MaxNameLen:
		return invalid("name has %d bytes, more than %d", len(name), MaxNameLen)
	case strings.HasSuffix(name, "/"):
		return invalid("name %q ends in a slash", name)
	case !utf8.ValidString(name):
		return invalid("name %q is not UTF-8", name)
	}
	return nil
}

// CheckOwnerID says whether id can tell apart owners in a session. The error wraps statemachine.ErrInvalid.
func CheckOwnerID(id string) error {
	if len(id) > MaxOwnerIDLen {
		return invalid("owner id has %d bytes, more than %d", len(id), MaxOwnerIDLen)
	}
	for _, c := range []byte(id) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '_' && c != '-' {
			return invalid("owner id %q has other characters than 0-9, A-Z, a-z, _ and -", id)
		}
	}
	return nil
}

// invalid returns an error that wraps statemachine.ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", statemachine.ErrInvalid, fmt.Sprintf(format, args...))
}

// Key is the key of an entry.
func Key(name string, lease statemachine.LeaseID, ownerID string) string {
	key := name + "/" + strconv.FormatInt(lease, 16)
	if ownerID != "" {
		key += "." + ownerID
	}
	return key
}

// Range is the interval [key, end) in which the entries of name are, among others.
func Range(name string) (key, end []byte) {
	return []byte(name + "/"), []byte(name + "0") // '0' follows '/'
}

// ParseKey takes apart the key of an entry of name. It is strict: two keys never mean the same lease and owner.
func ParseKey(name, key string) (lease statemachine.LeaseID, ownerID string, ok bool) {
	rest, ok := strings.CutPrefix(key, name+"/")
	if !ok {
		return 0, "", false
	}
	hex, ownerID, _ := strings.Cut(rest, ".")
	lease, err := strconv.ParseInt(hex, 16, 64)
	if err != nil || lease <= 0 || CheckOwnerID(ownerID) != nil || Key(name, lease, ownerID) != key {
		return 0, "", false
	}
	return lease, ownerID, true
}

// ParseEntry returns the entry of name that kv is; ok is false if it is none.
func ParseEntry(name string, kv *mvccpb.KeyValue) (e Entry, ok bool) {
	lease, ownerID, ok := ParseKey(name, string(kv.Key))
	if !ok || lease != kv.Lease {
		return Entry{}, false
	}
	return Entry{
		Key: string(kv.Key), Token: kv.CreateRevision, Claim: kv.ModRevision,
		Lease: lease, OwnerID: ownerID, Value: kv.Value,
	}, true
}

// Queue returns the entries of name in the order in which they are granted; the first one holds.
func Queue(r Reader, name string) []Entry {
	var queue []Entry
	eachEntry(r, name, func(e Entry) bool {
		queue = append(queue, e)
		return true
	})
	slices.SortFunc(queue, Entry.Compare)
	return queue
}

// Holds says whether no other entry of name is before e.
func Holds(r Reader, name string, e Entry) bool {
	first := true
	eachEntry(r, name, func(o Entry) bool {
		first = e.Compare(o) <= 0
		return first
	})
	return first
}

// eachEntry calls fn for the entries of name in key order until fn returns false. It jumps over what is nested deeper
// (the queue of "a" does not read through the waiters of "a/b").
func eachEntry(r Reader, name string, fn func(Entry) bool) {
	from, end := Range(name)
	prefix := len(from)
	for from != nil {
		var next []byte
		r.Scan(from, end, func(kv *mvccpb.KeyValue) bool {
			if slash := bytes.IndexByte(kv.Key[prefix:], '/'); slash >= 0 {
				next = append(bytes.Clone(kv.Key[:prefix+slash]), '0')
				return false
			}
			e, ok := ParseEntry(name, kv)
			return !ok || fn(e)
		})
		from = next
	}
}
