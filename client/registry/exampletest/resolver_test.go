package exampletest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/coord-dev/coord/client/registry"
	coordresolver "github.com/coord-dev/coord/client/registry/resolver"
	"github.com/coord-dev/coord/coord/coordtest"
)

// conn is what a resolver tells, as gRPC hears it.
type conn struct {
	must []string // addresses that must be in each state
	ask  resolver.Resolver

	mu     sync.Mutex
	addrs  []string
	states int
	lost   []string // states that lacked one of them
	err    error
}

// UpdateState implements resolver.ClientConn.
func (c *conn) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs = nil
	for _, e := range s.Endpoints {
		c.addrs = append(c.addrs, e.Addresses[0].Addr)
	}
	if c.states++; !contains(c.addrs, c.must) {
		c.lost = append(c.lost, fmt.Sprint(c.addrs))
	}
	return nil
}

// ReportError implements resolver.ClientConn.
func (c *conn) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// NewAddress implements resolver.ClientConn.
func (c *conn) NewAddress([]resolver.Address) {}

// ParseServiceConfig implements resolver.ClientConn.
func (c *conn) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}

func (c *conn) current() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.addrs)
}

func resolve(t testing.TB, r *registry.Registry, target string, must ...string) *conn {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{must: must}
	c.ask, err = coordresolver.NewBuilder(r).Build(resolver.Target{URL: *u}, c, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.ask.Close)
	return c
}

func eventually(t testing.TB, what func() string) {
	t.Helper()
	var last string
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if last = what(); last == "" {
			return
		}
	}
	t.Fatal(last)
}

// shows waits until a resolver has told these addresses.
func (c *conn) shows(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, func() string {
		if got := c.current(); !slices.Equal(got, want) {
			return fmt.Sprintf("told are %v, want %v", got, want)
		}
		return ""
	})
}

// churn registers and takes away instances beside two that stay, until stop is called.
func churn(t testing.TB, c *clientv3.Client, opts registry.Options) (stable []string, stop func()) {
	t.Helper()
	r := registry.New(c, opts)
	s := always(newOwn(t, c, time.Hour))
	for i := range 2 {
		in := registry.Instance{Service: "pay", Addr: address(i)}
		register(t, r, s, in)
		stable = append(stable, in.Addr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	regs := map[int]*registry.Registration{}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			i := 2 + rand.IntN(6)
			switch reg := regs[i]; {
			case reg == nil:
				if reg, err := r.Register(ctx, s, registry.Instance{Service: "pay", Addr: address(i)}); err == nil {
					regs[i] = reg
				}
			case rand.IntN(2) == 0:
				_ = reg.SetState(ctx, registry.State(1+rand.IntN(4)))
			default:
				_ = reg.Deregister(ctx) // if it fails, the instance is a ghost: all must see that, too
				delete(regs, i)
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
		for _, reg := range regs { // whatever was under way comes to rest
			eventually(t, func() string {
				if err := reg.SetState(bounded(t), registry.StatePassing); err != nil {
					return err.Error()
				}
				return ""
			})
		}
		for _, reg := range regs {
			t.Cleanup(func() { stopKeeping(reg) })
		}
	}
	return stable, stop
}

func stopKeeping(reg *registry.Registration) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_ = reg.Deregister(ctx)
}

// converge checks that all resolvers come to what is registered, and never lost what was always there.
func converge(t *testing.T, c *clientv3.Client, conns []*conn) {
	t.Helper()
	for i, conn := range conns {
		eventually(t, func() string {
			all, err := registry.New(c, impatient).List(bounded(t), "pay", registry.Passing())
			var want []string
			for _, in := range all {
				want = append(want, in.Addr)
			}
			slices.Sort(want)
			if got := conn.current(); err != nil || !slices.Equal(got, want) {
				return fmt.Sprintf("resolver %d stays with %v, registered are %v, %v", i, got, want, err)
			}
			return ""
		})
		conn.mu.Lock()
		if len(conn.lost) > 0 {
			t.Errorf("resolver %d lost what was there all the time, %d times in %d states: %s", i, len(conn.lost),
				conn.states, conn.lost[0])
		}
		conn.mu.Unlock()
	}
}

// Registry: the resolver converges after any watch failure. A thousand of them, of every kind, and reads that fail, and
// compactions between a read and its watch.
func TestResolverConvergesAfterAnyFailure(t *testing.T) {
	const failures = 1000
	_, c := fake(t)
	broken := newFaults(c)
	stable, stop := churn(t, c, quick)
	r := registry.New(broken, quick)
	var conns []*conn
	for range 10 {
		conns = append(conns, resolve(t, r, "coord:///pay", stable...))
	}
	eventually(t, func() string {
		if slices.ContainsFunc(conns, func(c *conn) bool { return len(c.current()) == 0 }) {
			return "nothing is resolved"
		}
		return ""
	})
	broken.flaky.Store(true)
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		broken.breakAll()
		conns[rand.IntN(len(conns))].ask.ResolveNow(resolver.ResolveNowOptions{})
		broken.mu.Lock()
		injected := broken.injected
		broken.mu.Unlock()
		if injected >= failures {
			t.Logf("%d failures", injected)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("only %d failures", injected)
		}
	}
	broken.flaky.Store(false)
	stop()
	converge(t, c, conns)
}

