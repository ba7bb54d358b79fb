package logstore

import (
	"bytes"
	"math"
	"reflect"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// Decoders refuse what they do not know and never panic; what they accept
// encodes to the same meaning.
func FuzzDecode(f *testing.F) {
	node := raftio.NodeInfo{ShardID: 1, ReplicaID: math.MaxUint64}
	e := pb.Entry{
		Term: 7, Type: pb.ConfigChangeEntry, Key: math.MaxUint64, ClientID: 1 << 40, SeriesID: 3, RespondedTo: 2,
		Cmd: []byte("command"),
	}
	ss := pb.Snapshot{
		Index: 9, Term: 2, Filepath: "f", Membership: pb.Membership{
			Addresses: map[uint64]string{1: "a"}, Removed: map[uint64]bool{2: true},
		}, Files: []*pb.SnapshotFile{{Filepath: "x"}},
	}
	record, err := ss.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	bs := pb.Bootstrap{Join: true, Addresses: map[uint64]string{1: "a"}}
	boot, err := bs.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{
		nil, append(appendEntryHead(nil, &e), e.Cmd...), encodeState(pb.State{Term: 1, Vote: 2, Commit: 3}), record,
		boot,
		entryKey(node, 5), rowKey(node, kindState), rowKey(node, kindEntry),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEntry(3, b); err == nil {
			again, err := decodeEntry(3, append(appendEntryHead(nil, &e), e.Cmd...))
			if err != nil || !reflect.DeepEqual(e, again) {
				t.Errorf("%+v becomes %+v, %v", e, again, err)
			}
		}
		if st, err := decodeState(b); err == nil && !bytes.Equal(encodeState(st), b) {
			t.Errorf("state %x becomes %x", b, encodeState(st))
		}
		if node, kind, err := decodeRowKey(b); err == nil {
			key := rowKey(node, kind)
			if kind == kindEntry {
				index, err := decodeEntryKey(b)
				if err != nil {
					t.Error(err)
				}
				key = entryKey(node, index)
			}
			if !bytes.Equal(key, b) {
				t.Errorf("key %x becomes %x", b, key)
			}
		}
		if ss, err := decodeSnapshot(node, b); err == nil && ss.Index == 0 {
			t.Error("snapshot without an index")
		}
		_, _ = decodeBootstrap(node, b)
		chunkFile{data: b}.damage()
		chunkFile{data: b, wal: true, num: 1}.damage()
	})
}
