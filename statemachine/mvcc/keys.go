package mvcc

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// The spaces. See the package doc for their keys. Numbers are never reused.
const (
	SpaceLive      byte = 0x01
	SpaceVersions  byte = 0x02
	SpaceChanges   byte = 0x03
	SpaceLeases    byte = 0x04
	SpaceLeaseKeys byte = 0x05
	SpaceRenewals  byte = 0x06
	SpaceMeta      byte = 0x08
	SpaceMembers   byte = 0x09
	SpaceAlarms    byte = 0x0a
	SpaceExecuted  byte = 0x0b
	SpaceStreams   byte = 0x0c
	SpaceSessions  byte = 0x0d
	SpaceOutcomes  byte = 0x0e
	SpaceBroken    byte = 0x0f
	SpaceRefused   byte = 0x10
	SpaceChildren  byte = 0x18
)

const (
	suffixLen  = 8 + 4 + 1 // ^main ^sub and the length byte
	termFirst  = 0x00
	termSecond = 0x01
	escaped00  = 0xff
	// maxSub bounds the changes of one revision.
	maxSub = 1<<32 - 1
)

// LiveKey is the key of the latest version of a user key.
func LiveKey(key []byte) []byte {
	return appendLiveKey(make([]byte, 0, liveKeyLen(key)), key)
}

func liveKeyLen(key []byte) int { return 1 + len(key) }

func appendLiveKey(dst, key []byte) []byte { return append(append(dst, SpaceLive), key...) }

// versionPrefix is the bare prefix under which all versions of a user key stand. It has room for the suffix.
func versionPrefix(key []byte) []byte {
	return appendEscaped(append(make([]byte, 0, versionKeyLen(key)), SpaceVersions), key)
}

// versionKeyLen is the length of a version's key, but for what is escaped.
func versionKeyLen(key []byte) int { return len(key) + 3 + suffixLen }

// appendEscaped appends esc(key) 00 01.
func appendEscaped(dst, key []byte) []byte {
	for {
		i := bytes.IndexByte(key, 0)
		if i < 0 {
			break
		}
		dst = append(append(dst, key[:i+1]...), escaped00)
		key = key[i+1:]
	}
	return append(append(dst, key...), termFirst, termSecond)
}

func appendVersionSuffix(prefix []byte, main int64, sub uint32) []byte {
	prefix = binary.BigEndian.AppendUint64(prefix, ^uint64(main))
	prefix = binary.BigEndian.AppendUint32(prefix, ^sub)
	return append(prefix, suffixLen)
}

// VersionKey is the key of the version that change (main, sub) made of a user key. Newer versions sort first.
func VersionKey(key []byte, main int64, sub uint32) []byte {
	return appendVersionKey(make([]byte, 0, versionKeyLen(key)), key, main, sub)
}

func appendVersionKey(dst, key []byte, main int64, sub uint32) []byte {
	return appendVersionSuffix(appendEscaped(append(dst, SpaceVersions), key), main, sub)
}

// parseVersionKey is the inverse of VersionKey; ok is false for anything else.
func parseVersionKey(k []byte) (key []byte, main int64, sub uint32, ok bool) {
	n := split(k)
	if len(k) == 0 || k[0] != SpaceVersions || len(k)-n != suffixLen {
		return nil, 0, 0, false
	}
	key, ok = unescape(k[1 : n-2])
	main = int64(^binary.BigEndian.Uint64(k[n:]))
	sub = ^binary.BigEndian.Uint32(k[n+8:])
	return key, main, sub, ok
}

func unescape(esc []byte) ([]byte, bool) {
	key := make([]byte, 0, len(esc))
	for {
		i := bytes.IndexByte(esc, 0)
		if i < 0 {
			return append(key, esc...), true
		}
		if i+1 >= len(esc) || esc[i+1] != escaped00 {
			return nil, false
		}
		key = append(key, esc[:i+1]...)
		esc = esc[i+2:]
	}
}

// ChangeKey is the key of one change: number sub of main revision main.
func ChangeKey(main int64, sub uint32) []byte {
	return appendChangeKey(make([]byte, 0, changeKeyLen), main, sub)
}

const changeKeyLen = 1 + 8 + 4

func appendChangeKey(dst []byte, main int64, sub uint32) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, SpaceChanges), uint64(main))
	return binary.BigEndian.AppendUint32(dst, sub)
}

func parseChangeKey(k []byte) (main int64, sub uint32, ok bool) {
	if len(k) != 13 || k[0] != SpaceChanges {
		return 0, 0, false
	}
	return int64(binary.BigEndian.Uint64(k[1:])), binary.BigEndian.Uint32(k[9:]), true
}

// IDKey is the key of a row that an 8-byte id names: leases, members, executed, streams, sessions.
func IDKey(space byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), space), id)
}

