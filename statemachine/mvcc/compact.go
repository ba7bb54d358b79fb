package mvcc

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// CompactStep stages in b the removal of history that a compaction to revision rev made unreachable, for the first
// limit changes at or after from, and returns where the next step begins; 0 when nothing is left. What is removed is
// derived from src alone, so a step that was lost in a crash is simply done again:
//
//   - of each changed key, the versions made before rev that are older than its newest one <= rev;
//   - that newest version too, if it is a tombstone made before rev;
//   - the rows of the changes before rev.
//
// All that was made at rev is kept, tombstones and versions that lasted for no revision: a watch may begin there.
func CompactStep(src Source, rev, from int64, limit int, b *pebble.Batch) (next int64, err error) {
	n, more := 0, false
	done := make(map[string]bool) // keys whose versions this step has handled
	err = ScanRows(src, ChangeKey(from, 0), ChangeKey(rev+1, 0), func(k, key []byte) (bool, error) {
		main, _, ok := parseChangeKey(k)
		if !ok {
			return false, corruptRow(k)
		}
		if n >= limit && main != next {
			next, more = main, true
			return false, nil
		}
		n++
		next = main // steps end between revisions
		if !done[string(key)] {
			done[string(key)] = true
			if err := dropVersions(src, bytes.Clone(key), rev, b); err != nil {
				return false, err
			}
		}
		if main < rev {
			return true, b.Delete(bytes.Clone(k), nil)
		}
		return true, nil
	})
	if err != nil || !more {
		return 0, err
	}
	return next, nil
}

// dropVersions removes the versions of key that no read at or after rev can see.
func dropVersions(src Source, key []byte, rev int64, b *pebble.Batch) error {
	prefix := versionPrefix(key)
	c, err := src.Cursor(prefix, prefixEnd(prefix))
	if err != nil {
		return err
	}
	newest := true
	for ok := c.SeekGE(appendVersionSuffix(versionPrefix(key), rev, maxSub)); ok && err == nil; ok = c.Next() {
		var row versionRow
		if row, err = readVersion(c); err != nil {
			break
		}
		if row.main < rev && (!newest || row.tombstone()) {
			err = b.Delete(bytes.Clone(c.Key()), nil)
		}
		newest = false
	}
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// VisibleVersions calls fn for each version that a read at a revision in [compacted, rev], or a history from there, can
// see, in store order, whatever part of the older history has been removed already. Tombstones have an empty record.
func VisibleVersions(src Source, compacted, rev int64, fn func(key, record []byte) error) error {
	lower, upper := SpaceBounds(SpaceVersions)
	var last []byte // user key whose newest version <= compacted was seen
	return scan(src, lower, upper, func(c Cursor) (bool, error) {
		row, err := readVersion(c)
		if err != nil || row.main > rev {
			return err == nil, err
		}
		if row.main <= compacted {
			hidden := bytes.Equal(last, row.key) || row.tombstone()
			last = append(last[:0], row.key...)
			if hidden && row.main < compacted {
				return true, nil
			}
		}
		return true, fn(c.Key(), row.data)
	})
}
