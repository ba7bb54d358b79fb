package api

import (
	"context"
	"net"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/limit"
)

// callCost is what a call under way costs in memory beside its request: a goroutine, mostly.
const callCost = 8 << 10

// calls bounds the calls under way, streams too, each connection having its share.
type calls struct {
	pool *limit.Pool

	mu    sync.Mutex
	conns map[net.Addr]*caller // by the remote address that gRPC made for the connection, which is a pointer
}

// caller is a connection with calls under way.
type caller struct {
	holder *limit.Holder
	count  int // of its calls, guarded by calls.mu
}

// counted is a call under way.
type counted struct {
	calls *calls
	addr  net.Addr
	from  *caller
	cost  int64
}

func newCalls(pool *limit.Pool) *calls {
	return &calls{pool: pool, conns: map[net.Addr]*caller{}}
}

// begin counts a call, which the caller ends; or refuses it. req is nil for a stream. What frees is not refused to a
// connection that has nothing else under way.
func (cs *calls) begin(ctx context.Context, req any) (counted, error) {
	p, ok := peer.FromContext(ctx)
	if !ok || cs.pool == nil {
		return counted{}, nil // within the process
	}
	c := counted{calls: cs, addr: p.Addr, cost: callCost + requestBytes(req)}
	cs.mu.Lock()
	c.from = cs.conns[p.Addr]
	if c.from == nil {
		c.from = &caller{holder: cs.pool.Holder()}
		cs.conns[p.Addr] = c.from
	}
	c.from.count++
	alone := c.from.count == 1
	cs.mu.Unlock()
	err := c.from.holder.Take(c.cost)
	switch {
	case err == nil:
		return c, nil
	case alone && frees(req):
		c.from.holder.Force(c.cost)
		return c, nil
	}
	c.cost = 0
	c.end()
	return counted{}, status.Error(codes.ResourceExhausted, "etcdserver: too many requests: "+err.Error())
}

func (c counted) end() {
	if c.from == nil {
		return
	}
	c.from.holder.Give(c.cost)
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	if c.from.count--; c.from.count == 0 {
		delete(c.calls.conns, c.addr)
	}
}

// requestBytes is about what a request holds; those of other kinds are small.
func requestBytes(req any) int64 {
	switch r := req.(type) {
	case *pb.PutRequest:
		return int64(len(r.Key) + len(r.Value))
	case *pb.RangeRequest:
		return int64(len(r.Key) + len(r.RangeEnd))
	case proto.Message:
		return int64(proto.Size(r))
	}
	return 0
}

// frees reports whether a request only gives something back.
func frees(req any) bool {
	switch r := req.(type) {
	case *pb.DeleteRangeRequest:
		return !r.PrevKv
	case *pb.LeaseRevokeRequest, *v3lockpb.UnlockRequest, *v3electionpb.ResignRequest:
		return true
	}
	return false
}
