package logstore

import (
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// IterateEntries appends the entries [low, high) to entries and their sizes to
// size. It ends early where an entry is missing, and behind the entry with which
// size exceeds maxSize. The entries own their memory.
func (s *store) IterateEntries(
	entries []pb.Entry, size, shard, replica, low, high, maxSize uint64,
) ([]pb.Entry, uint64, error) {
	node := raftio.GetNodeInfo(shard, replica)
	next := low
	err := s.scan(node, low, high, func(index uint64, value func() ([]byte, error)) (bool, error) {
		if index != next {
			return false, nil
		}
		b, err := value()
		if err != nil {
			return false, err
		}
		e, err := decodeEntry(index, b)
		if err != nil {
			return false, err
		}
		entries = append(entries, e)
		size += uint64(e.SizeUpperLimit())
		next++
		return size <= maxSize, nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read entries [%d, %d) of %s: %w", low, high, name(node), err)
	}
	return entries, size, nil
}

// ReadRaftState returns a replica's hard state and where its log lies from
// lastIndex on, the index of its snapshot. It returns raftio.ErrNoSavedLog for a
// replica without a hard state, and ErrDamaged if entries between the snapshot
// and the end are missing. It looks at all these rows, as the replay that follows
// does.
func (s *store) ReadRaftState(shard, replica, lastIndex uint64) (raftio.RaftState, error) {
	node := raftio.GetNodeInfo(shard, replica)
	st, ok, err := get(s, node, kindState, decodeState)
	if err != nil {
		return raftio.RaftState{}, err
	}
	if !ok {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	first, last, err := s.extent(node, lastIndex)
	if err != nil {
		return raftio.RaftState{}, fmt.Errorf("read the log of %s: %w", name(node), err)
	}
	// A snapshot holds committed entries alone, and may have been recorded a moment
	// before the commit index was.
	st.Commit = max(st.Commit, lastIndex)
	if st.Commit > last {
		return raftio.RaftState{}, fmt.Errorf("%w: the log of %s ends at %d, %d was committed", ErrDamaged, name(node),
			last, st.Commit)
	}
	if last == lastIndex {
		return raftio.RaftState{State: st, FirstIndex: lastIndex}, nil
	}
	return raftio.RaftState{State: st, FirstIndex: first, EntryCount: last - first + 1}, nil
}

// extent returns the first and the last index of the rows from an index on, or
// that index twice if there are none.
func (s *store) extent(node raftio.NodeInfo, from uint64) (first, last uint64, err error) {
	err = s.scan(node, from, math.MaxUint64, func(index uint64, _ func() ([]byte, error)) (bool, error) {
		if first == 0 {
			first, last = index, index-1
		}
		if index != last+1 || first > from+1 {
			return false, fmt.Errorf("%w: entry %d follows %d", ErrDamaged, index, max(last, from))
		}
		last = index
		return true, nil
	})
	if first == 0 {
		return from, from, err
	}
	return first, last, err
}

// GetSnapshot returns a replica's newest snapshot record, or an empty one.
func (s *store) GetSnapshot(shard, replica uint64) (pb.Snapshot, error) {
	return s.snapshot(raftio.GetNodeInfo(shard, replica))
}

func (s *store) snapshot(node raftio.NodeInfo) (pb.Snapshot, error) {
	ss, _, err := get(s, node, kindSnapshot, func(b []byte) (pb.Snapshot, error) { return decodeSnapshot(node, b) })
	return ss, err
}

// scan calls visit for the rows of entries [low, high) until it returns false. A
// value is valid until visit returns.
func (s *store) scan(
	node raftio.NodeInfo, low, high uint64, visit func(index uint64, value func() ([]byte, error)) (bool, error),
) error {
	if low >= high {
		return nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(node, low), UpperBound: entryKey(node, high)})
	if err != nil {
		return err
	}
	more := true
	for ok := it.First(); ok && more; ok = it.Next() {
		var index uint64
		if index, err = decodeEntryKey(it.Key()); err == nil {
			more, err = visit(index, it.ValueAndErr)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, it.Close())
}

// lastEntry returns the index of a replica's last row, 0 if there is none.
func (s *store) lastEntry(node raftio.NodeInfo) (index uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(node, 0), UpperBound: rowKey(node, kindEntry+1)})
	if err != nil {
		return 0, fmt.Errorf("find the end of the log of %s: %w", name(node), err)
	}
	if it.Last() {
		index, err = decodeEntryKey(it.Key())
	}
	return index, errors.Join(err, it.Close())
}
