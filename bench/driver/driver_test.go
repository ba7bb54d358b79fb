package driver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/coord-dev/coord/bench/driver"
	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/peers/servers"
	"github.com/coord-dev/coord/coord/coordtest"
)

// TestMain lets the test binary act as etcd.
func TestMain(m *testing.M) {
	acted, err := servers.Act(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !acted {
		os.Exit(m.Run())
	}
}

const callers = 3

// start returns the address of one server of that kind, and skips the test where there is none.
func start(t *testing.T, kind string) string {
	t.Helper()
	if kind == peers.Coord {
		return coordtest.Start(t, coordtest.Options{}).Endpoints()[0]
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := peers.Lookup(kind, self, "", 0)
	if errors.Is(err, peers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := peers.Start(t.Context(), p, 1, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c.Endpoints()[0]
}

func open(ctx context.Context, t *testing.T, kind, endpoint string) driver.Driver {
	t.Helper()
	d, err := driver.Open(ctx, kind, driver.Config{
		Endpoints: []string{endpoint}, Callers: callers, Conns: 2, ValueBytes: 16, TTL: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	return d
}

// Every driver does what the rows ask of it, and its locks exclude.
func TestDrivers(t *testing.T) {
	for _, kind := range []string{peers.Coord, peers.Etcd, peers.ZooKeeper} {
		t.Run(kind, func(t *testing.T) {
			endpoint := start(t, kind)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			d := open(ctx, t, kind, endpoint)
			for name, op := range map[string]func(context.Context, int) error{
				"write": d.Write, "read": d.Read, "pair": d.Pair, "churn": d.Churn,
				"count": d.Count, "permit": d.Permit,
			} {
				for caller := range callers {
					for range 2 { // the second must not find what the first left
						if err := op(ctx, caller); err != nil {
							t.Errorf("%s by caller %d: %v", name, caller, err)
						}
					}
				}
			}
			gathers(ctx, t, d)
			lockers, err := driver.Lockers(ctx, d, 2, "contended")
			if err != nil {
				t.Fatal(err)
			}
			excludes(ctx, t, lockers[0], lockers[1])
			if err := open(ctx, t, kind, endpoint).Hold(ctx, "held"); err != nil {
				t.Fatal(err)
			}
			waiter, err := d.Locker(ctx, "held")
			if err != nil {
				t.Fatal(err)
			}
			waits(t, lockIn(ctx, waiter))
		})
	}
}

// gathers fails the test if a party is let in before all are there, or out before all leave.
func gathers(ctx context.Context, t *testing.T, d driver.Driver) {
	t.Helper()
	const parties = 3
	var all []driver.Party
	for range parties {
		p, err := d.Party(ctx, "meeting", parties)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for _, do := range []func(driver.Party, context.Context) error{driver.Party.Enter, driver.Party.Leave} {
		done := make(chan error, parties)
		start := func(p driver.Party) { go func() { done <- do(p, ctx) }() }
		for _, p := range all[1:] {
			start(p)
		}
		waits(t, done)
		start(all[0])
		for range parties {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
}

func lockIn(ctx context.Context, l driver.Locker) <-chan error {
	done := make(chan error, 1)
	go func() { done <- l.Lock(ctx) }()
	return done
}

// waits fails the test if the lock is granted although somebody holds it.
func waits(t *testing.T, granted <-chan error) {
	t.Helper()
	select {
	case err := <-granted:
		t.Fatalf("a second contender does not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
}

func excludes(ctx context.Context, t *testing.T, first, second driver.Locker) {
	t.Helper()
	if err := first.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	granted := lockIn(ctx, second)
	waits(t, granted)
	if err := first.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-granted; err != nil {
		t.Fatal(err)
	}
	if err := second.Unlock(ctx); err != nil {
		t.Error(err)
	}
}

// Who waits for a lock returns when the context ends, whatever the product's client makes of contexts.
func TestCallersEndWithTheContext(t *testing.T) {
	for _, kind := range []string{peers.Etcd, peers.ZooKeeper} {
		t.Run(kind, func(t *testing.T) {
			endpoint := start(t, kind)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			d := open(ctx, t, kind, endpoint)
			if err := open(ctx, t, kind, endpoint).Hold(ctx, "held"); err != nil {
				t.Fatal(err)
			}
			waiter, err := d.Locker(ctx, "held")
			if err != nil {
				t.Fatal(err)
			}
			granted := lockIn(ctx, waiter)
			waits(t, granted)
			cancel()
			select {
			case err := <-granted:
				if err == nil {
					t.Error("the lock was granted while it was held")
				}
			case <-time.After(30 * time.Second):
				t.Error("the waiter does not end")
			}
		})
	}
}

func TestOpenRefusesWhatNothingDrives(t *testing.T) {
	if _, err := driver.Open(context.Background(), peers.Ceiling, driver.Config{}); err == nil {
		t.Error("the ceiling was driven")
	}
}
