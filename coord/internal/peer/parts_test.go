package peer

import (
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// TestPartsAreSmall: a batch of any size is cut into frames of a few megabytes that say the same: entries in order,
// each piece of a message following the one before in the log, and nothing lost.
func TestPartsAreSmall(t *testing.T) {
	const entrySize = 1 << 20
	var batch pb.MessageBatch
	batch.DeploymentId = 7
	index := uint64(10)
	for _, entries := range []int{1, 0, 20, 3, 64} {
		for _, kind := range []pb.MessageType{pb.Replicate, pb.Propose} {
			m := pb.Message{Type: kind, LogIndex: index, LogTerm: 3, Commit: 1000, From: 1, To: 2}
			for range entries {
				index++
				m.Entries = append(m.Entries, pb.Entry{Index: index, Term: 3 + index/40, Cmd: make([]byte, entrySize)})
			}
			if n := len(m.Entries); n > 0 && kind == pb.Replicate {
				m.LogTerm = m.Entries[0].Term
			}
			batch.Requests = append(batch.Requests, m)
		}
	}
	batch.Requests = append(batch.Requests, pb.Message{
		Type: pb.Replicate, LogIndex: index, Entries: []pb.Entry{{Index: index + 1, Cmd: make([]byte, 3*maxPart)}},
	})
	want, got, frames := 0, 0, 0
	for _, m := range batch.Requests {
		want += len(m.Entries)
	}
	for part := range parts(batch) {
		frames++
		if size := part.SizeUpperLimit(); size > maxPart+entrySize && len(part.Requests) > 1 {
			t.Errorf("a frame of %d bytes", size)
		}
		if part.DeploymentId != 7 {
			t.Errorf("a frame of another batch: %+v", part.DeploymentId)
		}
		for _, m := range part.Requests {
			checkFollows(t, m)
			got += len(m.Entries)
		}
	}
	if got != want || frames < 30 {
		t.Errorf("%d entries of %d arrived in %d frames", got, want, frames)
	}
}

// checkFollows checks that the entries of a piece follow what it says is before them.
func checkFollows(t *testing.T, m pb.Message) {
	t.Helper()
	for i, e := range m.Entries {
		if m.Type == pb.Replicate && e.Index != m.LogIndex+1+uint64(i) {
			t.Errorf("entry %d stands %d behind %d", e.Index, i+1, m.LogIndex)
		}
	}
	if n := len(m.Entries); m.Type == pb.Replicate && n > 1 && m.LogTerm > m.Entries[0].Term {
		t.Errorf("term %d before %d", m.LogTerm, m.Entries[0].Term)
	}
}
