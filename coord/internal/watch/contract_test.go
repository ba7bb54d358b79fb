package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fixture is a hub over a history, with its service.
type fixture struct {
	*history
	hub    *Hub
	server *Server
}

func newFixture(t testing.TB, o Options, so ServerOptions) *fixture {
	f := &fixture{history: newHistory()}
	o.Source = f.history
	f.hub = New(o)
	t.Cleanup(f.hub.Close)
	if so.Header == nil {
		so.Header = func(*pb.ResponseHeader) {}
	}
	f.server = NewServer(f.hub, so)
	return f
}

func (f *fixture) dial(t testing.TB) *client {
	c := dial(f.server, 0)
	t.Cleanup(func() { c.close() })
	return c
}

// put commits one revision per key, in one batch.
func (f *fixture) put(keys ...string) {
	var commits [][]op
	for _, k := range keys {
		commits = append(commits, []op{{[]byte(k), []byte("v")}})
	}
	f.hub.Applied(f.apply(commits...))
}

// line writes a response in a short form.
func line(r *pb.WatchResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d @%d", r.WatchId, r.Header.Revision)
	for _, f := range []struct {
		set  bool
		name string
	}{{r.Created, "created"}, {r.Canceled, "canceled"}, {r.Fragment, "fragment"}} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted %d", r.CompactRevision)
	}
	if r.CancelReason != "" {
		fmt.Fprintf(&b, " %q", r.CancelReason)
	}
	for _, e := range r.Events {
		fmt.Fprintf(&b, " %s %s@%d", e.Type, e.Kv.Key, e.Kv.ModRevision)
	}
	return b.String()
}

func expect(t testing.TB, c *client, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := line(c.next(t)); got != w {
			t.Fatalf("got  %s\nwant %s", got, w)
		}
	}
}

func TestStartRevisions(t *testing.T) { // W10
	for start, want := range map[int64][]string{
		0:  {"%d @5 created", "%d @6 PUT a@6"},
		1:  {"%d @5 created", "%d @0 canceled compacted 4"},
		3:  {"%d @5 created", "%d @0 canceled compacted 4"},
		4:  {"%d @5 created", "%d @5 PUT a@4 PUT a@5", "%d @6 PUT a@6"},
		5:  {"%d @5 created", "%d @5 PUT a@5", "%d @6 PUT a@6"},
		6:  {"%d @5 created", "%d @6 PUT a@6"},
		7:  {"%d @5 created"},
		-1: {`-1 @5 created canceled "etcdserver: mvcc: required revision has been compacted"`},
	} {
		t.Run(fmt.Sprint(start), func(t *testing.T) {
			f := newFixture(t, Options{}, ServerOptions{})
			f.put("a", "a", "a", "a") // revisions 2 to 5
			f.hub.Applied(f.compact(4))
			c := f.dial(t)
			c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: start, WatchId: 9}))
			for i, w := range want {
				if strings.Contains(w, "%d") {
					w = fmt.Sprintf(w, 9)
				}
				if strings.Contains(w, "@6 PUT") {
					f.put("a")
				}
				if got := line(c.next(t)); got != w {
					t.Fatalf("response %d\ngot  %s\nwant %s", i, got, w)
				}
			}
			c.quiet(t, f.hub)
		})
	}
}

func TestFutureStart(t *testing.T) { // W10
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 4, ProgressNotify: true}))
	expect(t, c, "0 @1 created")
	c.ask(progressRequest())
	f.put("a", "a")
	c.ask(progressRequest())
	c.quiet(t, f.hub) // neither events nor progress before the start
	f.put("a")
	expect(t, c, "0 @4 PUT a@4")
	c.ask(progressRequest())
	expect(t, c, "-1 @4")
}

func TestIDsAndRanges(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	ask := func(r *pb.WatchCreateRequest, want string) {
		t.Helper()
		c.ask(createRequest(r))
		expect(t, c, want)
	}
	k := func(s string) []byte { return []byte(s) }
	ask(&pb.WatchCreateRequest{Key: k("a"), WatchId: 1}, "1 @1 created")
	ask(&pb.WatchCreateRequest{Key: k("a")}, "0 @1 created")
	ask(&pb.WatchCreateRequest{Key: k("a")}, "2 @1 created") // 1 is taken
	ask(&pb.WatchCreateRequest{Key: k("a"), WatchId: 2}, `-1 @1 created canceled "mvcc: duplicate watch ID provided on the WatchStream"`)
	ask(&pb.WatchCreateRequest{Key: k("b"), RangeEnd: k("b")}, `-1 @1 created canceled "mvcc: watcher range is empty"`)
	ask(&pb.WatchCreateRequest{Key: k("b"), RangeEnd: k("a")}, `-1 @1 created canceled "mvcc: watcher range is empty"`)
	ask(&pb.WatchCreateRequest{Key: k("b"), RangeEnd: k("d")}, "3 @1 created")
	ask(&pb.WatchCreateRequest{Key: k("c"), RangeEnd: []byte{0}}, "4 @1 created")
	ask(&pb.WatchCreateRequest{}, "5 @1 created") // the key "\x00"
	ask(&pb.WatchCreateRequest{RangeEnd: []byte{0}}, "6 @1 created")
	for _, id := range []int64{0, 1, 2} {
		c.ask(cancelRequest(id))
		expect(t, c, fmt.Sprintf("%d @1 canceled", id))
	}
	c.ask(cancelRequest(0))
	c.ask(cancelRequest(77))
	c.quiet(t, f.hub)
	ask(&pb.WatchCreateRequest{Key: k("a"), WatchId: 2}, "2 @1 created")

	for key, want := range map[string]string{
		"a": "2 6", "b": "3 6", "c": "3 4 6", "d": "4 6", "\x00": "5 6", "\xff": "4 6",
	} {
		f.put(key)
		got := map[string]bool{}
		for range strings.Fields(want) {
			got[fmt.Sprint(c.next(t).WatchId)] = true
		}
		for _, id := range strings.Fields(want) {
			if !got[id] {
				t.Errorf("put %q: got %v, want %s", key, got, want)
			}
		}
		c.quiet(t, f.hub)
	}
}

