package recipesvc_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/mirror"
	"github.com/coord-dev/coord/coord/internal/recipesvc"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

// long is how long a test waits for what must happen.
const long = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a member in memory with the services in front of it.
type fixture struct {
	*testing.T
	member   *recipestest.Member
	service  *recipesvc.Service
	lock     coordv1.LockClient
	election coordv1.ElectionClient
	conn     *grpc.ClientConn
	full     atomic.Bool // there is no space for anything new
	// returned has a token for each stream whose handler has returned.
	returned chan struct{}
	ctx      context.Context
}

func start(t *testing.T, leases ...int64) *fixture {
	t.Helper()
	return startMember(t, recipestest.NewMember(), leases...)
}

func startMember(t *testing.T, m *recipestest.Member, leases ...int64) *fixture {
	t.Helper()
	f := &fixture{T: t, member: m}
	m.Do(func(s *recipestest.Store) {
		for _, l := range leases {
			s.Leases[l] = true
		}
	})
	backend := backendOf(t, m)
	backend.Fits = func(int) bool { return !f.full.Load() }
	f.service = recipesvc.New(backend)
	listener := bufconn.Listen(1 << 20)
	f.returned = make(chan struct{}, 1000)
	server := grpc.NewServer(grpc.StreamInterceptor(func(
		srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		defer func() { f.returned <- struct{}{} }()
		return handler(srv, stream)
	}))
	f.service.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	var cancel context.CancelFunc
	f.ctx, cancel = context.WithTimeout(context.Background(), 3*long)
	f.conn = conn
	f.lock, f.election = coordv1.NewLockClient(conn), coordv1.NewElectionClient(conn)
	t.Cleanup(func() {
		cancel()
		f.service.Close()
		backend.Mirrors.Close()
		_ = conn.Close()
		server.Stop()
		<-served
		m.Close()
	})
	return f
}

// backendOf is a member in memory as the services see it. Its mirrors are to be closed.
func backendOf(t *testing.T, m *recipestest.Member) recipesvc.Backend {
	t.Helper()
	view := func(context.Context) (mirror.View, error) { return m.View(), nil }
	subscribe := func(_ context.Context, key, end []byte,
		fn func(mirror.Delivery)) (statemachine.Revision, func(), error) {
		rev, cancel := m.Subscribe(key, end, func(rev statemachine.Revision, events []statemachine.Event, gap bool) {
			fn(mirror.Delivery{Revision: rev, Events: events, Gap: gap})
		})
		return rev, cancel, nil
	}
	mirrors, err := mirror.New(mirror.Source{View: view, Subscribe: subscribe, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return recipesvc.Backend{
		Propose:    m.Propose,
		ReadIndex:  func(ctx context.Context) error { return ctx.Err() },
		View:       view,
		Subscribe:  subscribe,
		LeaseAlive: m.LeaseAlive,
		Fits:       func(int) bool { return true },
		CheckProbe: func(*instances.Probe) error { return nil },
		Mirrors:    mirrors,
		Logger:     zap.NewNop(),
	}
}

// stream is an Acquire with its events.
type stream struct {
	*fixture
	cancel context.CancelFunc
	rpc    grpc.ServerStreamingClient[coordv1.AcquireEvent]
	key    string
	token  int64
}

func (f *fixture) acquire(req *coordv1.AcquireRequest) *stream {
	f.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	f.Cleanup(cancel)
	rpc, err := f.lock.Acquire(ctx, req)
	if err != nil {
		f.Fatal(err)
	}
	return &stream{fixture: f, cancel: cancel, rpc: rpc}
}

func (s *stream) next() *coordv1.AcquireEvent {
	s.Helper()
	type received struct {
		ev  *coordv1.AcquireEvent
		err error
	}
	c := make(chan received, 1)
	go func() {
		ev, err := s.rpc.Recv()
		c <- received{ev, err}
	}()
	select {
	case r := <-c:
		if r.err != nil {
			s.Fatalf("stream of %q: %v", s.key, r.err)
		}
		return r.ev
	case <-time.After(long):
		s.Fatalf("no event for %q within %v", s.key, long)
		return nil
	}
}

func (s *stream) queued() *stream {
	s.Helper()
	ev := s.next().GetQueued()
	if ev == nil {
		s.Fatal("not queued")
	}
	s.key, s.token = ev.Key, ev.Token
	return s
}

func (s *stream) granted() *stream {
	s.Helper()
	ev := s.next()
	g := ev.GetGranted()
	if g == nil {
		s.Fatalf("not granted: %v", ev)
	}
	s.key, s.token = g.Key, g.Token
	return s
}

func (s *stream) lost(reason coordv1.Lost_Reason, held bool) {
	s.Helper()
	ev := s.next()
	if l := ev.GetLost(); l == nil || l.Reason != reason || l.Held != held {
		s.Fatalf("%q: %v, want lost by %v, held %v", s.key, ev, reason, held)
	}
}

func (s *stream) release() {
	s.Helper()
	resp, err := s.lock.Release(s.ctx, releaseOf("job", s.key, s.token))
	if err != nil || resp.Removed != 1 {
		s.Fatalf("release %q: %v, %v", s.key, resp, err)
	}
}

func guardOf(name, key string, token int64) *coordv1.Guard {
	return &coordv1.Guard{Name: name, Key: key, Token: token}
}

// releaseOf releases one entry.
func releaseOf(name, key string, token int64) *coordv1.Release {
	return &coordv1.Release{Entries: []*coordv1.Guard{guardOf(name, key, token)}}
}

// keys returns the keys of the queue as the store has it.
func (f *fixture) keys() (keys []string) {
	f.member.Do(func(s *recipestest.Store) {
		for _, e := range recipes.Queue(s, "job") {
			keys = append(keys, e.Key)
		}
	})
	return keys
}

// eventually waits until the member is as ok says, which is asked again whenever something has happened on it.
func (f *fixture) eventually(what string, ok func() bool) {
	f.Helper()
	deadline := time.After(long)
	for touched := f.member.Touched(); !ok(); touched = f.member.Touched() {
		select {
		case <-touched:
		case <-deadline:
			f.Fatalf("%s: not within %v; queue %q", what, long, f.keys())
		}
	}
}

func (f *fixture) wantKeys(keys ...string) {
	f.Helper()
	f.eventually("queue is "+strings.Join(keys, " "), func() bool { return slices.Equal(f.keys(), keys) })
}

func wantError(t *testing.T, err error, code codes.Code, reason coordv1.Error_Reason, text string) {
	t.Helper()
	st := status.Convert(err)
	var got coordv1.Error_Reason
	for _, d := range st.Details() {
		if e, ok := d.(*coordv1.Error); ok {
			got = e.Reason
		}
	}
	if err == nil || st.Code() != code || got != reason || !strings.Contains(st.Message(), text) {
		t.Errorf("error %v (%v), want %v, %v, %q", err, got, code, reason, text)
	}
}

// call runs a procedure on a store, as the log does.
func call(s *recipestest.Store, procedure string, req proto.Message) error {
	body, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	_, err = s.Call(procedure, body)
	return err
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
