package peer

import (
	"sync"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// maxWaiting bounds the bytes of proposals of one peer that raft has not taken: two of the largest entries. Dragonboat bounds
// their number alone.
const maxWaiting = 2 * maxEntry

// proposals are those of one peer that wait for raft. Dragonboat does not tell when it takes what it was given, but it takes
// all there is at each step, and a leader's heartbeat comes out of a step: what came before the heartbeat before the last has
// been taken. A member that does not lead has no use for proposals, and may drop them; who proposed them does so again.
type proposals struct {
	mu sync.Mutex
	// before came before the last heartbeat, since came after it.
	before, since uint64
}

// admit reports whether there is room for a proposal. One fits always when nothing waits.
func (p *proposals) admit(entries []pb.Entry) bool {
	size := pb.GetEntrySliceInMemSize(entries)
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting := p.before + p.since; waiting > 0 && waiting+size > maxWaiting {
		return false
	}
	p.since += size
	return true
}

// stepped is called with each heartbeat that goes to the peer.
func (p *proposals) stepped() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.since = p.since, 0
}
