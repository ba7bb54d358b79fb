package coord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/group"
	"github.com/coord-dev/coord/coord/internal/keyspace"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// backend is the member as the services see it.
type backend struct {
	*keyspace.Keyspace
	s *Server
}

var _ api.Backend = (*backend)(nil)

// errorTable says what the services know the errors of the node as.
var errorTable = []struct{ err, known error }{
	{group.ErrClosed, api.ErrStopped},
	{group.ErrNoLeader, api.ErrNoLeader},
	{group.ErrUnknown, api.ErrTimeout},
	{group.ErrNoMoreMembers, api.ErrNoMoreMembers},
	{group.ErrRejected, api.ErrUnhealthy},
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

func (b *backend) ReadIndex(ctx context.Context) error { return known(b.s.system.group.ReadIndex(ctx)) }

// Status takes the applied index for the committed one: Dragonboat tells the latter to nobody, and applies at once.
func (b *backend) Status() api.Status {
	leader, term := b.s.system.group.Leader()
	applied := b.s.system.group.Applied()
	return api.Status{
		Leader: leader, Term: term, Learner: b.s.system.group.Learner(), Applied: applied, Committed: applied,
	}
}

func (b *backend) Members(ctx context.Context, linearizable bool) ([]*pb.Member, error) {
	raft := b.s.members.known()
	if linearizable || raft == nil {
		read, err := b.s.system.group.Membership(ctx)
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
	for _, peer := range b.s.host.Transport().Stats() {
		if peer.Member == id {
			return peer.Connected
		}
	}
	return false
}

// AddMember writes the member's addresses first: Raft knows members by id alone. Of several that are added at once
// through different members, with one id or address, the log takes the first.
func (b *backend) AddMember(
	ctx context.Context, peerURLs []string, learner bool, check api.MembersCheck,
) (*pb.Member, error) {
	raft, err := b.s.system.group.Membership(ctx)
	if err != nil {
		return nil, known(err)
	}
	if err := check(b.s.members.describe(&raft)); err != nil { // before anything is written
		return nil, err
	}
	now := time.Now()
	id := MemberID(peerURLs, b.s.cfg.ClusterToken, &now)
	if slices.Contains(slices.Concat(raft.Voters, raft.Learners, raft.Removed), id) {
		return nil, api.ErrMemberExists
	}
	if err := b.s.members.removeRows(ctx, &raft); err != nil { // one of them may have the address of the new member
		return nil, known(err)
	}
	row := &raftv1.Member{Id: id, PeerUrls: peerURLs}
	if err := b.s.members.put(ctx, &raftv1.MemberPut{Member: row, Add: true, Claim: true}); err != nil {
		return nil, known(err)
	}
	checked := b.checked(check)
	err = b.s.system.group.AddLearner(ctx, id, checked.ask)
	if err == nil && !learner {
		err = b.s.system.group.Promote(ctx, id, nil) // what the check says of a voter was said when it was added
	}
	if err != nil {
		if !errors.Is(err, group.ErrUnknown) {
			b.forget(id)
		}
		return nil, checked.outcome(err)
	}
	b.s.members.changed()
	return &pb.Member{ID: id, PeerURLs: peerURLs, IsLearner: learner}, b.refresh(ctx)
}

// forget deletes the row of a member that was not added and will not be, for a caller who may have gone. Should it
// fail, or should it be unknown whether the member is added, the leader deletes the row in a while (members.sweep).
func (b *backend) forget(id uint64) {
	ctx, cancel := context.WithTimeout(b.s.ctx, publishTimeout)
	defer cancel()
	raft, err := b.s.system.group.Membership(ctx)
	if err == nil && !slices.Contains(raft.Voters, id) && !slices.Contains(raft.Learners, id) {
		err = b.s.members.remove(ctx, id)
	}
	if err != nil {
		b.s.log.Warn("deleting the row of a member that was not added", zap.String("member", hex(id)), zap.Error(err))
	}
}

// checkedChange asks a check of the services about the members as the node has them, and remembers its answer.
type checkedChange struct {
	b       *backend
	check   api.MembersCheck
	refused error
}

func (b *backend) checked(check api.MembersCheck) *checkedChange {
	return &checkedChange{b: b, check: check}
}

func (c *checkedChange) ask(raft group.Membership) error {
	c.refused = c.check(c.b.s.members.describe(&raft))
	return c.refused
}

// outcome is what the services get for the node's error: their own, if that was the reason.
func (c *checkedChange) outcome(err error) error {
	if err != nil && c.refused != nil {
		return c.refused
	}
	return known(err)
}

// refresh makes a change of the members known here before it is answered.
func (b *backend) refresh(ctx context.Context) error {
	_, err := b.Members(ctx, true)
	return err
}

// PromoteMember refuses a learner that has not applied nine tenths of what this member has, as etcd does: a voter that
// lags would hold up the cluster.
func (b *backend) PromoteMember(ctx context.Context, id uint64, check api.MembersCheck) error {
	members, err := b.Members(ctx, true)
	if err != nil {
		return err
	}
	if err := check(members); err != nil {
		return err
	}
	progress, err := b.s.system.group.PeerProgress(ctx, id)
	if err != nil || progress.Applied*10 < b.s.system.group.Applied()*9 {
		return api.ErrLearnerNotReady
	}
	checked := b.checked(check)
	if err := b.s.system.group.Promote(ctx, id, checked.ask); err != nil {
		return checked.outcome(err)
	}
	return b.refresh(ctx)
}

func (b *backend) RemoveMember(ctx context.Context, id uint64, check api.MembersCheck) error {
	members, err := b.Members(ctx, true)
	if err != nil {
		return err
	}
	if err := check(members); err != nil {
		return err
	}
	checked := b.checked(check)
	if err := b.s.system.group.Remove(ctx, id, checked.ask); err != nil {
		return checked.outcome(err)
	}
	if id == b.s.identity.MemberID {
		return nil // this member is no longer asked; the leader deletes its row
	}
	if err := b.s.members.remove(ctx, id); err != nil {
		return known(err)
	}
	return b.refresh(ctx)
}

func (b *backend) UpdateMember(ctx context.Context, id uint64, peerURLs []string, check api.MembersCheck) error {
	members, err := b.Members(ctx, true)
	if err != nil {
		return err
	}
	if err := check(members); err != nil {
		return err
	}
	return known(b.s.members.put(ctx, &raftv1.MemberPut{
		Member: &raftv1.Member{Id: id, PeerUrls: peerURLs}, Claim: true,
	}))
}

func (b *backend) TransferLeader(ctx context.Context, target uint64) error {
	err := b.s.system.group.TransferLeadership(ctx, target, b.Proposer.Hold)
	if errors.Is(err, context.DeadlineExceeded) {
		return api.ErrTransferTimeout
	}
	return known(err)
}

func hex(id uint64) string { return fmt.Sprintf("%x", id) }
