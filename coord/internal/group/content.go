package group

import (
	"fmt"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/peer"
)

// content is what the messages of peers are judged by before Dragonboat gets them.
func (g *Group) content() peer.Content {
	return peer.Content{
		Log: g.logState, AdmitMembers: g.admitMembers, CheckCommand: g.cfg.CheckCommand,
		CheckSnapshot: g.cfg.CheckSnapshot,
	}
}

// logState returns the term that the log had when it was opened, and its last index on disk. What this member has
// acknowledged to a leader is on disk, so that no leader believes that it has more.
func (g *Group) logState() (state peer.LogState, open bool) {
	if !g.isOpen() {
		return state, false
	}
	err := g.withLog(func(log dragonboat.ReadonlyLogReader) {
		hard, _ := log.NodeState()
		state.Term = hard.Term
		_, state.Last = log.GetRange()
	})
	return state, err == nil
}

// admitMembers refuses a snapshot that would make a voter a learner, which Dragonboat panics on. One behind what was
// applied here is not taken by Dragonboat, whatever it says.
func (g *Group) admitMembers(index uint64, m raftpb.Membership) error {
	info, ok := g.shardInfo()
	if !ok || info.Pending || index <= g.machine.applied.Load() {
		return nil
	}
	_, votes := info.Replicas[g.member]
	if _, learns := m.NonVotings[g.member]; votes && learns {
		return fmt.Errorf("member %x has a vote and would lose it", g.member)
	}
	return nil
}
