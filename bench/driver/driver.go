// Package driver is how one process with many callers uses each product at its best: coord by one stream, etcd by its
// raw stubs and its own package concurrency over several connections, ZooKeeper by the Go client over several
// connections.
package driver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/bench/peers"
)

// Driver is one process's use of one product. Callers are numbered from 0 and call at the same time, each one call
// after the other. Close ends what is under way; so does the end of the context given to Open.
type Driver interface {
	// Write replaces the value of the caller's own key.
	Write(ctx context.Context, caller int) error
	// Read reads the caller's own key: linearizably, but for ZooKeeper, which reads what the member has.
	Read(ctx context.Context, caller int) error
	// Pair takes a lock that nobody else wants and gives it back. With ZooKeeper, which has no locks, it creates an
	// ephemeral node and deletes it, which is the least that a lock can cost there.
	Pair(ctx context.Context, caller int) error
	// Churn opens a session of its own and ends it.
	Churn(ctx context.Context, caller int) error
	// Locker returns a contender for the lock of that name. Each one returned contends with all others.
	Locker(ctx context.Context, name string) (Locker, error)
	// Hold opens a session of its own and takes the lock of that name with it. Both are kept until Close.
	Hold(ctx context.Context, name string) error
	Shared
	Close() error
}

// Locker is one contender for a lock. Lock waits for its turn. Not safe for concurrent use.
type Locker interface {
	Lock(ctx context.Context) error
	Unlock(ctx context.Context) error
}

// Config says whom to connect to, and for what.
type Config struct {
	// Endpoints are the members, the leader first.
	Endpoints []string
	// Callers is how many there are.
	Callers int
	// Conns is the most connections, for products that use several; with fewer callers each has its own.
	Conns int
	// ValueBytes is the size of the value of each caller's key.
	ValueBytes int
	// TTL is that of sessions, whole seconds for etcd and ZooKeeper.
	TTL time.Duration
}

func (c Config) conns() int { return max(1, min(c.Callers, c.Conns)) }

func (c Config) value() []byte { return []byte(strings.Repeat("v", c.ValueBytes)) }

// endpoint of connection i.
func (c Config) endpoint(i int) string { return c.Endpoints[i%len(c.Endpoints)] }

// Open connects to a product of that kind (peers.Coord and so on) and writes every caller's key once.
func Open(ctx context.Context, kind string, cfg Config) (Driver, error) {
	var d Driver
	var err error
	switch kind {
	case peers.Coord:
		d, err = openCoord(ctx, cfg)
	case peers.Etcd:
		d, err = openEtcd(ctx, cfg)
	case peers.ZooKeeper:
		d, err = openZooKeeper(ctx, cfg)
	default:
		return nil, fmt.Errorf("nothing drives a peer %q", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", kind, err)
	}
	return d, nil
}

// Lockers returns n contenders for the lock of that name.
func Lockers(ctx context.Context, d Driver, n int, name string) ([]Locker, error) {
	lockers := make([]Locker, n)
	err := each(ctx, n, func(ctx context.Context, i int) (err error) {
		lockers[i], err = d.Locker(ctx, name)
		return err
	})
	return lockers, err
}

// openers is how many connections or keys are prepared at the same time.
const openers = 64

// each calls fn for 0 to n-1, many at the same time, and returns the first error.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openers)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}
