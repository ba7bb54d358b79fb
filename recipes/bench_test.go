package recipes_test

import (
	"fmt"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine/machine"
)

// perEntry is how many requests of a session travel in one entry of the log.
const perEntry = 256

// benchLog is what a benchmark applies: entries of requests of one session, each of which changes something.
type benchLog struct {
	*testing.B
	entries  []sm.Entry
	done     int    // entries before those
	created  uint64 // of the session
	sequence uint64 // of the last request
	revision int64  // after the last entry
}

func newBenchLog(b *testing.B) *benchLog {
	l := &benchLog{B: b, created: 1, revision: 1}
	l.add(raftv1.KindSessionOpen, &raftv1.SessionOpen{Id: 1, TtlMs: 1000, Stream: 1})
	return l
}

func (l *benchLog) add(kind raftv1.Kind, msg proto.Message) {
	index := uint64(l.done+len(l.entries)) + 1
	e := &raftv1.Entry{
		Member: 1, Boot: 1, Number: index, Settled: index - 1,
		Commands: []raftv1.Command{{Kind: kind, Body: l.encode(msg)}},
	}
	l.entries = append(l.entries, sm.Entry{Index: index, Cmd: raftv1.AppendEntry(nil, e)})
}

func (l *benchLog) encode(msg proto.Message) []byte {
	data, err := proto.Marshal(msg)
	if err != nil {
		l.Fatal(err)
	}
	return data
}

// requests adds an entry of requests of a kind.
func (l *benchLog) requests(kind coordv1.Kind, body func(i int) proto.Message) {
	r := &raftv1.Requests{
		Session: 1, Created: l.created, Epoch: 1, Acknowledged: l.sequence - min(l.sequence, 2*perEntry), UnixMs: 1,
	}
	for i := range perEntry {
		l.sequence++
		r.Requests = append(r.Requests, l.encode(&coordv1.Request{
			Sequence: l.sequence, Kind: kind, Body: l.encode(body(i)),
		}))
	}
	l.add(raftv1.KindRequests, r)
	l.revision += perEntry
}

// apply measures what it takes to apply the log, to a machine on disk.
func (l *benchLog) apply() {
	m := machine.New(machine.Options{
		Dir: l.TempDir(), Shard: 1, Member: 1, Boot: 1, Program: recipes.Program(),
	})
	if _, err := m.Open(nil); err != nil {
		l.Fatal(err)
	}
	defer m.Close()
	l.ReportAllocs()
	l.ResetTimer()
	for _, e := range l.entries {
		if _, err := m.Update([]sm.Entry{e}); err != nil {
			l.Fatal(err)
		}
	}
	l.StopTimer()
	view, err := m.View()
	if err != nil {
		l.Fatal(err)
	}
	defer view.Close()
	if view.Revision() != l.revision {
		l.Fatalf("revision %d, not %d", view.Revision(), l.revision)
	}
}

// BenchmarkLocks is entries of acquires and of releases, for 512 callers with a lock each. One operation is one acquire
// and one release.
func BenchmarkLocks(b *testing.B) {
	const callers = 512
	l := newBenchLog(b)
	for n := 0; n < b.N; n += perEntry {
		name := func(i int) string { return fmt.Sprintf("bench/lock/%06d", (n+i)%callers) }
		first := l.revision + 1
		l.requests(coordv1.Kind_KIND_ACQUIRE, func(i int) proto.Message {
			return &coordv1.Acquire{Names: []string{name(i)}, Owner: "bench"}
		})
		l.requests(coordv1.Kind_KIND_RELEASE, func(i int) proto.Message {
			return &coordv1.Release{
				Entries: []*coordv1.Guard{{
					Name: name(i), Key: layout.EntryKey(name(i), 1, ""), Token: first + int64(i),
				}},
			}
		})
	}
	l.apply()
}

// BenchmarkCounter is entries of additions to one counter, which many callers share. One operation is one addition;
// beside it, a put of the same key by etcd's API.
func BenchmarkCounter(b *testing.B) {
	for name, c := range map[string]struct {
		kind coordv1.Kind
		body proto.Message
	}{
		"add": {coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: "bench", Delta: 1}},
		"put": {coordv1.Kind_KIND_PUT, &pb.PutRequest{
			Key: []byte(layout.Counter.Key("bench")), Value: []byte("12345"),
		}},
	} {
		b.Run(name, func(b *testing.B) {
			l := newBenchLog(b)
			for n := 0; n < b.N; n += perEntry {
				l.requests(c.kind, func(int) proto.Message { return c.body })
			}
			l.apply()
		})
	}
}

func releasing(name, key string, token int64) proto.Message {
	return &coordv1.Release{Entries: []*coordv1.Guard{{Name: name, Key: key, Token: token}}}
}

// BenchmarkSemaphore is BenchmarkLocks for 512 callers of one semaphore, half of whom hold or wait at a time.
func BenchmarkSemaphore(b *testing.B) {
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, "bench")
	for _, limit := range []int64{16, 512} {
		b.Run(fmt.Sprint(limit), func(b *testing.B) {
			l := newBenchLog(b)
			for n := 0; n < b.N; n += perEntry {
				owner := func(i int) string { return fmt.Sprint((n + i) % 512) }
				first := l.revision + 1
				l.requests(coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, func(i int) proto.Message {
					return &coordv1.SemaphoreAcquire{Name: "bench", OwnerId: owner(i), Permits: 1, Limit: limit}
				})
				l.requests(coordv1.Kind_KIND_RELEASE, func(i int) proto.Message {
					return releasing("bench", layout.EntryKey(queue, 1, owner(i)), first+int64(i))
				})
			}
			l.apply()
		})
	}
}

// BenchmarkBarrier is 1,024 parties that enter one barrier and leave it. One operation is one party.
func BenchmarkBarrier(b *testing.B) {
	const parties = 4 * perEntry
	l := newBenchLog(b)
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_BARRIER, "bench")
	for n := 0; n < b.N; n += parties {
		first := l.revision + 1
		for from := 0; from < parties; from += perEntry {
			l.requests(coordv1.Kind_KIND_BARRIER_ENTER, func(i int) proto.Message {
				return &coordv1.BarrierEnter{Name: "bench", OwnerId: fmt.Sprint(from + i), Parties: parties}
			})
		}
		for from := 0; from < parties; from += perEntry {
			l.requests(coordv1.Kind_KIND_RELEASE, func(i int) proto.Message {
				return releasing("bench", layout.EntryKey(queue, 1, fmt.Sprint(from+i)), first+int64(from+i))
			})
		}
	}
	l.apply()
}
