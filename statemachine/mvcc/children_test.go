package mvcc

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"
)

// relatives writes keys through a Tx, commits now and then, and finds children in the dumbest way, too.
type relatives struct {
	*rapid.T
	db       *pebble.DB
	cache    *Cache
	index    *Index
	changes  int
	overlay  *Overlay
	tx       *Tx
	revision int64
}

func newRelatives(t *rapid.T, db *pebble.DB) *relatives {
	if err := db.DeleteRange([]byte{0}, []byte{0xff}, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	f := &relatives{T: t, db: db, cache: NewCache(1000), revision: 1}
	f.load()
	f.overlay = NewOverlay(f.rows())
	f.tx = NewTx(f.overlay, 1)
	return f
}

// load finds the index again as after a restart.
func (f *relatives) load() {
	var err error
	if f.index, err = LoadIndex(Rows{f.db}, f.revision); err != nil {
		f.Fatal(err)
	}
}

func (f *relatives) rows() Source { return CachedRows{Rows{f.db}, f.cache, f.index} }

func (f *relatives) commit() {
	b := f.db.NewBatch()
	if err := f.overlay.WriteTo(b); err != nil {
		f.Fatal(err)
	}
	f.tx.End()
	if err := f.index.Stage(f.overlay, b, f.tx.Revision(), f.changes,
		rapid.IntRange(0, 5).Draw(f.T, "all") == 0); err != nil {
		f.Fatal(err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		f.Fatal(err)
	}
	f.cache.Learn(f.overlay)
	f.changes = 0
	f.overlay.Reset(f.rows())
	f.revision = f.tx.Revision()
	f.tx = NewTx(f.overlay, f.revision)
}

func (f *relatives) change(key string) {
	f.changes++
	prev, err := Latest(f.overlay, []byte(key))
	if err != nil {
		f.Fatal(err)
	}
	if prev == nil || rapid.IntRange(0, 3).Draw(f.T, "what") == 0 {
		f.tx.Put([]byte(key), []byte("v"), 0, prev)
	} else {
		f.tx.Delete(prev)
	}
	if rapid.Bool().Draw(f.T, "end") {
		f.tx.End()
	}
}

// childrenOf are the children by a walk over all live keys.
func childrenOf(t *rapid.T, src Source, parent string) (children []string) {
	var found []*mvccpb.KeyValue
	err := ScanLatest(src, Range{Key: []byte{0}, End: []byte{0}}, func(kv *mvccpb.KeyValue) bool {
		if i := bytes.LastIndexByte(kv.Key, '/'); i >= 0 && string(kv.Key[:i]) == parent {
			found = append(found, kv)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(found, func(a, b *mvccpb.KeyValue) int {
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	})
	for _, kv := range found {
		children = append(children, fmt.Sprintf("%q %d", kv.Key, kv.CreateRevision))
	}
	return children
}

func indexedChildren(t *rapid.T, src Source, parent string, limit int) (children []string) {
	err := Children(src, []byte(parent), func(kv *mvccpb.KeyValue) bool {
		if len(children) == limit {
			return false
		}
		children = append(children, fmt.Sprintf("%q %d", kv.Key, kv.CreateRevision))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return children
}

var (
	someKeys = []string{"a", "a/", "a/1", "a/2", "a/b/1", "a/b/2", "a/b/", "a0", "b/1", "/", "//1", "a\x00/1",
		"a\x00\x01/1", "a\x00\x01/\xff"}
	someParents = []string{"a", "a/b", "b", "", "/", "a\x00", "a\x00\x01", "c"}
)

// TestChildrenAreTheLiveKeys: whatever is created and deleted, in whatever batches, and whatever is remembered of
// heads, the index has the live children in the order of their create revisions; for the apply and for views of any
// age.
func TestChildrenAreTheLiveKeys(t *testing.T) {
	db := openMem(t)
	emptied, begun := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := newRelatives(t, db)
		var views []ViewRows
		defer func() {
			for _, v := range views {
				_ = v.Reader.(*pebble.Snapshot).Close()
			}
		}()
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			for range rapid.IntRange(0, 6).Draw(t, "commands") {
				f.change(rapid.SampledFrom(someKeys).Draw(t, "key"))
				parent := rapid.SampledFrom(someParents).Draw(t, "parent")
				limit := rapid.SampledFrom([]int{1, 2, 100}).Draw(t, "limit")
				want := childrenOf(t, f.overlay, parent)
				want = want[:min(len(want), limit)]
				if got := indexedChildren(t, f.overlay, parent, limit); !slices.Equal(got, want) {
					t.Fatalf("children of %q: %v, the live keys are %v", parent, got, want)
				}
				if k, ok := f.index.parents.get(childrenPrefix([]byte(parent))); ok && k.rows == 0 {
					emptied++
				} else if ok && k.first > 0 {
					begun++
				}
			}
			f.commit()
			if rapid.IntRange(0, 3).Draw(t, "forget") == 0 {
				clear(f.index.parents.known)
			}
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				f.load()
				f.overlay.Reset(f.rows())
			}
			views = append(views, ViewRows{Rows{db.NewSnapshot()}, f.index.View(), f.revision})
			view := views[rapid.IntRange(0, len(views)-1).Draw(t, "view")]
			parent := rapid.SampledFrom(someParents).Draw(t, "parent")
			if got, want := indexedChildren(t, view, parent, 100), childrenOf(t, view, parent); !slices.Equal(got,
				want) {
				t.Fatalf("children of %q at revision %d: %v, the live keys are %v", parent, view.Revision, got, want)
			}
		}
	})
	if emptied == 0 || begun == 0 {
		t.Errorf("%d scans knew of no children, %d where they begin", emptied, begun)
	}
}

// TestChildRows: the rows of one parent are contiguous and in order, and are taken apart as they were made.
func TestChildRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[\x00\x01\xff/a]{0,6}`)
		type child struct {
			parent, base string
			create       int64
		}
		draw := func() (c child, row []byte) {
			base := rapid.StringMatching(`[\x00\x01\xffa]{0,6}`)
			c = child{part.Draw(t, "parent"), base.Draw(t, "base"), rapid.Int64Range(1, math.MaxInt64).Draw(t,
				"create")}
			return c, childKey([]byte(c.parent+"/"+c.base), c.create)
		}
		a, rowA := draw()
		b, rowB := draw()
		want := cmp.Or(bytes.Compare(childrenPrefix([]byte(a.parent)), childrenPrefix([]byte(b.parent))),
			cmp.Compare(a.create, b.create), cmp.Compare(a.base, b.base))
		if got := bytes.Compare(rowA, rowB); got != want {
			t.Fatalf("%+v and %+v: %d, not %d", a, b, got, want)
		}
		n := childrenPrefixLen(rowA)
		if !bytes.Equal(rowA[:n], childrenPrefix([]byte(a.parent))) {
			t.Fatalf("prefix of %x: %x", rowA, rowA[:n])
		}
		if create, base, ok := parseChild(rowA[n:]); !ok || create != a.create || string(base) != a.base {
			t.Fatalf("%x: %d %q %v", rowA, create, base, ok)
		}
	})
	if childKey([]byte("no slash"), 1) != nil {
		t.Error("a key without a slash is a child")
	}
}

// TestParentsAreBounded: when too much is remembered, all is forgotten; a very long name never is remembered.
func TestParentsAreBounded(t *testing.T) {
	p := &parents{known: make(map[string]parent)}
	for i := range maxParents + 1 {
		p.found(fmt.Appendf(nil, "%d", i), 2, 1, true)
	}
	if n := len(p.known); n != 1 {
		t.Errorf("%d parents are known after %d", n, maxParents+1)
	}
	p.found(make([]byte, maxParentName+1), 2, 1, true)
	if n := len(p.known); n != 1 {
		t.Errorf("a long name is remembered")
	}
}

// TestYoungRowsAreBounded: children with long names are written long before there are many.
func TestYoungRowsAreBounded(t *testing.T) {
	db := openMem(t)
	index, err := LoadIndex(Rows{db}, 1)
	if err != nil {
		t.Fatal(err)
	}
	o := NewOverlay(Rows{db})
	const size, each = 16 << 10, 8
	for revision := int64(1); revision < 1000; revision += each {
		tx := NewTx(o, revision)
		for range each {
			tx.Put(append(bytes.Repeat([]byte("k"), size), fmt.Sprintf("/%d", tx.Revision())...), nil, 0, nil)
			tx.End()
		}
		if err := index.Stage(o, db.NewBatch(), tx.Revision(), each, false); err != nil {
			t.Fatal(err)
		}
		o.Reset(Rows{db})
		kept := 0
		for _, rows := range index.young {
			for _, key := range *rows {
				kept += len(key)
			}
		}
		if kept > maxYoungBytes {
			t.Fatalf("%d bytes of young rows at revision %d", kept, tx.Revision())
		}
	}
}
