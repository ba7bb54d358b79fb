package mvcc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// compacting is a store whose compacted history is removed step by step beside its writes, and one that is never
// touched.
type compacting struct {
	t             *rapid.T
	db, untouched *pebble.DB
	revision      int64
	compacted     int64
	from          int64 // where the next step begins, 0: the removal is complete
}

// scratch opens a store for one check.
func scratch(t *rapid.T) *pebble.DB {
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Comparer: Comparer, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

var compactKeys = []string{"a", "a\x00", "b", "c", "\x00"}

// write changes some keys at one revision of both stores, some of them more than once.
func (c *compacting) write() {
	n := rapid.IntRange(1, 6).Draw(c.t, "changes")
	var keys []string
	var deletes []bool
	for range n {
		keys = append(keys, rapid.SampledFrom(compactKeys).Draw(c.t, "key"))
		deletes = append(deletes, rapid.IntRange(0, 2).Draw(c.t, "delete") == 0)
	}
	for _, db := range []*pebble.DB{c.db, c.untouched} {
		tx := NewTx(NewOverlay(Rows{db}), c.revision)
		for i, key := range keys {
			prev, err := Latest(tx.Rows(), []byte(key))
			c.must(err)
			if !deletes[i] {
				tx.Put([]byte(key), fmt.Append(nil, c.revision, i), 0, prev)
			} else if prev != nil {
				tx.Delete(prev)
			}
		}
		b := db.NewBatch()
		c.must(tx.Rows().WriteTo(b))
		c.must(b.Commit(pebble.NoSync))
		if db == c.untouched {
			c.revision = tx.Revision()
		}
	}
}

func (c *compacting) must(err error) {
	if err != nil {
		c.t.Helper()
		c.t.Fatal(err)
	}
}

// step removes a little. Sometimes a crash loses it, and all begins anew.
func (c *compacting) step() {
	b := c.db.NewBatch()
	next, err := CompactStep(Rows{c.db}, c.compacted, max(c.from, 0), rapid.IntRange(1, 5).Draw(c.t, "limit"), b)
	c.must(err)
	if rapid.IntRange(0, 5).Draw(c.t, "crash") == 0 {
		c.must(b.Close())
		c.from = -1
		return
	}
	c.must(b.Commit(pebble.NoSync))
	c.from = next
}

// seen describes all that can be seen of a store at a revision >= the compacted one.
func (c *compacting) seen(db *pebble.DB, rev int64) string {
	ctx := context.Background()
	src := Rows{db}
	var out bytes.Buffer
	kvs, count, err := Collect(ctx, src, Select{Range: Range{Key: []byte{0}, End: []byte{0}}, Revision: rev})
	c.must(err)
	fmt.Fprintln(&out, count, kvs)
	history := History{First: rev, Last: c.revision, Compacted: c.compacted, Prev: true}
	note := func(main int64, changes []Change) bool {
		for _, ch := range changes {
			fmt.Fprintln(&out, main, ch.Main, ch.Delete, ch.Kv, ch.Prev)
		}
		return true
	}
	c.must(Changes(ctx, src, history, note))
	for _, key := range compactKeys {
		kv, _, err := At(src, []byte(key), rev)
		c.must(err)
		fmt.Fprintln(&out, kv)
		c.must(KeyChanges(ctx, src, []byte(key), history, note))
	}
	c.must(VisibleVersions(src, c.compacted, rev, func(key, record []byte) error {
		fmt.Fprintf(&out, "%x %x\n", key, record)
		return nil
	}))
	return out.String()
}

// check demands that both stores look alike from the compacted revision on.
func (c *compacting) check() {
	for _, rev := range []int64{max(c.compacted, 1), rapid.Int64Range(max(c.compacted, 1), c.revision).Draw(c.t, "rev"),
		c.revision} {
		if got, want := c.seen(c.db, rev), c.seen(c.untouched, rev); got != want {
			c.t.Fatalf("at revision %d of %d, compacted %d:\n%s\nwithout removal:\n%s", rev, c.revision, c.compacted,
				got, want)
		}
	}
}

// nothingHidden demands that each version and change that is left can be reached.
func (c *compacting) nothingHidden() {
	var reachable []string
	c.must(VisibleVersions(Rows{c.db}, c.compacted, c.revision, func(key, _ []byte) error {
		reachable = append(reachable, string(key))
		return nil
	}))
	lower, upper := SpaceBounds(SpaceVersions)
	c.must(ScanRows(Rows{c.db}, lower, upper, func(k, _ []byte) (bool, error) {
		if _, ok := slices.BinarySearch(reachable, string(k)); !ok {
			c.t.Fatalf("version %x is left, compacted %d", k, c.compacted)
		}
		return true, nil
	}))
	lower, upper = SpaceBounds(SpaceChanges)
	c.must(ScanRows(Rows{c.db}, lower, upper, func(k, _ []byte) (bool, error) {
		if main, _, _ := parseChangeKey(k); main < c.compacted {
			c.t.Fatalf("change %x is left, compacted %d", k, c.compacted)
		}
		return true, nil
	}))
}

// TestCompaction writes, compacts and removes in small steps, some of them lost. What can be seen at or after the
// compacted revision, and its hash, never depends on how far the removal is; when it is complete nothing is left that
// cannot be seen.
func TestCompaction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &compacting{t: t, db: scratch(t), untouched: scratch(t), revision: 1, compacted: -1}
		for range rapid.IntRange(10, 30).Draw(t, "operations") {
			switch rapid.SampledFrom([]string{"write", "write", "compact", "step", "step"}).Draw(t, "operation") {
			case "write":
				c.write()
			case "compact":
				c.compacted = rapid.Int64Range(max(c.compacted, 0), c.revision).Draw(t, "compact to")
				c.from = -1
			case "step":
				c.step()
			}
			c.check()
		}
		for c.from != 0 {
			c.step()
		}
		c.check()
		c.nothingHidden()
	})
}
