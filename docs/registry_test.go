//go:build unix

package docs_test

import (
	"context"
	"net"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// The code of recipes/registry.md that is etcd's; ours is that of client/registry/exampletest.
func TestCodeOfRegistry(t *testing.T) {
	t.Parallel()
	ctx, _, etcd := connect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(l) // ends with Stop
	defer server.Stop()

	find := func(ctx context.Context) error {
		builder, err := resolver.NewBuilder(etcd)
		if err != nil {
			return err
		}
		conn, err := grpc.NewClient("etcd:///pay", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		return err
	}
	register := func(addr string, serve func(context.Context) error) error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close() // and register again when session.Done() is closed
		manager, err := endpoints.NewManager(etcd, "pay")
		if err != nil {
			return err
		}
		if err := manager.AddEndpoint(ctx, "pay/"+addr, endpoints.Endpoint{Addr: addr}, clientv3.WithLease(session.Lease())); err != nil {
			return err
		}
		return serve(ctx)
	}
	if err := register(l.Addr().String(), find); err != nil {
		t.Error(err)
	}
}
