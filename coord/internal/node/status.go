package node

import "github.com/lni/dragonboat/v4"

// Leader returns the leader, 0 when none is known, and its term. Unlike Status it
// costs nothing.
func (n *Node) Leader() (leader, term uint64) {
	info := n.events.leader.Load()
	return info.LeaderID, info.Term
}

// IsLeader says whether this member believes that it leads. It costs nothing.
func (n *Node) IsLeader() bool { return n.events.leader.Load().LeaderID == n.cfg.Replica }

// Learner says that this member has no vote (yet). It costs nothing.
func (n *Node) Learner() bool { return n.events.learner.Load() }

// Applied is the index of the last entry given to the state machine. It costs nothing.
func (n *Node) Applied() uint64 { return n.machine.applied.Load() }

// Status implements Raft.
func (n *Node) Status() Status {
	leader := n.events.leader.Load()
	s := Status{
		Leader: leader.LeaderID, Term: leader.Term, Self: n.cfg.Replica,
		Learner: n.events.learner.Load(), Applied: n.machine.applied.Load(),
	}
	_ = n.withLog(func(log dragonboat.ReadonlyLogReader) {
		s.FirstIndex, s.LastIndex = log.GetRange()
		ss := log.Snapshot()
		if s.Snapshot = ss.Index; ss.Index > 0 {
			_ = ss.Unref() // the log reader keeps it: this only drops our hold
		}
	})
	return s
}

// withLog calls f with the log unless the node is closed.
func (n *Node) withLog(f func(dragonboat.ReadonlyLogReader)) error {
	if !n.enter() {
		return ErrClosed
	}
	defer n.leave()
	log, err := n.host.GetLogReader(n.cfg.Shard)
	if err != nil {
		return err
	}
	f(log)
	return nil
}
