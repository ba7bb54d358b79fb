package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/limit"
)

// TestWatchersShareTheMembersRoom: watchers count with their keys; a stream with more than its share gets no further one, another
// one does, and what is cancelled makes room.
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
		if !r.Created || !r.Canceled || r.WatchId != -1 || !strings.Contains(r.CancelReason, "watchers") || !strings.Contains(r.CancelReason, "cancel some") {
			t.Fatalf("one too many: %v", r)
		}
	}
	refused(greedy, "a")
	modest.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1})
	modest.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 2})
	refused(modest, "a")
	refused(f.dial(t), strings.Repeat("k", 10*cost))
	greedy.close()
	for pool.Used() != 2*cost {
		time.Sleep(time.Millisecond) // until the hub has heard of the end
	}
	modest.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 3})
	modest.requests <- cancelRequest(3)
	if r := modest.next(t); !r.Canceled || pool.Used() != 2*cost {
		t.Errorf("%v, %d used", r, pool.Used())
	}
}

// TestSlowClientsShareTheMembersRoom: what waits for clients that do not read is bounded for all together. Others get their
// events meanwhile, large ones too: who takes nothing is ended.
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
