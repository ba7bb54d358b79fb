package watch

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/transit"
)

// TestWatchersShareTheMembersRoom: watchers count with their keys; a stream with more than its share gets no further
// one, another one does, and what is cancelled makes room.
func TestWatchersShareTheMembersRoom(t *testing.T) {
	const cost = watcherCost + 1
	pool := limit.NewPool("watchers", 8*cost, "cancel some")
	f := newFixture(t, Options{Memory: &limit.Member{Watchers: pool}}, ServerOptions{})
	greedy, modest := f.dial(t), f.dial(t)
	for i := range 4 {
		greedy.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: int64(i) + 1})
	}
	refused := func(c *client, key string) {
		t.Helper()
		c.requests <- createRequest(&pb.WatchCreateRequest{Key: []byte(key)})
		r := c.next(t)
		if !r.Created || !r.Canceled || r.WatchId != -1 || !strings.Contains(r.CancelReason, "watchers") ||
			!strings.Contains(r.CancelReason, "cancel some") {
			t.Fatalf("one too many: %v", r)
		}
	}
	refused(greedy, "a")
	modest.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1})
	modest.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 2})
	refused(modest, "a")
	refused(f.dial(t), strings.Repeat("k", 10*cost))
	greedy.close()
	await(t, "the hub hears of the end", func() bool { return pool.Used() == 2*cost })
	modest.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 3})
	modest.requests <- cancelRequest(3)
	if r := modest.next(t); !r.Canceled || pool.Used() != 2*cost {
		t.Errorf("%v, %d used", r, pool.Used())
	}
}

// TestSlowClientsShareTheMembersRoom: what waits for clients that do not read is bounded for all together. Others get
// their events meanwhile, large ones too: who takes nothing is ended.
func TestSlowClientsShareTheMembersRoom(t *testing.T) {
	const large = 32 << 10
	pool := limit.NewPool("events", 10*large, "read")
	f := newFixture(t, Options{StallTime: 100 * time.Millisecond, Memory: &limit.Member{Events: pool}}, ServerOptions{})
	var slow []*client
	for i := range 12 {
		c := f.dial(t)
		c.create(t, &pb.WatchCreateRequest{Key: []byte(fmt.Sprint("slow", i))})
		slow = append(slow, c)
	}
	quick := f.dial(t)
	quick.create(t, &pb.WatchCreateRequest{Key: []byte("quick")})
	put := func(key string, size int) {
		f.hub.Applied(f.apply([]op{{[]byte(key), make([]byte, size)}}))
	}
	for i := range 12 {
		for range 3 {
			put(fmt.Sprint("slow", i), large)
		}
	}
	f.hub.settle()
	if used := pool.Used(); used > 10*large {
		t.Errorf("%d bytes wait", used)
	}
	put("quick", 100)
	if r := quick.next(t); len(r.Events) != 1 {
		t.Errorf("a small event: %v", r)
	}
	put("quick", 3*large)
	if r := quick.next(t); len(r.Events) != 1 {
		t.Errorf("a large event: %v", r)
	}
	ended := 0
	for _, c := range slow {
		if c.ctx.Err() == nil {
			continue
		}
		if ended++; status.Code(c.wait()) != codes.ResourceExhausted {
			t.Errorf("ended with %v", c.err)
		}
	}
	if ended == 0 {
		t.Error("nobody was ended")
	}
}

// transitCodec is the codec of a server whose messages are followed.
type transitCodec struct{ encoding.CodecV2 }

func (c transitCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*transit.Message); ok {
		return m.Buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}

// TestWhatGRPCHoldsCounts: an event that gRPC holds for a client that does not read counts until it is read: others
// wait for it, until the client's stream is ended and its connection closed. Who reads gets every event once.
func TestWhatGRPCHoldsCounts(t *testing.T) {
	const large = 256 << 10
	pool := limit.NewPool("events", 3*large, "read")
	conns := &transit.Conns{}
	f := newFixture(t, Options{
		StallTime: 200 * time.Millisecond, Memory: &limit.Member{Events: pool},
	}, ServerOptions{Conns: conns})
	watch := f.served(t, conns)
	slow, quick := watch("slow"), watch("quick")
	await(t, "the answers are written", func() bool { return pool.Used() == 0 })
	put := func(key string) { f.hub.Applied(f.apply([]op{{[]byte(key), make([]byte, large)}})) }
	put("slow")
	f.hub.settle()
	await(t, "gRPC has the event", func() bool { return f.hub.count.pending.Load() == 0 })
	if used := pool.Used(); used < large {
		t.Fatalf("%d bytes count while the client has not read", used)
	}
	for n := range 5 { // each needs room that the slow client has
		put("quick")
		r, err := quick.Recv()
		if err != nil || len(r.Events) != 1 || r.Events[0].Kv.Version != int64(n)+1 ||
			len(r.Events[0].Kv.Value) != large {
			t.Fatalf("event %d: %v", n, err)
		}
	}
	await(t, "nothing is held after the slow client's connection was closed", func() bool { return pool.Used() == 0 })
	for err := error(nil); err == nil; {
		_, err = slow.Recv()
	}
}

// served serves f by gRPC on connections that are known, and returns what begins to watch a key, each time on a
// connection of its own.
func (f *fixture) served(t *testing.T, conns *transit.Conns) func(key string) pb.Watch_WatchClient {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(transitCodec{encoding.GetCodecV2(proto.Name)}))
	pb.RegisterWatchServer(server, f.server)
	go server.Serve(conns.Listen(l))
	t.Cleanup(server.Stop)
	return func(key string) pb.Watch_WatchClient {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2(proto.Name)})))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		w, err := pb.NewWatchClient(conn).Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Send(createRequest(&pb.WatchCreateRequest{Key: []byte(key)})); err != nil {
			t.Fatal(err)
		}
		if r, err := w.Recv(); err != nil || !r.Created {
			t.Fatalf("%v, %v", r, err)
		}
		return w
	}
}

// rawCodec is a client's codec, which sends bytes as they are.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// TestWhoEndsItsStreamAndDoesNotReadMakesRoom: what gRPC holds of a stream that its client ended, by a message that
// does not parse, counts until it is read; where others find no room the connection of who does not read it is closed.
func TestWhoEndsItsStreamAndDoesNotReadMakesRoom(t *testing.T) {
	const large = 256 << 10
	pool := limit.NewPool("events", large, "read")
	conns := &transit.Conns{}
	f := newFixture(t, Options{
		StallTime: 100 * time.Millisecond, Memory: &limit.Member{Events: pool},
	}, ServerOptions{Conns: conns})
	watch := f.served(t, conns)
	slow := watch("slow")
	await(t, "the answer is written", func() bool { return pool.Used() == 0 })
	f.hub.Applied(f.apply([]op{{[]byte("slow"), make([]byte, large)}}))
	f.hub.settle()
	await(t, "gRPC has the event", func() bool { return f.hub.count.pending.Load() == 0 })
	if err := slow.SendMsg([]byte{0xff}); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); pool.Used() != 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > endPatience/2 {
			t.Fatalf("%d bytes are held for who has ended its stream and does not read", pool.Used())
		}
	}
}
