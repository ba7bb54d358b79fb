package coord

import (
	"context"
	"time"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Rows returns the rows of members, of whom Raft knows or not.
func (s *Server) Rows() []*raftv1.Member {
	view, err := s.system.Read(s.ctx)
	if err != nil {
		return nil
	}
	defer view.Close()
	return view.Members()
}

// PutRow writes the row of a member that nobody then adds.
func (s *Server) PutRow(ctx context.Context, row *raftv1.Member) error {
	return s.members.put(principal.Member(ctx), &raftv1.MemberPut{Member: row, Add: true, Claim: true})
}

// Sweep looks at rows without a member as if it were later than now.
func (s *Server) Sweep(ctx context.Context, later time.Duration) error {
	raft, err := s.system.group.Membership(ctx)
	if err == nil {
		s.members.sweep(&raft, time.Now().Add(later))
	}
	return err
}

// AddLearner adds a member without looking at rows.
func (s *Server) AddLearner(ctx context.Context, id uint64) error {
	return s.system.group.AddLearner(ctx, id, nil)
}
