package coord

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/group"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// raiseVersion raises the cluster's version, by one, if this member leads and all members have announced that they know
// the next one. The log decides: it refuses a raise that a row speaks against by then.
func (m *members) raiseVersion(raft *group.Membership) {
	next := m.s.system.Machine.Version() + 1
	if next > raftv1.MaxVersion || !m.s.system.group.IsLeader() || !m.allKnow(raft, next) {
		return
	}
	ctx, cancel := context.WithTimeout(m.s.ctx, publishTimeout)
	defer cancel()
	if err := m.s.propose(ctx, raftv1.KindVersionRaise, &raftv1.VersionRaise{Version: uint32(next)}); err != nil {
		m.s.log.Warn("raising the version of the cluster", zap.Uint32("version", uint32(next)), zap.Error(err))
		return
	}
	m.s.log.Info("the cluster has a new version: no member can go back to a release that does not know it",
		zap.Uint32("version", uint32(next)))
	m.changed() // and the next
}

// allKnow says whether all voters and learners have announced that they know a version.
func (m *members) allKnow(raft *group.Membership, v raftv1.Version) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Concat(raft.Voters, raft.Learners) {
		if row := m.rows[id]; row == nil || !row.Knows(v) {
			return false
		}
	}
	return true
}
