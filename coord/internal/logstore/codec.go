package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// ErrDamaged is returned when stored rows make no sense: they do not decode, or
// rows are missing from the middle of a log.
var ErrDamaged = errors.New("raft log is damaged")

// Kinds of rows, a byte of the key. They are stored: append, never reorder.
const (
	kindBootstrap byte = 1
	kindState     byte = 2
	kindSnapshot  byte = 3
	kindEntry     byte = 4
	// kindEnd is above all kinds and below the next replica.
	kindEnd byte = 0xff
)

const (
	rowKeySize   = 8 + 8 + 1
	entryKeySize = rowKeySize + 8
	stateSize    = 3 * 8
	// entryHead is the most that six varints take.
	entryHead = 6 * binary.MaxVarintLen64
)

// rowKey returns the key of a replica's row of a kind, which also is the lower
// bound of the kind's rows.
func rowKey(node raftio.NodeInfo, kind byte) []byte {
	return appendRowKey(make([]byte, 0, entryKeySize), node, kind)
}

func appendRowKey(b []byte, node raftio.NodeInfo, kind byte) []byte {
	b = binary.BigEndian.AppendUint64(b, node.ShardID)
	b = binary.BigEndian.AppendUint64(b, node.ReplicaID)
	return append(b, kind)
}

func entryKey(node raftio.NodeInfo, index uint64) []byte {
	return binary.BigEndian.AppendUint64(rowKey(node, kindEntry), index)
}

// afterEntry returns the first key behind the entry of an index.
func afterEntry(node raftio.NodeInfo, index uint64) []byte {
	if index == math.MaxUint64 {
		return rowKey(node, kindEntry+1)
	}
	return entryKey(node, index+1)
}

func decodeRowKey(key []byte) (raftio.NodeInfo, byte, error) {
	if len(key) != rowKeySize && len(key) != entryKeySize {
		return raftio.NodeInfo{}, 0, fmt.Errorf("%w: key %x", ErrDamaged, key)
	}
	node := raftio.NodeInfo{ShardID: binary.BigEndian.Uint64(key), ReplicaID: binary.BigEndian.Uint64(key[8:])}
	kind := key[16]
	if kind < kindBootstrap || kind > kindEntry || (kind == kindEntry) != (len(key) == entryKeySize) {
		return raftio.NodeInfo{}, 0, fmt.Errorf("%w: key %x", ErrDamaged, key)
	}
	return node, kind, nil
}

// decodeEntryKey returns the index in a key that lies between the bounds of a
// replica's entries.
func decodeEntryKey(key []byte) (uint64, error) {
	if len(key) != entryKeySize {
		return 0, fmt.Errorf("%w: key %x", ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(key[rowKeySize:]), nil
}

func encodeState(st pb.State) []byte {
	b := make([]byte, 0, stateSize)
	b = binary.BigEndian.AppendUint64(b, st.Term)
	b = binary.BigEndian.AppendUint64(b, st.Vote)
	return binary.BigEndian.AppendUint64(b, st.Commit)
}

func decodeState(b []byte) (pb.State, error) {
	if len(b) != stateSize {
		return pb.State{}, fmt.Errorf("%w: hard state of %d bytes", ErrDamaged, len(b))
	}
	return pb.State{
		Term:   binary.BigEndian.Uint64(b),
		Vote:   binary.BigEndian.Uint64(b[8:]),
		Commit: binary.BigEndian.Uint64(b[16:]),
	}, nil
}

// appendEntryHead appends the value of an entry's row, but for the command, to b.
func appendEntryHead(b []byte, e *pb.Entry) []byte {
	for _, v := range [...]uint64{e.Term, uint64(uint32(e.Type)), e.Key, e.ClientID, e.SeriesID, e.RespondedTo} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// decodeEntry decodes an entry's row. The entry owns its memory.
func decodeEntry(index uint64, b []byte) (pb.Entry, error) {
	e := pb.Entry{Index: index}
	var kind uint64
	for _, v := range [...]*uint64{&e.Term, &kind, &e.Key, &e.ClientID, &e.SeriesID, &e.RespondedTo} {
		n := 0
		if *v, n = binary.Uvarint(b); n <= 0 {
			return pb.Entry{}, fmt.Errorf("%w: entry %d ends in its head", ErrDamaged, index)
		}
		b = b[n:]
	}
	if kind > math.MaxInt32 {
		return pb.Entry{}, fmt.Errorf("%w: entry %d has type %d", ErrDamaged, index, kind)
	}
	e.Type = pb.EntryType(kind)
	if len(b) > 0 {
		e.Cmd = append([]byte(nil), b...)
	}
	return e, nil
}

func decodeSnapshot(node raftio.NodeInfo, b []byte) (pb.Snapshot, error) {
	var ss pb.Snapshot
	if err := ss.Unmarshal(b); err != nil {
		return pb.Snapshot{}, fmt.Errorf("%w: snapshot record of %s: %w", ErrDamaged, name(node), err)
	}
	if ss.Index == 0 {
		return pb.Snapshot{}, fmt.Errorf("%w: snapshot record of %s has no index", ErrDamaged, name(node))
	}
	return ss, nil
}

func decodeBootstrap(node raftio.NodeInfo, b []byte) (pb.Bootstrap, error) {
	var bs pb.Bootstrap
	if err := bs.Unmarshal(b); err != nil {
		return pb.Bootstrap{}, fmt.Errorf("%w: bootstrap record of %s: %w", ErrDamaged, name(node), err)
	}
	return bs, nil
}

func name(node raftio.NodeInfo) string {
	return fmt.Sprintf("shard %d replica %x", node.ShardID, node.ReplicaID)
}
