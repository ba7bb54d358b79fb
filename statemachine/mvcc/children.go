package mvcc

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// createLen is the length of the create revision in the key of a child's row.
const createLen = 8

// childKey is the row of a key that is a child, created at revision create; nil for a key that is none.
func childKey(key []byte, create int64) []byte {
	return appendChildKey(make([]byte, 0, childKeyLen(key)), key, create)
}

// appendChildKey appends childKey to dst; for a key that is no child it returns nil.
func appendChildKey(dst, key []byte, create int64) []byte {
	i := bytes.LastIndexByte(key, '/')
	if i < 0 {
		return nil
	}
	row := append(dst, SpaceChildren)
	row = binary.BigEndian.AppendUint64(appendEscaped(row, key[:i]), uint64(create))
	return append(row, key[i+1:]...)
}

// childKeyLen is the length of childKey, but for what is escaped.
func childKeyLen(key []byte) int { return len(key) + 2 + createLen }

// childrenPrefix is the bare prefix of the rows of a parent's children. It has room for a create revision.
func childrenPrefix(parent []byte) []byte {
	return appendEscaped(append(make([]byte, 0, len(parent)+3+createLen), SpaceChildren), parent)
}

// childrenPrefixLen is the length of the prefix of a child's row, 0 if it has none.
func childrenPrefixLen(row []byte) int {
	if len(row) == 0 || row[0] != SpaceChildren {
		return 0
	}
	for i := 1; ; {
		n := bytes.IndexByte(row[i:], termFirst)
		switch {
		case n < 0 || i+n+1 == len(row):
			return 0
		case row[i+n+1] == termSecond:
			return i + n + 2
		}
		i += n + 2
	}
}

// parseChild takes apart what stands behind the prefix in the key of a child's row. The base aliases it.
func parseChild(rest []byte) (create int64, base []byte, ok bool) {
	if len(rest) < createLen {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(rest)), rest[createLen:], true
}

// Children calls fn for the latest versions of the keys directly below parent, by create revision and then by key,
// until fn returns false.
func Children(src Source, parent []byte, fn func(*mvccpb.KeyValue) bool) error {
	return ChildrenFrom(src, parent, 0, fn)
}

// ChildrenFrom is Children for those that were created at revision from or later.
func ChildrenFrom(src Source, parent []byte, from int64, fn func(*mvccpb.KeyValue) bool) error {
	lower := childrenPrefix(parent)
	var seek []byte
	if from > 0 {
		seek = binary.BigEndian.AppendUint64(lower[:len(lower):len(lower)], uint64(from))
	}
	return scanFromRow(src, lower, prefixEnd(lower), seek, func(c Cursor) (bool, error) {
		create, base, ok := parseChild(c.Key()[len(lower):])
		if !ok {
			return false, corruptRow(c.Key())
		}
		key := append(append(make([]byte, 0, len(parent)+1+len(base)), parent...), '/')
		kv, err := Latest(src, append(key, base...))
		switch {
		case err != nil:
			return false, err
		case kv == nil || kv.CreateRevision != create:
			return false, corruptRow(c.Key())
		}
		return fn(kv), nil
	})
}
