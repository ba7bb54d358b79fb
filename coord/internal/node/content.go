package node

import (
	"fmt"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/peer"
)

// content is what the messages of peers are judged by before Dragonboat gets them.
func (n *Node) content() peer.Content {
	return peer.Content{
		Shard: n.cfg.Shard, Log: n.logState, AdmitMembers: n.admitMembers,
		CheckCommand: n.cfg.CheckCommand, CheckSnapshot: n.cfg.CheckSnapshot, Room: n.cfg.Room,
	}
}

// logState returns the term that the log had when it was opened, and its last index on disk. What this member has
// acknowledged to a leader is on disk, so that no leader believes that it has more.
func (n *Node) logState() (state peer.LogState, open bool) {
	select {
	case <-n.opened:
	default:
		return state, false
	}
	err := n.withLog(func(log dragonboat.ReadonlyLogReader) {
		hard, _ := log.NodeState()
		state.Term = hard.Term
		_, state.Last = log.GetRange()
	})
	return state, err == nil
}

// admitMembers refuses a snapshot that would make a voter a learner, which Dragonboat panics on. One behind what was applied
// here is not taken by Dragonboat, whatever it says.
func (n *Node) admitMembers(index uint64, m raftpb.Membership) error {
	info, ok := n.shardInfo()
	if !ok || info.Pending || index <= n.machine.applied.Load() {
		return nil
	}
	_, votes := info.Replicas[n.cfg.Replica]
	if _, learns := m.NonVotings[n.cfg.Replica]; votes && learns {
		return fmt.Errorf("member %x has a vote and would lose it", n.cfg.Replica)
	}
	return nil
}
