package logstore

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// SaveRaftState stores all updates atomically. They are durable when it returns,
// except for commit indexes that came alone: see the package's doc for why. After
// an error nothing more can be saved.
func (s *store) SaveRaftState(updates []pb.Update, _ uint64) error {
	b := s.db.NewBatch()
	defer b.Close()
	for i := range updates {
		if !pb.IsEmptySnapshot(updates[i].Snapshot) {
			s.snapshots.Lock()
			defer s.snapshots.Unlock()
			break
		}
	}
	write := pebble.NoSync
	for i := range updates {
		sync, err := s.stage(b, &updates[i])
		if err != nil {
			s.fail(err) // tails are ahead of what is stored
			return err
		}
		if sync {
			write = pebble.Sync
		}
	}
	if b.Empty() {
		return nil
	}
	return s.commit(b, write)
}

// stage adds one replica's update to a batch and says whether it must be synced.
func (s *store) stage(b *pebble.Batch, u *pb.Update) (sync bool, err error) {
	node := raftio.GetNodeInfo(u.ShardID, u.ReplicaID)
	t, err := s.tail(node)
	if err != nil {
		return false, err
	}
	if !pb.IsEmptyState(u.State) && u.State != t.state {
		sync = u.State.Term != t.state.Term || u.State.Vote != t.state.Vote
		t.state = u.State
		if err := b.Set(rowKey(node, kindState), encodeState(u.State), nil); err != nil {
			return false, err
		}
	}
	if !pb.IsEmptySnapshot(u.Snapshot) {
		newer, err := s.stageSnapshot(b, node, u.Snapshot)
		if err != nil {
			return false, err
		}
		if newer { // it came from the leader, and the log begins anew behind it
			sync, t.last = true, u.Snapshot.Index
			if err := b.DeleteRange(entryKey(node, 0), rowKey(node, kindEntry+1), nil); err != nil {
				return false, err
			}
		}
	}
	if len(u.EntriesToSave) > 0 {
		sync = true
		if t.last, err = stageEntries(b, node, t.last, u.EntriesToSave); err != nil {
			return false, err
		}
	}
	s.setTail(node, t)
	return sync, nil
}

// stageEntries appends entries to a log that ends at last, in place of what it
// has from the first of them on. It returns the new end.
func stageEntries(b *pebble.Batch, node raftio.NodeInfo, last uint64, entries []pb.Entry) (uint64, error) {
	next := entries[0].Index
	if next == 0 || next > last+1 {
		return 0, fmt.Errorf("append entry %d to the log of %s, which ends at %d", next, name(node), last)
	}
	for i := range entries {
		e := &entries[i]
		if e.Index != next {
			return 0, fmt.Errorf("append entry %d to the log of %s in place of %d", e.Index, name(node), next)
		}
		setEntry(b, node, e)
		next++
	}
	if next <= last {
		if err := b.DeleteRange(entryKey(node, next), afterEntry(node, last), nil); err != nil {
			return 0, err
		}
	}
	return next - 1, nil
}

func setEntry(b *pebble.Batch, node raftio.NodeInfo, e *pb.Entry) {
	var head [entryHead]byte
	fields := appendEntryHead(head[:0], e)
	op := b.SetDeferred(entryKeySize, len(fields)+len(e.Cmd))
	binary.BigEndian.AppendUint64(appendRowKey(op.Key[:0], node, kindEntry), e.Index)
	copy(op.Value[copy(op.Value, fields):], e.Cmd)
	_ = op.Finish() // fails for indexed batches alone
}

// SaveSnapshots stores the snapshot records of updates, durably. One that is not
// newer than what is stored is passed over.
func (s *store) SaveSnapshots(updates []pb.Update) error {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	b := s.db.NewBatch()
	defer b.Close()
	for i := range updates {
		u := &updates[i]
		if pb.IsEmptySnapshot(u.Snapshot) {
			continue
		}
		if _, err := s.stageSnapshot(b, raftio.GetNodeInfo(u.ShardID, u.ReplicaID), u.Snapshot); err != nil {
			return err
		}
	}
	if b.Empty() {
		return nil
	}
	return s.commit(b, pebble.Sync)
}

// stageSnapshot adds a snapshot record to a batch unless it is old. The caller
// holds s.snapshots until the batch is written.
func (s *store) stageSnapshot(b *pebble.Batch, node raftio.NodeInfo, ss pb.Snapshot) (newer bool, err error) {
	stored, err := s.snapshot(node)
	if err != nil || ss.Index <= stored.Index {
		return false, err
	}
	value, err := ss.Marshal()
	if err != nil {
		return false, err
	}
	return true, b.Set(rowKey(node, kindSnapshot), value, nil)
}

// tail returns what is stored of a replica, from memory but for the first time.
func (s *store) tail(node raftio.NodeInfo) (tail, error) {
	s.mu.Lock()
	t, ok := s.mu.tails[node]
	s.mu.Unlock()
	if ok {
		return t, nil
	}
	var err error
	if t.state, _, err = get(s, node, kindState, decodeState); err != nil {
		return tail{}, err
	}
	ss, err := s.snapshot(node)
	if err != nil {
		return tail{}, err
	}
	last, err := s.lastEntry(node)
	if err != nil {
		return tail{}, err
	}
	t.last = max(last, ss.Index)
	return t, nil
}

func (s *store) setTail(node raftio.NodeInfo, t tail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.tails[node] = t
}

func (s *store) dropTail(node raftio.NodeInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.tails, node)
}
