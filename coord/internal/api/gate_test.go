package api

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

var (
	wantNoLeader   = wants{codes.Unavailable, "etcdserver: no leader"}
	wantNotLearner = wants{codes.FailedPrecondition, "etcdserver: rpc not supported for learner"}
)

// A learner answers only what may be stale.
func TestGateLearner(t *testing.T) {
	f := serve(t)
	f.setStatus(func(s *Status) { s.Learner = true })
	ctx, maintenance := t.Context(), pb.NewMaintenanceClient(f.conn)
	_, err := f.kv.Range(ctx, &pb.RangeRequest{Key: key("a"), Serializable: true})
	wants{}.check(t, err)
	_, err = maintenance.Status(ctx, &pb.StatusRequest{})
	wants{}.check(t, err)
	_, err = f.kv.Range(ctx, &pb.RangeRequest{Key: key("a")})
	wantNotLearner.check(t, err)
	_, err = f.kv.Put(ctx, &pb.PutRequest{Key: key("a")})
	wantNotLearner.check(t, err)
	_, err = pb.NewClusterClient(f.conn).MemberList(ctx, &pb.MemberListRequest{})
	wantNotLearner.check(t, err)

	keepAlive, err := f.lease.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = keepAlive.Recv()
	wantNotLearner.check(t, err)
	snapshot, err := maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = snapshot.Recv()
	wants{}.check(t, err)
}

// TestGateHistory: before the history of the cluster has begun, a member says how it is and nothing of the keyspace.
func TestGateHistory(t *testing.T) {
	history := statemachine.NewHistory(0)
	f := serve(t, func(o *serverOptions) { o.History = history })
	ctx := t.Context()
	status, err := pb.NewMaintenanceClient(f.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil || status.Header.ClusterId != 0 {
		t.Errorf("status: %v, %v", status, err)
	}
	if _, err := grpc_health_v1.NewHealthClient(f.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	asks := func(ctx context.Context) map[string]error {
		answers := make(map[string]error)
		_, answers["range"] = f.kv.Range(ctx, &pb.RangeRequest{Key: key("a"), Serializable: true})
		_, answers["put"] = f.kv.Put(ctx, &pb.PutRequest{Key: key("a")})
		_, answers["leases"] = f.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		_, answers["members"] = pb.NewClusterClient(f.conn).MemberList(ctx, &pb.MemberListRequest{})
		keepAlive, err := f.lease.LeaseKeepAlive(ctx)
		if err == nil {
			err = keepAlive.Send(&pb.LeaseKeepAliveRequest{ID: 1})
		}
		if err == nil {
			_, err = keepAlive.Recv()
		}
		answers["keep-alive"] = err
		return answers
	}
	for what, err := range asks(withTimeout(t, 50*time.Millisecond)) {
		// In the words of gRPC, which differ where the server's side sees the deadline first.
		if code := grpcstatus.Code(err); code != codes.DeadlineExceeded {
			t.Errorf("%s: %v", what, err)
		}
	}
	time.AfterFunc(50*time.Millisecond, func() { history.Begin(7) }) // who has waited by then is answered
	for what, err := range asks(ctx) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if r, err := f.kv.Range(ctx, &pb.RangeRequest{Key: key("a")}); err != nil || r.Header.ClusterId != 7 {
		t.Errorf("%v, %v", r, err)
	}
}

// TestGatePatience: who sets no deadline is told why it is not answered.
func TestGatePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{timeout: 5 * time.Second}
		began := time.Now()
		err := g.begun(t.Context(), statemachine.NewHistory(0), pb.KV_Range_FullMethodName)
		wants{codes.Unavailable, statemachine.ErrNoHistory.Error()}.check(t, err)
		if waited := time.Since(began); waited != g.timeout {
			t.Errorf("after %v", waited)
		}
	})
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestGateMetadata(t *testing.T) {
	f := serve(t)
	// grpc-go's client would not send this, others do.
	_, _, err := readMetadata(metadata.NewIncomingContext(t.Context(), metadata.Pairs("client-api-version", "3.7\xff")))
	wants{codes.InvalidArgument, "etcdserver: invalid client api version"}.check(t, err)
	required := metadata.AppendToOutgoingContext(t.Context(), "hasleader", "true", "client-api-version", "3.7")
	_, err = f.kv.Range(required, &pb.RangeRequest{Key: key("a")})
	wants{}.check(t, err)
	f.setStatus(func(s *Status) { s.Leader = 0 })
	_, err = f.kv.Range(required, &pb.RangeRequest{Key: key("a"), Serializable: true})
	wantNoLeader.check(t, err)
	_, err = f.kv.Range(t.Context(), &pb.RangeRequest{Key: key("a"), Serializable: true})
	wants{}.check(t, err)
	stream, err := f.lease.LeaseKeepAlive(required)
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantNoLeader.check(t, err)
}

