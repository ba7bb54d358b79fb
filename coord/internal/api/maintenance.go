package api

import (
	"context"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// The versions that clients look at. Some split them at the dots and parse each part, so there is nothing else in them.
const (
	clusterVersion = "3.7.0"
	storageVersion = "3.7.0"
)

// serverVersion is that of the etcd whose API this is.
var serverVersion = version.Version

// maintenanceServer is etcd's Maintenance service.
type maintenanceServer struct {
	*service
	log        *zap.Logger
	quotaBytes int64
	spoolDir   string
	backups    chan struct{} // a token for each that is under way
	pb.UnsafeMaintenanceServer
}

func (s *maintenanceServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	header, err := s.headerAt(view.Revision())
	if err != nil {
		return nil, err
	}
	raft := s.backend.Status()
	total, inUse := s.backend.DiskUsage()
	response := &pb.StatusResponse{
		Header:           header,
		Version:          serverVersion,
		Leader:           raft.Leader,
		RaftIndex:        raft.Committed,
		RaftAppliedIndex: raft.Applied,
		RaftTerm:         raft.Term,
		DbSize:           max(total, 1), // etcdctl divides by it
		DbSizeInUse:      inUse,
		DbSizeQuota:      s.quotaBytes,
		IsLearner:        raft.Learner,
		StorageVersion:   storageVersion,
		DowngradeInfo:    &pb.DowngradeInfo{Enabled: false},
	}
	if raft.Leader == 0 {
		response.Errors = append(response.Errors, status.Convert(rpctypes.ErrGRPCNoLeader).Message())
	}
	for _, alarm := range view.Alarms() {
		response.Errors = append(response.Errors, alarm.String())
	}
	return response, nil
}

// Hash is over the whole state, folded to etcd's 32 bits.
func (s *maintenanceServer) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	hash, err := view.StateHash(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	header, err := s.headerAt(view.Revision())
	return &pb.HashResponse{Header: header, Hash: uint32(hash) ^ uint32(hash>>32)}, err
}

func (s *maintenanceServer) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	view, err := s.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	hash, at, compacted, err := view.HashKV(ctx, r.Revision)
	if err != nil {
		return nil, wireError(err)
	}
	header, err := s.headerAt(view.Revision())
	return &pb.HashKVResponse{Header: header, Hash: hash, HashRevision: at, CompactRevision: compacted}, err
}

// Alarm goes through the log even to read, as in etcd.
func (s *maintenanceServer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	response, err := propose[*pb.AlarmResponse](ctx, s.service, raftv1.KindAlarm, r)
	if err != nil {
		return nil, err
	}
	return response, s.filled(&response.Header)
}

// Defragment has nothing to do: the store gives space back in the background. Like etcd's, its answer has no header.
func (s *maintenanceServer) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return &pb.DefragmentResponse{}, nil
}

// MoveLeader works only at the leader. Like etcd's, its answer has no header.
func (s *maintenanceServer) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if s.backend.Status().Leader != s.member {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	members, err := s.backend.Members(ctx, false)
	if err != nil {
		return nil, wireError(err)
	}
	target := findMember(members, r.TargetID)
	if target == nil || target.IsLearner {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	err = s.backend.TransferLeader(ctx, r.TargetID)
	if err != nil && ctx.Err() != nil {
		err = ErrTransferTimeout
	}
	return &pb.MoveLeaderResponse{}, wireError(err)
}

// Downgrade refuses every target: no older version of coord reads this state. A cancel finds nothing to cancel and
// succeeds, as in etcd.
func (s *maintenanceServer) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	switch r.Action {
	case pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE:
		if !isVersion(r.Version) {
			return nil, rpctypes.ErrGRPCWrongDowngradeVersionFormat
		}
		if err := s.readIndex(ctx); err != nil {
			return nil, err
		}
		return nil, rpctypes.ErrGRPCInvalidDowngradeTargetVersion
	case pb.DowngradeRequest_CANCEL:
		header, err := s.headerAt(0)
		return &pb.DowngradeResponse{Header: header, Version: version.Cluster(clusterVersion)}, err
	}
	return nil, status.Error(codes.Unknown, "etcdserver: unknown method")
}

// isVersion accepts X.Y.Z and X.Y.
func isVersion(v string) bool {
	if _, err := semver.NewVersion(v); err == nil {
		return true
	}
	_, err := semver.NewVersion(v + ".0")
	return err == nil
}
