package mvcc

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"
)

// A tiny cache, so that rows are forgotten all the time, must never answer otherwise than the rows do.
func TestCachedRowsAnswerLikeRows(t *testing.T) {
	db := openMem(t)
	rapid.Check(t, func(t *rapid.T) {
		if err := db.DeleteRange([]byte{0}, []byte{0xff}, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		cache := NewCache(1000)
		rows := Rows{db}
		o := NewOverlay(CachedRows{rows, cache, nil})
		key := rapid.SliceOfN(rapid.SampledFrom([]byte("ab")), 1, 4)
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			for range rapid.IntRange(0, 5).Draw(t, "commands") {
				k := LiveKey(key.Draw(t, "k"))
				switch rapid.IntRange(0, 2).Draw(t, "what") {
				case 0:
					o.Set(k, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "v"))
				case 1:
					o.Delete(k)
				}
				o.Get(k)
			}
			b := db.NewBatch()
			if err := o.WriteTo(b); err != nil {
				t.Fatal(err)
			}
			if err := b.Commit(pebble.NoSync); err != nil {
				t.Fatal(err)
			}
			cache.Learn(o)
			o.Reset(CachedRows{rows, cache, nil})
			k := LiveKey(key.Draw(t, "check"))
			got, ok, err := o.Get(k)
			want, wantOK, wantErr := rows.Get(k)
			if err != nil || wantErr != nil || ok != wantOK || !bytes.Equal(got, want) {
				t.Fatalf("%q: cached %q %v %v, stored %q %v %v", k, got, ok, err, want, wantOK, wantErr)
			}
			if cache.bytes > cache.half {
				t.Fatalf("the young generation holds %d bytes of %d", cache.bytes, cache.half)
			}
		}
	})
}
