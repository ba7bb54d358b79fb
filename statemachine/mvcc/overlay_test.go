package mvcc

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

func openMem(t testing.TB) *pebble.DB {
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Comparer: Comparer, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// The overlay must look like one sorted map, whichever side a row is on.
func TestOverlayLooksLikeOneMap(t *testing.T) {
	db := openMem(t)
	rapid.Check(t, func(t *rapid.T) {
		if err := db.DeleteRange([]byte{0}, []byte{0xff}, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		twin := map[string]string{}
		key := rapid.SliceOfN(rapid.SampledFrom([]byte("abc")), 1, 3)
		for range rapid.IntRange(0, 20).Draw(t, "below") {
			k := key.Draw(t, "k")
			twin[string(k)] = "below"
			if err := db.Set(k, []byte("below"), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		o := NewOverlay(Rows{db})
		for range rapid.IntRange(0, 20).Draw(t, "writes") {
			k := key.Draw(t, "k")
			if rapid.Bool().Draw(t, "delete") {
				o.Delete(k)
				delete(twin, string(k))
			} else {
				o.Set(k, []byte("above"))
				twin[string(k)] = "above"
			}
		}
		checkGets(t, o, twin, key.Draw(t, "get"))
		checkCursor(t, o, twin, key.Draw(t, "lower"), key.Draw(t, "upper"), key.Draw(t, "seek"))
		b := db.NewBatch()
		if err := o.WriteTo(b); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		o.Reset(Rows{db})
		checkCursor(t, o, twin, []byte{0}, []byte{0xff}, []byte{0})
	})
}

func checkGets(t *rapid.T, o *Overlay, twin map[string]string, key []byte) {
	v, ok, err := o.Get(key)
	want, wantOK := twin[string(key)]
	if err != nil || ok != wantOK || string(v) != want {
		t.Fatalf("get %q: %q %v %v, want %q %v", key, v, ok, err, want, wantOK)
	}
}

func checkCursor(t *rapid.T, o *Overlay, twin map[string]string, lower, upper, seek []byte) {
	c, err := o.Cursor(lower, upper)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	inside := slices.DeleteFunc(slices.Sorted(maps.Keys(twin)), func(k string) bool {
		return k < string(lower) || k >= string(upper)
	})
	steps := 0
	for ok := c.Next(); ok; ok = c.Next() {
		if steps == 2 && bytes.Compare(seek, c.Key()) > 0 {
			if !c.SeekGE(seek) {
				inside = slices.DeleteFunc(inside, func(k string) bool { return k < string(seek) })
				break
			}
			inside = slices.DeleteFunc(inside, func(k string) bool { return k < string(seek) })
		}
		v, err := c.Value()
		if len(inside) == 0 || err != nil || string(c.Key()) != inside[0] || string(v) != twin[inside[0]] {
			t.Fatalf("step %d is at %q = %q, want %q", steps, c.Key(), v, inside)
		}
		inside = inside[1:]
		steps++
	}
	if len(inside) > 0 {
		t.Fatalf("the cursor ended before %q", inside)
	}
}
