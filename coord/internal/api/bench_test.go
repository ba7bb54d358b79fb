package api

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// BenchmarkPut is what the service adds to a proposal, with the client's own deadline and without.
func BenchmarkPut(b *testing.B) {
	bounded, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	unbounded, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.Run("deadline", func(b *testing.B) { benchmarkPut(b, bounded) })
	b.Run("none", func(b *testing.B) { benchmarkPut(b, unbounded) })
}

func benchmarkPut(b *testing.B, ctx context.Context) {
	backend := newMachineBackend(b)
	backend.intercept = func(context.Context, raftv1.Kind, []byte) (any, error, bool) {
		return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 5}}, nil, true
	}
	s := benchService(backend)
	r := &pb.PutRequest{Key: make([]byte, 32), Value: make([]byte, 256)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Put(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRange reads one key, linearizably as far as this member is concerned.
func BenchmarkRange(b *testing.B) {
	backend := newMachineBackend(b)
	s := benchService(backend)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := s.Put(ctx, &pb.PutRequest{Key: key("a"), Value: make([]byte, 256)}); err != nil {
		b.Fatal(err)
	}
	r := &pb.RangeRequest{Key: key("a")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Range(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
}

func benchService(b *machineBackend) *kvServer {
	s := &service{backend: b, maxRequestBytes: 3 << 19, timeout: 5 * time.Second}
	return &kvServer{service: s, quota: newQuota(s, 2<<30), maxTxnOps: 128}
}
