package mvcc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"unsafe"
)

// Sweep is the deletion of many keys in one revision. A deletion writes up to five rows; those of a million keys would
// fill a gigabyte as rows of an overlay. Here a key takes its bytes and 24 more, and its rows are made when they are
// looked at or committed. What it says is exactly what Tx.Delete of each key, in order, would. It is immutable once it
// is in an overlay.
type Sweep struct {
	main   int64
	sub    uint32 // of the first change
	n      int
	bytes  int // of the keys
	chunks []sweepChunk
	whole  []Range // of live keys, all of which are swept
	lease  int64   // all of whose keys are swept, if not 0

	// What is not in the order of keys, by index: made when it is wanted.
	children, leased []uint32
	ordered          bool
}

// sweepChunk is up to chunkKeys keys.
type sweepChunk struct {
	keys []byte // one behind the other
	of   []swept
}

// swept is a deleted key.
type swept struct {
	end           int // of the key in the chunk's keys
	create, lease int64
}

const chunkKeys = 1 << 10

// Len is how many keys are deleted.
func (s *Sweep) Len() int { return s.n }

// Revision is the one that they are deleted in.
func (s *Sweep) Revision() int64 { return s.main }

// Size is about how many bytes of memory it takes.
func (s *Sweep) Size() int { return s.bytes + s.n*int(unsafe.Sizeof(swept{})) }

// Key is the i-th key, in key order. Shared: nobody may change it.
func (s *Sweep) Key(i int) []byte {
	c, i := &s.chunks[i/chunkKeys], i%chunkKeys
	from := 0
	if i > 0 {
		from = c.of[i-1].end
	}
	return c.keys[from:c.of[i].end:c.of[i].end]
}

func (s *Sweep) at(i int) swept { return s.chunks[i/chunkKeys].of[i%chunkKeys] }

// Find is the index of the first key that is not before key.
func (s *Sweep) Find(key []byte) int {
	return sort.Search(s.n, func(i int) bool { return bytes.Compare(s.Key(i), key) >= 0 })
}

// Within are the indexes [from, to) of those that are key, or in [key, end) if end is not empty, or >= key if it is
// "\x00".
func (s *Sweep) Within(key, end []byte) (from, to int) {
	r := Range{key, end}
	from = s.Find(r.Key)
	switch {
	case r.Single():
		to = from
		if from < s.n && bytes.Equal(s.Key(from), r.Key) {
			to++
		}
	case r.fromKey():
		to = s.n
	default:
		to = max(from, s.Find(r.End))
	}
	return from, to
}

// Has reports whether key is deleted.
func (s *Sweep) Has(key []byte) bool {
	from, to := s.Within(key, nil)
	return from < to
}

// Add adds a key, which is behind all others, as it is before it is deleted. It is copied.
func (s *Sweep) Add(key []byte, create, lease int64) {
	if s.n%chunkKeys == 0 {
		s.chunks = append(s.chunks, sweepChunk{
			of: make([]swept, 0, chunkKeys), keys: make([]byte, 0, chunkKeys*len(key)),
		})
	}
	c := &s.chunks[s.n/chunkKeys]
	c.keys = append(c.keys, key...)
	c.of = append(c.of, swept{len(c.keys), create, lease})
	s.n++
	s.bytes += len(key)
}

// Whole notes that all live keys of a range were added: then one row of Pebble's deletes them all.
func (s *Sweep) Whole(r Range) { s.whole = append(s.whole, r) }

// WholeLease notes that all keys of a lease were added.
func (s *Sweep) WholeLease(id int64) { s.lease = id }

// order finds the orders that rows of children and of leases stand in.
func (s *Sweep) order() {
	if s.ordered {
		return
	}
	s.ordered = true
	for i := range s.n {
		if bytes.IndexByte(s.Key(i), '/') >= 0 {
			s.children = append(s.children, uint32(i))
		}
		if s.at(i).lease != 0 {
			s.leased = append(s.leased, uint32(i))
		}
	}
	slices.SortFunc(s.leased, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(uint64(s.at(int(a)).lease), uint64(s.at(int(b)).lease)), cmp.Compare(a, b))
	})
	slices.SortFunc(s.children, func(a, b uint32) int {
		x, y := s.Key(int(a)), s.Key(int(b))
		parent, other := x[:bytes.LastIndexByte(x, '/')], y[:bytes.LastIndexByte(y, '/')]
		if order := bytes.Compare(parent, other); order != 0 {
			return order
		}
		return cmp.Or(cmp.Compare(uint64(s.at(int(a)).create), uint64(s.at(int(b)).create)), cmp.Compare(a, b))
	})
}

// rows is how many rows a space has of it.
func (s *Sweep) rows(space byte) int {
	switch space {
	case SpaceLive, SpaceVersions, SpaceChanges:
		return s.n
	case SpaceLeaseKeys:
		s.order()
		return len(s.leased)
	case SpaceChildren:
		s.order()
		return len(s.children)
	}
	return 0
}

// row is the i-th row of a space, in the order of rows. Its key is appended to room.
func (s *Sweep) row(space byte, i int, room []byte) row {
	switch space {
	case SpaceLive:
		return row{key: appendLiveKey(room, s.Key(i))}
	case SpaceVersions:
		return row{appendVersionKey(room, s.Key(i), s.main, s.sub+uint32(i)), []byte{}}
	case SpaceChanges:
		return row{appendChangeKey(room, s.main, s.sub+uint32(i)), s.Key(i)}
	case SpaceLeaseKeys:
		i = int(s.leased[i])
		lease := binary.BigEndian.AppendUint64(append(room, SpaceLeaseKeys), uint64(s.at(i).lease))
		return row{key: append(lease, s.Key(i)...)}
	}
	i = int(s.children[i])
	return row{key: appendChildKey(room, s.Key(i), s.at(i).create)}
}

// find is the index of the first row of key's space that is not before key.
func (s *Sweep) find(key []byte) int {
	var room []byte
	return sort.Search(s.rows(key[0]), func(i int) bool {
		r := s.row(key[0], i, room[:0])
		room = r.key
		return bytes.Compare(r.key, key) >= 0
	})
}

// get is the row with a key.
func (s *Sweep) get(key []byte) (row, bool) {
	i := s.find(key)
	if i == s.rows(key[0]) {
		return row{}, false
	}
	r := s.row(key[0], i, nil)
	return r, bytes.Equal(r.key, key)
}

// covers reports whether all live keys of [from, to) were swept, at a stretch.
func (s *Sweep) covers(from, to []byte) bool {
	return slices.ContainsFunc(s.whole, func(r Range) bool {
		return bytes.Compare(r.Key, from) <= 0 && (r.fromKey() || bytes.Compare(to, r.End) <= 0)
	})
}

// rowBytes is about how many bytes its rows fill in a batch of Pebble's.
func (s *Sweep) rowBytes() int {
	const version, change = 1 + 3 + 3 + suffixLen + 1, 1 + 1 + changeKeyLen + 3
	size := s.n*(version+change) + 2*s.bytes
	if len(s.whole) == 0 {
		size += s.n*5 + s.bytes
	}
	return size
}
