package mvcc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"
)

// Index is the committed part of the index of children, see the package doc. A lock is mostly released a moment after
// it was acquired, and to write a row for that and to delete it would be a quarter of what both cost. So the rows of
// children that were created last are kept in memory until there are many changes, or a compaction is about to remove
// history; then those that are left are written. What is in memory is found again after a restart by a walk over the
// changes since: a bounded number, however many keys there are. Where a row is, is a matter of one replica: no result
// depends on it.
//
// The apply alone calls its methods.
type Index struct {
	parents  *parents
	revision int64                 // of the last commit
	since    int64                 // the rows of children created up to this revision are in the store
	changes  int                   // of keys since
	bytes    int                   // of the keys of young rows since, those that are gone again too
	young    map[string]*youngRows // of children created later, by prefix. Of a parent that had some there may be none
	deltas   []delta               // the same, for views: what each commit did to the young rows. Only appended to
	staged   delta                 // memory for the next one
}

// youngRows are the keys of rows of one parent, in order.
type youngRows [][]byte

// delta is the rows of the children space that a commit wrote or deleted, in order.
type delta []row

// When the young rows are written: bounds of the work at a start, and of what a view looks through.
const (
	maxYoungChanges = 1 << 13
	maxYoungDeltas  = 1 << 9
	maxYoungBytes   = 1 << 20 // of which each keeps those of the other rows of its change, see Tx.change
)

// sinceKey is the row with the revision since. No child's row is as short.
var sinceKey = []byte{SpaceChildren}

// LoadIndex returns the index of a store that is at a revision.
func LoadIndex(rows Rows, revision int64) (*Index, error) {
	x := &Index{
		parents: &parents{known: make(map[string]parent)}, young: make(map[string]*youngRows), revision: revision,
		since: 1,
	}
	v, ok, err := rows.Get(sinceKey)
	switch {
	case err != nil:
		return nil, err
	case ok && len(v) != 8:
		return nil, corruptRow(sinceKey)
	case ok:
		x.since = int64(binary.BigEndian.Uint64(v))
	}
	if x.since > revision {
		return nil, fmt.Errorf("%w: children up to revision %d, the store is at %d", ErrCorrupt, x.since, revision)
	}
	found := make(map[string]row)
	err = ScanRows(rows, ChangeKey(x.since+1, 0), []byte{SpaceChanges + 1}, func(_, key []byte) (bool, error) {
		x.changes++
		if bytes.IndexByte(key, '/') < 0 {
			return true, nil
		}
		kv, err := Latest(rows, bytes.Clone(key))
		if err == nil && kv != nil && kv.CreateRevision > x.since {
			child := childKey(kv.Key, kv.CreateRevision)
			found[string(child)] = row{child, []byte{}}
		}
		return true, err
	})
	if err == nil && len(found) > 0 {
		d := delta(slices.SortedFunc(maps.Values(found), func(a, b row) int { return bytes.Compare(a.key, b.key) }))
		for _, r := range d {
			x.bytes += len(r.key)
			x.add(r.key)
		}
		x.deltas = append(x.deltas, d)
	}
	return x, err
}

// Stage takes the children's rows that an overlay is about to commit up to revision, with this many changes of keys,
// and stages what of them goes to the store. all has every row written.
func (x *Index) Stage(o *Overlay, b *pebble.Batch, revision int64, changes int, all bool) error {
	if o.Swept() {
		return x.stageSwept(o, b, revision)
	}
	d := x.staged[:0]
	var err error
	o.tree.AscendRange(row{key: []byte{SpaceChildren}}, row{key: []byte{SpaceChildren + 1}}, func(r row) bool {
		n := childrenPrefixLen(r.key)
		create, _, _ := parseChild(r.key[n:])
		switch {
		case create <= x.since: // a deletion, since what is created is newer. The row was written once, see childKey
			x.parents.changed(string(r.key[:n]), -1)
			err = b.SingleDelete(r.key, nil)
			return err == nil
		case r.value != nil:
			x.add(r.key)
		default:
			x.remove(r.key, n)
		}
		x.bytes += len(r.key)
		d = append(d, r)
		return true
	})
	if len(d) > 0 {
		x.deltas = append(x.deltas, slices.Clone(d))
		clear(d)
	}
	if x.staged = d[:0]; cap(d) > maxKept {
		x.staged = nil
	}
	x.changes += changes
	x.revision = revision
	if err == nil && (all || x.changes >= maxYoungChanges || len(x.deltas) >= maxYoungDeltas ||
		x.bytes >= maxYoungBytes) {
		err = x.store(b, revision)
	}
	return err
}

