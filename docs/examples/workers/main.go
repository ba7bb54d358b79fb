// Command workers does one job after the other. Any number of it may run, on any number of machines, and so many jobs are done at a
// time as the semaphore has permits: to spare a database, a licence, a supplier's limit.
//
//	workers -endpoints 127.0.0.1:2379 -name worker-1 -limit 2
//
// The limit of the first one counts; from then on client.Semaphore.Resize changes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses of the members, separated by commas")
	name := flag.String("name", "worker", "who we are")
	limit := flag.Int64("limit", 2, "how many jobs are done at a time, if nobody has said so yet")
	ttl := flag.Duration("ttl", 10*time.Second, "time after which the permit of a silent worker goes to another")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, strings.Split(*endpoints, ","), *name, *limit, *ttl); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ended")
}

// run does jobs until ctx ends. A permit that is lost is a job that is given up.
func run(ctx context.Context, endpoints []string, name string, limit int64, ttl time.Duration) error {
	c, err := client.New(client.Config{Endpoints: endpoints, SessionTTL: ttl, Owner: name})
	if err != nil {
		return err
	}
	defer c.Close()
	exports := c.Semaphore("exports", limit)
	for ctx.Err() == nil {
		err := exports.Do(ctx, 1, func(ctx context.Context, held *client.Permits) error { return job(ctx, held, name) })
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, client.ErrLost):
			fmt.Println("gave up a job:", err)
		case err != nil:
			return err
		}
	}
	return nil
}

// job is what must not be done too often at a time. While it is done, a key says so; it dies with the permit, because it is the same
// session's, and it is written only while the permit is held.
func job(ctx context.Context, held *client.Permits, name string) error {
	running := "running/" + name
	if _, err := held.KV().Put(ctx, running, "", clientv3.WithLease(held.Session().Lease())); err != nil {
		return err
	}
	select {
	case <-time.After(50 * time.Millisecond): // the work
	case <-ctx.Done():
	}
	_, err := held.KV().Delete(context.WithoutCancel(ctx), running)
	return err
}
