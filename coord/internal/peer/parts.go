package peer

import (
	"iter"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// maxPart is the size from which a frame takes nothing more, in bytes. Dragonboat sends up to 64 MiB as one batch, and
// a member that is behind gets as much in one message; it would be in memory three times on both sides: encoded, and as
// what it came from.
const maxPart = 4 << 20

// parts cuts a batch into such as fit into a frame. A message with many entries becomes several that follow each other
// in the log, as if the leader had sent them one by one.
func parts(batch pb.MessageBatch) iter.Seq[pb.MessageBatch] {
	return func(yield func(pb.MessageBatch) bool) {
		part, size := batch, 0
		part.Requests = nil
		for _, whole := range batch.Requests {
			for m := range pieces(whole) {
				n := m.SizeUpperLimit()
				if size > 0 && size+n > maxPart {
					if !yield(part) {
						return
					}
					part.Requests, size = nil, 0
				}
				part.Requests, size = append(part.Requests, m), size+n
			}
		}
		if len(part.Requests) > 0 {
			yield(part)
		}
	}
}

// pieces cuts a message with entries of the log, or with proposals, into such of about maxPart at most, or one entry.
func pieces(m pb.Message) iter.Seq[pb.Message] {
	return func(yield func(pb.Message) bool) {
		for {
			n := fitting(m)
			if n == len(m.Entries) {
				yield(m)
				return
			}
			piece := m
			piece.Entries = m.Entries[:n:n]
			if !yield(piece) {
				return
			}
			if m.Type == pb.Replicate {
				m.LogIndex, m.LogTerm = m.Entries[n-1].Index, m.Entries[n-1].Term
			}
			m.Entries = m.Entries[n:]
		}
	}
}

// fitting is how many entries of a message go into the next piece of it.
func fitting(m pb.Message) int {
	if m.Type != pb.Replicate && m.Type != pb.Propose {
		return len(m.Entries)
	}
	size := 0
	for i := range m.Entries {
		if size += m.Entries[i].SizeUpperLimit(); size > maxPart && i > 0 {
			return i
		}
	}
	return len(m.Entries)
}
