package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// These tests let one client do the largest things that are allowed, and measure how long the puts of another one take
// beside them: figures of docs/benchmarks.md, "Beside the largest commands". They are for that made with COORD_LARGE=1,
// which takes minutes.

// large is small in the usual run.
func large(small, large int) int {
	if os.Getenv("COORD_LARGE") == "" {
		return small
	}
	return large
}

// stall is how long nobody's put may take: a large command is to be felt, but not taken for an outage.
func stall() time.Duration {
	if os.Getenv("COORD_LARGE") == "" {
		return 5 * time.Second
	}
	return 2 * time.Minute
}

// beside does something while others put keys, says how long both took, and demands that nobody waited for long.
func beside(t *testing.T, c *cluster, what string, do func()) {
	t.Helper()
	var took time.Duration
	longest, p99 := slowest(t, c, func() {
		begin := time.Now()
		do()
		took = time.Since(begin)
	})
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	t.Logf("| %s | %s | %s | %s |", what, ms(took), ms(p99), ms(longest))
	if longest > stall() {
		t.Errorf("beside %s a put of another client took %v", what, longest)
	}
}

func quiet(t *testing.T, c *cluster) {
	t.Helper()
	beside(t, c, "nothing, for a second", func() { time.Sleep(time.Second) })
}

// TestHostileLargeRanges: one deletion of all keys, compares of all, as many as a frame has room for, and nested ones.
func TestHostileLargeRanges(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	n := large(50_000, 1_000_000)
	fillKeys(t, cli, "k", n, 0)
	kv := pb.NewKVClient(cli.ActiveConnection())
	quiet(t, c)
	beside(t, c, fmt.Sprintf("100 readers of all of %d keys, for two seconds", n), func() { readAll(t, c) })
	// so that it is in the log
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("done")}}}
	deep := &pb.TxnRequest{Success: append(repeat(42, nested(&pb.TxnRequest{Compare: repeat(10, overAll("k"))})), put)}
	beside(t, c, fmt.Sprintf("420 nested compares of %d keys each, refused", n), func() {
		if _, err := kv.Txn(within(t, patience), deep); !errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyOps) {
			t.Errorf("nested compares: %v", err)
		}
	})
	l := largeClient(t, c.members[0].client)
	session := l.open()
	frame := large(20, 100)
	compare := encoded(&pb.TxnRequest{Compare: []*pb.Compare{overAll("k")}})
	beside(t, c, fmt.Sprintf("a frame of %d compares of %d keys each", frame, n), func() {
		l.mustAsk(session, coordv1.Kind_KIND_TXN, repeat(frame, compare)...)
	})
	beside(t, c, fmt.Sprintf("one deletion of %d keys", n), func() {
		resp, err := cli.Delete(within(t, patience), "k", clientv3.WithPrefix())
		if timedOut := errors.Is(err, rpctypes.ErrTimeout); !timedOut && (err != nil || resp.Deleted != int64(n)) {
			t.Errorf("deletion: %v, %v", resp, err)
		}
		none(t, cli)
	})
	noKey := overAll("k")
	noKey.Result = pb.Compare_EQUAL
	span := &pb.TxnRequest{Compare: repeat(120, noKey), Success: []*pb.RequestOp{put}}
	beside(t, c, fmt.Sprintf("120 compares of where %d keys were just deleted", n), func() {
		if resp, err := kv.Txn(within(t, patience), span); err != nil || !resp.Succeeded {
			t.Errorf("compares of nothing: %v, %v", resp, err)
		}
	})
	quiet(t, c)
	c.checkEqual()
}

