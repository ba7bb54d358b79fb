package recipes_test

import (
	"fmt"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// BenchmarkLocks applies, to a machine on disk, entries of 256 acquires and of 256 releases of a session, for 512 callers with a
// lock each. One operation is one acquire and one release.
func BenchmarkLocks(b *testing.B) {
	const callers, batch = 512, 256
	m := statemachine.New(statemachine.Options{
		Dir: b.TempDir(), Shard: 1, Member: 1, Boot: 1,
		Procedures: recipes.Procedures(), Guard: recipes.Guard, Reactor: recipes.Reactor(),
	})
	if _, err := m.Open(nil); err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	index, revision := uint64(0), int64(1)
	entry := func(kind raftv1.Kind, msg proto.Message) sm.Entry {
		body, err := proto.Marshal(msg)
		if err != nil {
			b.Fatal(err)
		}
		index++
		e := &raftv1.Entry{Member: 1, Boot: 1, Number: index, Settled: index - 1, Commands: []raftv1.Command{{Kind: kind, Body: body}}}
		return sm.Entry{Index: index, Cmd: raftv1.AppendEntry(nil, e)}
	}
	entries := []sm.Entry{entry(raftv1.KindSessionOpen, &raftv1.SessionOpen{Id: 1, TtlMs: 1000, Stream: 1})}
	created, sequence := index, uint64(0)
	requests := func(kind coordv1.Kind, body func(i int) proto.Message) {
		r := &raftv1.Requests{Session: 1, Created: created, Epoch: 1, Acknowledged: sequence - min(sequence, 2*batch), UnixMs: 1}
		for i := range batch {
			sequence++
			data, err := proto.Marshal(body(i))
			if err != nil {
				b.Fatal(err)
			}
			req, err := proto.Marshal(&coordv1.Request{Sequence: sequence, Kind: kind, Body: data})
			if err != nil {
				b.Fatal(err)
			}
			r.Requests = append(r.Requests, req)
		}
		entries = append(entries, entry(raftv1.KindRequests, r))
		revision += batch
	}
	for n := 0; n < b.N; n += batch {
		name := func(i int) string { return fmt.Sprintf("bench/lock/%06d", (n+i)%callers) }
		first := revision + 1
		requests(coordv1.Kind_KIND_ACQUIRE, func(i int) proto.Message { return &coordv1.Acquire{Names: []string{name(i)}, Owner: "bench"} })
		requests(coordv1.Kind_KIND_RELEASE, func(i int) proto.Message {
			return &coordv1.Release{Entries: []*coordv1.Guard{{Name: name(i), Key: recipes.Key(name(i), 1, ""), Token: first + int64(i)}}}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, e := range entries {
		if _, err := m.Update([]sm.Entry{e}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if view, err := m.View(); err != nil || view.Revision() != revision {
		b.Fatalf("revision %d, %v, not %d", view.Revision(), err, revision)
	} else {
		view.Close()
	}
}
