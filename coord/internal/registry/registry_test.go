package registry_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
)

// long is how long a test waits for what must happen.
const long = 60 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	t.Cleanup(cancel)
	return ctx
}

// world is a cluster with a registry and a session.
type world struct {
	t        testing.TB
	cluster  *coordtest.Cluster
	c        *clientv3.Client
	services *registry.Registry
	sessions registry.Sessions
}

func start(t testing.TB, members int, configure func(*coord.Config)) *world {
	t.Helper()
	cluster := coordtest.Start(t, coordtest.Options{Members: members, Configure: func(_ int, c *coord.Config) {
		if configure != nil {
			configure(c)
		}
	}})
	c, err := clientv3.New(clientv3.Config{
		Endpoints: cluster.Endpoints(), DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, cluster, c, registry.New(c, registry.Options{Retry: 5 * time.Millisecond}),
		func(context.Context) (registry.Session, error) { return s, nil }}
}

// leased is a session that its lease is all of.
type leased clientv3.LeaseID

func (l leased) Lease() clientv3.LeaseID { return clientv3.LeaseID(l) }
func (l leased) Done() <-chan struct{}   { return nil }

func sessionOf(id clientv3.LeaseID) registry.Sessions {
	return func(context.Context) (registry.Session, error) { return leased(id), nil }
}

func (w *world) register(in registry.Instance) *registry.Registration {
	w.t.Helper()
	reg, err := w.services.Register(bounded(w.t), w.sessions, in)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = reg.Deregister(ctx)
	})
	return reg
}

// wait waits until an instance is in a state, and returns it.
func (w *world) wait(id string, want registry.State) *registry.Instance {
	w.t.Helper()
	var last registry.State
	for update, err := range w.services.Watch(bounded(w.t), "pay") {
		if err != nil {
			w.t.Fatalf("%s is %s, want %s", id, last, want)
		}
		for _, in := range update.Instances() {
			if in.ID == id {
				if last = in.State; last == want {
					return in
				}
			}
		}
	}
	return nil
}

func probed(id string, p registry.Probe) registry.Instance {
	p.Interval, p.Failures, p.Successes = 100*time.Millisecond, 2, 2
	if p.Timeout == 0 {
		p.Timeout = 5 * time.Second // a busy machine is not what is tested
	}
	return registry.Instance{Service: "pay", ID: id, Addr: "127.0.0.1:1", Probe: &p}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestProbesSetTheState(t *testing.T) {
	w := start(t, 1, nil)
	t.Run("tcp", func(t *testing.T) {
		l := listen(t)
		in := probed("tcp", registry.Probe{Kind: registry.ProbeTCP, Target: l.Addr().String()})
		in.Mirror, in.Addr = true, "127.0.0.1:2"
		reg := w.register(in)
		mirrored := func(want int64) {
			t.Helper()
			for ctx := bounded(t); ; time.Sleep(5 * time.Millisecond) {
				resp, err := w.c.Get(ctx, "pay/127.0.0.1:2", clientv3.WithCountOnly())
				if err != nil {
					t.Fatalf("want %d mirrors: %v", want, err)
				}
				if resp.Count == want {
					return
				}
			}
		}
		w.wait("tcp", registry.StatePassing)
		mirrored(1)
		l.Close()
		if got := w.wait("tcp", registry.StateCritical); !strings.Contains(got.Detail, "refused") {
			t.Errorf("the reason is %q", got.Detail)
		}
		mirrored(0)
		again, err := net.Listen("tcp", l.Addr().String())
		if err != nil {
			t.Skip("the port is gone: ", err)
		}
		defer again.Close()
		w.wait("tcp", registry.StatePassing)
		mirrored(1)
		if err := reg.Drain(bounded(t)); err != nil {
			t.Fatal(err)
		}
		w.wait("tcp", registry.StateDraining)
		mirrored(0)
	})
	t.Run("http", func(t *testing.T) {
		var code atomic.Int32
		code.Store(http.StatusNoContent)
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Location", "/elsewhere")
			rw.WriteHeader(int(code.Load()))
		}))
		defer s.Close()
		w.register(probed("http", registry.Probe{Kind: registry.ProbeHTTP, Target: s.URL + "/health"}))
		w.wait("http", registry.StatePassing)
		code.Store(http.StatusFound) // redirections are not followed
		if got := w.wait("http", registry.StateCritical); !strings.Contains(got.Detail, "302") {
			t.Errorf("the reason is %q", got.Detail)
		}
		code.Store(http.StatusOK)
		w.wait("http", registry.StatePassing)
	})
	t.Run("grpc", func(t *testing.T) {
		l := listen(t)
		server, checks := grpc.NewServer(), health.NewServer()
		healthpb.RegisterHealthServer(server, checks)
		go func() { _ = server.Serve(l) }()
		defer server.Stop()
		checks.SetServingStatus("pay", healthpb.HealthCheckResponse_SERVING)
		w.register(probed("grpc", registry.Probe{Kind: registry.ProbeGRPC, Target: l.Addr().String() + "/pay"}))
		w.register(probed("other", registry.Probe{Kind: registry.ProbeGRPC, Target: l.Addr().String() + "/unknown"}))
		w.wait("grpc", registry.StatePassing)
		w.wait("other", registry.StateCritical)
		checks.SetServingStatus("pay", healthpb.HealthCheckResponse_NOT_SERVING)
		if got := w.wait("grpc", registry.StateCritical); !strings.Contains(got.Detail, "NOT_SERVING") {
			t.Errorf("the reason is %q", got.Detail)
		}
	})
}

