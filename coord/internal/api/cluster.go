package api

import (
	"context"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// maxLearners is etcd's default of --max-learners.
const maxLearners = 1

// clusterServer is etcd's Cluster service. It checks a change with etcd's strict reconfiguration checks, against the
// members to which the Backend makes it. Headers have no revision here, as in etcd.
type clusterServer struct {
	*service
	change sync.Mutex // one change at a time on this member
	pb.UnsafeClusterServer
}

func (s *clusterServer) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	members, err := s.members(ctx, r.Linearizable)
	if err != nil {
		return nil, err
	}
	return &pb.MemberListResponse{Header: s.header(), Members: members}, nil
}

func (s *clusterServer) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	peerURLs, err := checkPeerURLs(r.PeerURLs)
	if err != nil {
		return nil, err
	}
	var added *pb.Member
	members, err := s.changed(ctx, func(ctx context.Context) (err error) {
		added, err = s.backend.AddMember(ctx, peerURLs, r.IsLearner, func(members []*pb.Member) error {
			return s.checkAdd(members, peerURLs, r.IsLearner)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &pb.MemberAddResponse{Header: s.header(), Member: added, Members: members}, nil
}

func (s *clusterServer) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	members, err := s.changed(ctx, func(ctx context.Context) error {
		return s.backend.RemoveMember(ctx, r.ID, func(members []*pb.Member) error {
			return s.checkRemove(members, r.ID)
		})
	})
	if err != nil {
		return nil, err
	}
	return &pb.MemberRemoveResponse{Header: s.header(), Members: members}, nil
}

func (s *clusterServer) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	// etcd takes any text here and cannot reach the member afterwards.
	if _, err := checkPeerURLs(r.PeerURLs); err != nil {
		return nil, err
	}
	members, err := s.changed(ctx, func(ctx context.Context) error {
		return s.backend.UpdateMember(ctx, r.ID, r.PeerURLs, func(members []*pb.Member) error {
			switch {
			case findMember(members, r.ID) == nil:
				return ErrMemberNotFound
			case peerURLTaken(members, r.PeerURLs, r.ID):
				return ErrPeerURLExists
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return &pb.MemberUpdateResponse{Header: s.header(), Members: members}, nil
}

func (s *clusterServer) MemberPromote(
	ctx context.Context, r *pb.MemberPromoteRequest,
) (*pb.MemberPromoteResponse, error) {
	members, err := s.changed(ctx, func(ctx context.Context) error {
		return s.backend.PromoteMember(ctx, r.ID, func(members []*pb.Member) error {
			return checkPromote(members, r.ID)
		})
	})
	if err != nil {
		return nil, err
	}
	return &pb.MemberPromoteResponse{Header: s.header(), Members: members}, nil
}

// changed makes a change and returns the members after it.
func (s *clusterServer) changed(ctx context.Context, change func(context.Context) error) ([]*pb.Member, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	s.change.Lock()
	defer s.change.Unlock()
	if err := change(ctx); err != nil {
		return nil, waitError(err)
	}
	after, err := s.backend.Members(ctx, false)
	return after, waitError(err)
}

func (s *clusterServer) members(ctx context.Context, linearizable bool) ([]*pb.Member, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	members, err := s.backend.Members(ctx, linearizable)
	return members, waitError(err)
}

func (s *clusterServer) header() *pb.ResponseHeader {
	h := &pb.ResponseHeader{}
	s.fillWithoutRevision(h)
	return h
}

// What a member's row in the store may hold: members are dialled at each URL in turn, and everybody keeps all rows.
const (
	maxPeerURLs     = 16
	maxPeerURLBytes = 512
)

// checkPeerURLs returns the URLs sorted. A member is dialled at http://HOST:PORT and nowhere else; there are as many as
// a host has addresses, each once.
func checkPeerURLs(raw []string) ([]string, error) {
	if len(raw) > maxPeerURLs || slices.ContainsFunc(raw, func(u string) bool { return len(u) > maxPeerURLBytes }) {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	urls, err := types.NewURLs(raw)
	if err != nil {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	sorted := urls.StringSlice()
	for i, u := range urls {
		if u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			i > 0 && sorted[i] == sorted[i-1] {
			return nil, rpctypes.ErrGRPCMemberBadURLs
		}
	}
	return sorted, nil
}

// checkAdd is strict about what the change would do to the quorum, first, and then about the new member itself.
func (s *clusterServer) checkAdd(members []*pb.Member, peerURLs []string, learner bool) error {
	voters := votersOf(members)
	if !learner && !canAddVoter(voters) {
		return ErrNotEnoughStarted
	}
	// The new member counts as not connected, learner or not, as in etcd.
	if s.countConnected(voters) < (len(voters)+1)/2+1 && len(voters) > 1 {
		return ErrUnhealthy
	}
	if peerURLTaken(members, peerURLs, 0) {
		return ErrPeerURLExists
	}
	if learner && len(members)-len(voters) >= maxLearners {
		return ErrTooManyLearners
	}
	return nil
}

func canAddVoter(voters []*pb.Member) bool {
	started, size := countStarted(voters), len(voters)+1
	// One member grows to two even though both are needed from then on.
	return started == 1 && size == 2 || started >= size/2+1
}

func (s *clusterServer) checkRemove(members []*pb.Member, id uint64) error {
	member := findMember(members, id)
	if member != nil && member.IsLearner {
		return nil
	}
	voters := votersOf(members)
	others := slices.DeleteFunc(slices.Clone(voters), func(m *pb.Member) bool { return m.ID == id })
	if countStarted(others) < len(others)/2+1 {
		return ErrNotEnoughStarted
	}
	switch {
	case member == nil:
		return ErrMemberNotFound
	case id != s.member && !s.backend.Connected(id): // it takes nothing from the quorum that is there
		return nil
	case s.countConnected(voters)-1 < 1+(len(voters)-1)/2:
		return ErrUnhealthy
	}
	return nil
}

func checkPromote(members []*pb.Member, id uint64) error {
	member := findMember(members, id)
	if member == nil {
		return ErrMemberNotFound
	}
	if !member.IsLearner {
		return ErrMemberNotLearner
	}
	voters := votersOf(members)
	if size := len(voters) + 1; countStarted(voters)+1 < size/2+1 {
		return ErrNotEnoughStarted
	}
	return nil
}

func votersOf(members []*pb.Member) []*pb.Member {
	return slices.DeleteFunc(slices.Clone(members), (*pb.Member).GetIsLearner)
}

// countStarted counts the members that have published their name.
func countStarted(members []*pb.Member) int {
	n := 0
	for _, m := range members {
		if m.Name != "" {
			n++
		}
	}
	return n
}

func (s *clusterServer) countConnected(members []*pb.Member) int {
	n := 0
	for _, m := range members {
		if m.ID == s.member || s.backend.Connected(m.ID) {
			n++
		}
	}
	return n
}

// peerURLTaken reports whether another member than except has one of the URLs.
func peerURLTaken(members []*pb.Member, urls []string, except uint64) bool {
	return slices.ContainsFunc(members, func(m *pb.Member) bool {
		return m.ID != except && slices.ContainsFunc(m.PeerURLs, func(u string) bool {
			return slices.Contains(urls, u)
		})
	})
}

// findMember returns nil if there is no such member.
func findMember(members []*pb.Member, id uint64) *pb.Member {
	i := slices.IndexFunc(members, func(m *pb.Member) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return members[i]
}
