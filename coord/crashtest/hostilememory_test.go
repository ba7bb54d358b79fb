package crashtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/client"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// maxRSS is what every member stays under, whatever is done to it.
const maxRSS = 512 << 20

// flooded is a cluster of three whose memory is watched while hostile clients do what they can, and others go on.
type flooded struct {
	*cluster
	stop   context.CancelFunc
	done   sync.WaitGroup
	peak   []int64       // of each member, bytes
	worst  time.Duration // of a well-behaved client's lock and release
	rounds int
	busy   atomic.Bool // the machine is busier than its clients' sessions last: who loses his opens another
}

func hostileTo(t *testing.T) *flooded {
	f := &flooded{cluster: startCluster(t, 3)}
	f.peak = make([]int64, 3)
	ctx, stop := context.WithCancel(t.Context())
	f.stop = stop
	for i, m := range f.members {
		f.done.Go(func() {
			for ctx.Err() == nil {
				f.peak[i] = max(f.peak[i], m.resident())
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	c, err := client.New(client.Config{Endpoints: f.endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.done.Go(func() {
		defer c.Close()
		for ; ctx.Err() == nil; f.rounds++ {
			began := time.Now()
			held, err := s.Lock("modest").Acquire(ctx)
			if err == nil {
				_, err = s.KV().Put(ctx, "modest", "x")
			}
			if err == nil {
				err = held.Release(ctx)
			}
			if err != nil && ctx.Err() == nil && f.busy.Load() {
				t.Logf("a client that asks for little: %v", err)
				s, err = c.NewSession(ctx)
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("a client that asks for little: %v", err)
				return
			}
			if ctx.Err() == nil {
				f.worst = max(f.worst, time.Since(began))
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return f
}

// over ends the watch: nobody swelled, the others went on, and the members have the same state.
func (f *flooded) over() {
	f.t.Helper()
	time.Sleep(500 * time.Millisecond)
	f.stop()
	f.done.Wait()
	f.t.Logf("peak RSS %d MB; %d rounds of another client, the longest %v", f.megabytes(), f.rounds, f.worst)
	for i, peak := range f.peak {
		if peak > maxRSS {
			f.t.Errorf("%s had %d MB", f.members[i].name, peak>>20)
		}
	}
	if f.rounds < 20 {
		f.t.Errorf("a client that asks for little got only %d rounds done", f.rounds)
	}
	f.checkEqual()
	if err := f.sameState(); err != nil {
		f.t.Error(err)
	}
}

func (f *flooded) megabytes() (all []int64) {
	for _, peak := range f.peak {
		all = append(all, peak>>20)
	}
	return all
}

// hostile is a native stream without manners.
type hostile struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[coordv1.ClientFrame, coordv1.ServerFrame]
	opened chan *coordv1.SessionOpened
	// refused counts refusals by reason; answered is how many responses came, ended the status of the stream.
	refused  [64]atomic.Int64
	answered atomic.Int64
	ended    chan error
}

func connectTo(t testing.TB, address string) *hostile {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h := &hostile{t: t, opened: make(chan *coordv1.SessionOpened, 1<<18), ended: make(chan error, 1)}
	if h.stream, err = coordv1.NewStreamClient(conn).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.send(&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}})
	go h.receive()
	return h
}

func (h *hostile) send(f *coordv1.ClientFrame) bool { return h.stream.Send(f) == nil }

func (h *hostile) receive() {
	for {
		f, err := h.stream.Recv()
		if err != nil {
			h.ended <- err
			return
		}
		for _, r := range f.Responses {
			h.answered.Add(1)
			switch {
			case r.Outcome.Refusal != nil:
				h.refused[int(r.Outcome.Refusal.Reason)%len(h.refused)].Add(1)
			case r.Session == 0:
				opened := &coordv1.SessionOpened{}
				if proto.Unmarshal(r.Outcome.Response, opened) == nil {
					h.opened <- opened
				}
			}
		}
	}
}

// open opens n sessions, and returns those that it got.
func (h *hostile) open(n int, identity *coordv1.Identity) (all []*coordv1.SessionOpened) {
	h.t.Helper()
	const batch = 200 // with long identities it fits into a frame
	for from := 0; from < n; from += batch {
		f := &coordv1.ClientFrame{Batches: []*coordv1.Batch{{}}}
		for i := range min(batch, n-from) {
			f.Batches[0].Requests = append(f.Batches[0].Requests, &coordv1.Request{
				Sequence: uint64(from + i + 1), Kind: coordv1.Kind_KIND_SESSION_OPEN,
				Body: encoded(&coordv1.SessionOpen{TtlMs: 3_600_000, Identity: identity}),
			})
		}
		h.send(f)
	}
	for begin := time.Now(); h.answered.Load() < int64(n) && time.Since(begin) < patience; {
		time.Sleep(10 * time.Millisecond)
	}
	for len(h.opened) > 0 {
		all = append(all, <-h.opened)
	}
	return all
}

func encoded(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// TestHostileOutcomes: sessions that read a large key again and again, and never acknowledge an answer, swell no
// member, and the sessions of others go on.
func TestHostileOutcomes(t *testing.T) {
	f := hostileTo(t)
	answered, backlog := f.floodOutcomes(t)
	if answered < 3000 || backlog == 0 || backlog == answered {
		t.Errorf("of %d answers, %d were refused for the backlog", answered, backlog)
	}
	f.over()
}

// floodOutcomes returns how many requests were answered, and how many of them refused for what is not acknowledged.
func (f *flooded) floodOutcomes(t *testing.T) (int64, int64) {
	if _, err := f.dial().Put(within(t, patience), "large", strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("large")}}}
	body := encoded(&pb.TxnRequest{Success: []*pb.RequestOp{read}})
	var backlog, answered atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		h := connectTo(t, f.members[i%3].client)
		sessions := h.open(125, nil)
		before := h.answered.Load()
		wg.Go(func() {
			for _, s := range sessions {
				for sequence := range uint64(4) {
					request := &coordv1.Request{Sequence: sequence + 1, Kind: coordv1.Kind_KIND_TXN, Body: body}
					h.send(&coordv1.ClientFrame{
						Batches: []*coordv1.Batch{{Session: s.Id, Requests: []*coordv1.Request{request}}},
					})
				}
			}
			for begin := time.Now(); h.answered.Load()-before < int64(4*len(sessions)) &&
				time.Since(begin) < patience; {
				time.Sleep(10 * time.Millisecond)
			}
			answered.Add(h.answered.Load() - before)
			backlog.Add(h.refused[coordv1.Error_REASON_BACKLOG].Load())
		})
	}
	wg.Wait()
	return answered.Load(), backlog.Load()
}

// TestHostileChannels: many channels, and as many empty messages in them as a client can send, swell no member.
func TestHostileChannels(t *testing.T) {
	f := hostileTo(t)
	f.floodChannels(t)
	f.over()
}

func (f *flooded) floodChannels(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 6 {
		h := connectTo(t, f.members[i%3].client)
		wg.Go(func() {
			for id := range uint64(3000) {
				h.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{
					Id: id + 1, Open: coordv1.ChannelKind_CHANNEL_OBSERVE,
					Messages: [][]byte{encoded(&coordv1.ObserveRequest{Name: "e"})},
				}}})
			}
			empty := make([][]byte, 1500)
			for range 4 { // 12 MB for each stream
				for id := range uint64(3000) {
					if !h.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: id + 1, Messages: empty}}}) {
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestHostileSessions: as many sessions as a client can open, with as much identity as they can have, swell no member,
// and others open theirs.
func TestHostileSessions(t *testing.T) {
	f := hostileTo(t)
	got, refused := f.floodSessions(t)
	if got < 15_000 || refused == 0 {
		t.Errorf("%d sessions, %d were refused", got, refused)
	}
	if h := connectTo(t, f.members[0].client); len(h.open(1, nil)) != 1 {
		t.Error("another client gets no session")
	}
	f.over()
	t.Logf("%d sessions, %d refused", got, refused)
}

// floodSessions returns how many were opened, and how many refused.
func (f *flooded) floodSessions(t *testing.T) (int64, int64) {
	labels := &coordv1.Identity{
		Host: strings.Repeat("h", 200), Labels: map[string]string{"label": strings.Repeat("x", 4000)},
	}
	var got, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		h := connectTo(t, f.members[i%3].client)
		wg.Go(func() {
			got.Add(int64(len(h.open(6000, labels))))
			refused.Add(h.refused[coordv1.Error_REASON_TOO_MANY_SESSIONS].Load())
		})
	}
	wg.Wait()
	return got.Load(), refused.Load()
}

// TestHostileWatchers: watchers with keys of a megabyte, watchers by the hundred thousand, and clients that do not read
// what they watch swell no member.
func TestHostileWatchers(t *testing.T) {
	f := hostileTo(t)
	refused := f.floodWatchers(t)
	if refused == 0 {
		t.Error("no watcher was refused")
	}
	f.over()
	t.Logf("%d watchers refused", refused)
}

// floodWatchers returns how many were refused.
func (f *flooded) floodWatchers(t *testing.T) int64 {
	var refused atomic.Int64
	watch := func(m *member) pb.Watch_WatchClient {
		conn, err := grpc.NewClient(m.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		stream, err := pb.NewWatchClient(conn).Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	create := func(s pb.Watch_WatchClient, key string) {
		_ = s.Send(&pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}},
		})
	}
	var wg sync.WaitGroup
	attack := func(m *member, n int, key func(int) string) {
		s := watch(m)
		wg.Go(func() {
			go func() {
				for i := range n {
					create(s, key(i))
				}
			}()
			for range n {
				r, err := s.Recv()
				if err != nil {
					t.Error(err)
					return
				}
				if r.Canceled {
					refused.Add(1)
				}
			}
		})
	}
	for i, m := range f.members {
		attack(m, 150, func(n int) string { return fmt.Sprint(i, n) + strings.Repeat("k", 1<<20) })
		attack(m, 120_000, func(n int) string { return fmt.Sprint("small", i, n) })
	}
	wg.Wait()
	return refused.Load()
}

// TestHostileSlowReaders: clients that watch large values and do not read swell no member, and others see what they
// watch.
func TestHostileSlowReaders(t *testing.T) {
	f := hostileTo(t)
	f.floodSlowReaders(t, 300)
	f.over()
}

func (f *flooded) floodSlowReaders(t *testing.T, streams int) {
	m := f.members[0]
	conn, err := grpc.NewClient(m.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for i := range streams {
		s, err := pb.NewWatchClient(conn).Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		create := &pb.WatchCreateRequest{Key: fmt.Appendf(nil, "slow/%03d", i)}
		_ = s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
		if _, err := s.Recv(); err != nil { // and nothing more
			t.Fatal(err)
		}
	}
	cli := f.dial()
	quick := dial(t, m.client).Watch(t.Context(), "quick")
	value := strings.Repeat("x", 1<<20)
	for i := range streams {
		for begin := time.Now(); ; {
			_, err := cli.Put(within(t, patience), fmt.Sprintf("slow/%03d", i), value)
			if err == nil {
				break
			}
			if !f.busy.Load() || time.Since(begin) > patience {
				t.Fatal(err)
			}
		}
	}
	if _, err := cli.Put(within(t, patience), "quick", value[:100<<10]); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-quick:
		if len(r.Events) != 1 {
			t.Errorf("%+v", r)
		}
	case <-time.After(patience):
		t.Error("who reads waits for who does not")
	}
}

// TestHostileTogether: all of it at once, on one cluster, swells no member either.
func TestHostileTogether(t *testing.T) {
	f := hostileTo(t)
	f.busy.Store(true)
	t.Run("", func(t *testing.T) {
		for name, flood := range map[string]func(*testing.T){
			"outcomes":     func(t *testing.T) { f.floodOutcomes(t) },
			"channels":     f.floodChannels,
			"sessions":     func(t *testing.T) { f.floodSessions(t) },
			"watchers":     func(t *testing.T) { f.floodWatchers(t) },
			"slow readers": func(t *testing.T) { f.floodSlowReaders(t, 100) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				flood(t)
			})
		}
	})
	f.over()
}