// store stages all young rows.
func (x *Index) store(b *pebble.Batch, revision int64) error {
	for _, prefix := range slices.Sorted(maps.Keys(x.young)) {
		rows := *x.young[prefix]
		for _, key := range rows {
			if err := b.Set(key, nil, nil); err != nil {
				return err
			}
		}
		x.parents.changed(prefix, int64(len(rows)))
	}
	clear(x.young)
	x.since, x.changes, x.bytes, x.deltas = revision, 0, 0, nil
	return b.Set(sinceKey, binary.BigEndian.AppendUint64(nil, uint64(revision)), nil)
}

// add takes up a row, which nearly always is the last of its parent.
func (x *Index) add(key []byte) {
	prefix := key[:childrenPrefixLen(key)]
	rows := x.young[string(prefix)]
	if rows == nil {
		rows = new(youngRows)
		x.young[string(prefix)] = rows
	}
	at := len(*rows)
	if at > 0 && bytes.Compare((*rows)[at-1], key) > 0 {
		at = rows.find(key)
	}
	*rows = slices.Insert(*rows, at, key)
}

// remove takes away a row, which mostly is the first of its parent; or does nothing, as the child came and went in one
// commit.
func (x *Index) remove(key []byte, prefix int) {
	rows := x.young[string(key[:prefix])]
	if rows == nil {
		return
	}
	at := rows.find(key)
	switch {
	case at == len(*rows) || !bytes.Equal((*rows)[at], key):
	case at == 0 && len(*rows) > 1:
		(*rows)[0] = nil
		*rows = (*rows)[1:]
	default: // the last one leaves its room to the next, as a lock is acquired again and again
		*rows = slices.Delete(*rows, at, at+1)
	}
}

// find is where key is, or would be.
func (r youngRows) find(key []byte) int {
	return sort.Search(len(r), func(i int) bool { return bytes.Compare(r[i], key) >= 0 })
}

// cursor is a Cursor over the rows of all children with a prefix, lower. It is read out before the index changes.
func (x *Index) cursor(rows Rows, lower, upper []byte) (Cursor, error) {
	k, ok := x.parents.get(lower)
	var young youngRows
	if rows := x.young[string(lower)]; rows != nil {
		young = *rows
	}
	if ok && k.rows == 0 {
		return &family{Cursor: nothing{}, young: young}, nil
	}
	stored, err := x.parents.cursor(rows, lower, upper, k, x.since, x.revision, true)
	return &family{Cursor: stored, young: young}, err
}

// family is a Cursor over the rows of a parent's children: those in the store, and then the young ones.
type family struct {
	Cursor
	young youngRows
	after int // 1 + the place in young; 0: in the store
}

func (f *family) Next() bool {
	if f.after == 0 && f.Cursor.Next() {
		return true
	}
	f.after = min(f.after+1, len(f.young)+1)
	return f.after <= len(f.young)
}

func (f *family) SeekGE(key []byte) bool {
	if f.after == 0 && f.Cursor.SeekGE(key) {
		return true
	}
	f.after = max(f.after, f.young.find(key)+1)
	return f.after <= len(f.young)
}

func (f *family) Key() []byte {
	if f.after == 0 {
		return f.Cursor.Key()
	}
	return f.young[f.after-1]
}

func (f *family) Value() ([]byte, error) { return []byte{}, nil }

// IndexView is the index as it stood after one commit. It is immutable and safe for concurrent use.
type IndexView struct {
	parents *parents
	since   int64
	deltas  []delta
}

// View is the index as it stands.
func (x *Index) View() IndexView { return IndexView{x.parents, x.since, slices.Clip(x.deltas)} }

// young returns the young rows with a prefix.
func (v IndexView) young(prefix []byte) youngRows {
	var rows youngRows
	gone := make(map[string]bool)
	for _, d := range v.deltas {
		at := sort.Search(len(d), func(i int) bool { return bytes.Compare(d[i].key, prefix) >= 0 })
		for ; at < len(d) && bytes.HasPrefix(d[at].key, prefix); at++ {
			if d[at].value == nil {
				gone[string(d[at].key)] = true
			} else {
				rows = append(rows, d[at].key)
			}
		}
	}
	return slices.DeleteFunc(rows, func(key []byte) bool { return gone[string(key)] })
}

// ViewRows is the Source over the rows of a view at a revision.
type ViewRows struct {
	Rows
	Index    IndexView
	Revision int64
}

// Cursor implements Source.
func (r ViewRows) Cursor(lower, upper []byte) (Cursor, error) {
	if len(lower) == 0 || lower[0] != SpaceChildren {
		return r.Rows.Cursor(lower, upper)
	}
	k, ok := r.Index.parents.get(lower)
	if !ok || k.at > r.Revision {
		k.first = 0
	}
	stored, err := r.Index.parents.cursor(r.Rows, lower, upper, k, r.Index.since, r.Revision, false)
	return &family{Cursor: stored, young: r.Index.young(lower)}, err
}