// LeaseKeyKey is the row that says that key is attached to the lease.
func LeaseKeyKey(lease int64, key []byte) []byte {
	k := binary.BigEndian.AppendUint64(append(make([]byte, 0, 9+len(key)), SpaceLeaseKeys), uint64(lease))
	return append(k, key...)
}

// LeaseBounds are the bounds [lower, upper) of the rows of all keys that are attached to a lease.
func LeaseBounds(lease int64) (lower, upper []byte) {
	if lower = LeaseKeyKey(lease, nil); lease == -1 { // the last one: ids are stored as unsigned
		return lower, []byte{SpaceLeaseKeys + 1}
	}
	return lower, LeaseKeyKey(lease+1, nil)
}

// ParseLeaseKeyKey is the inverse of LeaseKeyKey. The key aliases k.
func ParseLeaseKeyKey(k []byte) (lease int64, key []byte, ok bool) {
	if len(k) < 9 || k[0] != SpaceLeaseKeys {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(k[1:])), k[9:], true
}

// OutcomeKey is the row of the outcomes that command number ordinal with requests at a log index brought to a session.
func OutcomeKey(session int64, index uint64, ordinal uint32) []byte {
	k := binary.BigEndian.AppendUint64(append(make([]byte, 0, 21), SpaceOutcomes), uint64(session))
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(k, index), ordinal)
}

// ParseOutcomeKey is the inverse of OutcomeKey.
func ParseOutcomeKey(k []byte) (session int64, index uint64, ordinal uint32, ok bool) {
	if len(k) != 21 || k[0] != SpaceOutcomes {
		return 0, 0, 0, false
	}
	return int64(binary.BigEndian.Uint64(k[1:])), binary.BigEndian.Uint64(k[9:]), binary.BigEndian.Uint32(k[17:]), true
}

// MetaKey is the key of a single fact.
func MetaKey(name string) []byte { return append([]byte{SpaceMeta}, name...) }

// SpaceBounds returns the bounds [lower, upper) of a whole space.
func SpaceBounds(space byte) (lower, upper []byte) { return []byte{space}, []byte{space + 1} }

// Range is a set of user keys in etcd's terms: the single Key where End is empty; all keys >= Key where End is "\x00";
// otherwise [Key, End).
type Range struct{ Key, End []byte }

// Single reports whether r names one key.
func (r Range) Single() bool { return len(r.End) == 0 }

// Contains reports whether key is in r.
func (r Range) Contains(key []byte) bool {
	switch {
	case r.Single():
		return bytes.Equal(key, r.Key)
	case r.fromKey():
		return bytes.Compare(key, r.Key) >= 0
	}
	return bytes.Compare(key, r.Key) >= 0 && bytes.Compare(key, r.End) < 0
}

func (r Range) fromKey() bool { return len(r.End) == 1 && r.End[0] == 0 }

// liveBounds are the bounds of r in the live space; empty reports that nothing can lie in it.
func (r Range) liveBounds() (lower, upper []byte, empty bool) {
	lower = LiveKey(r.Key)
	switch {
	case r.Single():
		return lower, append(LiveKey(r.Key), 0), false
	case r.fromKey():
		return lower, []byte{SpaceLive + 1}, false
	}
	return lower, LiveKey(r.End), bytes.Compare(r.Key, r.End) >= 0
}

func (r Range) versionBounds() (lower, upper []byte, empty bool) {
	lower = versionPrefix(r.Key)
	switch {
	case r.Single():
		return lower, prefixEnd(lower), false
	case r.fromKey():
		return lower, []byte{SpaceVersions + 1}, false
	}
	return lower, versionPrefix(r.End), bytes.Compare(r.Key, r.End) >= 0
}

// prefixEnd is the end of all keys that begin with a bare prefix (which ends in 01).
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

// split is Pebble's Split: where the user key with its terminator ends.
func split(k []byte) int {
	n := len(k) - suffixLen
	if n < 3 || k[0] != SpaceVersions || k[len(k)-1] != suffixLen || k[n-2] != termFirst || k[n-1] != termSecond {
		return len(k)
	}
	return n
}

// Comparer orders keys by their bytes and splits those of the versions space at the user key. Its name is stored in the
// database; its order can never change.
var Comparer = newComparer()

func newComparer() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "coord.mvcc.v1"
	c.Split = split
	// Index separators inside the versions space stay whole keys: a shortened one could split elsewhere.
	c.Separator = func(dst, a, b []byte) []byte {
		if len(a) > 0 && a[0] == SpaceVersions {
			return append(dst, a...)
		}
		return pebble.DefaultComparer.Separator(dst, a, b)
	}
	c.Successor = func(dst, a []byte) []byte {
		if len(a) > 0 && a[0] == SpaceVersions {
			return append(dst, a...)
		}
		return pebble.DefaultComparer.Successor(dst, a)
	}
	return &c
}
