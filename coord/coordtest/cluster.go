// Package coordtest runs servers inside a test. Start makes a cluster of real members: real stores in temporary
// directories, real sockets on free loopback ports, members that can be stopped, started again and replaced. NewFake
// makes one server without disk, whose time the test turns: for tests of programs that use coord.
package coordtest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest/loopback"
)

// Options of a cluster. Zero values mean one member and a silent log.
type Options struct {
	// Members is the number of members, 1 by default.
	Members int
	// Verbose writes the members' logs to the test's.
	Verbose bool
	// Configure may change a member's configuration before it starts.
	Configure func(member int, c *coord.Config)
}

// Cluster is some members that make up a cluster. Its methods are for one goroutine at a time, Endpoints and Server
// excepted.
type Cluster struct {
	t       testing.TB
	opts    Options
	configs []coord.Config

	mu      sync.Mutex
	servers []*coord.Server // nil where stopped
}

// startTimeout bounds the start of a cluster; it is generous, because tests share machines.
const startTimeout = 60 * time.Second

// Start starts a cluster and returns when each member is ready. The test's end stops it.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	if opts.Members == 0 {
		opts.Members = 1
	}
	c := &Cluster{t: t, opts: opts, servers: make([]*coord.Server, opts.Members)}
	c.configs = c.configure()
	t.Cleanup(c.Stop)
	c.startAll()
	return c
}

// configure lays out the members' configurations.
func (c *Cluster) configure() []coord.Config {
	dir := c.t.TempDir()
	ports := FreePorts(c.t, 2*c.opts.Members)
	var initial []string
	configs := make([]coord.Config, c.opts.Members)
	for i := range configs {
		client, peer := url(ports[2*i]), url(ports[2*i+1])
		configs[i] = coord.Config{
			Name: fmt.Sprint("m", i), DataDir: filepath.Join(dir, fmt.Sprint("m", i)),
			ListenClientURLs: []string{client}, AdvertiseClientURLs: []string{client},
			ListenPeerURLs: []string{peer}, InitialAdvertisePeerURLs: []string{peer},
		}
		initial = append(initial, configs[i].Name+"="+peer)
	}
	for i := range configs {
		configs[i].InitialCluster = strings.Join(initial, ",")
		if c.opts.Configure != nil {
			c.opts.Configure(i, &configs[i])
		}
	}
	return configs
}

func url(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

// FreePorts returns n loopback TCP ports that nobody listens on, and that no outgoing connection takes.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	ports, err := loopback.Ports(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

func (c *Cluster) startAll() {
	c.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(c.configs))
	for i := range c.configs {
		wg.Go(func() { errs[i] = c.start(i) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			c.t.Fatalf("start member %d: %v", i, err)
		}
	}
}

func (c *Cluster) start(i int) error {
	log := zap.NewNop()
	if c.opts.Verbose {
		log = zaptest.NewLogger(c.t).Named(c.configs[i].Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := coord.Start(ctx, c.configs[i], log)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.servers[i] = s
	c.mu.Unlock()
	select {
	case <-s.Ready():
		return nil
	case <-s.Done():
		return s.Err()
	case <-ctx.Done():
		return fmt.Errorf("not ready after %s", startTimeout)
	}
}

// Endpoints are the members' client addresses, host:port, stopped members included.
func (c *Cluster) Endpoints() []string {
	var endpoints []string
	for _, config := range c.configs {
		endpoints = append(endpoints, strings.TrimPrefix(config.ListenClientURLs[0], "http://"))
	}
	return endpoints
}

// Server is a member, nil while it is stopped.
func (c *Cluster) Server(member int) *coord.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[member]
}

// Leader is the number of the member that leads, -1 if none does.
func (c *Cluster) Leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.IndexFunc(c.servers, func(s *coord.Server) bool { return s != nil && s.Leads() })
}

// WaitLeader waits for a leader and returns its number.
func (c *Cluster) WaitLeader() int {
	c.t.Helper()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if i := c.Leader(); i >= 0 {
			return i
		}
	}
	c.t.Fatal("no leader")
	return -1
}

// StopMember stops one member cleanly.
func (c *Cluster) StopMember(i int) {
	c.t.Helper()
	c.mu.Lock()
	s := c.servers[i]
	c.servers[i] = nil
	c.mu.Unlock()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		c.t.Errorf("stop member %d: %v", i, err)
	}
}

// StartMember starts a stopped member again and waits until it is ready.
func (c *Cluster) StartMember(i int) {
	c.t.Helper()
	if err := c.start(i); err != nil {
		c.t.Fatalf("start member %d again: %v", i, err)
	}
}

// Stop stops all members. It can be called twice.
func (c *Cluster) Stop() {
	var wg sync.WaitGroup
	for i := range c.servers {
		wg.Go(func() { c.StopMember(i) })
	}
	wg.Wait()
}
