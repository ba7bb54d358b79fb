package difftest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// env is what a step may refer to: where the stores stand now. It is kept from etcd's answers.
type env struct {
	// cur is the current revision, compact the last compacted one (-1: none), base the revision the sequence began at.
	cur, compact, base int64
	// leases holds the canonical ids of live leases, granted their TTLs.
	leases  []int64
	granted map[int64]int64
	// picked counts the leases whose id the servers picked.
	picked int64
	// seen holds the last answer about each key, for comparisons that should be near the truth.
	seen map[string]*mvccpb.KeyValue
	// fragile holds the revisions etcd must not be compacted at (see undetected).
	fragile map[int64]bool
	// sentinels counts the sentinel puts, so that each has its own value.
	sentinels int
	// alarmed is set while the alarm of a full store is raised; only a step that failed leaves it so.
	alarmed bool
}

func newEnv() *env {
	return &env{
		cur: 1, compact: -1, granted: map[int64]int64{}, seen: map[string]*mvccpb.KeyValue{}, fragile: map[int64]bool{},
	}
}

// compactable returns the newest revision up to rev that etcd may be compacted at.
func (e *env) compactable(rev int64) int64 {
	for e.fragile[rev] {
		rev--
	}
	return rev
}

// firstPicked is the first canonical id of a lease whose id the servers pick. Above it no client-chosen id is ever used
// except the largest, so ids compare with those of clients as a server's random 63 bits do.
const firstPicked = int64(1) << 50

// sentinelKey is put to know that everything before has been delivered.
const sentinelKey = "\xfe sentinel"

// keys is the key space: small, so that operations meet, with prefixes of each other and bytes at both ends.
var keys = []string{
	"a", "aa", "ab", "b", "ba", "c", "d", "\x00", "\x00\x01", "\xff", "\xff\xff", "k\x00", "\x80\x01", "é",
}

// dice is a source of choices for one step.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))} }

// chance is true p times in a hundred.
func (d dice) chance(p int) bool { return d.IntN(100) < p }

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// key returns mostly a key of the small space, sometimes one of the wide space that fill uses.
func (d dice) key() []byte {
	if d.chance(6) {
		return wideKey(d.IntN(wideKeys))
	}
	return []byte(pick(d, keys))
}

// wideKeys is the number of keys fill puts, enough for several chunks of a RangeStream.
const wideKeys = 45

func wideKey(i int) []byte { return fmt.Appendf(nil, "m%02d", i) }

// span returns a key and a range end of one of all the shapes there are.
func (d dice) span() (key, end []byte) {
	key = d.key()
	switch n := d.IntN(100); {
	case n < 35:
		return key, nil
	case n < 55:
		return key, d.key()
	case n < 70:
		return key, prefixEnd(key)
	case n < 80:
		return key, []byte{0}
	case n < 88:
		return []byte{0}, []byte{0}
	case n < 92:
		return key, key
	case n < 96:
		return []byte("m"), []byte("n")
	default:
		return key, []byte{0, 0}
	}
}

// prefixEnd is the end of the range of all keys with this prefix, as clients compute it.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

func (d dice) value() []byte {
	switch n := d.IntN(100); {
	case n < 10:
		return nil
	case n < 85:
		return fmt.Appendf(nil, "v%d", d.IntN(9))
	case n < 93:
		return []byte{0, 0xff, byte(d.IntN(256))}
	default:
		return d.blob(1 + d.IntN(3000))
	}
}

// blob returns n bytes that differ from blob to blob.
func (d dice) blob(n int) []byte {
	b := make([]byte, n)
	x := d.Uint64()
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	return b
}

// revision returns a revision to read at: past, compacted, current, future, negative, extreme.
func (d dice) revision(e *env) int64 {
	switch n := d.IntN(100); {
	case n < 35:
		return e.cur - d.Int64N(20)
	case n < 45:
		return e.cur
	case n < 55:
		return e.compact
	case n < 62:
		return e.compact - 1
	case n < 70:
		return e.compact + 1
	case n < 78:
		return e.cur + 1
	case n < 83:
		return e.cur + 1000
	case n < 88:
		return e.base
	case n < 91:
		return 1
	case n < 96:
		return -1 - d.Int64N(5)
	case n < 98:
		return math.MaxInt64
	default:
		return math.MinInt64
	}
}

// lease returns a live lease if there is one.
func (d dice) lease(e *env) (int64, bool) {
	if len(e.leases) == 0 {
		return 0, false
	}
	return pick(d, e.leases), true
}

// anyLease returns a live lease most of the time, else one that may not exist.
func (d dice) anyLease(e *env) int64 {
	if id, ok := d.lease(e); ok && d.chance(80) {
		return id
	}
	return pick(d, []int64{1, 2, 3, 77, -5, 404, math.MaxInt64, math.MinInt64})
}

// leasedKey returns a key that is attached to a lease as far as is known, the first of them, or nil.
func (e *env) leasedKey() []byte {
	var first []byte
	for k, kv := range e.seen {
		if kv.Lease != 0 && (first == nil || k < string(first)) {
			first = []byte(k)
		}
	}
	return first
}
