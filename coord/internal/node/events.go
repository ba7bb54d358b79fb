package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftio"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// eventLoop stands between Dragonboat's listener thread, which must never be
// blocked because raft waits for it with locks held, and the caller's callbacks.
type eventLoop struct {
	n    *Node
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
	// outcast is why a majority of the voters does not let this member in, nil while it does.
	outcast *handshake.RefusedError
}

var (
	_ raftio.IRaftEventListener   = (*eventLoop)(nil)
	_ raftio.ISystemEventListener = (*eventLoop)(nil)
)

func newEventLoop(n *Node) *eventLoop {
	e := &eventLoop{n: n, kick: make(chan struct{}, 1), changed: make(chan struct{})}
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

// LeaderUpdated implements raftio.IRaftEventListener.
func (e *eventLoop) LeaderUpdated(info raftio.LeaderInfo) {
	if info.ShardID != e.n.cfg.Shard {
		return
	}
	e.leader.Store(&info)
	signal(e.n.reads.leader)
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

// MembershipChanged implements raftio.ISystemEventListener.
func (e *eventLoop) MembershipChanged(raftio.NodeInfo) {
	e.note(func(p *pendingEvents) { p.membership = true })
}

// NodeReady implements raftio.ISystemEventListener.
func (e *eventLoop) NodeReady(raftio.NodeInfo) { signal(e.kick) }

// NodeDeleted implements raftio.ISystemEventListener: this member was removed.
func (e *eventLoop) NodeDeleted(raftio.NodeInfo) { e.n.markRemoved() }

// SendSnapshotStarted implements raftio.ISystemEventListener.
func (e *eventLoop) SendSnapshotStarted(info raftio.SnapshotInfo) {
	e.n.compactor.streamed.Add(1)
	e.n.log.Info("sending a snapshot", zap.String("to", fmt.Sprintf("%x", info.ReplicaID)), zap.Uint64("index", info.Index))
}

// takeOver is called by the transport when the leader handed over to this member.
func (e *eventLoop) takeOver(shard uint64) {
	if shard == e.n.cfg.Shard {
		e.note(func(p *pendingEvents) { p.takeOver = true })
	}
}

// The remaining events are of no use here.

func (e *eventLoop) NodeHostShuttingDown()                       {}
func (e *eventLoop) NodeUnloaded(raftio.NodeInfo)                {}
func (e *eventLoop) ConnectionEstablished(raftio.ConnectionInfo) {}
func (e *eventLoop) ConnectionFailed(raftio.ConnectionInfo)      {}
func (e *eventLoop) SendSnapshotCompleted(raftio.SnapshotInfo)   {}
func (e *eventLoop) SendSnapshotAborted(raftio.SnapshotInfo)     {}
func (e *eventLoop) SnapshotReceived(raftio.SnapshotInfo)        {}
func (e *eventLoop) SnapshotRecovered(raftio.SnapshotInfo)       {}
func (e *eventLoop) SnapshotCreated(raftio.SnapshotInfo)         {}
func (e *eventLoop) SnapshotCompacted(raftio.SnapshotInfo)       {}
func (e *eventLoop) LogCompacted(raftio.EntryInfo)               {}
func (e *eventLoop) LogDBCompacted(raftio.EntryInfo)             {}

// run delivers events until the node closes, and makes this member stand for
// election where waiting would only cost time.
func (e *eventLoop) run() {
	tick := e.n.cfg.timing().tick
	for {
		var again <-chan time.Time
		if e.campaigns() {
			e.n.Transport().CampaignNow(e.n.cfg.Shard)
			again = time.After(2 * tick)
		}
		select {
		case <-e.n.ctx.Done():
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
	if e.leader.Load().LeaderID == e.n.cfg.Replica {
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
	info, on := e.leader.Load(), e.n.cfg.Events
	if p.takeOver {
		e.handover.term, e.handover.until = info.Term, time.Now().Add(e.n.cfg.ElectionTimeout/2)
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
	if p.outcast != nil && on.Outcast != nil {
		on.Outcast(p.outcast)
	}
}

// soleVoter looks at the members this replica knows of, without asking others.
func (e *eventLoop) soleVoter() bool {
	info, ok := e.n.shardInfo()
	if !ok || info.Pending {
		return false
	}
	e.learner.Store(info.IsNonVoting)
	_, voter := info.Replicas[e.n.cfg.Replica]
	return voter && len(info.Replicas) == 1
}

// shardInfo returns what Dragonboat tells about the replica at once.
func (n *Node) shardInfo() (dragonboat.ShardInfo, bool) {
	if !n.enter() {
		return dragonboat.ShardInfo{}, false
	}
	defer n.leave()
	host := n.host.GetNodeHostInfo(dragonboat.NodeHostInfoOption{SkipLogInfo: true})
	if host == nil {
		return dragonboat.ShardInfo{}, false
	}
	for _, info := range host.ShardInfoList {
		if info.ShardID == n.cfg.Shard {
			return info, true
		}
	}
	return dragonboat.ShardInfo{}, false
}