// readAll reads everything again and again, in all ways that do not go through the log.
func readAll(t *testing.T, c *cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	conn := c.dial().ActiveConnection()
	kv, leases, maintenance := pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn)
	introspection := coordv1.NewIntrospectionClient(conn)
	reads := []func() error{
		func() error {
			_, err := kv.Range(ctx, &pb.RangeRequest{
				Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true, Serializable: true,
			})
			return err
		},
		func() error {
			_, err := kv.Range(ctx, &pb.RangeRequest{
				Key: []byte("k"), RangeEnd: []byte("l"), Limit: 10_000, SortTarget: pb.RangeRequest_MOD,
				SortOrder: pb.RangeRequest_DESCEND,
			})
			return err
		},
		func() error {
			_, err := maintenance.HashKV(ctx, &pb.HashKVRequest{})
			return err
		},
		func() error {
			_, err := leases.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
			return err
		},
		func() error {
			_, err := introspection.ListQueues(ctx, &coordv1.ListQueuesRequest{})
			return err
		},
	}
	var readers sync.WaitGroup
	for i := range 100 {
		readers.Go(func() {
			for ctx.Err() == nil {
				// Some of so many are refused, or end with the test.
				if err := reads[i%len(reads)](); err != nil && status.Code(err) == codes.Internal {
					t.Error(err)
				}
			}
		})
	}
	readers.Wait()
}

// none waits until there is none of the keys any more.
func none(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < stall(); {
		resp, err := cli.Get(within(t, patience), "k", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && resp.Count == 0 {
			return
		}
	}
	t.Errorf("there are keys still after %v", stall())
}

// TestHostileLargeLease: one revocation of a lease that many keys are attached to.
func TestHostileLargeLease(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	n := large(20_000, 200_000)
	lease, err := cli.Grant(within(t, patience), 3600)
	if err != nil {
		t.Fatal(err)
	}
	fillKeys(t, cli, "k", n, lease.ID)
	quiet(t, c)
	beside(t, c, fmt.Sprintf("the revocation of a lease with %d keys", n), func() {
		// etcd's client tries again after a time-out, and finds no lease.
		if _, err := cli.Revoke(within(t, patience), lease.ID); err != nil &&
			!errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Error(err)
		}
		none(t, cli)
	})
	c.checkEqual()
}

// TestHostileLargeQueues: what looks at many who are in one queue.
func TestHostileLargeQueues(t *testing.T) {
	c := startCluster(t, 3)
	l := largeClient(t, c.members[0].client)
	session, other := l.open(), l.open()
	owner := func(i int) string { return fmt.Sprint("o", i) }
	many := func(n int, request func(i int) proto.Message) (bodies [][]byte) {
		for i := range n {
			bodies = append(bodies, encoded(request(i)))
		}
		return bodies
	}
	quiet(t, c)

	waiters := large(5_000, 100_000)
	l.mustAsk(session, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, many(waiters, func(i int) proto.Message {
		return &coordv1.SemaphoreAcquire{Name: "s", OwnerId: owner(i), Permits: 1, Limit: 1}
	})...)
	for _, limit := range []int64{int64(waiters) / 2, 1} {
		beside(t, c, fmt.Sprintf("a semaphore of %d who hold or wait, resized to %d", waiters, limit), func() {
			l.mustAsk(other, coordv1.Kind_KIND_SEMAPHORE_RESIZE,
				encoded(&coordv1.SemaphoreResize{Name: "s", Limit: limit, Drain: true}))
		})
	}
	admin := coordv1.NewIntrospectionClient(c.dial().ActiveConnection())
	n := large(2_000, 20_000)
	l.mustAsk(session, coordv1.Kind_KIND_ACQUIRE, many(n, func(i int) proto.Message {
		return &coordv1.Acquire{Names: []string{"l"}, OwnerId: owner(i)}
	})...)
	beside(t, c, fmt.Sprintf("20 forced releases of a lock for which %d wait", n), func() {
		for range 20 {
			req := &coordv1.ForceReleaseRequest{Name: "l", Kind: coordv1.QueueKind_QUEUE_LOCK, Reason: "test"}
			if _, err := admin.ForceRelease(within(t, patience), req); err != nil {
				t.Error(err)
			}
		}
	})
	n = large(5_000, 50_000)
	enter := many(n, func(i int) proto.Message {
		return &coordv1.BarrierEnter{Name: "b", OwnerId: owner(i), Parties: int64(n)}
	})
	l.mustAsk(session, coordv1.Kind_KIND_BARRIER_ENTER, enter[:n-1]...)
	beside(t, c, fmt.Sprintf("the last of %d parties enters a barrier", n), func() {
		l.mustAsk(session, coordv1.Kind_KIND_BARRIER_ENTER, enter[n-1])
	})
	n = large(1_000, 10_000)
	leader := &coordv1.Acquired{}
	first := l.mustAsk(other, coordv1.Kind_KIND_CAMPAIGN, encoded(&coordv1.Campaign{Name: "e", Priority: 1}))
	if err := proto.Unmarshal(first[0], leader); err != nil {
		t.Fatal(err)
	}
	l.mustAsk(session, coordv1.Kind_KIND_CAMPAIGN, many(n, func(i int) proto.Message {
		return &coordv1.Campaign{Name: "e", OwnerId: owner(i), Priority: int64(1 + i%100)}
	})...)
	beside(t, c, fmt.Sprintf("an election with priorities of %d candidates is handed over", n), func() {
		e := leader.Entries[0]
		l.mustAsk(other, coordv1.Kind_KIND_RELEASE, encoded(&coordv1.Release{
			Entries: []*coordv1.Guard{{Name: e.Name, Key: e.Key, Token: e.Token}},
		}))
	})
	beside(t, c, "the session of all these entries ends", func() {
		if _, err := admin.EndSession(within(t, patience), &coordv1.EndSessionRequest{Id: session.id}); err != nil {
			t.Error(err)
		}
	})
	quiet(t, c)
	c.checkEqual()
}

