package mvcc

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// gapped is an overlay that remembers the smallest of gaps, and what it must hold.
type gapped struct {
	*testing.T
	db   *pebble.DB
	o    *Overlay
	rows map[string]string
	hits int
}

func liveDB(t testing.TB) *pebble.DB {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), Comparer: newComparer(), DisableWAL: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func (g *gapped) key(rng *rand.Rand) []byte {
	return fmt.Appendf([]byte{SpaceLive}, "%03d", rng.IntN(300))
}

func (g *gapped) change(rng *rand.Rand) {
	switch rng.IntN(4) {
	case 0:
		key := g.key(rng)
		g.o.Set(key, []byte("x"))
		g.rows[string(key)] = "x"
	default: // a deletion of a stretch
		from, to := g.key(rng), g.key(rng)
		for _, key := range slices.Sorted(maps.Keys(g.rows)) {
			if key >= string(from) && key < string(to) {
				g.o.Delete([]byte(key))
				delete(g.rows, key)
			}
		}
	}
}

// check scans a range, some of it by seeks.
func (g *gapped) check(rng *rand.Rand) {
	g.Helper()
	lower, upper := g.key(rng), g.key(rng)
	if bytes.Compare(lower, upper) > 0 {
		lower, upper = upper, lower
	}
	c, err := g.o.Cursor(lower, upper)
	if err != nil {
		g.Fatal(err)
	}
	defer c.Close()
	g.hits += g.o.gaps.tree.Len()
	want := slices.DeleteFunc(slices.Sorted(maps.Keys(g.rows)), func(key string) bool {
		return key < string(lower) || key >= string(upper)
	})
	ok := c.Next()
	for i := 0; ; i++ {
		if ok != (i < len(want)) || ok && string(c.Key()) != want[i] {
			g.Fatalf("row %d of [%q, %q): %t; want %q", i, lower, upper, ok, want)
		}
		if !ok {
			return
		}
		if rng.IntN(10) == 0 {
			to := g.key(rng)
			if bytes.Compare(to, c.Key()) > 0 && bytes.Compare(to, upper) < 0 {
				ok = c.SeekGE(to)
				i, _ = slices.BinarySearch(want, string(to))
				i--
				continue
			}
		}
		ok = c.Next()
	}
}

func (g *gapped) commit() {
	b := g.db.NewBatch()
	if err := g.o.WriteTo(b); err != nil {
		g.Fatal(err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		g.Fatal(err)
	}
	g.o.Reset(Rows{g.db})
}

// TestGapsChangeNoResult: whatever is written, deleted, rolled back, committed and scanned in whatever order, a scan
// finds the rows that are there.
func TestGapsChangeNoResult(t *testing.T) {
	hits := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 4))
		db := liveDB(t)
		g := &gapped{T: t, db: db, o: NewOverlay(Rows{db}), rows: map[string]string{}}
		g.o.below.least = 1 + rng.IntN(3)
		g.o.gaps.least = 1 + rng.IntN(3)
		for i := range 300 {
			key := fmt.Appendf([]byte{SpaceLive}, "%03d", i)
			g.o.Set(key, []byte("x"))
			g.rows[string(key)] = "x"
		}
		for range 200 {
			switch rng.IntN(8) {
			case 0:
				g.commit()
			case 1: // a step that is refused
				before := maps.Clone(g.rows)
				mark := g.o.begin()
				for range 3 {
					g.change(rng)
					g.check(rng)
				}
				g.o.rollback(mark)
				g.o.end()
				g.rows = before
			case 2, 3:
				g.change(rng)
			default:
				g.check(rng)
			}
		}
		hits += g.hits
	}
	if hits == 0 {
		t.Error("no gap was ever known")
	}
}

// TestGapsAreJumpedOver: of what is deleted, in the overlay or in Pebble, only the first scans step over all of it; one
// key in the midst makes no difference.
func TestGapsAreJumpedOver(t *testing.T) {
	const n = 20_000
	db := liveDB(t)
	o := NewOverlay(Rows{db})
	g := &gapped{T: t, db: db, o: o}
	key := func(i int) []byte { return fmt.Appendf([]byte{SpaceLive}, "%06d", i) }
	scan := func(lower, upper []byte) (found, steps int) {
		c, err := o.Cursor(lower, upper)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for c.Next() {
			found++
		}
		return found, c.(*gapCursor).steps()
	}
	for i := range n {
		o.Set(key(i), []byte("x"))
	}
	g.commit()
	for i := range n {
		o.Delete(key(i))
	}
	for i := range 200 {
		if i == 100 {
			g.commit()
			if width, err := Width(Rows{db}, Range{Key: key(0)[1:], End: key(n)[1:]}, 1<<20); err != nil ||
				width < n/perDead || width > n {
				t.Fatalf("the width of %d deleted keys is %d, %v", n, width, err)
			}
		}
		if i%10 == 0 {
			o.Set(key(n/2+i), []byte("x"))
		}
		found, steps := scan(key(i), key(n+i))
		if found != i/10+1 || i%100 > 1 && steps > 1000 {
			t.Fatalf("scan %d found %d and went through %d rows", i, found, steps)
		}
	}
}
