package logstore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// RemoveEntriesTo removes entries up to and including index, which a snapshot
// covers. It is not synced: entries that a crash brings back are hidden by the
// snapshot, and removed with the next.
func (s *store) RemoveEntriesTo(shard, replica, index uint64) error {
	node := raftio.GetNodeInfo(shard, replica)
	b := s.db.NewBatch()
	defer b.Close()
	if err := b.DeleteRange(entryKey(node, 0), afterEntry(node, index), nil); err != nil {
		return err
	}
	return s.commit(b, pebble.NoSync)
}

// CompactEntriesTo returns a channel that is closed. Pebble takes back the space
// of removed entries by itself, mostly by deleting whole files, when the memtable
// that has their removal is full: at most 8 MiB of writes later. A flush now would
// make raft's goroutine wait for a new log file.
func (s *store) CompactEntriesTo(_, _, _ uint64) (<-chan struct{}, error) {
	done := make(chan struct{})
	close(done)
	return done, nil
}

// RemoveNodeData removes all that is stored of a replica, durably. The replica
// must not be running.
func (s *store) RemoveNodeData(shard, replica uint64) error {
	return s.replace(raftio.GetNodeInfo(shard, replica), func(*pebble.Batch) error { return nil })
}

// ImportSnapshot replaces all that is stored of a replica, which must not be
// running, by a snapshot with which it is to begin anew. It is durable.
func (s *store) ImportSnapshot(ss pb.Snapshot, replica uint64) error {
	if ss.Type == pb.UnknownStateMachine || ss.Index == 0 {
		return errors.New("import a snapshot that has no index or no type of state machine")
	}
	node := raftio.GetNodeInfo(ss.ShardID, replica)
	bootstrap := pb.Bootstrap{Join: true, Type: ss.Type}
	record, err := bootstrap.Marshal()
	if err != nil {
		return err
	}
	snapshot, err := ss.Marshal()
	if err != nil {
		return err
	}
	return s.replace(node, func(b *pebble.Batch) error {
		return errors.Join(
			b.Set(rowKey(node, kindBootstrap), record, nil),
			b.Set(rowKey(node, kindState), encodeState(pb.State{Term: ss.Term, Commit: ss.Index}), nil),
			b.Set(rowKey(node, kindSnapshot), snapshot, nil),
		)
	})
}

// replace replaces all rows of a replica by those that fill adds to the batch.
func (s *store) replace(node raftio.NodeInfo, fill func(*pebble.Batch) error) error {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	s.dropTail(node)
	b := s.db.NewBatch()
	defer b.Close()
	if err := b.DeleteRange(rowKey(node, 0), rowKey(node, kindEnd), nil); err != nil {
		return err
	}
	if err := fill(b); err != nil {
		return err
	}
	return s.commit(b, pebble.Sync)
}
