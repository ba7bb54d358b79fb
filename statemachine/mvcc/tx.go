package mvcc

import (
	"bytes"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Tx writes changes of keys through an overlay. Until End all writes share one main revision; without a write the
// revision does not move. It is not safe for concurrent use.
type Tx struct {
	rows *Overlay
	// begin is the store's revision when the current step began.
	begin int64
	// sub is the number of changes in the current step.
	sub uint32

	looked look
	room   [256]byte // for the key of a row that is looked for
}

// look is what Latest found, as long as nothing is written.
type look struct {
	key    []byte // nil: nothing was looked for
	kv     *mvccpb.KeyValue
	writes uint64
}

// NewTx returns a Tx over rows whose store is at revision rev.
func NewTx(rows *Overlay, rev int64) *Tx { return &Tx{rows: rows, begin: rev} }

// Rows is the overlay that the Tx writes through.
func (t *Tx) Rows() *Overlay { return t.rows }

// Revision is the store's revision: with the current step's writes, if it has any.
func (t *Tx) Revision() int64 {
	if t.sub > 0 {
		return t.begin + 1
	}
	return t.begin
}

// Changed is the number of changes in the current step.
func (t *Tx) Changed() int { return int(t.sub) }

// End closes the current step, so that the next write takes a revision of its own.
func (t *Tx) End() {
	t.begin = t.Revision()
	t.sub = 0
}

// Savepoint is a state of a Tx to go back to.
type Savepoint struct {
	begin int64
	sub   uint32
	rows  overlayMark
}

// Begin opens a savepoint, inside of the one that is open if there is one. The caller ends it, whether it rolled back
// or not.
func (t *Tx) Begin() Savepoint { return Savepoint{t.begin, t.sub, t.rows.begin()} }

// Rollback makes rows and revision what they were when the savepoint was opened. The savepoint stays open.
func (t *Tx) Rollback(s Savepoint) {
	t.rows.rollback(s.rows)
	t.begin, t.sub = s.begin, s.sub
}

// EndSavepoint closes the savepoint that was opened last. What was written since stays as far as those around it do.
func (t *Tx) EndSavepoint() { t.rows.end() }

// Latest is the latest version of key, nil if there is none. It is shared: do not change it. What was found last is
// remembered: who writes a key has nearly always just looked at it.
func (t *Tx) Latest(key []byte) (*mvccpb.KeyValue, error) {
	if t.looked.key != nil && t.looked.writes == t.rows.writes && bytes.Equal(t.looked.key, key) {
		return t.looked.kv, nil
	}
	live := t.room[:0]
	if n := liveKeyLen(key); n > len(t.room) {
		live = make([]byte, 0, n)
	}
	kv, err := latest(t.rows, key, appendLiveKey(live, key))
	if err == nil {
		t.looked = look{key, kv, t.rows.writes}
	}
	return kv, err
}

// Put writes a version of key and returns it. prev is the latest version before (nil: none), which the caller has read.
// The Tx keeps both slices.
func (t *Tx) Put(key, value []byte, lease int64, prev *mvccpb.KeyValue) *mvccpb.KeyValue {
	main := t.begin + 1
	kv := &mvccpb.KeyValue{Key: key, CreateRevision: main, ModRevision: main, Version: 1, Lease: lease}
	if len(value) > 0 {
		kv.Value = value
	}
	if prev != nil {
		kv.CreateRevision, kv.Version = prev.CreateRevision, prev.Version+1
	}
	record := encodeRecord(kv)
	if prev != nil {
		live, _ := t.change(key, record, 0)
		t.rows.Set(live, record)
		return kv
	}
	live, child := t.change(key, record, main)
	t.rows.Set(live, record)
	if child != nil {
		t.rows.Set(child, nil)
	}
	return kv
}

// Delete writes a tombstone for the key whose latest version is prev, and returns it.
func (t *Tx) Delete(prev *mvccpb.KeyValue) *mvccpb.KeyValue {
	live, child := t.change(prev.Key, nil, prev.CreateRevision)
	t.rows.Delete(live)
	if child != nil {
		t.rows.Delete(child)
	}
	return &mvccpb.KeyValue{Key: prev.Key, ModRevision: t.begin + 1}
}

// Sweep deletes all keys of s, in their order, at once. The Tx keeps s.
func (t *Tx) Sweep(s *Sweep) {
	s.main, s.sub = t.begin+1, t.sub
	t.rows.sweep(s)
	t.sub += uint32(s.n)
}

// change writes the version and the change of a key, and returns the key of its live row; if its row as a child
// changes, too, of one that was created at revision create, then also the key of that, nil if it is none. The keys of
// all rows share their memory.
func (t *Tx) change(key, record []byte, create int64) (live, child []byte) {
	main := t.begin + 1
	at := liveKeyLen(key)
	c := at + changeKeyLen
	v := c
	if create != 0 {
		v += childKeyLen(key)
	}
	room := make([]byte, 0, v+versionKeyLen(key))
	live = appendLiveKey(room[:0:at], key)
	if create != 0 {
		child = appendChildKey(room[c:c:v], key, create)
	}
	t.rows.Set(appendVersionKey(room[v:v], key, main, t.sub), record)
	t.rows.Set(appendChangeKey(room[at:at:c], main, t.sub), key)
	t.sub++
	return live, child
}