func TestPermit(t *testing.T) {
	var refuse error
	f := newFixture(t, Options{}, ServerOptions{Permit: func(_ context.Context, r *pb.WatchCreateRequest) error {
		if string(r.Key) == "secret" {
			return refuse
		}
		return nil
	}})
	c := f.dial(t)
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("no"), "rpc error: code = PermissionDenied desc = etcdserver: permission denied"},
		{rpctypes.ErrGRPCInvalidAuthToken, "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"},
	} {
		refuse = test.err
		c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("secret")}))
		expect(t, c, fmt.Sprintf("-1 @1 created canceled %q", test.want))
	}
	c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("open")}))
	expect(t, c, "0 @1 created")
}

func TestProgressRequest(t *testing.T) { // W6
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	c.ask(progressRequest())
	c.quiet(t, f.hub) // no watchers, no answer
	f.put("x")
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("b")})
	c.ask(progressRequest())
	expect(t, c, "-1 @2")
	f.put("x", "b")
	c.ask(progressRequest()) // what was applied before the request is in the answer
	expect(t, c, "1 @4 PUT b@4", "-1 @4")

	f.hub.Applied(f.compact(4))
	c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: 3}))
	expect(t, c, "2 @4 created", "2 @0 canceled compacted 4")
	c.ask(progressRequest())
	c.quiet(t, f.hub) // a compacted watcher blocks it until the client cancels, as in etcd
	c.ask(cancelRequest(2))
	expect(t, c, "2 @4 canceled")
	c.ask(progressRequest())
	expect(t, c, "-1 @4")
}

func TestProgressWaitsForWatchersBehind(t *testing.T) { // W6
	f := newFixture(t, Options{}, ServerOptions{})
	f.put("a", "a")
	f.history.setViewError(errors.New("not now"))
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("b")})
	c.ask(progressRequest())
	select {
	case r := <-c.responses:
		t.Fatalf("progress while a watcher is behind: %v", r)
	case <-time.After(50 * time.Millisecond):
	}
	if s := f.hub.Stats(); s.Slow != 1 || s.Watchers != 2 {
		t.Errorf("stats %+v", s)
	}
	f.history.setViewError(nil)
	expect(t, c, "0 @3 PUT a@2 PUT a@3")
	c.ask(progressRequest())
	expect(t, c, "-1 @3")
}

func TestProgressNotify(t *testing.T) { // W6
	f := newFixture(t, Options{}, ServerOptions{ProgressInterval: minProgressInterval})
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), ProgressNotify: true})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("b")})
	begin := time.Now()
	expect(t, c, "0 @1")
	f.put("b")
	got := line(c.next(t))
	for got == "0 @1" { // more ticks came before the put
		got = line(c.next(t))
	}
	if got != "1 @2 PUT b@2" {
		t.Fatalf("got %s", got)
	}
	expect(t, c, "0 @2")
	expect(t, c, "0 @2", "0 @2")
	if d := time.Since(begin); d < 3*minProgressInterval {
		t.Errorf("four notifications in %s", d)
	}
	// A watcher that gets an event before each tick gets no notification.
	f.put("a")
	for len(c.next(t).Events) == 0 { // notifications from before it
	}
	last := time.Now()
	for range 20 {
		time.Sleep(minProgressInterval / 5) // several in each interval
		f.put("a")
		r := c.next(t)
		if len(r.Events) == 0 && time.Since(last) >= minProgressInterval { // the machine stood still for a tick
			r = c.next(t)
		}
		if len(r.Events) != 1 {
			t.Fatalf("notification though events were sent: %v", r)
		}
		last = time.Now()
	}
}

