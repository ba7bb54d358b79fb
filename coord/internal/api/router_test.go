package api

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/internal/limit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// TestKeyspaceAddedDuringACall: a call for a keyspace that is added while the call is on its way is not answered by
// another keyspace, in which its lock would keep out nobody.
func TestKeyspaceAddedDuringACall(t *testing.T) {
	f, second := serve(t), newMachineBackend(t)
	r := &f.server.router
	g := &gate{
		router: r, metrics: f.server.metrics, streams: f.server.streams, calls: newCalls((&limit.Member{}).Calls),
		timeout: time.Second,
	}
	added := false
	// in is where the interceptors begin: the service is chosen already.
	in := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if !added {
			added = true
			err := f.server.Serve(Keyspace{
				Shard: 2, Backend: second, History: statemachine.NewHistory(7), Watch: pb.UnimplementedWatchServer{},
			})
			if err != nil {
				t.Error(err)
			}
		}
		return g.unary(ctx, req, info, handler)
	}
	put := func() (*pb.PutResponse, error) {
		for _, m := range r.routed(&pb.KV_ServiceDesc).Methods {
			if m.MethodName == "Put" {
				ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(coordv1.MetadataShard, "2"))
				response, err := m.Handler(r, ctx, func(req any) error {
					req.(*pb.PutRequest).Key = []byte("k")
					return nil
				}, in)
				if err != nil {
					return nil, err
				}
				return response.(*pb.PutResponse), nil
			}
		}
		panic("no such method")
	}
	if _, err := put(); status.Code(err) != codes.Unavailable {
		t.Errorf("while the keyspace is added: %v", err)
	}
	if got, err := put(); err != nil || got.Header.Revision != 2 {
		t.Errorf("once it is there: %v, %v", got, err)
	}
	if got, err := f.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil || got.Count != 0 {
		t.Errorf("the other keyspace has it: %v, %v", got, err)
	}
}
