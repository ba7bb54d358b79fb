package exampletest

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/client/registry/resolver"
	"github.com/coord-dev/coord/coord/coordtest"
)

// serve is a service that registers, until ctx ends.
func serve(ctx context.Context, c *client.Client, l net.Listener, version string,
	ready chan<- *registry.Registration) error {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }() // ends with GracefulStop

	services := registry.New(c, registry.Options{})
	reg, err := services.Register(ctx, registry.SessionsOf(c.Session), registry.Instance{
		Service: "pay", Addr: l.Addr().String(), Zone: "eu-1", Weight: 10, Tags: []string{"v2"}, Version: version,
	})
	if err != nil {
		return err
	}
	ready <- reg
	<-ctx.Done() // serve

	last := context.WithoutCancel(ctx)
	if err := reg.Drain(last); err != nil { // no new requests, please
		return err
	}
	server.GracefulStop() // those that are under way
	return reg.Deregister(last)
}

// find is a client that finds the service.
func find(c *client.Client) (*grpc.ClientConn, error) {
	services := registry.New(c, registry.Options{})
	return grpc.NewClient("coord:///pay?tag=v2&near=eu-1,eu-2",
		grpc.WithResolvers(resolver.NewBuilder(services)), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// follow is a program that wants to know the instances itself.
func follow(ctx context.Context, c *client.Client, use func([]*registry.Instance)) error {
	services := registry.New(c, registry.Options{})
	for update, err := range services.Watch(ctx, "pay", registry.Tag("v2"), registry.Passing()) {
		if err != nil {
			return err // ctx has ended: nothing else ends a watch
		}
		use(update.Instances()) // update.Changes says what is new, update.Err since when that may be out of date
	}
	return nil
}

// A service that registers and a client that finds it through a rolling restart: two instances, each replaced by one of
// the next version, while calls go on.
func TestExampleThroughARollingRestart(t *testing.T) {
	c, err := client.New(client.Config{Endpoints: []string{coordtest.NewFake(t).Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin := func(version string) (stop func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ready, done := make(chan *registry.Registration, 1), make(chan error, 1)
		go func() { done <- serve(ctx, c, l, version, ready) }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 1000)
	followed := make(chan error, 1)
	go func() {
		followed <- follow(ctx, c, func(all []*registry.Instance) {
			var versions []string
			for _, in := range all {
				versions = append(versions, in.Version)
			}
			seen <- strings.Join(versions, " ")
		})
	}()
	running := []func(){begin("1"), begin("1")}
	conn, err := find(c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call(t, conn)
	for i, stop := range running {
		running[i] = begin("2")
		stop()
		call(t, conn)
	}
	for versions := range seen {
		if versions == "2 2" {
			break
		}
	}
	for _, stop := range running {
		stop()
	}
	cancel()
	if err := <-followed; err != context.Canceled {
		t.Errorf("following ended with %v", err)
	}
}
