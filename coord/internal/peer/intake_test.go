package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/lni/dragonboat/v4/config"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// snapshotPoison is chunks that no member sends, each made of the one with the number that it stands under, and the
// reason for which it is rejected.
var snapshotPoison = map[string]struct {
	at     uint64
	reason string
	edit   func(*pb.Chunk)
}{
	"another's":        {0, ReasonAddress, func(c *pb.Chunk) { c.From = 3 }},
	"to another":       {0, ReasonAddress, func(c *pb.Chunk) { c.ReplicaID = 3 }},
	"other shard":      {0, ReasonAddress, func(c *pb.Chunk) { c.ShardID = 7 }},
	"other deployment": {0, ReasonAddress, func(c *pb.Chunk) { c.DeploymentId = 2 }},
	"other version":    {1, ReasonAddress, func(c *pb.Chunk) { c.BinVer++ }},
	"file beside":      {1, ReasonSnapshot, func(c *pb.Chunk) { c.HasFileInfo = true }},
	"witness":          {0, ReasonSnapshot, func(c *pb.Chunk) { c.Witness = true }},
	"from the middle":  {0, ReasonSnapshot, func(c *pb.Chunk) { c.ChunkId, c.FileChunkId = 1, 1 }},
	"left out":         {1, ReasonSnapshot, func(c *pb.Chunk) { c.ChunkId, c.FileChunkId = 2, 2 }},
	"again":            {1, ReasonSnapshot, func(c *pb.Chunk) { c.ChunkId, c.FileChunkId = 0, 0 }},
	"file from anew":   {1, ReasonSnapshot, func(c *pb.Chunk) { c.FileChunkId = 0 }},
	"last by number":   {1, ReasonSnapshot, func(c *pb.Chunk) { c.ChunkCount = 2 }},
	"poison count": {1, ReasonSnapshot, func(c *pb.Chunk) {
		c.ChunkCount, c.FileChunkCount = pb.PoisonChunkCount, pb.PoisonChunkCount
	}},
	"index 0":             {0, ReasonSnapshot, func(c *pb.Chunk) { c.Index, c.OnDiskIndex = 0, 0 }},
	"index 2^64-1":        {0, ReasonSnapshot, func(c *pb.Chunk) { c.Index = ^uint64(0) }},
	"index changes":       {1, ReasonSnapshot, func(c *pb.Chunk) { c.Index, c.Filepath = 10, snapshotName(10) }},
	"term 0":              {0, ReasonSnapshot, func(c *pb.Chunk) { c.Term = 0 }},
	"term changes":        {1, ReasonSnapshot, func(c *pb.Chunk) { c.Term = 2 }},
	"more than it has":    {0, ReasonSnapshot, func(c *pb.Chunk) { c.OnDiskIndex = 10 }},
	"less than it has":    {0, ReasonSnapshot, func(c *pb.Chunk) { c.OnDiskIndex = 5 }}, // found at its end
	"path that leads out": {0, ReasonSnapshot, func(c *pb.Chunk) { c.Filepath = "../" + snapshotName(9) }},
	"no path":             {1, ReasonSnapshot, func(c *pb.Chunk) { c.Filepath = "" }},
	"huge":                {1, ReasonSnapshot, func(c *pb.Chunk) { c.Data = make([]byte, 3<<20) }},
	"no header":           {0, ReasonSnapshot, func(c *pb.Chunk) { c.Data = c.Data[:100] }},
	"header too long":     {0, ReasonSnapshot, func(c *pb.Chunk) { c.Data[6] = 1 }},
	"header garbled":      {0, ReasonSnapshot, func(c *pb.Chunk) { c.Data[8] = 0xff }},
	"compressed": {0, ReasonSnapshot, func(c *pb.Chunk) {
		copy(c.Data, streamHeader(pb.SnapshotHeader{Version: 2, CompressionType: 1}))
	}},
	"other form": {0, ReasonSnapshot, func(c *pb.Chunk) {
		copy(c.Data, streamHeader(pb.SnapshotHeader{Version: 1}))
	}},
	"sessions":         {0, ReasonSnapshot, func(c *pb.Chunk) { c.Data[chunkHeader+8] = 1 }},
	"content":          {1, ReasonSnapshot, func(c *pb.Chunk) { c.Data[1000] = 1 }},
	"without receiver": {0, ReasonChange, func(c *pb.Chunk) { delete(c.Membership.Addresses, 2) }},
	"member 0":         {0, ReasonChange, func(c *pb.Chunk) { c.Membership.Addresses[0] = Target(0) }},
	"member elsewhere": {0, ReasonChange, func(c *pb.Chunk) { c.Membership.Addresses[3] = "127.0.0.1:1" }},
	"member twice": {0, ReasonChange, func(c *pb.Chunk) {
		c.Membership.NonVotings = map[uint64]string{1: Target(1)}
	}},
	"removed member":   {0, ReasonChange, func(c *pb.Chunk) { c.Membership.Removed = map[uint64]bool{1: true} }},
	"members of later": {0, ReasonChange, func(c *pb.Chunk) { c.Membership.ConfigChangeId = 10 }},
	"witnesses": {0, ReasonChange, func(c *pb.Chunk) {
		c.Membership.Witnesses = map[uint64]string{4: Target(4)}
	}},
}

