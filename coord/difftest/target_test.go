package difftest

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// callTimeout bounds one request to one server. It is long because the machine may be busy; only a server that
// hangs reaches it.
const callTimeout = 30 * time.Second

// replies makes the empty answer of each unary method.
var replies = map[string]func() proto.Message{
	pb.KV_Range_FullMethodName:               func() proto.Message { return new(pb.RangeResponse) },
	pb.KV_Put_FullMethodName:                 func() proto.Message { return new(pb.PutResponse) },
	pb.KV_DeleteRange_FullMethodName:         func() proto.Message { return new(pb.DeleteRangeResponse) },
	pb.KV_Txn_FullMethodName:                 func() proto.Message { return new(pb.TxnResponse) },
	pb.KV_Compact_FullMethodName:             func() proto.Message { return new(pb.CompactionResponse) },
	pb.Lease_LeaseGrant_FullMethodName:       func() proto.Message { return new(pb.LeaseGrantResponse) },
	pb.Lease_LeaseRevoke_FullMethodName:      func() proto.Message { return new(pb.LeaseRevokeResponse) },
	pb.Lease_LeaseTimeToLive_FullMethodName:  func() proto.Message { return new(pb.LeaseTimeToLiveResponse) },
	pb.Lease_LeaseLeases_FullMethodName:      func() proto.Message { return new(pb.LeaseLeasesResponse) },
	pb.Cluster_MemberAdd_FullMethodName:      func() proto.Message { return new(pb.MemberAddResponse) },
	pb.Cluster_MemberRemove_FullMethodName:   func() proto.Message { return new(pb.MemberRemoveResponse) },
	pb.Cluster_MemberUpdate_FullMethodName:   func() proto.Message { return new(pb.MemberUpdateResponse) },
	pb.Cluster_MemberList_FullMethodName:     func() proto.Message { return new(pb.MemberListResponse) },
	pb.Cluster_MemberPromote_FullMethodName:  func() proto.Message { return new(pb.MemberPromoteResponse) },
	pb.Maintenance_Alarm_FullMethodName:      func() proto.Message { return new(pb.AlarmResponse) },
	pb.Maintenance_Status_FullMethodName:     func() proto.Message { return new(pb.StatusResponse) },
	pb.Maintenance_Defragment_FullMethodName: func() proto.Message { return new(pb.DefragmentResponse) },
	pb.Maintenance_Hash_FullMethodName:       func() proto.Message { return new(pb.HashResponse) },
	pb.Maintenance_HashKV_FullMethodName:     func() proto.Message { return new(pb.HashKVResponse) },
	pb.Maintenance_MoveLeader_FullMethodName: func() proto.Message { return new(pb.MoveLeaderResponse) },
	healthpb.Health_Check_FullMethodName:     func() proto.Message { return new(healthpb.HealthCheckResponse) },
}

// outcome is all a client can see of one call: the messages and the status it ended with.
type outcome struct {
	msgs []proto.Message
	code codes.Code
	text string
}

func outcomeOf(err error, msgs ...proto.Message) outcome {
	if err == nil {
		return outcome{msgs: msgs}
	}
	st := status.Convert(err)
	return outcome{msgs: msgs, code: st.Code(), text: st.Message()}
}

// target is one server under comparison, and what the comparer must know to read its answers.
type target struct {
	name string
	conn *grpc.ClientConn
	// actual maps canonical lease ids to the ids this server picked, and canonical the other way. Ids chosen by the
	// client are in neither.
	actual, canonical map[int64]int64
	// patience bounds the wait for something a watch stream must bring.
	patience time.Duration
}

func dial(name, addr string, opts ...grpc.DialOption) (*target, error) {
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.WaitForReady(true)),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	}, opts...)
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, err
	}
	return &target{
		name: name, conn: conn, actual: map[int64]int64{}, canonical: map[int64]int64{}, patience: callTimeout,
	}, nil
}

// learn records that this server picked actual for the lease the sequence calls canonical.
func (t *target) learn(canonical, actual int64) {
	t.actual[canonical] = actual
	t.canonical[actual] = canonical
}

// translate returns a copy of req with canonical lease ids replaced by this server's.
func (t *target) translate(req proto.Message) proto.Message {
	req = proto.Clone(req)
	mapLeases(req.ProtoReflect(), t.actual)
	return req
}

// withLeader adds the metadata of clientv3.WithRequireLeader if require is set.
func withLeader(ctx context.Context, require bool) context.Context {
	if !require {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "hasleader", "true", "client-api-version", "3.7")
}

func (t *target) unary(ctx context.Context, method string, req proto.Message) outcome {
	reply := replies[method]()
	if err := t.conn.Invoke(ctx, method, t.translate(req), reply); err != nil {
		return outcomeOf(err)
	}
	return outcomeOf(nil, reply)
}

// rangeStream returns each chunk as one message.
func (t *target) rangeStream(ctx context.Context, req *pb.RangeRequest) outcome {
	stream, err := pb.NewKVClient(t.conn).RangeStream(ctx, t.translate(req).(*pb.RangeRequest))
	if err != nil {
		return outcomeOf(err)
	}
	return drain(stream.Recv)
}

func (t *target) snapshot(ctx context.Context) outcome {
	stream, err := pb.NewMaintenanceClient(t.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return outcomeOf(err)
	}
	return drain(stream.Recv)
}

func drain[M proto.Message](recv func() (M, error)) outcome {
	var msgs []proto.Message
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return outcomeOf(nil, msgs...)
		}
		if err != nil {
			return outcomeOf(err, msgs...)
		}
		msgs = append(msgs, m)
	}
}

// keepAlive sends all ids over one stream, one after the other, and ends it.
func (t *target) keepAlive(ctx context.Context, ids []int64) outcome {
	stream, err := pb.NewLeaseClient(t.conn).LeaseKeepAlive(ctx)
	if err != nil {
		return outcomeOf(err)
	}
	var msgs []proto.Message
	for _, id := range ids {
		req := t.translate(&pb.LeaseKeepAliveRequest{ID: id}).(*pb.LeaseKeepAliveRequest)
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			return outcomeOf(err, msgs...)
		}
		resp, err := stream.Recv()
		if err != nil {
			return outcomeOf(err, msgs...)
		}
		msgs = append(msgs, resp)
	}
	if err := stream.CloseSend(); err != nil {
		return outcomeOf(err, msgs...)
	}
	if resp, err := stream.Recv(); !errors.Is(err, io.EOF) {
		if err == nil {
			msgs = append(msgs, resp)
		}
		return outcomeOf(err, msgs...)
	}
	return outcomeOf(nil, msgs...)
}
