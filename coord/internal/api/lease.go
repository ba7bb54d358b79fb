package api

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// maxLeaseTTL is etcd's bound, in seconds.
const maxLeaseTTL = 9_000_000_000

// leaseServer is etcd's Lease service. TTLs are seconds here and milliseconds behind it.
type leaseServer struct {
	*service
	quota  *quota
	minTTL int64 // seconds
	pb.UnsafeLeaseServer
}

// minLeaseTTL is one and a half election timeouts in whole seconds, as in etcd, and never below the 2 s that etcd's
// default timeout gives: clients count on it.
func minLeaseTTL(election time.Duration) int64 {
	return max(2, int64(math.Ceil((election * 3 / 2).Seconds())))
}

// LeaseGrant chooses an id if the client gives none, and raises a TTL that is too short.
func (s *leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if err := s.quota.check(ctx, leaseCost); err != nil {
		return nil, err
	}
	if r.TTL > maxLeaseTTL {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	grant := &raftv1.LeaseGrant{Id: r.ID, TtlMs: max(r.TTL, s.minTTL) * 1000}
	granted, err := s.grant(ctx, grant)
	for r.ID == 0 && errors.Is(err, rpctypes.ErrGRPCLeaseExist) {
		granted, err = s.grant(ctx, grant)
	}
	if err != nil {
		return nil, err
	}
	header, err := s.headerAt(granted.Revision)
	return &pb.LeaseGrantResponse{Header: header, ID: granted.ID, TTL: wholeSeconds(granted.TTL)}, err
}

// grant proposes one attempt. It draws the id if the request has none or the last one drawn was taken.
func (s *leaseServer) grant(ctx context.Context, r *raftv1.LeaseGrant) (statemachine.LeaseGranted, error) {
	attempt := &raftv1.LeaseGrant{Id: r.Id, TtlMs: r.TtlMs}
	if attempt.Id == 0 {
		attempt.Id = DrawLeaseID()
	}
	return propose[statemachine.LeaseGranted](ctx, s.service, raftv1.KindLeaseGrant, attempt)
}

// DrawLeaseID returns a random id, > 0, for a lease.
func DrawLeaseID() statemachine.LeaseID { return rand.Int64N(math.MaxInt64) + 1 }

func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	revoked, err := propose[statemachine.LeaseRevoked](ctx, s.service, raftv1.KindLeaseRevoke,
		&raftv1.LeaseRevoke{Id: r.ID})
	if err != nil {
		return nil, err
	}
	header, err := s.headerAt(revoked.Revision)
	return &pb.LeaseRevokeResponse{Header: header}, err
}

// LeaseTimeToLive answers a TTL of -1 for a lease that does not exist. A lease that lingers, on which the place of one
// that died is kept, is none for etcd's clients: it is not listed either, is never renewed, and cannot be revoked.
func (s *leaseServer) LeaseTimeToLive(
	ctx context.Context, r *pb.LeaseTimeToLiveRequest,
) (*pb.LeaseTimeToLiveResponse, error) {
	if err := s.readIndex(ctx); err != nil {
		return nil, err
	}
	return s.timeToLive(ctx, r)
}

// timeToLive answers from what this member has applied.
func (s *leaseServer) timeToLive(
	ctx context.Context, r *pb.LeaseTimeToLiveRequest,
) (*pb.LeaseTimeToLiveResponse, error) {
	header, err := s.headerAt(0)
	if err != nil {
		return nil, err
	}
	lease, keys, err := s.backend.Lease(ctx, r.ID)
	if err != nil {
		return nil, wireError(err)
	}
	if lease == nil || statemachine.Lingers(r.ID) {
		return &pb.LeaseTimeToLiveResponse{Header: header, ID: r.ID, TTL: -1}, nil
	}
	response := &pb.LeaseTimeToLiveResponse{
		Header:     header,
		ID:         r.ID,
		TTL:        s.backend.LeaseRemaining(*lease) / 1000,
		GrantedTTL: wholeSeconds(lease.TTL),
	}
	if r.Keys {
		response.Keys = keys
	}
	return response, nil
}

// LeaseLeases is what this member knows, the lease that is due first leading.
func (s *leaseServer) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	header, err := s.headerAt(0)
	if err != nil {
		return nil, err
	}
	leases, err := s.backend.Leases(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	response := &pb.LeaseLeasesResponse{Header: header, Leases: make([]*pb.LeaseStatus, 0, len(leases))}
	for _, lease := range leases {
		if !statemachine.Lingers(lease.ID) {
			response.Leases = append(response.Leases, &pb.LeaseStatus{ID: lease.ID})
		}
	}
	return response, nil
}

// wholeSeconds is a granted TTL for clients that count in seconds. Leases of the native API can be shorter than one: 0
// would tell an etcd client that the lease is gone.
func wholeSeconds(ms int64) int64 {
	if ms > 0 && ms < 1000 {
		return 1
	}
	return ms / 1000
}
