package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/proto/principal"
)

// registerRecipes adds etcd's own Lock and Election services, see lockServer: they are written against a client, so
// they need no etcd server, and the texts of their errors stay those that clients look for.
func registerRecipes(server grpc.ServiceRegistrar, local *clientv3.Client) {
	lock, election := newRecipes(local)
	v3lockpb.RegisterLockServer(server, lock)
	v3electionpb.RegisterElectionServer(server, election)
}

// newLocalClient is a client that calls the services of this process directly. The caller closes it. What it is asked
// for is for whom the context of the call names; what it does for all of its callers at once, keeping leases alive and
// watching, is the member's own.
func newLocalClient(kv pb.KVServer, lease pb.LeaseServer, watch pb.WatchServer, log *zap.Logger) *clientv3.Client {
	c := clientv3.NewCtxClient(principal.Member(context.Background()), clientv3.WithZapLogger(log))
	c.KV = clientv3.NewKVFromKVClient(adapter.KvServerToKvClient(kv), c)
	c.Lease = clientv3.NewLeaseFromLeaseClient(adapter.LeaseServerToLeaseClient(localLease{lease, log}), c,
		keepaliveMinTime)
	c.Watcher = clientv3.NewWatchFromWatchClient(adapter.WatchServerToWatchClient(localWatch{watch, log}), c)
	return c
}

// localWatch is a Watch service for a client that gets the messages themselves, not their bytes. The service may put
// events into a message already encoded, as unknown fields; decoding the whole message shows them. Its goroutine is the
// adapter's, which no interceptor sees.
type localWatch struct {
	pb.WatchServer
	log *zap.Logger
}

func (w localWatch) Watch(stream pb.Watch_WatchServer) (err error) {
	defer guard.Recover(w.log, "local watch", func(cause any) { err = guard.Status(cause) })
	return w.WatchServer.Watch(decodedStream{stream})
}

// localLease is a Lease service whose streams run on the adapter's goroutines, likewise.
type localLease struct {
	pb.LeaseServer
	log *zap.Logger
}

func (l localLease) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) (err error) {
	defer guard.Recover(l.log, "local lease", func(cause any) { err = guard.Status(cause) })
	return l.LeaseServer.LeaseKeepAlive(stream)
}

type decodedStream struct{ pb.Watch_WatchServer }

func (s decodedStream) Send(r *pb.WatchResponse) error {
	encoded, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	decoded := &pb.WatchResponse{}
	if err := proto.Unmarshal(encoded, decoded); err != nil {
		return err
	}
	return s.Watch_WatchServer.Send(decoded)
}
