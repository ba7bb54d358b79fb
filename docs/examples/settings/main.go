// Command settings runs with limits that are published while it runs, and prints each change. What it cannot use it refuses, says so
// in `coordctl cfg status`, and goes on with the last good version.
//
//	echo '{"max_connections": 100}' | coordctl cfg put app limits.json=- --reason 'first settings'
//	settings -endpoints 127.0.0.1:2379 -name app-1
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/config"
)

// Limits is the document limits.json.
type Limits struct {
	MaxConnections int `json:"max_connections"`
}

// Check refuses what nobody can have meant.
func (l Limits) Check() error {
	if l.MaxConnections < 1 || l.MaxConnections > 10_000 {
		return fmt.Errorf("max_connections is %d", l.MaxConnections)
	}
	return nil
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses of the members, separated by commas")
	name := flag.String("name", "settings", "who we are, in coordctl cfg status")
	file := flag.String("copy", "", "file for a copy, to start with while the cluster is down")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, strings.Split(*endpoints, ","), *name, *file); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoints []string, name, file string) error {
	c, err := client.New(client.Config{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer c.Close()
	conn, err := c.Conn()
	if err != nil {
		return err
	}
	options := []config.Option{
		config.Validate(Limits.Check),
		config.OnChange(func(_, now config.Snapshot[Limits]) { show(now) }),
		config.Report(conn, name, leaseOf(ctx, c)),
	}
	if file != "" {
		options = append(options, config.Copy(file))
	}
	limits, err := config.Watch[Limits](ctx, c, "app", options...)
	if err != nil {
		return err
	}
	defer limits.Close()
	show(limits.Current())
	<-ctx.Done() // the work: it calls limits.Load() whenever it wants the limits
	return nil
}

func show(now config.Snapshot[Limits]) {
	fmt.Printf("version %d: max_connections %d (%s)\n", now.Version.Number, now.Value.MaxConnections, now.Version.Reason)
}

// leaseOf is the lease of the session there is, so that our report goes when we do; none while there is no session.
func leaseOf(ctx context.Context, c *client.Client) func() clientv3.LeaseID {
	return func() clientv3.LeaseID {
		s, err := c.Session(ctx)
		if err != nil {
			return clientv3.NoLease
		}
		return s.Lease()
	}
}
