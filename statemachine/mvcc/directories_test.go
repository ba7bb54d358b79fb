package mvcc

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"
)

// Scans of directories, with a cache that forgets all the time and directories that fill and empty, find what the rows have.
func TestDirectoriesAnswerLikeRows(t *testing.T) {
	db := openMem(t)
	emptied := 0
	rapid.Check(t, func(t *rapid.T) {
		if err := db.DeleteRange([]byte{0}, []byte{0xff}, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		cache := NewCache(rapid.SampledFrom([]int{500, 1 << 20}).Draw(t, "cache"))
		cached, plain := NewOverlay(CachedRows{Rows{db}, cache}), NewOverlay(Rows{db})
		key := rapid.SampledFrom([]string{"a", "a/", "a/1", "a/2", "a/b/1", "a/b/2", "a/b/", "a0", "b/1", "/", "//1"})
		dir := rapid.SampledFrom([]string{"a/", "a/b/", "b/", "/", "//"})
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			for range rapid.IntRange(0, 5).Draw(t, "commands") {
				k := LiveKey([]byte(key.Draw(t, "k")))
				switch rapid.IntRange(0, 3).Draw(t, "what") {
				case 0:
					cached.Set(k, []byte("v"))
					plain.Set(k, []byte("v"))
				case 1:
					cached.Delete(k)
					plain.Delete(k)
				case 2:
					if _, _, err := cached.Get(k); err != nil {
						t.Fatal(err)
					}
				}
				lower := LiveKey([]byte(dir.Draw(t, "dir")))
				upper := slices.Clone(lower)
				upper[len(upper)-1]++
				if got, want := keysOf(t, cached, lower, upper), keysOf(t, plain, lower, upper); !slices.Equal(got, want) {
					t.Fatalf("below %q: %q, the rows have %q", lower, got, want)
				} else if n, known := cache.dirs[string(lower)]; known && n == 0 {
					emptied++
				}
			}
			b := db.NewBatch()
			if err := plain.WriteTo(b); err != nil {
				t.Fatal(err)
			}
			if err := b.Commit(pebble.NoSync); err != nil {
				t.Fatal(err)
			}
			cache.Learn(cached)
			cached.Reset(CachedRows{Rows{db}, cache})
			plain.Reset(Rows{db})
		}
	})
	if emptied == 0 {
		t.Error("no directory was ever known to be empty")
	}
}

// keysOf scans, going on by a seek now and then.
func keysOf(t *rapid.T, src Source, lower, upper []byte) (keys []string) {
	cur, err := src.Cursor(lower, upper)
	if err != nil {
		t.Fatal(err)
	}
	ok := cur.Next()
	if rapid.Bool().Draw(t, "seek at first") && !ok {
		ok = cur.SeekGE(lower)
	}
	for ; ok; ok = cur.Next() {
		keys = append(keys, string(cur.Key()))
	}
	if err := cur.Close(); err != nil {
		t.Fatal(err)
	}
	return keys
}
