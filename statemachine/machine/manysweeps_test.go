package machine_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestManySweeps: as many deletions of many keys as are in one entry do not cost their product.
func TestManySweeps(t *testing.T) {
	const deletions, keys = 2000, 4
	took := map[int]time.Duration{}
	for _, from := range []int{keys, 1 << 20} { // swept, and one by one
		d := newDriver(t)
		d.sweep = from
		d.reopen()
		var remove []raftv1.Command
		for i := range deletions {
			var puts []raftv1.Command
			for k := range keys {
				puts = append(puts, put(fmt.Sprintf("p%05d/%d", i, k), "v"))
			}
			d.do(puts...)
			remove = append(remove, command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{
				Key: fmt.Appendf(nil, "p%05d/", i), RangeEnd: fmt.Appendf(nil, "p%05d0", i),
			}))
		}
		begin := time.Now()
		for i, r := range d.do(remove...) {
			if n := r.Response.(*pb.DeleteRangeResponse).Deleted; n != keys {
				t.Fatalf("deletion %d: %d keys", i, n)
			}
		}
		took[from] = time.Since(begin)
	}
	t.Logf("%v, one by one %v", took[keys], took[1<<20])
	if took[keys] > 10*took[1<<20]+time.Second {
		t.Errorf("%d deletions of %d keys took %v, one by one %v", deletions, keys, took[keys], took[1<<20])
	}
}
