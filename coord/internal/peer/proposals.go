package peer

import (
	"sync"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// maxWaiting bounds the bytes of proposals of one peer that raft has not taken, in all groups together: two of the largest entries.
// Dragonboat bounds their number alone.
const maxWaiting = 2 * maxEntry

// proposals are those of one peer that wait for raft. Dragonboat does not tell when it takes what it was given, but it takes
// all there is of a group at each of its steps, and a leader's heartbeat comes out of a step: what came before the heartbeat before
// the last has been taken. A member that does not lead has no use for proposals, and may drop them; who proposed them does so again.
type proposals struct {
	mu      sync.Mutex
	waiting uint64
	groups  map[uint64]*waiting // by shard: of those of which any wait
}

// waiting are the bytes of one group.
type waiting struct {
	// before came before the last heartbeat, since came after it.
	before, since uint64
}

// admit reports whether there is room for a proposal. One fits always when nothing waits.
func (p *proposals) admit(shard uint64, entries []pb.Entry) bool {
	size := pb.GetEntrySliceInMemSize(entries)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting > 0 && p.waiting+size > maxWaiting {
		return false
	}
	if p.groups == nil {
		p.groups = make(map[uint64]*waiting)
	}
	w := p.groups[shard]
	if w == nil {
		w = &waiting{}
		p.groups[shard] = w
	}
	w.since += size
	p.waiting += size
	return true
}

// stepped is called with each heartbeat of a group that goes to the peer.
func (p *proposals) stepped(shard uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.groups[shard]
	if w == nil {
		return
	}
	p.waiting -= w.before
	if w.before, w.since = w.since, 0; w.before == 0 {
		delete(p.groups, shard)
	}
}
