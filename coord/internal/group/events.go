package group

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftio"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/host"
)

// eventLoop stands between Dragonboat's listener thread, which must never be
// blocked because raft waits for it with locks held, and the caller's callbacks.
type eventLoop struct {
	g    *Group
	kick chan struct{}

	// handover is set when the leader of a term told this member to take over; run
	// alone uses it.
	handover struct {
		term  uint64
		until time.Time
	}

	leader  atomic.Pointer[raftio.LeaderInfo]
	learner atomic.Bool

	mu      sync.Mutex
	pending pendingEvents
	// changed is closed and replaced at each change of leader.
	changed chan struct{}
}

type pendingEvents struct {
	leader, membership, dropped, removed, takeOver bool
}

var _ host.Replica = (*Group)(nil)

func newEventLoop(g *Group) *eventLoop {
	e := &eventLoop{g: g, kick: make(chan struct{}, 1), changed: make(chan struct{})}
	e.leader.Store(&raftio.LeaderInfo{})
	return e
}

// note sets flags under the lock and wakes the loop.
func (e *eventLoop) note(set func(*pendingEvents)) {
	e.mu.Lock()
	set(&e.pending)
	e.mu.Unlock()
	signal(e.kick)
}

// LeaderUpdated implements host.Replica.
func (g *Group) LeaderUpdated(info raftio.LeaderInfo) { g.events.leaderUpdated(info) }

func (e *eventLoop) leaderUpdated(info raftio.LeaderInfo) {
	e.leader.Store(&info)
	signal(e.g.reads.leader)
	e.note(func(p *pendingEvents) {
		p.leader = true
		close(e.changed)
		e.changed = make(chan struct{})
	})
}

// leaderChange returns the leader and a channel closed when that is out of date.
func (e *eventLoop) leaderChange() (uint64, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leader.Load().LeaderID, e.changed
}

func (e *eventLoop) dropped() { e.note(func(p *pendingEvents) { p.dropped = true }) }

// MembershipChanged implements host.Replica.
func (g *Group) MembershipChanged() {
	g.events.note(func(p *pendingEvents) { p.membership = true })
}

// Ready implements host.Replica.
func (g *Group) Ready() { signal(g.events.kick) }

// SnapshotStarted implements host.Replica.
func (g *Group) SnapshotStarted(to, index uint64) {
	g.compactor.streamed.Add(1)
	g.log.Info("sending a snapshot", zap.String("to", fmt.Sprintf("%x", to)), zap.Uint64("index", index))
}

// TakeOver implements host.Replica.
func (g *Group) TakeOver() { g.events.note(func(p *pendingEvents) { p.takeOver = true }) }

// run delivers events until the group closes, and makes this member stand for
// election where waiting would only cost time.
func (e *eventLoop) run() {
	tick := e.g.host.Timing().Tick
	for {
		var again <-chan time.Time
		if e.campaigns() {
			e.g.host.Transport().CampaignNow(e.g.shard)
			again = time.After(2 * tick)
		}
		select {
		case <-e.g.ctx.Done():
			return
		case <-e.kick:
			e.deliver()
		case <-again:
		}
	}
}

// campaigns says whether to stand for election now: as a sole voter, which would
// wait out a random timeout for votes nobody else has, and when the leader handed
// over. Dragonboat ignores that while an entry is committed but not applied yet,
// and the leader turns down proposals until it gives up, so it is told again.
func (e *eventLoop) campaigns() bool {
	if e.leader.Load().LeaderID == e.g.member {
		e.handover.until = time.Time{}
		return false
	}
	if e.leader.Load().Term != e.handover.term {
		e.handover.until = time.Time{}
	}
	return time.Now().Before(e.handover.until) || e.soleVoter()
}

func (e *eventLoop) deliver() {
	e.mu.Lock()
	p := e.pending
	e.pending = pendingEvents{}
	e.mu.Unlock()
	info, on := e.leader.Load(), e.g.cfg.Events
	if p.takeOver {
		e.handover.term, e.handover.until = info.Term, time.Now().Add(e.g.host.ElectionTimeout()/2)
	}
	if p.leader && on.Leader != nil {
		on.Leader(info.LeaderID, info.Term)
	}
	if p.membership && on.Membership != nil {
		on.Membership()
	}
	if p.dropped && on.Dropped != nil {
		on.Dropped()
	}
	if p.removed && on.Removed != nil {
		on.Removed()
	}
}

// soleVoter looks at the members this replica knows of, without asking others.
func (e *eventLoop) soleVoter() bool {
	info, ok := e.g.shardInfo()
	if !ok || info.Pending {
		return false
	}
	e.learner.Store(info.IsNonVoting)
	_, voter := info.Replicas[e.g.member]
	return voter && len(info.Replicas) == 1
}

// shardInfo returns what Dragonboat tells about the replica at once.
func (g *Group) shardInfo() (dragonboat.ShardInfo, bool) {
	nh := g.enter()
	if nh == nil {
		return dragonboat.ShardInfo{}, false
	}
	defer g.leave()
	host := nh.GetNodeHostInfo(dragonboat.NodeHostInfoOption{SkipLogInfo: true})
	if host == nil {
		return dragonboat.ShardInfo{}, false
	}
	for _, info := range host.ShardInfoList {
		if info.ShardID == g.shard {
			return info, true
		}
	}
	return dragonboat.ShardInfo{}, false
}
