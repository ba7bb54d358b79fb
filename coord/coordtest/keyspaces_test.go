package coordtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/internal/keyspace"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// addKeyspace serves another keyspace on a fake server, for as long as the test runs.
func (f *Fake) addKeyspace(t *testing.T, shard uint64) {
	t.Helper()
	other := &Fake{log: &fakeLog{}, listener: f.listener}
	other.replica = keyspace.New(keyspace.Options{
		Log: other.log, Dir: "/coord", FS: vfs.NewMem(), Shard: shard, Member: fakeID, Boot: 1,
		Now: other.Clock, Logger: zap.NewNop(),
	})
	if err := other.log.open(other.replica); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.replica.Close(); other.log.close() })
	err := f.services.Serve(keyspace.ServicesOptions{
		Backend: &fakeMember{other.replica, other}, Keyspace: other.replica, QuotaBytes: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.services.Serve(keyspace.ServicesOptions{
		Backend: &fakeMember{other.replica, other}, Keyspace: other.replica,
	}); err == nil {
		t.Error("one shard is served twice")
	}
}

// in is a context of calls about a shard.
func in(ctx context.Context, shard string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, coordv1.MetadataShard, shard)
}

// TestKeyspacesAreApart: two keyspaces behind one port have their own keys, revisions, leases, watches and locks, and
// who names none is in the first one.
func TestKeyspacesAreApart(t *testing.T) {
	fake, err := StartFake()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	fake.addKeyspace(t, 2)
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{fake.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first, second := in(ctx, "1"), in(ctx, "2")

	watch := etcd.Watch(second, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	for _, value := range []string{"a", "b", "c"} {
		if _, err := etcd.Put(ctx, "k", value); err != nil {
			t.Fatal(err)
		}
	}
	put, err := etcd.Put(second, "k", "of the second")
	if err != nil || put.Header.Revision != 2 {
		t.Errorf("the first put of the second keyspace: %+v, %v", put, err)
	}
	for where, want := range map[context.Context]string{ctx: "c", first: "c", second: "of the second"} {
		if got, err := etcd.Get(where, "k"); err != nil || string(got.Kvs[0].Value) != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	if seen := <-watch; len(seen.Events) != 1 || string(seen.Events[0].Kv.Value) != "of the second" {
		t.Errorf("a watch of the second keyspace sees %+v", seen)
	}
	lease, err := etcd.Grant(second, 60)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := etcd.TimeToLive(first, lease.ID); err != nil || left.TTL != -1 {
		t.Errorf("a lease of the second keyspace in the first: %+v, %v", left, err)
	}

	conn, err := grpc.NewClient(fake.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, where := range []context.Context{first, second} { // each holds
		if _, err := v3lockpb.NewLockClient(conn).Lock(where, &v3lockpb.LockRequest{Name: []byte("l")}); err != nil {
			t.Error(err)
		}
	}
	for _, shard := range []string{"7", "x", "-1", ""} {
		_, err := pb.NewKVClient(conn).Range(in(ctx, shard), &pb.RangeRequest{Key: []byte("k")})
		if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "it serves the shards [1 2]") {
			t.Errorf("shard %q: %v", shard, err)
		}
	}
	if _, err := etcd.Get(in(second, "2"), "k"); err != nil {
		t.Errorf("one shard named twice: %v", err)
	}
	for _, both := range []context.Context{in(first, "2"), in(second, "1"), in(first, "x"), in(second, "")} {
		_, err := pb.NewKVClient(conn).Range(both, &pb.RangeRequest{Key: []byte("k")})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "name several shards") {
			t.Errorf("several shards named: %v", err)
		}
		err = hello(t, conn, both, &coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("several shards named by a stream: %v", err)
		}
	}
	for _, c := range []struct {
		where        context.Context
		hello, batch uint64
		code         codes.Code
		says         string
	}{
		{ctx, 0, 1, codes.OK, ""}, {first, 1, 0, codes.OK, ""}, {second, 2, 2, codes.OK, ""},
		{ctx, 2, 0, codes.NotFound, "serves shard 1, not 2"}, {second, 1, 0, codes.NotFound, "serves shard 2, not 1"},
		{second, 2, 1, codes.InvalidArgument, "a batch of shard 1 on a stream of shard 2"},
	} {
		err := hello(t, conn, c.where, &coordv1.ClientFrame{
			Hello: &coordv1.Hello{Protocol: 1, Shard: c.hello},
			Batches: []*coordv1.Batch{{
				Shard: c.batch, Requests: []*coordv1.Request{{Sequence: 1, Kind: coordv1.Kind_KIND_RANGE}},
			}},
		})
		if status.Code(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("hello to shard %d, batch to %d: %v", c.hello, c.batch, err)
		}
	}
}

// hello sends the first frame of a stream, and returns how the stream ended before a request was answered.
func hello(t *testing.T, conn *grpc.ClientConn, ctx context.Context, frame *coordv1.ClientFrame) error {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := coordv1.NewStreamClient(conn).Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(frame); err != nil {
		t.Fatal(err)
	}
	for {
		if got, err := stream.Recv(); err != nil || len(got.Responses) > 0 {
			return err
		}
	}
}
