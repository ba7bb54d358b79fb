package logstore

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"
)

// TestGoldenRows: the rows of the log's store are as they were, and what was written is read. A member of the next
// release opens them.
func TestGoldenRows(t *testing.T) {
	node := raftio.NodeInfo{ShardID: 1, ReplicaID: 0x8e9e05c52164694d}
	entry := pb.Entry{
		Term: 3, Index: 300, Type: pb.ConfigChangeEntry, Key: 1 << 63, ClientID: 5, SeriesID: math.MaxUint64,
		RespondedTo: 6, Cmd: []byte("command"),
	}
	state := pb.State{Term: 3, Vote: node.ReplicaID, Commit: 299}
	var lines []string
	add := func(key, value []byte) { lines = append(lines, fmt.Sprintf("%x = %x", key, value)) }
	for _, kind := range []byte{kindBootstrap, kindState, kindSnapshot, kindEntry} {
		add(rowKey(node, kind), nil)
	}
	add(rowKey(node, kindState), encodeState(state))
	add(entryKey(node, entry.Index), append(appendEntryHead(nil, &entry), entry.Cmd...))
	golden.Assert(t, strings.Join(lines, "\n")+"\n", "rows")

	written := strings.Split(strings.TrimSpace(string(golden.Get(t, "rows"))), "\n")
	value := func(line string) (v []byte) {
		_, after, _ := strings.Cut(line, " = ")
		_, err := fmt.Sscanf(after, "%x", &v)
		assert.NilError(t, err)
		return v
	}
	gotState, err := decodeState(value(written[4]))
	assert.NilError(t, err)
	assert.Equal(t, gotState, state)
	gotEntry, err := decodeEntry(entry.Index, value(written[5]))
	assert.NilError(t, err)
	assert.DeepEqual(t, gotEntry, entry)
}
