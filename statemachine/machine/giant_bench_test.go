package machine_test

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

var giantKeys = flag.Int("bench.giantkeys", 1_000_000, "keys that BenchmarkDeleteAll deletes; a lease of "+
	"BenchmarkRevokeMany has a fifth of them")

// BenchmarkDeleteAll applies one deletion of a million keys. One operation is the whole command.
func BenchmarkDeleteAll(b *testing.B) {
	all := command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("/"), RangeEnd: []byte("0")})
	benchmarkGiant(b, *giantKeys, 0, all)
}

// BenchmarkRevokeMany applies one revocation of a lease with 200,000 keys.
func BenchmarkRevokeMany(b *testing.B) {
	benchmarkGiant(b, *giantKeys/5, 7, command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 7}))
}

// benchmarkGiant fills a store with small keys, on a lease if that is not 0, and times one command. It reports by how
// much the resident memory of the process has grown at most meanwhile.
func benchmarkGiant(b *testing.B, keys int, lease int64, c raftv1.Command) {
	for range b.N {
		b.StopTimer()
		m := &benchMachine{dir: b.TempDir()}
		m.open(b)
		if lease != 0 {
			m.apply(b, command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: lease, TtlMs: 1000}))
		}
		const batch = 1000
		for i := 0; i < keys; i += batch {
			var puts []raftv1.Command
			for n := range batch {
				puts = append(puts, command(raftv1.KindPut, &pb.PutRequest{Key: m.key(i + n), Lease: lease}))
			}
			m.apply(b, puts...)
		}
		if err := m.Sync(); err != nil {
			b.Fatal(err)
		}
		before, done, peak := resident(b), make(chan struct{}), make(chan int)
		go func() {
			most := before
			for {
				select {
				case <-done:
					peak <- most
					return
				case <-time.After(5 * time.Millisecond):
					most = max(most, resident(b))
				}
			}
		}()
		cpu := processTime(b)
		b.StartTimer()
		m.apply(b, c)
		b.StopTimer()
		b.ReportMetric((processTime(b) - cpu).Seconds(), "cpu-s")
		close(done)
		b.ReportMetric(float64(<-peak-before)/(1<<20), "MiB-more")
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func (m *benchMachine) apply(b *testing.B, commands ...raftv1.Command) {
	m.number++
	m.update(b, raftv1.AppendEntry(nil, &raftv1.Entry{
		Member: self, Boot: boot, Number: m.number, Settled: m.number - 1, Commands: commands,
	}))
}

// processTime is the CPU time that this process has used, which a busy machine says more by than the time that passed.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is the resident memory of this process, in bytes.
func resident(b *testing.B) int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