func TestFilters(t *testing.T) { // W8
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	const noPut, noDelete = pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE
	for id, filters := range [][]pb.WatchCreateRequest_FilterType{nil, {noPut}, {noDelete}, {noPut, noDelete}, {99}} {
		c.create(t, &pb.WatchCreateRequest{
			Key: []byte("a"), RangeEnd: []byte("c"), WatchId: int64(id + 1), Filters: filters,
		})
	}
	get := func(want ...string) {
		t.Helper()
		got := map[string]bool{}
		for range want {
			got[line(c.next(t))] = true
		}
		for _, w := range want {
			if !got[w] {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		c.quiet(t, f.hub)
	}
	f.put("a")
	get("1 @2 PUT a@2", "3 @2 PUT a@2", "5 @2 PUT a@2")
	f.hub.Applied(f.apply([]op{{[]byte("b"), []byte("1")}, {[]byte("a"), nil}}))
	get("1 @3 PUT b@3 DELETE a@3", "2 @3 DELETE a@3", "3 @3 PUT b@3", "5 @3 PUT b@3 DELETE a@3")
}

func TestPrevKv(t *testing.T) { // W7
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), PrevKv: true, WatchId: 1})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 2})
	for i, step := range []struct {
		value string
		prev  int64
	}{{"1", 0}, {"2", 2}, {"", 3}, {"4", 0}} {
		o := op{key: []byte("a")}
		if step.value != "" {
			o.value = []byte(step.value)
		}
		f.hub.Applied(f.apply([]op{o}))
		for range 2 {
			r := c.next(t)
			prev := r.Events[0].PrevKv
			switch {
			case r.WatchId == 1 && prev.GetModRevision() != step.prev, r.WatchId == 2 && prev != nil:
				t.Errorf("step %d, watcher %d: prev_kv %v", i, r.WatchId, prev)
			}
		}
	}
}

func TestFragments(t *testing.T) { // W4
	f := newFixture(t, Options{}, ServerOptions{FragmentBytes: 600})
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("z"), Fragment: true, WatchId: 1})
	big := make([]byte, 150)
	var ops []op
	for i := range 5 {
		ops = append(ops, op{[]byte{byte('a' + i)}, big})
	}
	f.hub.Applied(f.apply(ops))
	expect(t, c, "1 @2 fragment PUT a@2 PUT b@2 PUT c@2", "1 @2 PUT d@2 PUT e@2")
	f.hub.Applied(f.apply([]op{{[]byte("b"), make([]byte, 1000)}, {[]byte("c"), make([]byte, 1000)}}))
	expect(t, c, "1 @3 fragment PUT b@3", "1 @3 PUT c@3") // one event is never cut
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("z"), WatchId: 2, StartRevision: 2})
	expect(t, c, "2 @3 PUT a@2 PUT b@2 PUT c@2 PUT d@2 PUT e@2 PUT b@3 PUT c@3")
}

func TestStreamEnds(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	t.Run("client leaves", func(t *testing.T) {
		c := f.dial(t)
		c.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
		if err := c.close(); !errors.Is(err, rpctypes.ErrGRPCWatchCanceled) {
			t.Errorf("got %v", err)
		}
		f.hub.settle()
		if s := f.hub.Stats(); s.Watchers != 0 || s.Streams != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
	t.Run("client closes its side", func(t *testing.T) {
		c := f.dial(t)
		c.create(t, &pb.WatchCreateRequest{Key: []byte("half")})
		close(c.requests)
		f.put("half") // the watch goes on
		expect(t, c, "0 @2 PUT half@2")
	})
	t.Run("no leader", func(t *testing.T) {
		ctx := &reasonContext{Context: context.Background(), done: make(chan struct{})}
		stream := &fakeStream{ctx: ctx, requests: make(chan *pb.WatchRequest), responses: make(chan *pb.WatchResponse)}
		result := make(chan error)
		go func() { result <- f.server.Watch(stream) }()
		close(ctx.done)
		if err := <-result; !errors.Is(err, rpctypes.ErrGRPCNoLeader) {
			t.Errorf("got %v", err)
		}
		// The same if the receiver's error is seen first, which is chance.
		err := (&watchCall{grpc: stream}).cause(status.Error(codes.Unknown, "receive"))
		if !errors.Is(err, rpctypes.ErrGRPCNoLeader) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("server stops", func(t *testing.T) {
		c := f.dial(t)
		c.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
		f.hub.Close()
		if err := c.wait(); status.Code(err) != codes.Unavailable || !errors.Is(err, rpctypes.ErrGRPCStopped) {
			t.Errorf("got %v", err)
		}
		late := dial(f.server, 0)
		if err := late.wait(); !errors.Is(err, rpctypes.ErrGRPCStopped) {
			t.Errorf("stream after the end: %v", err)
		}
		f.put("a")
		if _, _, err := f.hub.Subscribe([]byte("a"), nil, func(Delivery) {}); !errors.Is(err, ErrClosed) {
			t.Errorf("subscription after the end: %v", err)
		}
	})
}

// reasonContext ends with an error of its own, as the context of a stream that lost its leader does.
type reasonContext struct {
	context.Context
	done chan struct{}
}

func (c *reasonContext) Done() <-chan struct{} { return c.done }

func (c *reasonContext) Err() error {
	select {
	case <-c.done:
		return rpctypes.ErrGRPCNoLeader
	default:
		return nil
	}
}