// largeCaller is a native stream by which one goroutine asks for much.
type largeCaller struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[coordv1.ClientFrame, coordv1.ServerFrame]
	// answers is what came, but for what says nothing.
	answers chan *coordv1.Response
}

// largeSession counts its requests.
type largeSession struct {
	id       int64
	sequence uint64
}

func largeClient(t testing.TB, address string) *largeCaller {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &largeCaller{t: t, answers: make(chan *coordv1.Response, 1<<12)}
	if l.stream, err = coordv1.NewStreamClient(conn).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.send(&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}})
	go func() {
		defer close(l.answers)
		for {
			f, err := l.stream.Recv()
			if err != nil {
				return
			}
			for _, r := range f.Responses {
				l.answers <- r
			}
		}
	}()
	return l
}

func (l *largeCaller) send(f *coordv1.ClientFrame) {
	l.t.Helper()
	if err := l.stream.Send(f); err != nil {
		l.t.Fatal(err)
	}
}

// answer is the next one, which is no refusal.
func (l *largeCaller) answer() *coordv1.Response {
	l.t.Helper()
	select {
	case r, ok := <-l.answers:
		if !ok || r.Outcome.Refusal != nil {
			l.t.Fatalf("answer: %v", r)
		}
		return r
	case <-time.After(2 * patience):
		l.t.Fatal("no answer")
		return nil
	}
}

func (l *largeCaller) open() *largeSession {
	l.t.Helper()
	open := &coordv1.Request{
		Sequence: 1, Kind: coordv1.Kind_KIND_SESSION_OPEN, Body: encoded(&coordv1.SessionOpen{TtlMs: 3_600_000}),
	}
	l.send(&coordv1.ClientFrame{Batches: []*coordv1.Batch{{Requests: []*coordv1.Request{open}}}})
	opened := &coordv1.SessionOpened{}
	if err := proto.Unmarshal(l.answer().Outcome.Response, opened); err != nil {
		l.t.Fatal(err)
	}
	return &largeSession{id: opened.Id}
}

// mustAsk sends requests, a thousand in a frame, and returns the responses in the order of the requests.
func (l *largeCaller) mustAsk(s *largeSession, kind coordv1.Kind, bodies ...[]byte) (responses [][]byte) {
	l.t.Helper()
	for chunk := range slices.Chunk(bodies, 1000) {
		b := &coordv1.Batch{Session: s.id, Acknowledged: s.sequence}
		for i, body := range chunk {
			b.Requests = append(b.Requests, &coordv1.Request{
				Sequence: s.sequence + uint64(i) + 1, Kind: kind, Body: body,
			})
		}
		l.send(&coordv1.ClientFrame{Batches: []*coordv1.Batch{b}})
		answers := make([][]byte, len(chunk))
		for range chunk {
			r := l.answer()
			answers[r.Sequence-s.sequence-1] = r.Outcome.Response
		}
		s.sequence += uint64(len(chunk))
		responses = append(responses, answers...)
	}
	return responses
}
