package workload

import (
	"context"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/bench/wire"
)

// Op does one operation for the client of that number and returns when the server has acknowledged it. Clients share an
// Op and call it at the same time, each with a random source of its own.
type Op func(ctx context.Context, client int, r *rand.Rand) error

// Put writes a random key.
func Put(pool wire.Pool, d Data) Op {
	value := d.value()
	return func(ctx context.Context, client int, r *rand.Rand) error {
		_, err := pool.Conn(client).KV.Put(ctx, &pb.PutRequest{Key: d.random(r), Value: value})
		return err
	}
}

// Get reads a random key, linearizably.
func Get(pool wire.Pool, d Data) Op {
	return func(ctx context.Context, client int, r *rand.Rand) error {
		_, err := pool.Conn(client).KV.Range(ctx, &pb.RangeRequest{Key: d.random(r)})
		return err
	}
}

// PutDelete writes a random key and then deletes it; the pair is one operation. The keys are not those of Put and Get,
// which would otherwise find fewer and fewer of theirs.
func PutDelete(pool wire.Pool, d Data) Op {
	value := d.value()
	return func(ctx context.Context, client int, r *rand.Rand) error {
		kv := pool.Conn(client).KV
		key := append([]byte("p"), d.random(r)...)
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: key, Value: value}); err != nil {
			return err
		}
		_, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key})
		return err
	}
}
