package coordtest

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/keyspace"
)

// fakeMember is the one member of a fake cluster, as the services see it.
type fakeMember struct {
	*keyspace.Keyspace
	fake *Fake
}

var _ api.Backend = (*fakeMember)(nil)

// ReadIndex implements api.Log: what was proposed is applied.
func (m *fakeMember) ReadIndex(ctx context.Context) error { return m.fake.log.running(ctx) }

// Status implements api.Backend.
func (m *fakeMember) Status() api.Status {
	applied := m.fake.log.index.Load()
	return api.Status{Leader: fakeID, Term: 1, Applied: applied, Committed: applied}
}

// Members implements api.Cluster.
func (m *fakeMember) Members(context.Context, bool) ([]*pb.Member, error) {
	return []*pb.Member{{ID: fakeID, Name: "fake", ClientURLs: []string{"http://" + m.fake.Endpoint()}}}, nil
}

// Connected implements api.Cluster.
func (m *fakeMember) Connected(id uint64) bool { return id == fakeID }

var errOneMember = status.Error(codes.Unimplemented, "a fake cluster has one member")

// AddMember implements api.Cluster.
func (m *fakeMember) AddMember(context.Context, []string, bool, api.MembersCheck) (*pb.Member, error) {
	return nil, errOneMember
}

// PromoteMember implements api.Cluster.
func (m *fakeMember) PromoteMember(context.Context, uint64, api.MembersCheck) error {
	return errOneMember
}

// RemoveMember implements api.Cluster.
func (m *fakeMember) RemoveMember(context.Context, uint64, api.MembersCheck) error {
	return errOneMember
}

// UpdateMember implements api.Cluster.
func (m *fakeMember) UpdateMember(context.Context, uint64, []string, api.MembersCheck) error {
	return errOneMember
}

// TransferLeader implements api.Cluster.
func (m *fakeMember) TransferLeader(context.Context, uint64) error { return errOneMember }
