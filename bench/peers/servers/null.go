package servers

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net"
	"net/url"
	"runtime"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/bench/peers"
)

// maxRequestBytes is etcd's default limit of 1.5 MiB and the overhead it adds for gRPC.
const maxRequestBytes = 2 * 1024 * 1024

// null answers the etcd v3 protos and does nothing: it stores no key, replicates nothing and syncs nothing. What it
// serves per second is what gRPC, protobuf, the kernel and the client leave for any server on this machine: the ceiling
// of the table. It serves on the address of -listen-client-urls until ctx ends, takes etcd's flags, and ignores those
// that only a server with state has. -value-bytes is the size of the value that a read returns.
func null(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet(peers.ServeNull, flag.ContinueOnError)
	listen := fs.String("listen-client-urls", "http://127.0.0.1:2379", "URL to serve clients on")
	valueBytes := fs.Int("value-bytes", 256, "size of the value that every read returns")
	for _, name := range []string{
		"name", "data-dir", "advertise-client-urls", "listen-peer-urls", "initial-advertise-peer-urls",
		"initial-cluster", "initial-cluster-state",
	} {
		fs.String(name, "", "ignored")
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	u, err := url.Parse(*listen)
	if err != nil {
		return fmt.Errorf("parse -listen-client-urls: %w", err)
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		return err
	}
	return serve(ctx, l, *valueBytes)
}

func serve(ctx context.Context, l net.Listener, valueBytes int) error {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
	)
	pb.RegisterKVServer(s, kv{value: []byte(strings.Repeat("v", valueBytes))})
	pb.RegisterMaintenanceServer(s, maintenance{})
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(l)
}

// header is what a member of one that has seen no write says.
func header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: 1, Revision: 1, RaftTerm: 1}
}

type kv struct {
	pb.UnimplementedKVServer
	value []byte
}

func (s kv) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	found := &mvccpb.KeyValue{Key: r.Key, Value: s.value, CreateRevision: 1, ModRevision: 1, Version: 1}
	return &pb.RangeResponse{Header: header(), Kvs: []*mvccpb.KeyValue{found}, Count: 1}, nil
}

func (kv) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: header()}, nil
}

func (kv) DeleteRange(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return &pb.DeleteRangeResponse{Header: header(), Deleted: 1}, nil
}

func (kv) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return &pb.TxnResponse{Header: header(), Succeeded: true}, nil
}

type maintenance struct {
	pb.UnimplementedMaintenanceServer
}

func (maintenance) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: header(), Version: "none", Leader: 1}, nil
}
