// Command payserver is a gRPC service that registers itself, and leaves without losing a request: it drains, lets requests end, and
// deregisters. paycaller finds it. Its only method is that of gRPC's health service, and each answer says in a header which version gave it.
//
//	payserver -endpoints 127.0.0.1:2379 -listen 127.0.0.1:0 -version 1
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/registry"
)

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses of the members, separated by commas")
	listen := flag.String("listen", "127.0.0.1:0", "where to serve; callers must reach it there")
	version := flag.String("version", "1", "what is deployed")
	takes := flag.Duration("takes", 50*time.Millisecond, "how long a request takes")
	zone := flag.String("zone", "eu-1", "where we run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := client.New(client.Config{Endpoints: strings.Split(*endpoints, ",")})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, c, l, *version, *zone, *takes); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ended")
}

// serve serves until ctx ends.
func serve(ctx context.Context, c *client.Client, l net.Listener, version, zone string, takes time.Duration) error {
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := grpc.SetHeader(ctx, metadata.Pairs("version", version)); err != nil {
			return nil, err
		}
		time.Sleep(takes) // the work
		return next(ctx, req)
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // ends with GracefulStop

	services := registry.New(c, registry.Options{})
	reg, err := services.Register(ctx, registry.SessionsOf(c.Session), registry.Instance{
		Service: "pay", Addr: l.Addr().String(), Zone: zone, Version: version,
	})
	if err != nil {
		return err
	}
	fmt.Println("serving at", l.Addr())
	select {
	case <-ctx.Done():
	case err := <-served:
		return err
	}

	last := context.WithoutCancel(ctx)
	if err := reg.Drain(last); err != nil { // no new requests, please
		return err
	}
	server.GracefulStop() // those that are under way
	return reg.Deregister(last)
}
