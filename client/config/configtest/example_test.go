package configtest

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/coord/coordtest"
)

// endpoint is the member that the examples talk to.
var endpoint string

// TestMain starts one member for all examples: they have no testing.TB of their own.
func TestMain(m *testing.M) {
	os.Exit(coordtest.RunMain(m, coordtest.Options{}, func(c *coordtest.Cluster) { endpoint = c.Endpoints()[0] }))
}

// connect returns a client of the member, on which no configuration is left of a run before. config needs no more of it
// than Get and Watch, and a connection.
func connect() *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: time.Minute,
		Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	for _, bundle := range []string{"svc/example", "svc/bundle", "svc/schema", "svc/expect"} {
		if err := config.Delete(context.Background(), c.ActiveConnection(),
			bundle); err != nil && !errors.Is(err, config.ErrUnknownBundle) {
			log.Fatal(err)
		}
	}
	return c
}

// Limits is a configuration.
type Limits struct {
	MaxConnections int `json:"max_connections"`
}

// Check refuses limits that nobody can have meant.
func (l Limits) Check() error {
	if l.MaxConnections < 1 {
		return fmt.Errorf("max_connections is %d", l.MaxConnections)
	}
	return nil
}

// A process follows its configuration while it runs. A version that it refuses changes nothing, and is brought back to
// an earlier one with an author and a reason.
func Example() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	conn := c.ActiveConnection()
	publish := func(limits string) {
		_, err := config.Put(ctx, conn, "svc/example", config.Documents{"limits.json": []byte(limits)}, "an example")
		if err != nil {
			log.Fatal(err)
		}
	}
	publish(`{"max_connections": 100}`)

	limits, err := config.Watch[Limits](ctx, c, "svc/example",
		config.Validate(Limits.Check),
		config.OnChange(func(before, now config.Snapshot[Limits]) {
			fmt.Printf("from %d to %d: %s\n", before.Value.MaxConnections, now.Value.MaxConnections, now.Version.Reason)
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer limits.Close()
	fmt.Println("start with", limits.Load().MaxConnections)

	publish(`{"max_connections": 200}`)
	wait(func() bool { return limits.Version() == 2 })

	publish(`{"max_connections": 0}`)
	wait(func() bool { return limits.Err() != nil })
	fmt.Println(errors.Is(limits.Err(), config.ErrRefused), limits.Load().MaxConnections)

	_, err = config.Rollback(ctx, conn, "svc/example", 1, "200 was too much, 0 a mistake", config.Author("ann"))
	if err != nil {
		log.Fatal(err)
	}
	wait(func() bool { return limits.Version() == 4 })

	history, err := config.History(ctx, conn, "svc/example", 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("version %d by %s brought back %d; %v\n", history[0].Number, history[0].Author, history[0].RollbackOf,
		limits.Err())
	// Output:
	// start with 100
	// from 100 to 200: an example
	// true 200
	// from 200 to 100: 200 was too much, 0 a mistake
	// version 4 by ann brought back 1; <nil>
}

// wait waits until cond, for a while.
func wait(cond func() bool) {
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			log.Fatal("it never came")
		}
	}
}

// Settings are decoded from several documents of one version, so they always fit each other.
type Settings struct {
	Limits Limits            `config:"limits.json"`
	Routes map[string]string `config:"routes.yaml"`
	Banner string            `config:"banner.txt,optional"`
}

// Several documents change together, and are read together.
func ExampleWatch_bundle() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	_, err := config.Put(ctx, c.ActiveConnection(), "svc/bundle", config.Documents{
		"limits.json": []byte(`{"max_connections": 100}`),
		"routes.yaml": []byte("/: web\n/api: backend\n"),
	}, "first settings")
	if err != nil {
		log.Fatal(err)
	}
	settings, err := config.Watch[Settings](ctx, c, "svc/bundle")
	if err != nil {
		log.Fatal(err)
	}
	defer settings.Close()
	now := settings.Current()
	fmt.Println(now.Value.Limits.MaxConnections, now.Value.Routes["/api"], "of version", now.Version.Number)
	// Output: 100 backend of version 1
}

// The server refuses what a schema forbids, and says where.
func ExampleSetSchema() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	conn := c.ActiveConnection()
	schema := []byte(`{"type": "object", "properties": {"max_connections": {"type": "integer", "minimum": 1}}}`)
	if err := config.SetSchema(ctx, conn, "svc/schema", "limits.json", schema, "limits are positive"); err != nil {
		log.Fatal(err)
	}
	_, err := config.Put(ctx, conn, "svc/schema", config.Documents{"limits.json": []byte(`{"max_connections": 0}`)}, "none at all")
	if invalid, ok := errors.AsType[*config.InvalidError](err); ok {
		for _, v := range invalid.Violations {
			fmt.Println(v.Document, v.Path, v.Reason)
		}
	}
	// Output: limits.json /max_connections minimum: got 0, want 1
}

// Of two who change the same version one is told that the other was faster.
func ExampleExpect() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	conn := c.ActiveConnection()
	for _, author := range []string{"ann", "bob"} {
		_, err := config.Put(ctx, conn, "svc/expect", config.Documents{"motd": []byte("hello from " + author)}, "greet",
			config.Author(author), config.Expect(0))
		fmt.Println(author, errors.Is(err, config.ErrConflict))
	}
	// Output:
	// ann false
	// bob true
}

// A process that starts while the cluster is down has the last good version from its disk, and says that it may be old.
func ExampleCopy() {
	c, ctx := connect(), context.Background()
	defer c.Close()
	dir, err := os.MkdirTemp("", "coord-config-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	_, err = config.Put(ctx, c.ActiveConnection(), "svc/copy", config.Documents{"limits.json": []byte(`{"max_connections": 7}`)}, "first")
	if err != nil {
		log.Fatal(err)
	}
	run := func(c *clientv3.Client, patience time.Duration) {
		limits, err := config.Watch[Limits](ctx, c, "svc/copy",
			config.Copy(dir+"/limits"), config.Patience(patience))
		if err != nil {
			log.Fatal(err)
		}
		defer limits.Close()
		fmt.Println(limits.Load().MaxConnections, "stale:", limits.Stale())
	}
	run(c, time.Minute)
	down, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	defer down.Close()
	run(down, time.Second)
	// Output:
	// 7 stale: false
	// 7 stale: true
}
