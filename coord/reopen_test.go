package coord

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestKeyspaceOpensAgain: a keyspace that was closed opens again in the same process, takes writes as before, and
// leaves nothing behind that runs.
func TestKeyspaceOpensAgain(t *testing.T) {
	s := startAlone(t)
	ctx, cancel := context.WithTimeout(principal.Member(t.Context()), time.Minute)
	defer cancel()
	goroutines := 0 // in the sixth round: the member has started all of its own by then
	for i := range 25 {
		k := s.newKeyspace(keyspaceOptions{shard: 2, memory: 8 << 20})
		if err := k.open(ctx, s, map[uint64]string{s.identity.MemberID: "127.0.0.1:1"}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			propose(t, ctx, k, raftv1.KindHistoryBegin, &raftv1.HistoryBegin{Id: k.Shard})
		}
		for range 3 {
			propose(t, ctx, k, raftv1.KindPut, &pb.PutRequest{Key: []byte("k"), Value: fmt.Append(nil, i)})
		}
		if got, err := k.Revision(); err != nil || int(got) != 1+3*(i+1) {
			t.Fatalf("round %d: revision %d, %v", i, got, err)
		}
		k.Close()
		if err := k.release(); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			goroutines = runtime.NumGoroutine()
		}
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines+10; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines after the sixth round, %d in the end", goroutines, runtime.NumGoroutine())
		}
	}
}