func TestResolverConvergesWhileMembersStop(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and stops a cluster of three")
	}
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	c := dial(t, cluster.Endpoints()...)
	stable, stop := churn(t, c, impatient)
	var conns []*conn
	for i := range 6 { // half of them through one member only
		endpoints := cluster.Endpoints()
		if i < 3 {
			endpoints = endpoints[i : i+1]
		}
		conns = append(conns, resolve(t, registry.New(dial(t, endpoints...), impatient), "coord:///pay", stable...))
	}
	eventually(t, func() string {
		if slices.ContainsFunc(conns, func(c *conn) bool { return len(c.current()) == 0 }) {
			return "nothing is resolved"
		}
		return ""
	})
	for i := range 3 {
		cluster.StopMember(i)
		time.Sleep(200 * time.Millisecond) // of life without it
		cluster.StartMember(i)
		if r, err := c.Get(bounded(t), "any"); err == nil {
			_, _ = c.Compact(bounded(t), r.Header.Revision)
		}
	}
	stop()
	converge(t, c, conns)
}

func TestTargets(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	s := always(newOwn(t, c, time.Hour))
	add := func(i int, zone string, state registry.State, tags ...string) {
		register(t, r, s, registry.Instance{Service: "a/b", Addr: address(i), Zone: zone, State: state, Tags: tags})
	}
	add(1, "eu", registry.StatePassing, "v2", "blue")
	add(2, "us", registry.StatePassing, "v2")
	add(3, "eu", registry.StatePassing)
	add(4, "eu", registry.StateDraining, "v2", "blue")
	add(5, "eu", registry.StateCritical, "v2", "blue")
	for target, want := range map[string][]string{
		"coord:///a/b":                     {address(1), address(2), address(3)},
		"coord:///a%2Fb?tag=v2":            {address(1), address(2)},
		"coord:///a%2Fb?tag=v2&tag=blue":   {address(1)},
		"coord:///a%2Fb?zone=eu":           {address(1), address(3)},
		"coord:///a%2Fb?zone=us&near=x,us": {address(2)},
		"coord:a/b?zone=us":                {address(2)},
	} {
		resolve(t, r, target).shows(t, want...)
	}
	for _, target := range []string{"coord:///", "coord:///a?taq=v2"} {
		u, _ := url.Parse(target)
		if _, err := coordresolver.NewBuilder(r).Build(resolver.Target{URL: *u}, &conn{},
			resolver.BuildOptions{}); err == nil {
			t.Errorf("%s was taken", target)
		}
	}
}

func TestResolverSaysWhyThereIsNothing(t *testing.T) {
	f, c := fake(t)
	r := registry.New(c, quick)
	nothing := resolve(t, r, "coord:///pay")
	said := func(c *conn, text string) {
		t.Helper()
		eventually(t, func() string {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err == nil || !strings.Contains(c.err.Error(), text) {
				return fmt.Sprintf("said %v, want %s", c.err, text)
			}
			return ""
		})
	}
	said(nothing, "no instance of the service is passing")
	nothing.mu.Lock()
	if !errors.Is(nothing.err, coordresolver.ErrNoInstances) {
		t.Errorf("not by name: %v", nothing.err)
	}
	nothing.mu.Unlock()
	register(t, r, sessions(c), registry.Instance{Service: "pay", Addr: address(1)})
	nothing.shows(t, address(1)) // it does not freeze
	broken := newFaults(c)
	broken.readsFail.Store(true)
	unreachable := resolve(t, registry.New(broken, quick), "coord:///pay")
	said(unreachable, "injected")
	broken.readsFail.Store(false)
	unreachable.shows(t, address(1))
	_ = f
}

// During an outage the last known set is kept, however long; and ResolveNow makes a read, and a watch, of its own.
func TestResolveNowReadsAgain(t *testing.T) {
	_, c := fake(t)
	deaf := &deafWatches{c}
	r := registry.New(deaf, quick)
	conn := resolve(t, r, "coord:///pay")
	register(t, registry.New(c, quick), sessions(c), registry.Instance{Service: "pay", Addr: address(1)})
	eventually(t, func() string {
		conn.ask.ResolveNow(resolver.ResolveNowOptions{})
		if got := conn.current(); !slices.Equal(got, []string{address(1)}) {
			return fmt.Sprintf("resolved are %v", got)
		}
		return ""
	})
}

// deafWatches is a client whose watches never say anything.
type deafWatches struct{ *clientv3.Client }

// Watch implements registry.Client.
func (d *deafWatches) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan {
	return make(chan clientv3.WatchResponse)
}

func TestClosedResolverLeavesNothing(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	for range 20 {
		resolve(t, r, "coord:///pay").ask.Close()
	}
	// The server is in this process, too, and comes and goes as it likes: only ours count.
	eventually(t, func() string {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(stack, "coord/client/registry.") ||
				strings.Contains(stack, "coord/client/registry/resolver.") {
				return "left: " + stack
			}
		}
		return ""
	})
}
