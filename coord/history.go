package coord

import (
	"context"
	"math/rand/v2"

	"go.uber.org/zap"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// beginHistory draws the identity of this cluster's history if there is none and this member leads. Nothing else is
// proposed before, by any member: see machine.CheckProposal. Of two leaders in a row that draw one, the log keeps the
// first.
func (m *members) beginHistory() {
	if m.s.system.Machine.History().ID() != 0 || !m.s.system.group.IsLeader() {
		return
	}
	id := rand.Uint64N(1<<64-1) + 1
	ctx, cancel := context.WithTimeout(m.s.ctx, publishTimeout)
	defer cancel()
	if err := m.s.propose(ctx, raftv1.KindHistoryBegin, &raftv1.HistoryBegin{Id: id}); err != nil {
		m.s.log.Warn("beginning the history of the cluster", zap.Error(err))
		m.changed() // if it has none still
		return
	}
	m.s.log.Info("the history of the cluster begins", zap.String("history", hex(id)))
}
