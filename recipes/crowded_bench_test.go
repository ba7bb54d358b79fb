package recipes_test

import (
	"fmt"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine/machine"
)

// BenchmarkCrowdedLock is an acquire and the withdrawal of what it made, of a lock whose name has many keys below it:
// those of nested locks, entries that wait before it, or foreign keys. It prints how long an acquire and its release
// take in the apply.
func BenchmarkCrowdedLock(b *testing.B) {
	for what, key := range map[string]func(i int) string{
		"nested":  func(i int) string { return fmt.Sprintf("jobs/%d/1", i) },
		"waiting": nil,
		"foreign": func(i int) string { return fmt.Sprintf("jobs/foreign-%d", i) },
	} {
		for _, n := range []int{0, 2_000, 20_000, 200_000} {
			b.Run(fmt.Sprintf("%s=%d", what, n), func(b *testing.B) { benchCrowded(b, n, key) })
		}
	}
}

func benchCrowded(b *testing.B, n int, key func(i int) string) {
	l := newBenchLog(b)
	for i := 0; i < n; i += perEntry {
		if key == nil {
			l.requests(coordv1.Kind_KIND_ACQUIRE, func(j int) proto.Message {
				return &coordv1.Acquire{Names: []string{"jobs"}, OwnerId: fmt.Sprint(i + j)}
			})
			continue
		}
		l.requests(coordv1.Kind_KIND_PUT, func(j int) proto.Message { return &pb.PutRequest{Key: []byte(key(i + j))} })
	}
	m := machine.New(machine.Options{Dir: b.TempDir(), Shard: 1, Member: 1, Boot: 1, Program: recipes.Program()})
	if _, err := m.Open(nil); err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	update := func() {
		for _, e := range l.entries {
			if _, err := m.Update([]sm.Entry{e}); err != nil {
				b.Fatal(err)
			}
		}
		l.done, l.entries = l.done+len(l.entries), nil
	}
	update()
	if err := m.Sync(); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		r := &raftv1.Requests{
			Session: 1, Created: l.created, Epoch: 1, Acknowledged: l.sequence - min(l.sequence, 2), UnixMs: 1,
		}
		for _, msg := range []struct {
			kind coordv1.Kind
			body proto.Message
		}{
			{coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"jobs"}, Owner: "bench"}},
			{coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: l.sequence + 1}},
		} {
			l.sequence++
			r.Requests = append(r.Requests, l.encode(&coordv1.Request{
				Sequence: l.sequence, Kind: msg.kind, Body: l.encode(msg.body),
			}))
		}
		l.add(raftv1.KindRequests, r)
	}
	b.ResetTimer()
	update()
	b.StopTimer()
	view, err := m.View()
	if err != nil {
		b.Fatal(err)
	}
	defer view.Close()
	if view.Revision() < l.revision+2*int64(b.N) {
		b.Fatalf("revision %d after %d pairs", view.Revision(), b.N)
	}
}
