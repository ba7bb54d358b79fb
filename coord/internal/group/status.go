package group

import (
	"maps"
	"slices"

	"github.com/lni/dragonboat/v4"
)

// Leader returns the leader, 0 when none is known, and its term. Unlike Status it
// costs nothing.
func (g *Group) Leader() (leader, term uint64) {
	info := g.events.leader.Load()
	return info.LeaderID, info.Term
}

// IsLeader says whether this member believes that it leads. It costs nothing.
func (g *Group) IsLeader() bool { return g.events.leader.Load().LeaderID == g.member }

// Learner says that this member has no vote (yet). It costs nothing.
func (g *Group) Learner() bool { return g.events.learner.Load() }

// Applied is the index of the last entry given to the state machine. It costs nothing.
func (g *Group) Applied() uint64 { return g.machine.applied.Load() }

// Status implements Raft.
func (g *Group) Status() Status {
	leader := g.events.leader.Load()
	s := Status{
		Leader: leader.LeaderID, Term: leader.Term, Self: g.member,
		Learner: g.events.learner.Load(), Applied: g.machine.applied.Load(),
	}
	_ = g.withLog(func(log dragonboat.ReadonlyLogReader) {
		s.FirstIndex, s.LastIndex = log.GetRange()
		ss := log.Snapshot()
		if s.Snapshot = ss.Index; ss.Index > 0 {
			_ = ss.Unref() // the log reader keeps it: this only drops our hold
		}
	})
	return s
}

// withLog calls f with the log unless the group is closed.
func (g *Group) withLog(f func(dragonboat.ReadonlyLogReader)) error {
	nh := g.enter()
	if nh == nil {
		return ErrClosed
	}
	defer g.leave()
	log, err := nh.GetLogReader(g.shard)
	if err != nil {
		return err
	}
	f(log)
	return nil
}

// Voters implements host.Replica. Nobody is asked.
func (g *Group) Voters() []uint64 {
	if !g.isOpen() {
		return nil
	}
	info, _ := g.shardInfo()
	return slices.Sorted(maps.Keys(info.Replicas))
}
