package mvcc

import (
	"bytes"
	"cmp"
	"testing"

	"pgregory.net/rapid"
)

// userKeys draws keys that stress the escaping.
func userKeys() *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0x00, 0x01, 0x02, 0x0d, 'a', 'b', 0xfe, 0xff}), 1, 20)
}

func TestVersionKeysSortByKeyThenNewestFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			key  []byte
			main int64
			sub  uint32
		}
		draw := func(name string) version {
			return version{userKeys().Draw(t, name), rapid.Int64Range(0, 1<<62).Draw(t, name),
				rapid.Uint32().Draw(t, name)}
		}
		a, b := draw("a"), draw("b")
		if rapid.Bool().Draw(t, "same key") {
			b.key = a.key
		}
		want := cmp.Or(bytes.Compare(a.key, b.key), cmp.Compare(b.main, a.main), cmp.Compare(b.sub, a.sub))
		ka, kb := VersionKey(a.key, a.main, a.sub), VersionKey(b.key, b.main, b.sub)
		if got := Comparer.Compare(ka, kb); got != want {
			t.Fatalf("%v %v: order %d, want %d", a, b, got, want)
		}
		key, main, sub, ok := parseVersionKey(ka)
		if !ok || !bytes.Equal(key, a.key) || main != a.main || sub != a.sub {
			t.Fatalf("%v parses as %q %d %d %v", a, key, main, sub, ok)
		}
		prefix := versionPrefix(a.key)
		if n := Comparer.Split(ka); !bytes.Equal(ka[:n], prefix) || Comparer.Split(prefix) != len(prefix) {
			t.Fatalf("%q splits at %d, its prefix of length %d at %d", ka, n, len(prefix), Comparer.Split(prefix))
		}
		if bytes.Compare(ka, prefixEnd(prefix)) >= 0 || bytes.Compare(ka, prefix) <= 0 {
			t.Fatalf("%q lies outside of its prefix", ka)
		}
	})
}

// Pebble's rules for Split (see base.Split): prefixes order before suffixes.
func TestSplitAgreesWithOrder(t *testing.T) {
	any := rapid.SliceOfN(rapid.SampledFrom([]byte{0x00, 0x01, 0x02, 0x03, 0x0d, 0xff, 'a'}), 1, 30)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []byte {
			if rapid.Bool().Draw(t, name) {
				return VersionKey(userKeys().Draw(t, name), rapid.Int64Min(0).Draw(t, name),
					rapid.Uint32().Draw(t, name))
			}
			return append([]byte{SpaceLive}, any.Draw(t, name)...)
		}
		a, b := draw("a"), draw("b")
		pa, pb := Comparer.Split.Prefix(a), Comparer.Split.Prefix(b)
		if bytes.Compare(a, b) <= 0 && bytes.Compare(pa, pb) > 0 ||
			bytes.Compare(pa, pb) < 0 && bytes.Compare(a, b) >= 0 {
			t.Fatalf("%x %x: prefixes %x %x order otherwise", a, b, pa, pb)
		}
	})
}

func FuzzParseVersionKey(f *testing.F) {
	f.Add(VersionKey([]byte("a\x00b"), 7, 1))
	f.Add([]byte{SpaceVersions, 0, 1})
	f.Fuzz(func(t *testing.T, k []byte) {
		key, main, sub, ok := parseVersionKey(k)
		if ok && !bytes.Equal(VersionKey(key, main, sub), k) {
			t.Fatalf("%x parses as %q %d %d, which is another key", k, key, main, sub)
		}
		if n := Comparer.Split(k); n > len(k) {
			t.Fatalf("split of %x is %d", k, n)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 'v'})
	f.Fuzz(func(t *testing.T, data []byte) {
		kv, err := decodeRecord([]byte("k"), data)
		if err != nil {
			return
		}
		again, err := decodeRecord([]byte("k"), encodeRecord(kv))
		if err != nil || again.String() != kv.String() {
			t.Fatalf("%v does not survive a round trip: %v, %v", kv, again, err)
		}
	})
}
