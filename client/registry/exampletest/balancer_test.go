package exampletest

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-dev/coord/client/registry"
	coordresolver "github.com/coord-dev/coord/client/registry/resolver"
)

// backend is a gRPC server that counts what it is asked.
type backend struct {
	addr  string
	calls atomic.Int64
	*grpc.Server
}

func startBackend(t testing.TB) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String()}
	b.Server = grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo,
		next grpc.UnaryHandler) (any, error) {
		b.calls.Add(1)
		return next(ctx, req)
	}))
	healthpb.RegisterHealthServer(b.Server, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Serve(l)
	}()
	t.Cleanup(func() { b.Stop(); <-done })
	return b
}

func connect(t testing.TB, r *registry.Registry, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append(opts, grpc.WithResolvers(coordresolver.NewBuilder(r)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func call(t testing.TB, conn *grpc.ClientConn) {
	t.Helper()
	if _, err := healthpb.NewHealthClient(conn).Check(bounded(t), &healthpb.HealthCheckRequest{},
		grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// shares makes calls until each of the backends has had one, then counts n more.
func shares(t testing.TB, conn *grpc.ClientConn, n int, among ...*backend) []float64 {
	t.Helper()
	for _, b := range among {
		b.calls.Store(0)
	}
	eventually(t, func() string {
		call(t, conn)
		for _, b := range among {
			if b.calls.Load() == 0 {
				return "no call came to " + b.addr
			}
		}
		return ""
	})
	for _, b := range among {
		b.calls.Store(0)
	}
	for range n {
		call(t, conn)
	}
	var all []float64
	for _, b := range among {
		all = append(all, float64(b.calls.Load())/float64(n))
	}
	return all
}

func near(got []float64, want ...float64) bool {
	for i := range want {
		if got[i] < want[i]-0.15 || got[i] > want[i]+0.15 {
			return false
		}
	}
	return len(got) == len(want)
}

func TestBalancerGoesByWeightAndZone(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	s := sessions(c)
	light, heavy, far := startBackend(t), startBackend(t), startBackend(t)
	add := func(b *backend, zone string, weight int) *registry.Registration {
		return register(t, r, s, registry.Instance{Service: "pay", Addr: b.addr, Zone: zone, Weight: weight})
	}
	first, second := add(light, "eu", 1), add(heavy, "eu", 3)
	add(far, "us", 4)

	byTarget := connect(t, r, "coord:///pay?near=eu")
	for name, conn := range map[string]*grpc.ClientConn{
		"by target": byTarget,
		"by service config": connect(t, r, "coord:///pay", grpc.WithDefaultServiceConfig(
			fmt.Sprintf(`{"loadBalancingConfig":[{%q:{"near":["nowhere","eu"]}}]}`, coordresolver.BalancerName))),
	} {
		shares(t, conn, 1, light, heavy) // until both are connected, calls may go to the other zone
		before := far.calls.Load()
		if got := shares(t, conn, 400, light, heavy); !near(got, 0.25, 0.75) {
			t.Errorf("%s: weights 1 and 3 get %.2f", name, got)
		}
		if n := far.calls.Load() - before; n > 0 {
			t.Errorf("%s: %d calls went to another zone", name, n)
		}
	}
	// Without zones, all of them by weight.
	all := connect(t, r, "coord:///pay", grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"coord_weighted_zone":{}}]}`))
	if got := shares(t, all, 400, light, heavy, far); !near(got, 0.125, 0.375, 0.5) {
		t.Errorf("weights 1, 3 and 4 get %.2f", got)
	}
	// A change of weight counts without a new connection.
	first = reweight(t, r, s, first, 3)
	eventually(t, func() string {
		if got := shares(t, byTarget, 400, light, heavy); !near(got, 0.5, 0.5) {
			return fmt.Sprintf("weights 3 and 3 get %.2f", got)
		}
		return ""
	})
	// Nobody near: the other zone.
	for _, reg := range []*registry.Registration{first, second} {
		if err := reg.Drain(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() string {
		light.calls.Store(0)
		heavy.calls.Store(0)
		for range 20 {
			call(t, byTarget)
		}
		if n := light.calls.Load() + heavy.calls.Load(); n > 0 {
			return fmt.Sprintf("%d calls to instances that are drained", n)
		}
		return ""
	})
}

// reweight registers an instance once more, with another weight.
func reweight(t testing.TB, r *registry.Registry, s registry.Sessions, reg *registry.Registration,
	weight int) *registry.Registration {
	t.Helper()
	in := reg.Instance()
	in.Weight = weight
	return register(t, r, s, in)
}

// A service through a rolling restart: every instance is drained, stopped, and started anew at another address, and a
// client that calls all the time sees no error.
func TestRollingRestartCostsNoCall(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	s := sessions(c)
	type running struct {
		*backend
		reg *registry.Registration
	}
	begin := func(id string) running {
		b := startBackend(t)
		return running{b, register(t, r, s, registry.Instance{Service: "pay", ID: id, Addr: b.addr})}
	}
	all := []running{begin("a"), begin("b"), begin("c")}
	conn := connect(t, r, "coord:///pay?near=anywhere")
	ctx, cancel := context.WithCancel(t.Context())
	calls, failed := 0, make(chan error, 1)
	go func() {
		defer close(failed)
		for ctx.Err() == nil {
			_, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
			if calls++; err != nil {
				failed <- fmt.Errorf("call %d: %w", calls, err)
				return
			}
		}
	}()
	for i, old := range all {
		all[i] = begin(old.reg.Instance().ID + "'")
		eventually(t, func() string { // the new one is in use
			if all[i].calls.Load() == 0 {
				return "nobody calls the new instance"
			}
			return ""
		})
		if err := old.reg.Drain(bounded(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string { // nobody calls the old one any more
			before := old.calls.Load()
			time.Sleep(20 * time.Millisecond)
			if old.calls.Load() != before {
				return "it is still called"
			}
			return ""
		})
		if err := old.reg.Deregister(bounded(t)); err != nil {
			t.Fatal(err)
		}
		old.GracefulStop()
	}
	cancel()
	if err := <-failed; err != nil {
		t.Errorf("a rolling restart cost a call: %v", err)
	}
	t.Logf("%d calls", calls)
}
