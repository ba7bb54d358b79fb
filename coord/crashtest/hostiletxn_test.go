package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// hostileKeys is how many keys the commands of these tests find.
const hostileKeys = 20_000

// fillKeys puts n keys below a prefix, some attached to a lease.
func fillKeys(t testing.TB, cli *clientv3.Client, prefix string, n int, lease clientv3.LeaseID) {
	t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for worker := range 16 {
		wg.Go(func() {
			for from := worker * 100; from < n && failed.Load() == nil; from += 1600 {
				var ops []clientv3.Op
				for i := from; i < min(from+100, n); i++ {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%07d", prefix, i), "", clientv3.WithLease(lease)))
				}
				if _, err := cli.Txn(within(t, patience)).Then(ops...).Commit(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}

// slowest runs do while others put keys, and returns the longest and the 99th percentile of the times of these.
func slowest(t testing.TB, c *cluster, do func()) (longest, p99 time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for i := range 4 {
		cli := c.dial()
		wg.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				_, err := cli.Put(ctx, fmt.Sprint("other/", i), "")
				for errors.Is(err, rpctypes.ErrTimeout) { // it counts as long as it lasts
					_, err = cli.Put(ctx, fmt.Sprint("other/", i), "")
				}
				if ctx.Err() == nil && err != nil {
					t.Errorf("the put of another client: %v", err)
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	do()
	stop()
	wg.Wait()
	slices.Sort(took)
	return took[len(took)-1], took[len(took)*99/100]
}

// overAll is a compare of all keys below a prefix, that holds.
func overAll(prefix string) *pb.Compare {
	return &pb.Compare{
		Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 0},
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)),
	}
}

func repeat[T any](n int, of T) []T { return slices.Repeat([]T{of}, n) }

func nested(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

// TestHostileTransactions: no transaction of a request's size holds up the writes of others for long: what would look
// at many keys many times is refused, in whatever form, with etcd's text, by all members alike; and what is linear is
// not.
func TestHostileTransactions(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	fillKeys(t, cli, "k", hostileKeys, 0)
	kv := pb.NewKVClient(cli.ActiveConnection())
	end := []byte(clientv3.GetPrefixRangeEnd("k"))
	past := &pb.RangeRequest{Key: []byte("k"), RangeEnd: end, Revision: 150}
	count := &pb.RangeRequest{Key: []byte("k"), RangeEnd: end, CountOnly: true}
	none := &pb.Compare{
		Target: pb.Compare_CREATE, Result: pb.Compare_LESS, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 1},
		Key: []byte("none"), RangeEnd: []byte("nonf"),
	}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("done")}}}
	cube := &pb.TxnRequest{Compare: repeat(42, none)}
	for range 2 {
		cube = &pb.TxnRequest{Compare: repeat(42, none), Success: repeat(42, nested(cube))}
	}
	hostile := map[string]*pb.TxnRequest{
		"nested compares": {
			Success: append(repeat(42, nested(&pb.TxnRequest{Compare: repeat(10, overAll("k"))})), put),
		},
		"compares":             {Compare: repeat(128, overAll("k")), Success: []*pb.RequestOp{put}},
		"a cube of operations": cube,
		"counts":               {Success: append(repeat(100, rangeOp(count)), put)},
		"reads of the past":    {Success: append(repeat(100, rangeOp(past)), put)},
		"deletions": {
			Success: append(repeat(100, deleteOp(&pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: end})), put),
		},
	}
	longest, p99 := slowest(t, c, func() {
		for what, r := range hostile {
			_, err := kv.Txn(within(t, patience), r)
			if !errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyOps) {
				t.Errorf("%s: %v", what, err)
			}
		}
		var flood sync.WaitGroup // each is within the budget
		for range 50 {
			flood.Go(func() {
				r := &pb.TxnRequest{Compare: repeat(10, overAll("k")), Success: []*pb.RequestOp{put}}
				if _, err := kv.Txn(within(t, patience), r); err != nil {
					t.Errorf("ten compares: %v", err)
				}
			})
		}
		flood.Wait()
	})
	t.Logf("another client's puts took %v at most, p99 %v", longest, p99)
	if longest > 3*time.Second {
		t.Errorf("another client waited %v for a put", longest)
	}
	linear := &pb.TxnRequest{
		Compare: repeat(1, overAll("k")),
		Success: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: end})},
	}
	resp, err := kv.Txn(within(t, patience), linear)
	if err != nil || resp.Responses[0].GetResponseDeleteRange().Deleted != hostileKeys {
		t.Errorf("compare all and delete all: %v, %v", resp, err)
	}
	c.checkEqual()
}
