package machine_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/machine"
)

var benchKeys = flag.Int("bench.openkeys", 1_000_000, "keys in the store that BenchmarkOpen opens")

// benchMachine is a machine on disk that holds n keys of 256 bytes.
type benchMachine struct {
	*machine.Machine
	dir    string
	index  uint64
	number uint64
	keys   int
	value  []byte
}

func (b *benchMachine) key(i int) []byte { return fmt.Appendf(nil, "/registry/key/%08d", i) }

func newBenchMachine(b *testing.B, keys int) *benchMachine {
	m := &benchMachine{dir: b.TempDir(), keys: keys, value: make([]byte, 256)}
	for i := range m.value {
		m.value[i] = byte(rand.Uint32())
	}
	m.open(b)
	b.Cleanup(func() { m.Close() })
	const batch = 1000
	for i := 0; i < keys; i += batch {
		m.update(b, m.puts(batch, func(n int) int { return i + n }))
	}
	if err := m.Sync(); err != nil {
		b.Fatal(err)
	}
	return m
}

func (m *benchMachine) open(b *testing.B) {
	m.Machine = machine.New(machine.Options{Dir: m.dir, Shard: 1, Member: self, Boot: boot})
	if _, err := m.Open(nil); err != nil {
		b.Fatal(err)
	}
}

// puts encodes an entry of n puts.
func (m *benchMachine) puts(n int, key func(int) int) []byte {
	m.number++
	e := &raftv1.Entry{Member: self, Boot: boot, Number: m.number, Settled: m.number - 1}
	for i := range n {
		e.Commands = append(e.Commands, command(raftv1.KindPut, &pb.PutRequest{Key: m.key(key(i)), Value: m.value}))
	}
	return raftv1.AppendEntry(nil, e)
}

func (m *benchMachine) update(b *testing.B, entry []byte) {
	m.index++
	if _, err := m.Update([]sm.Entry{{Index: m.index, Cmd: entry}}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPut applies entries of 64 puts of 256 bytes to random keys of 100,000. One operation is one put.
func BenchmarkPut(b *testing.B) {
	m := newBenchMachine(b, 100_000)
	const batch = 64
	var entries [][]byte
	for i := 0; i < b.N; i += batch {
		entries = append(entries, m.puts(batch, func(int) int { return rand.IntN(m.keys) }))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, e := range entries {
		m.update(b, e)
	}
}

// BenchmarkCreate is BenchmarkPut with keys that are new. They have a slash, so each is a child of what is before it.
func BenchmarkCreate(b *testing.B) {
	m := newBenchMachine(b, 100_000)
	const batch = 64
	var entries [][]byte
	for i := 0; i < b.N; i += batch {
		entries = append(entries, m.puts(batch, func(n int) int { return m.keys + i + n }))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, e := range entries {
		m.update(b, e)
	}
}

// BenchmarkRequests is BenchmarkPut with the puts in commands of 100 requests of a session, of which the client has
// acknowledged all but the last thousand.
func BenchmarkRequests(b *testing.B) {
	m := newBenchMachine(b, 100_000)
	m.number++
	m.update(b, raftv1.AppendEntry(nil, &raftv1.Entry{Member: self, Boot: boot, Number: m.number,
		Commands: []raftv1.Command{
			command(raftv1.KindSessionOpen, &raftv1.SessionOpen{Id: 1, TtlMs: 1000, Stream: 1}),
		}}))
	created := m.index
	const batch = 100
	var entries [][]byte
	for i := uint64(0); i < uint64(b.N); i += batch {
		r := &raftv1.Requests{Session: 1, Created: created, Epoch: 1, Acknowledged: i - min(i, 1000)}
		for n := range uint64(batch) {
			put := &pb.PutRequest{Key: m.key(rand.IntN(m.keys)), Value: m.value}
			r.Requests = append(r.Requests, encode(request(i+n+1, coordv1.Kind_KIND_PUT, put)))
		}
		m.number++
		entries = append(entries, raftv1.AppendEntry(nil, &raftv1.Entry{
			Member: self, Boot: boot, Number: m.number, Settled: m.number - 1,
			Commands: []raftv1.Command{command(raftv1.KindRequests, r)},
		}))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, e := range entries {
		m.update(b, e)
	}
}

// BenchmarkTxn is BenchmarkPut with transactions that compare the key's mod revision, put, or else get.
func BenchmarkTxn(b *testing.B) {
	m := newBenchMachine(b, 100_000)
	const batch = 64
	var entries [][]byte
	for i := 0; i < b.N; i += batch {
		m.number++
		e := &raftv1.Entry{Member: self, Boot: boot, Number: m.number, Settled: m.number - 1}
		for range batch {
			key := m.key(rand.IntN(m.keys))
			e.Commands = append(e.Commands, command(raftv1.KindTxn, &pb.TxnRequest{
				Compare: []*pb.Compare{{
					Key: key, Target: pb.Compare_MOD, Result: pb.Compare_GREATER,
					TargetUnion: &pb.Compare_ModRevision{},
				}},
				Success: []*pb.RequestOp{{
					Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: m.value}},
				}},
				Failure: []*pb.RequestOp{{
					Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}},
				}},
			}))
		}
		entries = append(entries, raftv1.AppendEntry(nil, e))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, e := range entries {
		m.update(b, e)
	}
}

// BenchmarkGet takes a view and reads one key of 100,000.
func BenchmarkGet(b *testing.B) {
	m := newBenchMachine(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		v, err := m.View()
		if err != nil {
			b.Fatal(err)
		}
		if kv, err := v.Get(m.key(rand.IntN(m.keys))); err != nil || kv == nil {
			b.Fatal(kv, err)
		}
		v.Close()
	}
}

// BenchmarkRange takes a view and reads 1000 keys of 100,000: the latest, and as they were before the second half of
// the writes.
func BenchmarkRange(b *testing.B) {
	m := newBenchMachine(b, 100_000)
	past := int64(m.keys)
	for range m.keys / 1000 {
		m.update(b, m.puts(1000, func(int) int { return rand.IntN(m.keys) }))
	}
	for _, c := range []struct {
		name     string
		revision int64
	}{{"latest", 0}, {"past", past}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := m.View()
				if err != nil {
					b.Fatal(err)
				}
				first := rand.IntN(m.keys - 1000)
				r := &pb.RangeRequest{Key: m.key(first), RangeEnd: m.key(first + 1000), Revision: c.revision}
				if resp, err := v.Range(context.Background(), r); err != nil || len(resp.Kvs) < 999 {
					b.Fatal(len(resp.GetKvs()), err)
				}
				v.Close()
			}
		})
	}
}

// BenchmarkOpen opens a store of a million keys and reads one.
func BenchmarkOpen(b *testing.B) {
	m := newBenchMachine(b, *benchKeys)
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	n := 0
	for b.Loop() {
		m.open(b)
		v, err := m.View()
		if err != nil {
			b.Fatal(err)
		}
		if kv, err := v.Get(m.key(m.keys / 2)); err != nil || kv == nil {
			b.Fatal(kv, err)
		}
		v.Close()
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(time.Since(began).Seconds()/float64(n), "s/open")
}
