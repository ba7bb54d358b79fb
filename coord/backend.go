package coord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/coord/api"
	"github.com/coord-dev/coord/coord/assembly"
	"github.com/coord-dev/coord/coord/node"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// backend is the member as the services see it.
type backend struct {
	*assembly.Replica
	s *Server
}

var _ api.Backend = (*backend)(nil)

// errorTable says what the services know the errors of the node as.
var errorTable = []struct{ err, known error }{
	{node.ErrClosed, api.ErrStopped},
	{node.ErrNoLeader, api.ErrNoLeader},
	{node.ErrUnknown, api.ErrTimeout},
	{node.ErrRejected, api.ErrUnhealthy},
}

func known(err error) error {
	if err == nil {
		return nil
	}
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			return fmt.Errorf("%w: %w", row.known, err)
		}
	}
	return err
}

func (b *backend) ReadIndex(ctx context.Context) error { return known(b.s.node.ReadIndex(ctx)) }

// Status takes the applied index for the committed one: Dragonboat tells the latter to nobody, and applies at once.
func (b *backend) Status() api.Status {
	leader, term := b.s.node.Leader()
	applied := b.s.node.Applied()
	return api.Status{Leader: leader, Term: term, Learner: b.s.node.Learner(), Applied: applied, Committed: applied}
}

func (b *backend) Members(ctx context.Context, linearizable bool) ([]*pb.Member, error) {
	raft := b.s.members.known()
	if linearizable || raft == nil {
		read, err := b.s.node.Membership(ctx)
		if err != nil && linearizable {
			return nil, known(err)
		}
		if err == nil {
			raft = &read
			b.s.members.learn(raft)
		}
	}
	return b.s.members.describe(raft), nil
}

func (b *backend) Connected(id uint64) bool {
	if id == b.s.identity.MemberID {
		return true
	}
	for _, peer := range b.s.node.Transport().Stats() {
		if peer.Member == id {
			return peer.Connected
		}
	}
	return false
}

// AddMember writes the member's addresses first: Raft knows members by id alone.
func (b *backend) AddMember(ctx context.Context, peerURLs []string, learner bool) (*pb.Member, error) {
	now := time.Now()
	id := MemberID(peerURLs, b.s.cfg.ClusterToken, &now)
	if raft := b.s.members.known(); raft != nil && slices.Contains(slices.Concat(raft.Voters, raft.Learners, raft.Removed), id) {
		return nil, api.ErrMemberExists
	}
	if err := b.s.members.put(ctx, &raftv1.Member{Id: id, PeerUrls: peerURLs}); err != nil {
		return nil, known(err)
	}
	err := b.s.node.AddLearner(ctx, id)
	if err == nil && !learner {
		err = b.s.node.Promote(ctx, id)
	}
	if err != nil {
		if errors.Is(err, node.ErrRejected) {
			err = errors.Join(err, b.s.members.remove(ctx, id))
		}
		return nil, known(err)
	}
	b.s.members.changed()
	return &pb.Member{ID: id, PeerURLs: peerURLs, IsLearner: learner}, b.refresh(ctx)
}

// refresh makes a change of the members known here before it is answered.
func (b *backend) refresh(ctx context.Context) error {
	_, err := b.Members(ctx, true)
	return err
}

// PromoteMember refuses a learner that has not applied nine tenths of what this member has, as etcd does: a voter that
// lags would hold up the cluster.
func (b *backend) PromoteMember(ctx context.Context, id uint64) error {
	progress, err := b.s.node.PeerProgress(ctx, id)
	if err != nil || progress.Applied*10 < b.s.node.Applied()*9 {
		return api.ErrLearnerNotReady
	}
	if err := b.s.node.Promote(ctx, id); err != nil {
		return known(err)
	}
	return b.refresh(ctx)
}

func (b *backend) RemoveMember(ctx context.Context, id uint64) error {
	if err := b.s.node.Remove(ctx, id); err != nil {
		return known(err)
	}
	if id == b.s.identity.MemberID {
		return nil // this member is no longer asked
	}
	if err := b.s.members.remove(ctx, id); err != nil {
		return known(err)
	}
	return b.refresh(ctx)
}

func (b *backend) UpdateMember(ctx context.Context, id uint64, peerURLs []string) error {
	return known(b.s.members.put(ctx, &raftv1.Member{Id: id, PeerUrls: peerURLs}))
}

func (b *backend) TransferLeader(ctx context.Context, target uint64) error {
	err := b.s.node.TransferLeadership(ctx, target, b.Proposer.Hold)
	if errors.Is(err, context.DeadlineExceeded) {
		return api.ErrTransferTimeout
	}
	return known(err)
}

func hex(id uint64) string { return fmt.Sprintf("%x", id) }
