package mvcc

import (
	"bytes"
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Latest returns the latest version of key, nil if it does not exist.
func Latest(src Source, key []byte) (*mvccpb.KeyValue, error) {
	return latest(src, key, LiveKey(key))
}

// latest is Latest of a key whose row has the key live.
func latest(src Source, key, live []byte) (*mvccpb.KeyValue, error) {
	data, ok, err := src.Get(live)
	if err != nil || !ok {
		return nil, err
	}
	return decodeRecord(key, data)
}

// At returns the version of key at revision rev and the revision of the change that made it; the version is nil where
// the key did not exist at rev (changed is then the revision of the tombstone, or 0).
func At(src Source, key []byte, rev int64) (kv *mvccpb.KeyValue, changed int64, err error) {
	err = scanVersions(src, Range{Key: key}, rev, func(row versionRow) (bool, error) {
		changed = row.main
		kv, err = row.record()
		return false, err
	})
	return kv, changed, err
}

// Select is what Collect is asked for.
type Select struct {
	Range Range
	// Revision to read at; 0 means the latest state of the source.
	Revision int64
	// Limit is the greatest number of versions to return, 0 for all. Counting goes on behind it.
	Limit int64
	// CountOnly returns no versions.
	CountOnly bool
	// Uncounted ends the read at Limit: what is behind is not counted.
	Uncounted bool
}

// errEnough ends a read that is not to be counted to its end.
var errEnough = errors.New("enough")

// Collect returns the versions that s selects, in key order, and how many there are without the limit.
func Collect(ctx context.Context, src Source, s Select) (kvs []*mvccpb.KeyValue, count int64, err error) {
	take := func(key []byte, record func() (*mvccpb.KeyValue, error)) error {
		count++
		if count%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if s.CountOnly || s.Limit > 0 && count > s.Limit {
			return nil
		}
		kv, err := record()
		if err != nil {
			return err
		}
		kvs = append(kvs, kv)
		if s.Uncounted && count == s.Limit {
			return errEnough
		}
		return nil
	}
	if s.Revision == 0 {
		err = collectLatest(src, s.Range, take)
	} else {
		err = collectAt(src, s.Range, s.Revision, take)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return kvs, count, err
}

type takeFunc func(key []byte, record func() (*mvccpb.KeyValue, error)) error

func collectLatest(src Source, r Range, take takeFunc) error {
	if r.Single() {
		kv, err := Latest(src, r.Key)
		if err != nil || kv == nil {
			return err
		}
		return take(r.Key, func() (*mvccpb.KeyValue, error) { return kv, nil })
	}
	return scanLive(src, r, func(c Cursor) (bool, error) {
		err := take(c.Key()[1:], func() (*mvccpb.KeyValue, error) { return liveRecord(c) })
		return err == nil, err
	})
}

func collectAt(src Source, r Range, rev int64, take takeFunc) error {
	return scanVersions(src, r, rev, func(row versionRow) (bool, error) {
		if row.tombstone() {
			return true, nil
		}
		err := take(row.key, row.record)
		return err == nil, err
	})
}

// ScanLatest calls fn for the latest versions in r, in key order, until fn returns false.
func ScanLatest(src Source, r Range, fn func(*mvccpb.KeyValue) bool) error {
	return scanLive(src, r, func(c Cursor) (bool, error) {
		kv, err := liveRecord(c)
		return err == nil && fn(kv), err
	})
}

// EachLatest is ScanLatest for who keeps nothing: what fn gets is valid during the call only.
func EachLatest(src Source, r Range, fn func(*mvccpb.KeyValue) bool) error {
	var kv mvccpb.KeyValue
	return scanLive(src, r, func(c Cursor) (bool, error) {
		data, err := c.Value()
		if err != nil {
			return false, err
		}
		err = decodeInto(&kv, c.Key()[1:], data)
		return err == nil && fn(&kv), err
	})
}

// LatestOf calls fn for the latest versions of the keys that next gives, in key order, of those that there are. What fn
// gets is valid during the call only. It costs less than to look for each alone.
func LatestOf(src Source, next func() (key []byte, ok bool), fn func(*mvccpb.KeyValue)) error {
	key, ok := next()
	if !ok {
		return nil
	}
	c, err := src.Cursor(LiveKey(key), []byte{SpaceLive + 1})
	if err != nil {
		return err
	}
	var kv mvccpb.KeyValue
	var live []byte
	for more, begun := true, false; ok && more && err == nil; key, ok = next() {
		live = appendLiveKey(live[:0], key)
		if !begun || bytes.Compare(c.Key(), live) < 0 {
			more, begun = c.SeekGE(live), true
		}
		if !more || !bytes.Equal(c.Key(), live) {
			continue
		}
		var data []byte
		if data, err = c.Value(); err == nil {
			err = decodeInto(&kv, c.Key()[1:], data)
		}
		if err == nil {
			fn(&kv)
		}
	}
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// EachKept calls fn, for each key in r of which the history from the revision compacted on keeps a version, with the
// size of its value at rev, 0 if it does not exist there, until fn returns false. So it does not matter what part of
// the history before has been removed. rev >= compacted.
func EachKept(src Source, r Range, rev, compacted int64, fn func(value int) bool) error {
	lower, upper, empty := r.versionBounds()
	if empty {
		return nil
	}
	c, err := src.Cursor(lower, upper)
	if err != nil {
		return err
	}
	err = eachKept(c, rev, compacted, fn)
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

func eachKept(c Cursor, rev, compacted int64, fn func(value int) bool) error {
	var kv mvccpb.KeyValue
	for ok := c.Next(); ok; {
		row, err := readVersion(c)
		if err != nil {
			return err
		}
		key, newer, value := row.key, row.main > rev, 0
		if newer {
			if ok = c.SeekGE(appendVersionSuffix(versionPrefix(key), rev, maxSub)); ok {
				row, err = readVersion(c)
			}
		}
		if err != nil {
			return err
		}
		at := ok && bytes.Equal(row.key, key) // row is what the key was at rev
		if at && !row.tombstone() {
			if err := decodeInto(&kv, key, row.data); err != nil {
				return err
			}
			value = len(kv.Value)
		}
		if (newer || !row.tombstone() || row.main >= compacted) && !fn(value) {
			return nil
		}
		if at {
			ok = nextKey(c, key)
		}
	}
	return nil
}

func liveRecord(c Cursor) (*mvccpb.KeyValue, error) {
	data, err := c.Value()
	if err != nil {
		return nil, err
	}
	return decodeRecord(bytes.Clone(c.Key()[1:]), bytes.Clone(data))
}

func scanLive(src Source, r Range, fn func(Cursor) (more bool, err error)) error {
	lower, upper, empty := r.liveBounds()
	if empty {
		return nil
	}
	return scan(src, lower, upper, fn)
}

// scan calls fn on each row of [lower, upper) until it returns false or an error.
func scan(src Source, lower, upper []byte, fn func(Cursor) (more bool, err error)) error {
	return scanFromRow(src, lower, upper, nil, fn)
}

// scanFromRow is scan, from the row first on if that is not nil.
func scanFromRow(src Source, lower, upper, first []byte, fn func(Cursor) (more bool, err error)) error {
	c, err := src.Cursor(lower, upper)
	if err != nil {
		return err
	}
	more := false
	if first == nil {
		more = c.Next()
	} else {
		more = c.SeekGE(first)
	}
	for more {
		var ok bool
		if ok, err = fn(c); !ok || err != nil {
			break
		}
		more = c.Next()
	}
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// ScanRows calls fn on each row of [lower, upper), in order, until it returns false. The slices are valid during the
// call.
func ScanRows(src Source, lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error {
	return scan(src, lower, upper, func(c Cursor) (bool, error) {
		v, err := c.Value()
		if err != nil {
			return false, err
		}
		return fn(c.Key(), v)
	})
}

// versionRow is one row of the versions space under a cursor; valid until the cursor moves, but for key.
type versionRow struct {
	key  []byte
	main int64
	sub  uint32
	data []byte // empty: a tombstone
}

func (r versionRow) tombstone() bool { return len(r.data) == 0 }

// record returns the version, nil for a tombstone. It does not alias the row.
func (r versionRow) record() (*mvccpb.KeyValue, error) {
	if r.tombstone() {
		return nil, nil
	}
	return decodeRecord(r.key, bytes.Clone(r.data))
}

// scanVersions calls fn, for each key in r in key order, with its newest version that is not newer than rev (which may
// be a tombstone), until fn returns false. A few newer versions are stepped over; a long chain is skipped by a seek.
func scanVersions(src Source, r Range, rev int64, fn func(versionRow) (more bool, err error)) error {
	lower, upper, empty := r.versionBounds()
	if empty {
		return nil
	}
	c, err := src.Cursor(lower, upper)
	if err != nil {
		return err
	}
	if r.Single() { // the seek is exact at once
		err = scanFrom(c, c.SeekGE(appendVersionSuffix(versionPrefix(r.Key), rev, maxSub)), rev, fn)
	} else {
		err = scanFrom(c, c.Next(), rev, fn)
	}
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

func scanFrom(c Cursor, ok bool, rev int64, fn func(versionRow) (more bool, err error)) error {
	const steps = 4 // about what a seek costs
	for newer := 0; ok; {
		row, err := readVersion(c)
		if err != nil {
			return err
		}
		if row.main > rev {
			if newer++; newer < steps {
				ok = c.Next()
			} else {
				ok = c.SeekGE(appendVersionSuffix(versionPrefix(row.key), rev, maxSub))
			}
			continue
		}
		more, err := fn(row)
		if err != nil || !more {
			return err
		}
		ok, newer = nextKey(c, row.key), 0
	}
	return nil
}

// nextKey moves behind all versions of key.
func nextKey(c Cursor, key []byte) bool {
	prefix := versionPrefix(key)
	if !c.Next() {
		return false
	}
	if !bytes.HasPrefix(c.Key(), prefix) {
		return true
	}
	return c.SeekGE(prefixEnd(prefix))
}

func readVersion(c Cursor) (versionRow, error) {
	key, main, sub, ok := parseVersionKey(c.Key())
	if !ok {
		return versionRow{}, corruptRow(c.Key())
	}
	data, err := c.Value()
	return versionRow{key: key, main: main, sub: sub, data: data}, err
}
