// Command paycaller calls the service that payserver registers, again and again, and prints which version answers. Instances come
// and go under it; it opens one gRPC connection and never looks at an address.
//
//	paycaller -endpoints 127.0.0.1:2379
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/client/registry/resolver"
)

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses of the members, separated by commas")
	zone := flag.String("zone", "eu-1", "where we run: instances there are called, as long as one can be reached")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	calls, err := call(ctx, strings.Split(*endpoints, ","), *zone)
	if err != nil {
		log.Fatalf("after %d calls: %v", calls, err)
	}
	fmt.Println("ended; no call failed of", calls)
}

// callers is how many calls are under way at a time.
const callers = 4

// call calls until ctx ends or a call fails, and returns how many calls there were.
func call(ctx context.Context, endpoints []string, zone string) (int64, error) {
	c, err := client.New(client.Config{Endpoints: endpoints})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	services := registry.New(c, registry.Options{})
	conn, err := grpc.NewClient("coord:///pay?near="+zone,
		grpc.WithResolvers(resolver.NewBuilder(services)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var calls atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range callers {
		group.Go(func() error {
			for ctx.Err() == nil {
				version, err := callOnce(context.WithoutCancel(ctx), healthpb.NewHealthClient(conn))
				if err != nil {
					return err
				}
				fmt.Printf("call %d: version %s answers\n", calls.Add(1), version)
			}
			return nil
		})
	}
	err = group.Wait()
	return calls.Load(), err
}

// callOnce waits while no instance can be reached, for so long. gRPC itself calls again what no instance has begun.
func callOnce(ctx context.Context, pay healthpb.HealthClient) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var header metadata.MD
	_, err = pay.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true), grpc.Header(&header))
	return strings.Join(header.Get("version"), ","), err
}