// zeros is the tests' judge of a snapshot's content: it is nothing but zeros, and of index 8.
func zeros(r io.Reader) (uint64, error) {
	b, err := io.ReadAll(r)
	if err == nil && len(bytes.Trim(b, "\x00")) > 0 {
		err = errors.New("not zeros")
	}
	return 8, err
}

func TestSnapshotPoisonIsRejected(t *testing.T) {
	for what, p := range snapshotPoison {
		t.Run(what, func(t *testing.T) {
			var taken []pb.Chunk
			tr := NewFactory(Options{Self: identity(2), Book: NewBook(), Groups: only(Content{CheckSnapshot: zeros})}).
				Create(config.NodeHostConfig{}, nil, func(c pb.Chunk) bool {
					taken = append(taken, c)
					return true
				}).(*Transport)
			defer tr.cancel()
			var s *intake
			var err error
			for id := uint64(0); id < 3 && err == nil; id++ {
				c := chunk(id, id == 2)
				if id == p.at {
					p.edit(&c)
				}
				s, err = tr.takeChunk(s, 1, pb.MustMarshal(&c))
			}
			var rejected *RejectedError
			if !errors.As(err, &rejected) || rejected.Reason != p.reason {
				t.Errorf("%v, want a rejection for %s", err, p.reason)
			}
			if s != nil {
				s.end(err)
			}
			checkRemoved(t, taken)
		})
	}
}

// checkRemoved checks that what Dragonboat got of a snapshot ends with a last chunk that makes it wrong.
func checkRemoved(t *testing.T, taken []pb.Chunk) {
	t.Helper()
	if len(taken) == 0 {
		return
	}
	last := taken[len(taken)-1]
	if !last.IsLastChunk() || !bytes.Equal(last.Data, make([]byte, streamTail)) {
		t.Errorf("what was taken is not removed: the last chunk is %d of %d with %d bytes", last.ChunkId,
			last.ChunkCount, len(last.Data))
	}
	for i, c := range taken[:len(taken)-1] {
		if c.IsLastChunk() && !bytes.Equal(c.Data, make([]byte, streamTail)) {
			t.Errorf("chunk %d ended a snapshot that was rejected", i)
		}
	}
}

// A snapshot that is cut off, or overtaken by another of its sender, leaves nothing.
func TestSnapshotThatIsCutOff(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	send := func() *snapshotConn {
		c, err := a.GetSnapshotConnection(context.Background(), Target(2))
		if err != nil {
			t.Fatal(err)
		}
		for id := range uint64(2) {
			if err := c.SendChunk(chunk(id, false)); err != nil {
				t.Fatal(err)
			}
			receive(t, b.chunks, "chunk")
		}
		return c.(*snapshotConn)
	}
	removed := func(what string) {
		t.Helper()
		if c := receive(t, b.chunks, "end of a snapshot "+what); !c.IsLastChunk() || c.ChunkId != 2 ||
			len(c.Data) != streamTail {
			t.Errorf("a snapshot %s ended with chunk %d of %d", what, c.ChunkId, c.ChunkCount)
		}
		receive(t, b.chunks, "end in case the last chunk was refused")
	}
	send().Close()
	removed("that was cut off")
	first := send()
	defer first.Close()
	second, err := a.GetSnapshotConnection(context.Background(), Target(2))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.SendChunk(chunk(0, false)); err != nil {
		t.Fatal(err)
	}
	removed("that was overtaken")
	receive(t, b.chunks, "first chunk of the second snapshot")
}

// Who opens many connections loses the oldest.
func TestConnectionsOfOnePeerAreBounded(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	for range 3 * maxConns {
		c, err := a.GetSnapshotConnection(context.Background(), Target(2))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	in := b.inbound(1)
	eventually(t, "few connections", func() bool {
		in.mu.Lock()
		defer in.mu.Unlock()
		return len(in.mu.conns) <= maxConns
	})
}

func TestBlocks(t *testing.T) {
	for _, size := range []int{0, 1, 11, 12, 13, blockSize - 1, blockSize, blockSize + 1, 2 * blockSize, 2*blockSize +
		5} {
		content := bytes.Repeat([]byte{1, 2, 3}, size/3+1)[:size]
		var stream []byte
		for rest := content; len(rest) > 0; {
			n := min(len(rest), blockSize)
			stream = append(append(stream, rest[:n]...), "sum4"...)
			rest = rest[n:]
		}
		stream = append(stream, "the tail, 16 by."...)
		got, err := io.ReadAll(newBlocks(bytes.NewReader(stream)))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("content of %d bytes came out as %d bytes, %v", size, len(got), err)
		}
	}
}
