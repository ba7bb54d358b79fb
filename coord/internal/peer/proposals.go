package peer

import (
	"sync"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// maxWaiting bounds the bytes of proposals of one peer that raft has not taken, in all groups together: two of the
// largest entries. Dragonboat bounds their number alone.
const maxWaiting = 2 * maxEntry

// proposals are those of one peer that wait for raft. Dragonboat does not tell when it takes what it was given, but it
// takes all there is of a group at each of its steps, and some messages are sent once in a step (stepped): what came
// before the step before the last has been taken. A member that does not lead has no use for proposals, and drops them
// as it takes them; who proposed them does so again.
type proposals struct {
	mu      sync.Mutex
	waiting uint64
	groups  map[uint64]*waiting // by shard: of those of which any wait
}

// waiting are the bytes of one group.
type waiting struct {
	group *Group
	// before came before the last step, since came after it.
	before, since uint64
}

// admit reports whether there is room for a proposal to a group, the one of the shard that has a replica now. One fits
// always when nothing waits. current finds such groups: what was for another one waits no more.
func (p *proposals) admit(group *Group, shard uint64, entries []pb.Entry, current func(shard uint64) *Group) bool {
	size := pb.GetEntrySliceInMemSize(entries)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full(size) {
		for shard, w := range p.groups {
			if current(shard) != w.group {
				p.forget(shard, w)
			}
		}
		if p.full(size) {
			return false
		}
	}
	if p.groups == nil {
		p.groups = make(map[uint64]*waiting)
	}
	w := p.groups[shard]
	if w != nil && w.group != group {
		p.forget(shard, w)
		w = nil
	}
	if w == nil {
		w = &waiting{group: group}
		p.groups[shard] = w
	}
	w.since += size
	p.waiting += size
	return true
}

func (p *proposals) full(size uint64) bool { return p.waiting > 0 && p.waiting+size > maxWaiting }

// forget is called with mu held, when nothing waits of a group.
func (p *proposals) forget(shard uint64, w *waiting) {
	p.waiting -= w.before + w.since
	delete(p.groups, shard)
}

// stepped is called for each message that tells of a step of a group.
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

// stepped looks for what tells of a step in a message that is about to be sent: a leader sends heartbeats to all
// others, a member without a leader asks all voters for votes, and a follower answers the leader's heartbeats, which
// tells of the proposals of all.
func (t *Transport) stepped(m *pb.Message) {
	switch m.Type {
	case pb.Heartbeat, pb.RequestPreVote:
		t.inbound(m.To).proposals.stepped(m.ShardID)
	case pb.HeartbeatResp:
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, in := range t.mu.inbound {
			in.proposals.stepped(m.ShardID)
		}
	}
}
