// Package workload is what the benchmark does to a server: closed loops of operations, bulk loads, watchers, and
// writers that notice how long nobody could write. It knows connections and not what is behind them.
package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/bench/wire"
)

// Data is the keys and values that operations use.
type Data struct {
	// Keys is the number of keys. A key is its number in eight decimal digits.
	Keys int
	// ValueBytes is the size of every value.
	ValueBytes int
}

// value returns the value of every key. Its content does not matter to any of the servers: none compresses on the way
// in, and all of them log and store it as it is.
func (d Data) value() []byte { return []byte(strings.Repeat("v", d.ValueBytes)) }

func (d Data) random(r *rand.Rand) []byte { return Key(r.IntN(d.Keys)) }

// Key returns the key with number n, in [0, 100000000).
func Key(n int) []byte {
	key := []byte("00000000")
	for i := len(key) - 1; i >= 0 && n > 0; i-- {
		key[i] = byte('0' + n%10)
		n /= 10
	}
	return key
}

// putsPerTxn is how many puts one transaction of Fill holds; etcd allows 128.
const putsPerTxn = 100

// fillers is how many transactions Fill keeps in flight.
const fillers = 32

// Fill writes all keys of d once, in transactions, many in flight.
func Fill(ctx context.Context, pool wire.Pool, d Data) error {
	g, loading := errgroup.WithContext(ctx)
	g.SetLimit(fillers)
	value := d.value()
	for first := 0; first < d.Keys && loading.Err() == nil; first += putsPerTxn {
		g.Go(func() error {
			txn := &pb.TxnRequest{}
			for n := first; n < min(first+putsPerTxn, d.Keys); n++ {
				put := &pb.PutRequest{Key: Key(n), Value: value}
				txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
			}
			if _, err := pool[first/putsPerTxn%len(pool)].KV.Txn(loading, txn); err != nil {
				return fmt.Errorf("load keys from %d: %w", first, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
