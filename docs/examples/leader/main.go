// Command leader is a worker of which any number may run, and one works: the leader. If it ends, crashes or is cut off, another
// goes on.
//
//	leader -endpoints 127.0.0.1:2379 -name worker-1
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

	"github.com/coord-dev/coord/client"
)

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses of the members, separated by commas")
	name := flag.String("name", "worker", "who we are, for the others to see")
	ttl := flag.Duration("ttl", 10*time.Second, "time after which a silent leader is taken for dead")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := lead(ctx, strings.Split(*endpoints, ","), *name, *ttl); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	fmt.Println("ended")
}

// lead works whenever we lead, until ctx ends. Then the next candidate leads at once, because Run resigns.
func lead(ctx context.Context, endpoints []string, name string, ttl time.Duration) error {
	c, err := client.New(client.Config{Endpoints: endpoints, SessionTTL: ttl})
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("waiting")
	return c.Election("scheduler").Run(ctx, []byte(name), func(ctx context.Context, term *client.Leadership) error {
		fmt.Println("leading in term", term.Term())
		return work(ctx, term, name)
	})
}

// work does one step after the other. Each is written through the term, so a leader that was stopped and does not know yet that
// another one leads cannot do any: the servers refuse it with client.ErrFenced.
func work(ctx context.Context, term *client.Leadership, name string) error {
	for step := 1; ; step++ {
		if _, err := term.KV().Put(ctx, "progress", fmt.Sprintf("%d %s %d", term.Term(), name, step)); err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done(): // the term is lost, or we were asked to end
			return context.Cause(ctx)
		}
	}
}
