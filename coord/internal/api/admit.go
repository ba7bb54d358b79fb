package api

import (
	"context"
	"time"
	"unicode/utf8"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// gate decides which requests reach a service, by the member's role and the request's metadata.
type gate struct {
	router  *router
	metrics *metrics
	streams *leaderStreams
	calls   *calls
	// timeout is how long a request waits for the history to begin.
	timeout time.Duration
}

// withoutHistory are the methods that ask nothing about the keyspace.
var withoutHistory = map[string]bool{
	pb.Maintenance_Status_FullMethodName:       true,
	grpc_health_v1.Health_Check_FullMethodName: true,
	grpc_health_v1.Health_List_FullMethodName:  true,
	grpc_health_v1.Health_Watch_FullMethodName: true,
}

// begun waits until it is known which history this member tells of: revisions, leases and tokens mean nothing without.
func (g *gate) begun(ctx context.Context, history *statemachine.History, method string) error {
	if history.ID() != 0 || withoutHistory[method] {
		return nil
	}
	patience := time.NewTimer(g.timeout)
	defer patience.Stop()
	select {
	case <-history.Begun():
		return nil
	case <-ctx.Done():
		return wireError(ctx.Err())
	case <-patience.C:
		return status.Error(codes.Unavailable, statemachine.ErrNoHistory.Error())
	}
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	call, err := g.calls.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	defer call.end()
	route, err := g.router.of(ctx)
	if err != nil {
		return nil, err
	}
	if route.overtaken(info) {
		return nil, errOvertaken
	}
	raft := route.backend.Status()
	if raft.Learner && !learnerAnswers(req) {
		return nil, rpctypes.ErrGRPCNotSupportedForLearner
	}
	version, needsLeader, err := readMetadata(ctx)
	if err != nil {
		return nil, err
	}
	g.metrics.unaryRequests.inc(version)
	if needsLeader && raft.Leader == 0 {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	if err := g.begun(ctx, route.history, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(asked(ctx), req)
}

// asked is the context of a call with who asks. Whatever the call sends through the log is for him.
func asked(ctx context.Context) context.Context { return principal.With(ctx, raftv1.Principal{}) }

// stream lets a client that requires a leader have its stream only while there is one, see leaderStreams.
func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	call, err := g.calls.begin(ss.Context(), nil)
	if err != nil {
		return err
	}
	defer call.end()
	route, err := g.router.of(ss.Context())
	if err != nil {
		return err
	}
	raft := route.backend.Status()
	if raft.Learner && info.FullMethod != pb.Maintenance_Snapshot_FullMethodName {
		return rpctypes.ErrGRPCNotSupportedForLearner
	}
	version, needsLeader, err := readMetadata(ss.Context())
	if err != nil {
		return err
	}
	g.metrics.streamRequests.inc(version)
	if needsLeader && raft.Leader == 0 {
		return rpctypes.ErrGRPCNoLeader
	}
	if err := g.begun(ss.Context(), route.history, info.FullMethod); err != nil {
		return err
	}
	named := &middleware.WrappedServerStream{ServerStream: ss, WrappedContext: asked(ss.Context())}
	if !needsLeader {
		return handler(srv, named)
	}
	watched := g.streams.add(named)
	defer g.streams.remove(watched)
	return handler(srv, watched)
}

// learnerAnswers reports whether a learner, whose state may be far behind, answers the request.
func learnerAnswers(req any) bool {
	switch r := req.(type) {
	case *pb.StatusRequest:
		return true
	case *pb.RangeRequest:
		return r.Serializable
	}
	return false
}

// readMetadata returns what etcd's clients send along. It takes the single values: a copy of all metadata would cost
// more than the rest of the gate.
func readMetadata(ctx context.Context) (version string, needsLeader bool, err error) {
	version = "unknown"
	if values := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(values) > 0 {
		version = values[0]
	}
	if !utf8.ValidString(version) {
		return "", false, rpctypes.ErrGRPCInvalidClientAPIVersion
	}
	values := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return version, len(values) > 0 && values[0] == rpctypes.MetadataHasLeader, nil
}