// A stream whose client requires a leader ends with that reason after three election timeouts without one, and not
// before; one whose client does not goes on.
func TestGateEndsStreams(t *testing.T) {
	f := serve(t)
	required, err := f.lease.LeaseKeepAlive(metadata.AppendToOutgoingContext(t.Context(), "hasleader", "true"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := f.lease.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	renew := func(stream pb.Lease_LeaseKeepAliveClient) error {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	wants{}.check(t, renew(required))
	begin := time.Now()
	f.setStatus(func(s *Status) { s.Leader = 0 })
	_, err = required.Recv()
	wantNoLeader.check(t, err)
	if took := time.Since(begin); took < 2*100*time.Millisecond {
		t.Errorf("ended after %v, before three timeouts of 100 ms (the first may be almost over)", took)
	}
	wants{}.check(t, renew(plain))
}

// A handler that panics costs its request, not the member.
func TestPanicIsAnswered(t *testing.T) {
	f := serve(t)
	f.intercept = func(_ context.Context, kind raftv1.Kind, _ []byte) (any, error, bool) {
		if kind == raftv1.KindPut {
			panic("broken")
		}
		return nil, nil, false
	}
	_, err := f.kv.Put(t.Context(), &pb.PutRequest{Key: key("a")})
	wants{codes.Internal, "panic: broken"}.check(t, err)
	_, err = f.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: key("a")})
	wants{}.check(t, err)
}

func TestHealthService(t *testing.T) {
	f := serve(t)
	client := grpc_health_v1.NewHealthClient(f.conn)
	is := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) bool {
		got, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status == want
	}
	if !is(grpc_health_v1.HealthCheckResponse_SERVING) {
		t.Error("not serving")
	}
	f.setStatus(func(s *Status) { s.Leader = 0 })
	for end := time.Now().Add(time.Minute); !is(grpc_health_v1.HealthCheckResponse_NOT_SERVING); {
		if time.Now().After(end) {
			t.Fatal("still serving without a leader")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAuthIsOff(t *testing.T) {
	f := serve(t)
	client, ctx := pb.NewAuthClient(f.conn), t.Context()
	got, err := client.AuthStatus(ctx, &pb.AuthStatusRequest{})
	if err != nil || got.Enabled || got.AuthRevision != 1 {
		t.Errorf("status %v, %v", got, err)
	}
	_, err = client.Authenticate(ctx, &pb.AuthenticateRequest{Name: "root"})
	wants{codes.FailedPrecondition, "etcdserver: authentication is not enabled"}.check(t, err)
	_, err = client.AuthDisable(ctx, &pb.AuthDisableRequest{})
	wants{}.check(t, err)
	// Every other method, so that none that is added is forgotten.
	for _, m := range pb.Auth_ServiceDesc.Methods {
		switch m.MethodName {
		case "AuthStatus", "Authenticate", "AuthDisable":
			continue
		}
		err := f.conn.Invoke(ctx, "/etcdserverpb.Auth/"+m.MethodName, &pb.AuthStatusRequest{}, &pb.AuthStatusResponse{})
		wants{codes.Unimplemented, "etcdserver: authentication is not supported by this server"}.check(t, err)
	}
}

// A client cannot make more label values than the bound.
func TestVersionLabelIsBounded(t *testing.T) {
	f := serve(t)
	for i := range 3 * maxVersions {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "client-api-version", strings.Repeat("3", i+1))
		if _, err := f.kv.Range(ctx, &pb.RangeRequest{Key: key("a"), Serializable: true}); err != nil {
			t.Fatal(err)
		}
	}
	families, err := f.server.opts.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "etcd_server_client_requests_total" && len(family.Metric) > maxVersions+1 {
			t.Errorf("%d versions", len(family.Metric))
		}
	}
}

// BenchmarkChain is what the interceptors add to a request.
func BenchmarkChain(b *testing.B) {
	backend := newMachineBackend(b)
	s, err := testOptions(backend).server()
	if err != nil {
		b.Fatal(err)
	}
	defer s.locals[0].Close()
	defer s.grpc.Stop()
	o := &observer{log: s.opts.Logger, slow: time.Second}
	g := &gate{router: &s.router, metrics: s.metrics, streams: s.streams}
	ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs(
		":authority", "a", "content-type", "application/grpc", "user-agent", "grpc-go", "hasleader", "true",
		"client-api-version", "3.7"))
	info := &grpc.UnaryServerInfo{FullMethod: pb.KV_Put_FullMethodName}
	handler := func(context.Context, any) (any, error) { return &pb.PutResponse{}, nil }
	for name, chain := range map[string]grpc.UnaryServerInterceptor{
		"observer": o.unary, "metrics": s.metrics.rpc.unary, "gate": g.unary,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := chain(ctx, &pb.PutRequest{}, info, handler); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Metadata larger than any client sends costs its request, not the others of the member.
func TestLargeMetadata(t *testing.T) {
	f := serve(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "token", strings.Repeat("x", 2*maxHeaders))
	if _, err := f.kv.Put(ctx, &pb.PutRequest{Key: key("a")}); err == nil {
		t.Error("it was taken")
	}
	_, err := f.kv.Put(t.Context(), &pb.PutRequest{Key: key("a")})
	wants{}.check(t, err)
}