// counter counts what one test waits for.
type counter struct {
	atomic.Int64
	more chan struct{} // has a token when it has grown
}

func newCounter() *counter { return &counter{more: make(chan struct{}, 1)} }

func (c *counter) add() {
	c.Add(1)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// reaches waits until it has reached n; false if ctx ended first.
func (c *counter) reaches(ctx context.Context, n int64) bool {
	for c.Load() < n {
		select {
		case <-c.more:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// A target that takes connections and says nothing costs its own timeout: more of them than there are slots, and others
// are still probed.
func TestHangingTargetsHoldUpNobody(t *testing.T) {
	w := start(t, 1, nil)
	l := listen(t)
	accepted := newCounter()
	go func() {
		var open []net.Conn // and never answered
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			accepted.add()
			open = append(open, conn)
		}
		for _, conn := range open {
			conn.Close()
		}
	}()
	const hanging = 1000
	for i := range hanging {
		w.register(probed(fmt.Sprint("hangs", i), registry.Probe{
			Kind: registry.ProbeHTTP, Target: "http://" + l.Addr().String(), Timeout: time.Second,
		}))
	}
	// all of them hang, and begin to again
	if !accepted.reaches(bounded(t), hanging+100) {
		t.Fatalf("%d were probed", accepted.Load())
	}
	if got := w.wait("hangs0", registry.StateCritical); !strings.Contains(got.Detail, "did not answer in time") {
		t.Errorf("the reason is %q", got.Detail)
	}
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	before := accepted.Load()
	w.register(probed("answers", registry.Probe{Kind: registry.ProbeHTTP, Target: s.URL}))
	w.wait("answers", registry.StatePassing)
	// In the 256 slots that it would share with the others, it would stand behind 1000 - 256 of their probes. They have
	// 64 slots, for a second each: it would take very long until so many have passed it.
	if n := accepted.Load() - before; n > 500 {
		t.Errorf("%d probes of those that hang came before that of the one that answers", n)
	}
}

// The cluster probes once, whoever leads, and a new leader changes no state.
func TestOneMemberProbes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster of three")
	}
	w := start(t, 3, nil)
	asked := newCounter()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.add() }))
	defer s.Close()
	w.register(probed("a", registry.Probe{Kind: registry.ProbeHTTP, Target: s.URL}))
	w.wait("a", registry.StatePassing)
	ctx, cancel := context.WithCancel(bounded(t))
	states := make(chan string, 1)
	go func() {
		var seen []string
		for update, err := range w.services.Watch(ctx, "pay") {
			if err != nil {
				break
			}
			seen = append(seen, fmt.Sprint(update.Instances()[0].State))
		}
		states <- strings.Join(seen, " ")
	}()
	// One member asks ten times a second at most, two would ask twice as often.
	oneAsks := func(who string) {
		t.Helper()
		began, before := time.Now(), asked.Load()
		if !asked.reaches(bounded(t), before+10) {
			t.Fatalf("%s does not probe", who)
		}
		n, took := asked.Load()-before, time.Since(began)
		if most := int64(took/(100*time.Millisecond)) + 2; n > most+most/4 {
			t.Errorf("%s: asked %d times in %v, every 100 ms", who, n, took)
		}
	}
	oneAsks("the leader")
	w.cluster.StopMember(w.cluster.WaitLeader())
	before := asked.Load()
	if !asked.reaches(bounded(t), before+3) {
		t.Fatal("the next leader does not probe")
	}
	oneAsks("the next leader")
	cancel()
	if got := <-states; strings.Trim(got, "pasing ") != "" {
		t.Errorf("the states were %s", got)
	}
}

func TestMemberDoesNotProbeIfToldSo(t *testing.T) {
	w := start(t, 1, func(c *coord.Config) { c.NoServiceProbes = true })
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	w.register(probed("a", registry.Probe{Kind: registry.ProbeHTTP, Target: s.URL}))
	w.wait("a", registry.StateStarting)
	time.Sleep(3 * 100 * time.Millisecond) // three times as long as it takes to be probed
	if asked.Load() != 0 {
		t.Error("it probes")
	}
}
