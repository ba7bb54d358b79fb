package host

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/peer"
)

// Replica is what a Host tells a replica that is attached to it. It is told by goroutines of Dragonboat and of the
// transport that hold locks: none of the methods blocks.
type Replica interface {
	// LeaderUpdated is called at each change of the leader.
	LeaderUpdated(raftio.LeaderInfo)
	// MembershipChanged is called after a change of the members was applied.
	MembershipChanged()
	// Ready is called when the replica is started.
	Ready()
	// Removed is called when this member was removed from the group.
	Removed()
	// SnapshotStarted is called when a snapshot begins to be sent.
	SnapshotStarted(to, index uint64)
	// TakeOver is called when the leader told this replica to lead from now on.
	TakeOver()
	// MemberGone is called when a member's process seems to have ended.
	MemberGone(member uint64)
	// Outcast is called when the cluster does not let this member in any more.
	Outcast(*handshake.RefusedError)
	// Voters are the voters of the group as far as the log has been applied, none before that is known.
	Voters() []uint64
	// ServePeer answers a request of another member for GroupPath(shard, what).
	ServePeer(w http.ResponseWriter, r *http.Request, what string)
}

// replicas are those that are attached, by shard.
type replicas struct {
	mu  sync.RWMutex
	all map[uint64]attached
}

type attached struct {
	replica Replica
	group   *peer.Group
}

// Attach has a replica of a shard told of what concerns it, and its messages judged as group says. It comes before the
// replica is started.
func (h *Host) Attach(shard uint64, group *peer.Group, r Replica) error {
	h.replicas.mu.Lock()
	defer h.replicas.mu.Unlock()
	if _, taken := h.replicas.all[shard]; taken {
		return fmt.Errorf("shard %d has a replica in this process already", shard)
	}
	if h.replicas.all == nil {
		h.replicas.all = make(map[uint64]attached)
	}
	h.replicas.all[shard] = attached{r, group}
	return nil
}

// Detach undoes Attach, once the replica is stopped.
func (h *Host) Detach(shard uint64) {
	h.replicas.mu.Lock()
	defer h.replicas.mu.Unlock()
	delete(h.replicas.all, shard)
}

// of is the replica of a shard, nil if none is attached.
func (rs *replicas) of(shard uint64) Replica {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.all[shard].replica
}

// peerGroup implements peer.Options.Groups.
func (rs *replicas) peerGroup(shard uint64) *peer.Group {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.all[shard].group
}

// each calls fn for all replicas, in any order, with no lock held.
func (rs *replicas) each(fn func(Replica)) {
	rs.mu.RLock()
	all := slices.Collect(maps.Values(rs.all))
	rs.mu.RUnlock()
	for _, a := range all {
		fn(a.replica)
	}
}

func (rs *replicas) memberGone(member uint64) {
	rs.each(func(r Replica) { r.MemberGone(member) })
}

// tell calls fn for the replica of a shard, if there is one.
func (rs *replicas) tell(shard uint64, fn func(Replica)) {
	if r := rs.of(shard); r != nil {
		fn(r)
	}
}

func (rs *replicas) takeOver(shard uint64) { rs.tell(shard, Replica.TakeOver) }

// listener hands Dragonboat's events to the replicas that they are about.
type listener struct{ *replicas }

var (
	_ raftio.IRaftEventListener   = listener{}
	_ raftio.ISystemEventListener = listener{}
)

func (l listener) LeaderUpdated(info raftio.LeaderInfo) {
	l.tell(info.ShardID, func(r Replica) { r.LeaderUpdated(info) })
}

func (l listener) MembershipChanged(info raftio.NodeInfo) {
	l.tell(info.ShardID, Replica.MembershipChanged)
}

func (l listener) NodeReady(info raftio.NodeInfo) { l.tell(info.ShardID, Replica.Ready) }

func (l listener) NodeDeleted(info raftio.NodeInfo) { l.tell(info.ShardID, Replica.Removed) }

func (l listener) SendSnapshotStarted(info raftio.SnapshotInfo) {
	l.tell(info.ShardID, func(r Replica) { r.SnapshotStarted(info.ReplicaID, info.Index) })
}

// The remaining events are of no use here.

func (listener) NodeHostShuttingDown()                       {}
func (listener) NodeUnloaded(raftio.NodeInfo)                {}
func (listener) ConnectionEstablished(raftio.ConnectionInfo) {}
func (listener) ConnectionFailed(raftio.ConnectionInfo)      {}
func (listener) SendSnapshotCompleted(raftio.SnapshotInfo)   {}
func (listener) SendSnapshotAborted(raftio.SnapshotInfo)     {}
func (listener) SnapshotReceived(raftio.SnapshotInfo)        {}
func (listener) SnapshotRecovered(raftio.SnapshotInfo)       {}
func (listener) SnapshotCreated(raftio.SnapshotInfo)         {}
func (listener) SnapshotCompacted(raftio.SnapshotInfo)       {}
func (listener) LogCompacted(raftio.EntryInfo)               {}
func (listener) LogDBCompacted(raftio.EntryInfo)             {}
