package mvcc

import (
	"bytes"
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Change is one change of the history. Prev is nil for a create, and where it was not asked for or is compacted.
type Change struct {
	Main   int64
	Delete bool
	Kv     *mvccpb.KeyValue // of a delete: Key and ModRevision only
	Prev   *mvccpb.KeyValue
}

// History says which changes to read: those with first <= main revision <= Last.
type History struct {
	First, Last int64
	// Compacted is the compacted revision of the view: no previous version below it is given.
	Compacted int64
	// Prev asks for previous versions.
	Prev bool
}

// Changes calls fn with the changes of each revision in h, in order, until fn returns false. It reads the changes
// space, then each version. The caller has checked that h.First is not compacted.
func Changes(ctx context.Context, src Source, h History, fn func(main int64, changes []Change) bool) error {
	var group []Change
	flush := func() bool {
		if len(group) == 0 {
			return true
		}
		more := fn(group[0].Main, group)
		group = nil
		return more
	}
	stopped := false
	err := ScanRows(src, ChangeKey(h.First, 0), ChangeKey(h.Last+1, 0), func(k, key []byte) (bool, error) {
		main, sub, ok := parseChangeKey(k)
		if !ok {
			return false, corruptRow(k)
		}
		if len(group) > 0 && group[0].Main != main {
			if stopped = !flush() || ctx.Err() != nil; stopped {
				return false, ctx.Err()
			}
		}
		change, err := readChange(src, h, bytes.Clone(key), main, sub)
		group = append(group, change)
		return err == nil, err
	})
	if err == nil && !stopped {
		flush()
	}
	return err
}

func readChange(src Source, h History, key []byte, main int64, sub uint32) (Change, error) {
	vk := VersionKey(key, main, sub)
	data, ok, err := src.Get(vk)
	if err == nil && !ok {
		err = corruptRow(vk) // a change without its version
	}
	if err != nil {
		return Change{}, err
	}
	change, err := makeChange(versionRow{key: key, main: main, sub: sub, data: data})
	if err == nil && h.Prev && !createdBy(change) && main-1 >= h.Compacted {
		change.Prev, _, err = At(src, key, main-1)
	}
	return change, err
}

func makeChange(row versionRow) (Change, error) {
	if row.tombstone() {
		return Change{Main: row.main, Delete: true, Kv: &mvccpb.KeyValue{Key: row.key, ModRevision: row.main}}, nil
	}
	kv, err := row.record()
	return Change{Main: row.main, Kv: kv}, err
}

func createdBy(c Change) bool { return !c.Delete && c.Kv.CreateRevision == c.Kv.ModRevision }

// KeyChanges is Changes for one key, read from its versions: newest first in the store, so the part in h is gathered
// and then given in order. A version below h.First serves as the previous version of the first change.
func KeyChanges(
	ctx context.Context, src Source, key []byte, h History, fn func(main int64, changes []Change) bool,
) error {
	prefix := versionPrefix(key)
	c, err := src.Cursor(prefix, prefixEnd(prefix))
	if err != nil {
		return err
	}
	changes, err := gatherKeyChanges(ctx, c, h, c.SeekGE(appendVersionSuffix(versionPrefix(key), h.Last, maxSub)))
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	slices.Reverse(changes)
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].Main == changes[0].Main {
			n++
		}
		if !fn(changes[0].Main, changes[:n:n]) {
			break
		}
		changes = changes[n:]
	}
	return nil
}

// gatherKeyChanges returns the changes of one key, newest first.
func gatherKeyChanges(ctx context.Context, c Cursor, h History, ok bool) ([]Change, error) {
	var changes []Change
	settled := 0 // so many have their previous version, or none; the rest are of one revision
	for ; ok; ok = c.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row, err := readVersion(c)
		if err != nil {
			return nil, err
		}
		change, err := makeChange(row)
		if err != nil {
			return nil, err
		}
		if settled < len(changes) && change.Main < changes[settled].Main {
			h.setPrev(changes[settled:], change)
			settled = len(changes)
		}
		if row.main < h.First {
			break
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// setPrev gives the changes of one revision the version before that revision as their previous one.
func (h History) setPrev(changes []Change, before Change) {
	for i := range changes {
		if h.Prev && !createdBy(changes[i]) && !before.Delete && changes[i].Main-1 >= h.Compacted {
			changes[i].Prev = before.Kv
		}
	}
}
