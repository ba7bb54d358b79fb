package watch

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/statemachine"
)

// crowd is many watch streams over real gRPC on the loopback.
type crowd struct {
	*fixture
	conn    *grpc.ClientConn
	stop    func()
	streams []pb.Watch_WatchClient
	created atomic.Int64
	events  atomic.Int64
	readers sync.WaitGroup
}

func newCrowd(b testing.TB) *crowd {
	c := &crowd{fixture: newFixture(b, Options{}, ServerOptions{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(1 << 20))
	pb.RegisterWatchServer(server, c.server)
	go server.Serve(l)
	c.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	c.stop = func() {
		c.conn.Close()
		server.Stop()
		c.readers.Wait()
	}
	b.Cleanup(c.stop)
	return c
}

// open starts streams with watchers each and waits until they are created. request is given the running number.
func (c *crowd) open(b testing.TB, streams, watchers int, request func(int) *pb.WatchCreateRequest) {
	want := c.created.Load() + int64(streams*watchers)
	for range streams {
		s, err := pb.NewWatchClient(c.conn).Watch(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		n := len(c.streams) * watchers
		c.streams = append(c.streams, s)
		c.readers.Go(func() {
			for {
				r, err := s.Recv()
				if err != nil {
					return
				}
				if r.Created {
					c.created.Add(1)
				}
				c.events.Add(int64(len(r.Events)))
			}
		})
		c.readers.Go(func() {
			for i := range watchers {
				if err := s.Send(createRequest(request(n + i))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	c.await(b, &c.created, want)
}

func (c *crowd) await(b testing.TB, n *atomic.Int64, want int64) {
	deadline := time.Now().Add(patience)
	for n.Load() < want {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d", n.Load(), want)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

func keyOf(i int) []byte { return fmt.Appendf(nil, "/registry/service-%03d/instance-%06d", i/1000, i) }

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestManyWatchers: 100,000 watchers cost no goroutines of their own and little memory.
func TestManyWatchers(t *testing.T) {
	streams, watchers := 100, 1000
	if raceEnabled || testing.Short() {
		watchers = 50
	}
	c := newCrowd(t)
	before, goroutines := heap(), runtime.NumGoroutine()
	begin := time.Now()
	c.open(t, streams, watchers, func(i int) *pb.WatchCreateRequest { return &pb.WatchCreateRequest{Key: keyOf(i)} })
	n := streams * watchers
	elapsed := time.Since(begin)
	perWatcher := float64(heap()-before) / float64(n)
	perStream := float64(runtime.NumGoroutine()-goroutines) / float64(streams)
	t.Logf("%d watchers: created in %s, %.0f bytes each, %.1f goroutines per stream with both ends", n, elapsed,
		perWatcher, perStream)
	if got := c.hub.Stats().Watchers; got != int64(n) {
		t.Errorf("%d watchers", got)
	}
	if perStream > 6 {
		t.Errorf("%.1f goroutines per stream", perStream)
	}
	if watchers >= 1000 && perWatcher > 2000 {
		t.Errorf("%.0f bytes per watcher", perWatcher)
	}
	for i := 0; i < n; i += n / 10 {
		c.put(string(keyOf(i)))
	}
	c.await(t, &c.events, 10)
}

// benchmarkPuts measures commits until all matching watchers' clients have them, in windows of some commits, and
// reports the events that arrive per second.
func benchmarkPuts(b *testing.B, c *crowd, matching int, key func(int) []byte) {
	value := make([]byte, 256)
	const window = 64
	c.events.Store(0)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		c.hub.Applied(c.apply([]op{{key(i), value}}))
		if i%window == window-1 {
			c.await(b, &c.events, int64((i+1-window/2)*matching))
		}
	}
	c.await(b, &c.events, int64(b.N*matching))
	b.StopTimer()
	b.ReportMetric(float64(c.events.Load())/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkPutAmongIdle(b *testing.B) {
	for _, idle := range []int{0, 100} {
		b.Run(fmt.Sprintf("idle=%d", idle*1000), func(b *testing.B) {
			c := newCrowd(b)
			c.open(b, idle, 1000, func(i int) *pb.WatchCreateRequest { return &pb.WatchCreateRequest{Key: keyOf(i)} })
			c.open(b, 1, 1, func(int) *pb.WatchCreateRequest {
				return &pb.WatchCreateRequest{Key: []byte("x"), RangeEnd: []byte("y"), PrevKv: true}
			})
			benchmarkPuts(b, c, 1, func(i int) []byte { return fmt.Appendf(nil, "x%d", i%100) })
		})
	}
}

func BenchmarkFanOut(b *testing.B) {
	for _, shape := range []struct{ streams, watchers int }{{1, 1}, {10, 100}, {1000, 1}} {
		b.Run(fmt.Sprintf("streams=%d/watchers=%d", shape.streams, shape.watchers), func(b *testing.B) {
			c := newCrowd(b)
			c.open(b, shape.streams, shape.watchers, func(int) *pb.WatchCreateRequest {
				return &pb.WatchCreateRequest{Key: []byte("x")}
			})
			benchmarkPuts(b, c, shape.streams*shape.watchers, func(int) []byte { return []byte("x") })
		})
	}
}

// BenchmarkHub measures the hub goroutine alone: one commit offered to watchers whose responses nobody takes.
func BenchmarkHub(b *testing.B) {
	for _, matching := range []int{0, 1, 1000} {
		b.Run(fmt.Sprintf("matching=%d", matching), func(b *testing.B) {
			f := newFixture(b, Options{StreamBytes: 1 << 40}, ServerOptions{})
			s := newStream(1<<40, &limit.Member{})
			f.hub.open(s)
			for i := range 100_000 {
				f.hub.box.post(func() { f.hub.create(s, &pb.WatchCreateRequest{Key: keyOf(i)}, "") })
			}
			for range matching {
				f.hub.box.post(func() { f.hub.create(s, &pb.WatchCreateRequest{Key: []byte("x")}, "") })
			}
			f.hub.settle()
			a := f.apply([]op{{[]byte("x"), make([]byte, 256)}})
			events := make([]statemachine.Event, b.N)
			for i := range events {
				kv := proto.Clone(a.Events[0].Kv).(*mvccpb.KeyValue)
				kv.ModRevision += int64(i)
				events[i].Kv = kv
			}
			var spare []response
			b.ReportAllocs()
			b.ResetTimer()
			for i := range events {
				f.hub.Applied(&statemachine.Applied{
					Revision: events[i].Kv.ModRevision, Compacted: -1, Events: events[i : i+1],
				})
				if i%256 == 255 {
					f.hub.settle()
					taken := s.take(spare)
					s.written(s.out.bytes)
					spare = taken
				}
			}
			f.hub.settle()
		})
	}
}
